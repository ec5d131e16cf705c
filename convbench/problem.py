"""One convolution problem: its sizes, what follows from them, and its one text form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from math import prod
from typing import Any, Self, TypeVar, cast

from convbench.errors import UsageError, unknown
from convbench.text import format_fields, parse_fields

Pair = tuple[int, int]
LARGEST = 2**31 - 1
LONGEST = 1_000_000  # along an image axis
_Enum = TypeVar("_Enum", bound=StrEnum)


class Direction(StrEnum):
    FWD = "fwd"
    BWD_DATA = "bwd-data"
    BWD_FILTER = "bwd-filter"


class Precision(StrEnum):
    FP64 = "fp64"
    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def itemsize(self) -> int:
        """Bytes one stored element takes; TF32 is an arithmetic, stored as fp32."""
        return {"fp64": 8, "fp32": 4, "tf32": 4}.get(self.value, 2)


class Layout(StrEnum):
    NCHW = "nchw"
    NHWC = "nhwc"


@dataclass(frozen=True)
class Problem:
    """A convolution with its direction, precision and layout.

    Cross-correlation, as in every deep-learning library; `flip` asks for the mathematician's convolution.
    Operands are (x, w) -> y forward, (dy, w) -> dx backward-data, (x, dy) -> dw backward-filter.
    """

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    pad: tuple[Pair, Pair] = ((0, 0), (0, 0))  # (top, bottom), (left, right)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    direction: Direction = Direction.FWD
    precision: Precision = Precision.FP32
    layout: Layout = Layout.NCHW
    flip: bool = False

    def __post_init__(self) -> None:
        for name in "nckhwrs":
            self._check_size(name, getattr(self, name), LARGEST if name in "nck" else LONGEST)
        self._check_size("groups", self.groups, LARGEST)
        for name in ("stride", "dilation"):
            for value in getattr(self, name):
                self._check_size(name, value, LONGEST)
        if min(*self.pad[0], *self.pad[1]) < 0:
            raise UsageError(f"padding {self.pad} in '{self}': must not be negative; crop the image instead")
        if max(*self.pad[0], *self.pad[1]) > LONGEST:
            raise UsageError(f"padding {self.pad} in '{self}': must be at most {LONGEST}")
        for name, value in (("c", self.c), ("k", self.k)):
            if value % self.groups:
                raise UsageError(
                    f"g{self.groups} in '{self}': groups must divide {name} = {value}; "
                    f"use one of its divisors, or 1 for a dense convolution"
                )
        for axis, size in (("high", self.p), ("wide", self.q)):
            if size < 1:
                raise UsageError(
                    f"'{self}' has an output {size} pixels {axis}: the filter (with dilation) must fit "
                    f"into the padded image; make the image or the padding larger, or the filter smaller"
                )

    def _check_size(self, name: str, value: int, largest: int) -> None:
        if not 1 <= value <= largest:
            raise UsageError(f"{name} = {value} in '{self}': must be from 1 to {largest}")

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        direction: str = "fwd",
        precision: str = "fp32",
        layout: str = "nchw",
    ) -> Self:
        """Read the text form, for example n64c256h56k256r3p1 or n8c3h224k64r7u2p3."""
        return cls(
            **parse_fields(text),
            direction=member(Direction, direction),
            precision=member(Precision, precision),
            layout=member(Layout, layout),
        )

    def with_(self, **changes: Any) -> Self:
        """The same problem with some fields changed."""
        return replace(self, **changes)

    def __str__(self) -> str:
        return format_fields(self)

    @property
    def label(self) -> str:
        """Text form with direction, precision and layout: unique for a problem, fit for test ids."""
        return f"{self}/{self.direction}/{self.precision}/{self.layout}"

    def as_dict(self) -> dict[str, str]:
        """What identifies the problem, as plain strings."""
        return {
            "text": str(self),
            "direction": self.direction.value,
            "precision": self.precision.value,
            "layout": self.layout.value,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, str]) -> Self:
        return cls.parse(fields["text"], **{k: fields[k] for k in ("direction", "precision", "layout")})

    # ---- geometry ----------------------------------------------------------------------------------------

    @property
    def image(self) -> Pair:
        return self.h, self.w

    @property
    def taps(self) -> Pair:
        return self.r, self.s

    @cached_property
    def extent(self) -> Pair:
        """Filter size with dilation."""
        return cast(Pair, tuple((t - 1) * d + 1 for t, d in zip(self.taps, self.dilation, strict=True)))

    @cached_property
    def output(self) -> Pair:
        """P and Q."""
        axes = zip(self.image, self.pad, self.extent, self.stride, strict=True)
        return cast(Pair, tuple((size + sum(pad) - e) // u + 1 for size, pad, e, u in axes))

    @property
    def p(self) -> int:
        return self.output[0]

    @property
    def q(self) -> int:
        return self.output[1]

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.c

    def _layout(self, batch: int, channels: int, height: int, width: int) -> tuple[int, ...]:
        if self.layout is Layout.NCHW:
            return batch, channels, height, width
        return batch, height, width, channels

    @property
    def x_shape(self) -> tuple[int, ...]:
        return self._layout(self.n, self.c, self.h, self.w)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """K,C/g,R,S in nchw and K,R,S,C/g in nhwc."""
        return self._layout(self.k, self.c // self.groups, self.r, self.s)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return self._layout(self.n, self.k, self.p, self.q)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of the two operands and of the result, in the order of the direction."""
        x, w, y = self.x_shape, self.w_shape, self.y_shape
        match self.direction:
            case Direction.FWD:
                return x, w, y
            case Direction.BWD_DATA:
                return y, w, x
            case Direction.BWD_FILTER:
                return x, y, w

    @property
    def operand_bytes(self) -> int:
        """Bytes of both operands and the result together."""
        return sum(prod(shape) for shape in self.shapes) * self.precision.itemsize

    @property
    def reduction(self) -> int:
        """Number of products summed into one result element (at most)."""
        match self.direction:
            case Direction.FWD:
                return self.c // self.groups * self.r * self.s
            case Direction.BWD_DATA:
                return self.k // self.groups * self.r * self.s
            case Direction.BWD_FILTER:
                return self.n * self.p * self.q

    # ---- work --------------------------------------------------------------------------------------------

    @property
    def flops(self) -> int:
        """Effective FLOPs: padding counted, the same for all directions and algorithms."""
        return 2 * self.n * self.k * self.p * self.q * (self.c // self.groups) * self.r * self.s

    @property
    def inbounds_flops(self) -> int:
        """FLOPs of the taps that meet real input."""
        hits = prod(sum(map(len, _tap_hits(self, axis))) for axis in (0, 1))
        return 2 * self.n * self.k * (self.c // self.groups) * hits

    @property
    def min_bytes(self) -> int:
        """Each touched operand element read once and each result element written once."""
        touched = [_touched(self, axis) for axis in (0, 1)]
        x = self.n * self.c * prod(t["x"] for t in touched)
        w = self.k * (self.c // self.groups) * prod(t["w"] for t in touched)
        y = self.n * self.k * prod(t["y"] for t in touched)
        result = prod(self.shapes[2])
        read = {Direction.FWD: x + w, Direction.BWD_DATA: y + w, Direction.BWD_FILTER: x + y}[self.direction]
        return (read + result) * self.precision.itemsize


def member(kind: type[_Enum], value: str) -> _Enum:
    """The enum member of that name, or one line that lists the names."""
    try:
        return kind(value)
    except ValueError:
        raise unknown(kind.__name__.lower(), value, [m.value for m in kind]) from None


def _tap_hits(problem: Problem, axis: int) -> list[range]:
    """For each tap, the outputs for which it falls inside the image (a contiguous range)."""
    size, (before, _), u, d = (
        getattr(problem, name)[axis] for name in ("image", "pad", "stride", "dilation")
    )
    ranges = []
    for tap in range(problem.taps[axis]):
        first = -((tap * d - before) // u)  # ceil((before - tap d) / u)
        last = (size - 1 + before - tap * d) // u
        ranges.append(range(max(first, 0), min(last, problem.output[axis] - 1) + 1))
    return ranges


def _touched(problem: Problem, axis: int) -> dict[str, int]:
    """How many positions of input, filter and output take part in some product, along one axis."""
    before, u, d = problem.pad[axis][0], problem.stride[axis], problem.dilation[axis]
    hits = _tap_hits(problem, axis)
    outputs = {o for outs in hits for o in outs}
    inputs = {o * u + tap * d - before for tap, outs in enumerate(hits) for o in outs}
    return {"x": len(inputs), "w": sum(1 for outs in hits if outs), "y": len(outputs)}
