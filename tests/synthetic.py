"""Result folders of any size with plausible records, for tests of what reads them and for measuring how fast.

    python tests/synthetic.py 5000 results/synthetic

Times follow a simple model of each family (work over rate, plus a launch), with noise from a seed: the same
arguments give the same folder. They are no measurement of anything.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from convbench.layers import Layer
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.record import SCHEMA, Board, Cell, Check, Host, Limit, Record, Status, Timing, Workspace
from convbench.seal import seal
from convbench.store import FILE
from convbench.suites import load_suite

SUITES = ("yardstick", "vgg-d", "resnet-50", "mobilenet-v2", "convnext-t", "grid-filter", "grid-map")
PRECISIONS = {Precision.FP32: Layout.NCHW, Precision.TF32: Layout.NCHW, Precision.FP16: Layout.NHWC}
BATCHES = (None, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
RATES = {Precision.FP32: 5e13, Precision.TF32: 3.5e14, Precision.FP16: 7e14}
COPY, LAUNCH = 4e12, 3e-6
CLASSES = {Precision.FP32: "S", Precision.TF32: "T", Precision.FP16: "H"}
ERRORS = {"S": 3e-7, "T": 2e-4, "H": 2e-4}
ENVIRONMENT = {
    "id": "synthetic",
    "identity": {"gpu": "synthetic GPU", "libraries": {"cupy": "14.0"}},
    "convbench": "0",
    "python": "3.11",
}
ROUNDS, SAMPLES = 6, 5


@dataclass(frozen=True)
class Kind:
    """A variant of an algorithm: how much of the direct method's work it does, at which part of the rate."""

    algorithm: str
    variant: str
    share: float
    efficiency: float
    scratch: float  # workspace in units of the operands
    errors: float = 1.0
    known: bool = True


KINDS = (
    Kind("direct", "tile64x256", 1.0, 0.45, 0.0),
    Kind("direct", "tile128x128", 1.0, 0.5, 0.0),
    Kind("im2col", "whole", 1.0, 0.8, 4.0),
    Kind("im2col", "chunk8", 1.0, 0.6, 0.5),
    Kind("im2col", "merged", 1.0, 0.7, 0.0),
    Kind("winograd", "f2", 1 / 2.25, 0.5, 1.5, 2.0),
    Kind("winograd", "f4", 1 / 4, 0.45, 2.0, 9.0),
    Kind("fft", "tile32", 0.2, 0.3, 3.0, 1.5),
    Kind("fft", "tile32_chunk8", 0.2, 0.25, 0.6, 1.5),
    Kind("cudnn", "IMPLICIT_PRECOMP_GEMM", 1.0, 0.75, 0.1, 1.0),
    Kind("cudnn", "WINOGRAD_NONFUSED", 1 / 4, 0.5, 2.0, 8.0),
    Kind("cudnn", "FFT_TILING", 0.2, 0.28, 5.0, 1.5, known=False),
)


def cells(count: int, seed: int = 1) -> Iterator[tuple[str, Layer, Record]]:
    """So many records, each with its suite and layer."""
    return islice(_cells(random.Random(seed), set()), count)


def _cells(noise: random.Random, seen: set[Problem]) -> Iterator[tuple[str, Layer, Record]]:
    """Every problem once, although suites share some."""
    for batch in BATCHES:
        for suite in SUITES:
            for precision, layout in PRECISIONS.items():
                for layer in load_suite(suite).layers:
                    placed = layer.with_batch(batch) if batch else layer
                    for direction in Direction:
                        problem = placed.problem.with_(
                            direction=direction, precision=precision, layout=layout
                        )
                        if problem not in seen:
                            seen.add(problem)
                            yield from ((suite, placed, _record(problem, kind, noise)) for kind in KINDS)


