"""Accuracy classes: what an error against float64 entitles a result to be compared with."""

from __future__ import annotations

from dataclasses import dataclass

from convbench.problem import Precision

# Relative L2 bars. D is double; S and F are fp32; T is TF32-like; H and B are 16-bit results.
BARS = {"D": 1e-12, "S": 3e-6, "F": 5e-5, "T": 1e-3, "H": 6e-4, "B": 3e-3}
CLASSES = {
    Precision.FP64: ("D",),
    Precision.FP32: ("S", "F", "T"),
    Precision.TF32: ("S", "F", "T"),
    Precision.FP16: ("H",),
    Precision.BF16: ("B",),
}
UNRANKED = "X"
ASKED = {
    Precision.FP64: "D",
    Precision.FP32: "F",
    Precision.TF32: "T",
    Precision.FP16: "H",
    Precision.BF16: "B",
}
EPSILON = {"D": 2.0**-53, "S": 2.0**-24, "F": 2.0**-24, "T": 2.0**-11, "H": 2.0**-11, "B": 2.0**-8}
# Element-wise gates in units of epsilon times the sum of |products|, for algorithms that only sum products.
GATES = {"D": 64.0, "S": 64.0, "F": 64.0, "T": 5.0, "H": 1.5, "B": 1.5}
TRANSFORM_GATE = 40.0  # largest error over rms of the result, in units of the class bar, for Winograd and FFT


@dataclass(frozen=True)
class Grade:
    """A class, or None when the error is too large to be kept at all."""

    accuracy: str | None
    bar: float
    dropped: bool = False


def grade(precision: Precision, error: float) -> Grade:
    """The class that this relative L2 error earns under this precision."""
    worst = 3e-2 if precision is Precision.BF16 else 1e-2
    for name in CLASSES[precision]:
        if error <= BARS[name]:
            dropped = BARS[name] > BARS[ASKED[precision]]
            return Grade(name, BARS[name], dropped)
    if precision is not Precision.FP64 and error <= worst:
        return Grade(UNRANKED, worst)
    return Grade(None, BARS["D"] if precision is Precision.FP64 else worst)
