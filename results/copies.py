"""What a copy of as few bytes as a layer moves reaches: `python results/copies.py [FILE]`.

With a file it is measured on this GPU and written there, else the record is printed. The ceiling `copy` is of
1 GiB; launch and tail weigh more in a copy of some MiB, and no kernel that moves as much is much faster.
"""

from __future__ import annotations

import sys
from pathlib import Path

from convbench.report.tables import Table, markdown, significant

from convbench import ceilings
from convbench.api import Precision, Problem
from convbench.device_cuda import CudaDevice

RECORD = Path(__file__).parent / "h200-depthwise" / "copies.md"
LAYERS = ("n64c256h56k256r3p1g256", "n32c96h112k96r3p1g96")  # of h200-depthwise


def copies() -> Table:
    device = CudaDevice()
    ceiling = ceilings.copy(device).sustained
    rows = []
    for layer in LAYERS:
        for precision in (Precision.FP32, Precision.FP16):
            moved = Problem.parse(layer, precision=precision).min_bytes
            rate = ceilings.copy(device, moved // 16 * 8).sustained
            share = significant(100 * rate / ceiling)
            rows.append((layer, str(precision), significant(1e3 * moved / rate), share))
    columns = "layer", "precision", "copy (ms)", "% of limit"
    return Table("A copy of as many bytes", columns, rows, f"The limit: {ceiling / 1e12:.2f} TB/s.")


if __name__ == "__main__":
    if files := sys.argv[1:]:
        Path(files[0]).write_text(markdown(copies()), encoding="utf-8")
    else:
        print(RECORD.read_text(encoding="utf-8"))
