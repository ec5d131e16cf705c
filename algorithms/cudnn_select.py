"""How cuDNN's algorithms are called here, and what cuDNN itself would pick among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any

from convbench.api import Precision, Variant
from convbench.errors import UsageError, unknown
from convbench.libcudnn_convolution import Row
from convbench.libcudnn_types import MathType, Operation

HALF = {MathType.TENSOR_OP: "", MathType.DEFAULT: "+default", MathType.FMA: "+fma"}
MATHS: dict[Precision, dict[MathType, str]] = {
    Precision.FP64: {MathType.DEFAULT: ""},
    Precision.FP32: {MathType.FMA: ""},  # DEFAULT may round to TF32
    Precision.TF32: {MathType.DEFAULT: "", MathType.TENSOR_OP: "+tensor_op"},
    Precision.FP16: HALF,
    Precision.BF16: HALF,
}
"""The math types a precision allows, the usual one first, and what each adds to the name."""

FAMILIES = {"GEMM": "im2col", "DIRECT": "direct", "FFT": "fft", "FFT_TILING": "fft"}
FAMILIES |= {"WINOGRAD": "winograd", "WINOGRAD_NONFUSED": "winograd"}
TRANSFORMS = ("fft", "winograd")
UNORDERED = ("ALGO_0", "ALGO_3")  # sum by atomic additions

Order = Sequence[tuple[str, int]]
"""Names of variants with the bytes each needs, as cuDNN ranks them."""


def family(algorithm: IntEnum) -> str:
    return FAMILIES.get(algorithm.name, "implicit_gemm")


def usual_math(precision: Precision) -> MathType:
    return next(iter(MATHS[precision]))


def names(operation: Operation, precision: Precision) -> dict[tuple[IntEnum, MathType], str]:
    """The variant's name of every algorithm under every allowed math type."""
    maths = MATHS[precision].items()
    return {(one, math): one.name + suffix for one in operation.algorithms for math, suffix in maths}


def order(rows: Sequence[Row], named: Mapping[tuple[IntEnum, MathType], str]) -> Order:
    """The advice that stays within the named variants: other rows have a math type that is not allowed."""
    return [(named[r.algorithm, r.math], r.memory) for r in rows if (r.algorithm, r.math) in named]


def first_within(ranked: Order, limit: int | None) -> str | None:
    return next((name for name, need in ranked if limit is None or need <= limit), None)


def heuristic(ranked: Order, offered: Mapping[str, Variant], limit: int | None) -> Variant:
    """The best-ranked variant within the limit, under the name of the selection; the smallest if none is."""
    picked = first_within(ranked, limit) or min(ranked, key=lambda one: one[1])[0]
    variant = offered[picked]
    return replace(
        variant, name="heuristic", details={**variant.details, **choice("heuristic", picked, ranked)}
    )


def choice(selection: str, picked: str, ranked: Order) -> dict[str, Any]:
    """What a record says about a pick: enough to tell later what it would have been under any limit."""
    return {"selection": selection, "picked": picked, "order": [list(one) for one in ranked]}


def room(variants: Iterable[Variant], limit: int | None) -> int:
    """The most workspace that a variant within the limit needs; the least of all where none is within it."""
    sizes = [variant.workspace_bytes for variant in variants]
    return max((size for size in sizes if limit is None or size <= limit), default=min(sizes))


def preference(ranked: Order, name: str, limit: int | None) -> str:
    """The variant that cuDNN's classic workspace preference asks for."""
    bounds = {"none": 0, "limit": limit, "fastest": None}
    if name not in bounds:
        raise unknown("workspace preference", name, bounds)
    if name == "limit" and limit is None:
        raise UsageError("workspace preference 'limit' needs a limit; give one with --workspace-limit")
    picked = first_within(ranked, bounds[name])
    if picked is None:
        least = min((need for _, need in ranked), default=None)
        smallest = "it has none at all" if least is None else f"its smallest needs {least} bytes"
        raise UsageError(f"cuDNN's heuristic has no algorithm for preference '{name}'; {smallest}")
    return picked
