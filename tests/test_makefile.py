"""What `make quickstart` installs follows the driver."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOLD = "a GPU needs CUDA 12 or newer"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize(
    ("cuda", "extra"),
    [
        ("10.2", None),
        ("11.8", None),
        ("12.0", "cuda12"),
        ("12.9", "cuda12"),
        ("13.0", "cuda13"),
        ("14.1", "cuda13"),
    ],
)
def test_the_extra_fits_the_driver_and_an_old_one_is_told(
    cuda: str, extra: str | None, tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '| Driver Version: 1.2   CUDA Version: {cuda}     |'\n")
    smi.chmod(0o755)
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "quickstart"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    (install,) = (line for line in done.stdout.splitlines() if "pip install" in line)
    assert install.endswith('-e "."' + (f'"[{extra}]"' if extra else ""))
    assert (TOLD in done.stdout) is (extra is None)
