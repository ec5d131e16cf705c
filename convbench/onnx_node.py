"""One node of an ONNX graph as a problem, by the rules of ONNX's operators for padding and output sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from convbench.errors import one_line
from convbench.problem import Direction, Pair, Problem

OPERANDS = {"Conv": (0, 1), "ConvTranspose": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
"""Which inputs of an operator are its image and its filters."""

Shape = tuple[int | str, ...]
"""A name where a size is not fixed."""


class Unreadable(Exception):
    """Why a convolution is no layer here."""


class Axis(NamedTuple):
    """What an operator says about one axis. `given` is the output size a transposed convolution may name."""

    size: int
    taps: int
    pads: Pair
    stride: int
    dilation: int
    extra: int
    given: int | None

    @property
    def extent(self) -> int:
        return (self.taps - 1) * self.dilation + 1


def text_of(value: str | bytes) -> str:
    """Text of a model; what is not UTF-8 comes as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def is_convolution(node: Any) -> bool:
    """Whether a node is one by its name; also of kinds that are not known here."""
    return "conv" in text_of(node.op_type).lower()


def problem_of(node: Any, shapes: Mapping[str, Shape]) -> Problem:
    """The convolution of a node; a transposed one as the backward-data pass that it is."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERANDS:
        kind = one_line(f"{text_of(node.domain)}.{text_of(node.op_type)}".removeprefix("."))
        raise Unreadable(f"operator {kind}: known are {', '.join(OPERANDS)}")
    image, filters = (_fixed(node, shapes, place) for place in OPERANDS[node.op_type])
    if len(image) not in (3, 4) or len(filters) != len(image):
        raise Unreadable(f"{max(len(image), 2) - 2} spatial axes; only one or two are supported")
    problem = _problem(_Attributes(node), image, filters, transposed=node.op_type == "ConvTranspose")
    _agree(problem, shapes.get(next(iter(node.output), "")), len(image) - 2)
    return problem


def _fixed(node: Any, shapes: Mapping[str, Shape], place: int) -> list[int]:
    what = "filters" if place else "image"
    shape = shapes.get(node.input[place] if place < len(node.input) else "")
    if shape is None:
        raise Unreadable(f"the shape of its {what} cannot be inferred")
    open_ = [one_line(size) for size in shape if isinstance(size, str)]
    if open_ and what == "image" and isinstance(shape[0], str) and len(open_) == 1:
        raise Unreadable(f"its batch '{open_[0]}' is not fixed; give --batch 32")
    if open_:
        sizes = ", ".join(f"'{size}'" for size in open_)
        raise Unreadable(f"the {what} has sizes that are not fixed: {sizes}; export it with fixed sizes")
    return [size for size in shape if isinstance(size, int)]


class _Attributes:
    """Attributes of a node with their defaults; one-dimensional ones become the columns of a row."""

    def __init__(self, node: Any) -> None:
        self._held = {attribute.name: attribute for attribute in node.attribute}

    def number(self, name: str, default: int) -> int:
        return int(self._held[name].i) if name in self._held else default

    def text(self, name: str, default: str) -> str:
        return self._held[name].s.decode("utf-8", "replace") if name in self._held else default

    def numbers(self, name: str, count: int, default: int) -> list[int]:
        """As many numbers as there are axes, or twice as many for both ends."""
        if name not in self._held:
            return [default] * count
        values = list(islice(self._held[name].ints, count + 1))
        if len(values) != count:
            raise Unreadable(f"attribute {name} must hold {count} numbers")
        return values


def _problem(held: _Attributes, image: Sequence[int], filters: Sequence[int], *, transposed: bool) -> Problem:
    groups, auto = held.number("group", 1), held.text("auto_pad", "NOTSET")
    inputs = filters[0] if transposed else filters[1] * groups
    if image[1] != inputs:
        raise Unreadable(f"its filters take {inputs} channels, its image has {image[1]}")
    axes = _axes(held, image[2:], filters[2:])
    pads = [_transposed_pads(axis, auto) if transposed else _pads(axis, auto) for axis in axes]
    sizes = [axis.size for axis in axes]
    if transposed:
        sizes = [_image(axis, pad, auto) for axis, pad in zip(axes, pads, strict=True)]
    rows = [(1, 1, (0, 0), 1, 1)] * (2 - len(axes))  # one-dimensional: an image one pixel high
    rows += [(n, a.taps, pad, a.stride, a.dilation) for n, a, pad in zip(sizes, axes, pads, strict=True)]
    (h, r, rows_pad, u, d), (w, s, columns_pad, v, e) = rows
    problem = Problem(
        n=image[0],
        c=filters[1] * groups if transposed else image[1],
        h=h,
        w=w,
        k=filters[0],
        r=r,
        s=s,
        pad=(rows_pad, columns_pad),
        stride=(u, v),
        dilation=(d, e),
        groups=groups,
        direction=Direction.BWD_DATA if transposed else Direction.FWD,
    )
    if transposed and problem.output[2 - len(axes) :] != tuple(image[2:]):
        raise Unreadable("it pads its output by a stride or more, which no convolution reverses")
    return problem


def _axes(held: _Attributes, image: Sequence[int], taps: Sequence[int]) -> list[Axis]:
    count = len(image)
    strides, dilations = held.numbers("strides", count, 1), held.numbers("dilations", count, 1)
    extras, pads = held.numbers("output_padding", count, 0), held.numbers("pads", 2 * count, 0)
    given = [size or None for size in held.numbers("output_shape", count, 0)]
    if held.numbers("kernel_shape", count, 0) not in ([0] * count, list(taps)):
        raise Unreadable("kernel_shape is not the shape of its filters")
    if min(*strides, *dilations) < 1:
        raise Unreadable("strides and dilations must be from 1")
    both = zip(pads[:count], pads[count:], strict=True)
    return [Axis(*one) for one in zip(image, taps, both, strides, dilations, extras, given, strict=True)]


def _pads(axis: Axis, auto: str) -> Pair:
    if not auto.startswith("SAME"):
        return axis.pads if auto == "NOTSET" else (0, 0)
    outputs = -(-axis.size // axis.stride)
    total = max((outputs - 1) * axis.stride + axis.extent - axis.size, 0)
    return _halves(total, auto)


def _transposed_pads(axis: Axis, auto: str) -> Pair:
    """What is cut off the full result; from the output size where that is given."""
    wanted = axis.size * axis.stride if auto.startswith("SAME") and axis.given is None else axis.given
    if wanted is None:
        return axis.pads if auto == "NOTSET" else (0, 0)
    full = axis.stride * (axis.size - 1) + axis.extra + axis.extent
    return _halves(full - wanted, auto)  # negative where runtimes differ: refused


def _image(axis: Axis, pads: Pair, auto: str) -> int:
    """The size of what a transposed convolution gives back."""
    if axis.given is not None:
        return axis.given
    if auto.startswith("SAME"):
        return axis.size * axis.stride
    return axis.stride * (axis.size - 1) + axis.extra + axis.extent - sum(pads)


def _halves(total: int, auto: str) -> Pair:
    """The odd pixel goes to the end with SAME_UPPER, else to the beginning."""
    less, more = total // 2, total - total // 2
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _agree(problem: Problem, inferred: Shape | None, axes: int) -> None:
    """Shape inference must see the same result."""
    sizes = problem.shapes[2][:2] + problem.shapes[2][4 - axes :]
    pairs = zip(sizes, inferred or (), strict=False)
    if any(isinstance(other, int) and own != other for own, other in pairs):
        raise Unreadable(f"its result is {_by(sizes)} by its attributes, {_by(inferred or ())} in the model")


def _by(sizes: Shape) -> str:
    return "x".join(one_line(str(size)) for size in sizes)
