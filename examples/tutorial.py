"""convbench from Python, on the CPU, in under a minute: python examples/tutorial.py [FOLDER]

Describe a layer, see who can compute it, compute it and check it, measure it, and choose from the records.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import convbench
from convbench import Problem

LAYER = "n2c16h28k32r3p1"
LIMITS = (512, 768, 1024)  # KiB


def describe(text: str) -> Problem:
    """1. A layer is one text: batch, channels, image, filters, filter size, padding ..."""
    layer = Problem.parse(text, direction="fwd", precision="fp32", layout="nchw")
    print(f"\n1. {text} is {layer}")
    print(f"   x {layer.x_shape}, w {layer.w_shape} -> y {layer.y_shape}, {layer.flops / 1e6:.1f} MFLOP")
    return layer


def who_can(layer: Problem) -> list[str]:
    """2. Algorithms say whether they can, or why not."""
    strided = layer.with_(stride=(2, 2))
    print("\n2. Algorithms on the CPU, and what they say to stride 2:")
    for name in convbench.list_algorithms(device="cpu"):
        print(f"   {name:9} {convbench.reject(name, strided) or 'can do it'}")
    return [name for name in convbench.list_algorithms() if convbench.reject(name, layer) is None]


def check(layer: Problem, names: list[str]) -> None:
    """3. One convolution by each of them, beside the definition in float64."""
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(-1, 1, shape) for shape in (layer.x_shape, layer.w_shape))
    padded = np.pad(x, ((0, 0), (0, 0), *layer.pad))
    windows = sliding_window_view(padded, layer.taps, axis=(2, 3))
    exact = np.einsum("ncpqrs,kcrs->nkpq", windows, w, optimize=True)
    print("\n3. Relative L2 error of one call:")
    for name in names:
        y = convbench.convolve(layer, x, w, algorithm=name)
        print(f"   {name:9} {np.linalg.norm(y - exact) / np.linalg.norm(exact):.1e}")


def measure(folder: Path) -> None:
    """4. A sweep: every variant is checked, then all are timed interleaved. It goes on where it stopped."""
    what = ["--algorithms", "direct,im2col,winograd", "--directions", "fwd", "--device", "cpu"]
    command = ["run", LAYER, *what, "--quick", "--quiet", "--out", str(folder)]
    print(f"\n4. convbench {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "convbench", *command], check=True)


def choose(folder: Path) -> None:
    """5. Records are a pandas frame: what is the fastest within so much workspace?"""
    cells = convbench.load(folder).query("status == 'ok' and workspace_known")
    print(f"\n5. {len(cells)} variants measured. The fastest within so much workspace:")
    for limit in LIMITS:
        best = cells[cells.workspace_bytes <= limit << 10].sort_values("time_ms").iloc[0]
        size = f"needs {best.workspace_bytes / 1024:.0f} KiB, class {best.accuracy}"
        print(f"   {limit:4} KiB: {best.algorithm}/{best.variant}, {best.time_ms:.3f} ms, {size}")


def main(folder: Path) -> None:
    layer = describe(LAYER)
    check(layer, who_can(layer))
    measure(folder)
    choose(folder)
    if len(sys.argv) > 1:
        print(f"\nNext: convbench show {folder}; convbench report {folder}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch) / "tutorial")
