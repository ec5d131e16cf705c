"""An algorithm that never comes back, as an installed plug-in of other processes."""

from __future__ import annotations

import time
from pathlib import Path

from faults import Call, Correct


class Hanging(Correct):
    def spoil(self, call: Call) -> None:
        while True:
            time.sleep(1)


HANGING = Hanging("hanging")


def install(folder: Path) -> str:
    """What PYTHONPATH has to be, so that a process finds it as if it were installed."""
    info = folder / "hanging-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[convbench.algorithms]\nhanging = hanging:HANGING\n")
    return f"{folder}:{Path(__file__).parent}"