def _record(problem: Problem, kind: Kind, noise: random.Random) -> Record:
    cell = Cell(problem, kind.algorithm, kind.variant, "cuda", preset="quick")
    key = hashlib.sha256(repr(cell).encode()).hexdigest()
    reason = _reject(problem, kind)
    if reason:
        return Record(key, cell, Status.UNSUPPORTED, reason, environment="synthetic")
    accuracy = CLASSES[problem.precision]
    error = ERRORS[accuracy] * kind.errors * noise.uniform(0.8, 1.2)
    scratch = int(kind.scratch * problem.operand_bytes)
    time = _timing(_seconds(problem, kind) * noise.uniform(0.95, 1.05), noise)
    call = time.median + 2e-5
    return Record(
        key,
        cell,
        Status.OK,
        check=Check(error, 0.5 * kind.errors, accuracy, True, kind.algorithm != "cudnn"),
        time=time,
        workspace=Workspace(scratch, scratch, 0 if kind.known else None),
        host=Host(1.5e-5, call),
        board=Board(1965.0, 1950.0, 3201.0, noise.uniform(350, 650), 50.0, [], 0),
        limit=_limit(problem, kind),
        setup={"prepare": 2e-3, "first_call": 5e-3},
        details={} if kind.algorithm == "cudnn" else {"flops": _work(problem, kind)},
        environment="synthetic",
        started="2026-01-01T00:00:00Z",
    )


def _reject(problem: Problem, kind: Kind) -> str:
    if kind.share < 1 and (problem.stride != (1, 1) or problem.groups > 1 or problem.r == 1):
        return f"{kind.algorithm} needs stride 1, one group and a filter above 1x1, not {problem}"
    if "winograd" in kind.variant.lower() + kind.algorithm and problem.r != 3:
        return f"winograd needs 3x3 filters, not {problem.r}x{problem.s}"
    return ""


def _work(problem: Problem, kind: Kind) -> int:
    if "fft" in kind.variant.lower() + kind.algorithm:  # the transform's work hardly depends on the filter
        return ceil(problem.flops * 9 * kind.share / (problem.r * problem.s)) + 10 * problem.operand_bytes
    return ceil(problem.flops * kind.share)


def _seconds(problem: Problem, kind: Kind) -> float:
    work = _work(problem, kind) / (RATES[problem.precision] * kind.efficiency)
    moved = (problem.min_bytes + 2 * kind.scratch * problem.operand_bytes) / COPY
    return LAUNCH + max(work, moved) + 0.3 * min(work, moved)


def _limit(problem: Problem, kind: Kind) -> Limit | None:
    if kind.algorithm == "cudnn":
        return None
    work = Limit(_work(problem, kind) / RATES[problem.precision], f"gemm {problem.precision}")
    return max(work, Limit(problem.min_bytes / COPY, "copy"), key=lambda one: one.seconds)


def _timing(seconds: float, noise: random.Random) -> Timing:
    samples = [[seconds * noise.gauss(1, 0.004) for _ in range(SAMPLES)] for _ in range(ROUNDS)]
    blocks = sorted(map(median, samples))
    flat = sorted(one for block in samples for one in block)
    q1, q3 = flat[len(flat) // 4], flat[3 * len(flat) // 4]
    clocks = [noise.uniform(1.95e9, 1.98e9) for _ in range(ROUNDS)]
    middle, figure = median(blocks), "gpu_cold"
    return Timing(
        figure, middle, blocks[0], blocks[-1], flat[0], q1, q3, 0, 0, SAMPLES, blocks, samples, clocks
    )


def write(folder: Path, count: int, seed: int = 1) -> Path:
    """A result folder of so many cells, with its layers, environment, run and noise lines."""
    folder.mkdir(parents=True)
    drift = random.Random(seed)
    layers: dict[tuple[str, str, str], dict[str, Any]] = {}
    with (folder / FILE).open("wb") as file:
        file.write(_line("environment", ENVIRONMENT))
        file.write(_line("run", {"command": ["run"], "limits": [None], "preset": "quick"}))
        for suite, layer, record in cells(count, seed):
            text = str(layer.problem)
            layers.setdefault((suite, layer.name, text), _layer(suite, layer, text))
            file.write(seal(record.to_json()))
        file.writelines(_line("layer", one) for one in layers.values())
        file.writelines(_line("noise", _pair(drift, i)) for i in range(30))
    return folder


def _layer(suite: str, layer: Layer, text: str) -> dict[str, Any]:
    return {
        "suite": suite, "network": layer.network, "name": layer.name, "repeat": layer.repeat, "text": text
    }  # fmt: skip


def _pair(drift: random.Random, number: int) -> dict[str, Any]:
    return {"problem": f"p{number}", "ratio": drift.gauss(1, 0.002), "environment": "synthetic"}


def _line(kind: str, content: dict[str, Any]) -> bytes:
    return seal({"schema": SCHEMA, "kind": kind, **content})


def main(arguments: Sequence[str]) -> None:
    count, folder = arguments
    print(write(Path(folder), int(count)))


if __name__ == "__main__":
    main(sys.argv[1:])
