"""DeepBench: rows `w h c n k f_w f_h pad_w pad_h stride_w stride_h`, bare or inside std::make_tuple(...).

Its tables go on with a precision and times, which are not read. A name can only stand in a comment behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from convbench.errors import UsageError
from convbench.layers import Layer, inexpressible, located, numbered, whole
from convbench.problem import Problem

FIELDS = ("w", "h", "c", "n", "k", "f_w", "f_h", "pad_w", "pad_h", "stride_w", "stride_h")
_TUPLE = re.compile(r"make_tuple\s*\(([^()]*)\)")


def read(text: str, source: str) -> Iterator[Layer]:
    rows = _tuples if "make_tuple" in text else _rows
    for number, line in numbered(text):
        with located(source, number):
            layers = [_layer(cells, comment) for cells, comment in rows(line)]
        yield from layers


def write(layers: Sequence[Layer]) -> str:
    return f"# {' '.join(FIELDS)}\n" + "".join(f"{_row(layer)}\n" for layer in layers)


def _tuples(line: str) -> Iterator[tuple[list[str], str]]:
    """The tuples on a line of C++; everything around them is left alone."""
    code = line.partition("//")[0]
    found = _TUPLE.findall(code)
    if len(found) != code.count("make_tuple"):
        raise UsageError("make_tuple(...) must open and close on one line; join the lines")
    for cells in found:
        yield [cell.strip() for cell in cells.split(",")], ""


def _rows(line: str) -> Iterator[tuple[list[str], str]]:
    row, _, comment = line.partition("#")
    cells = row.partition("//")[0].replace(",", " ").split()
    if cells and tuple(cells[:5]) != FIELDS[:5]:  # the heading of the published tables
        yield cells, comment.strip()


def _layer(cells: list[str], label: str) -> Layer:
    if len(cells) < len(FIELDS):
        raise UsageError(f"{len(cells)} numbers; a DeepBench row has {len(FIELDS)}: {' '.join(FIELDS)}")
    given = zip(FIELDS, cells, strict=False)  # precision and times may follow
    w, h, c, n, k, s, r, right, down, u_w, u_h = (whole(cell, f"column '{name}':") for name, cell in given)
    return Layer.counted(label, Problem(n, c, h, w, k, r, s, ((down, down), (right, right)), (u_h, u_w)))


def _row(layer: Layer) -> str:
    p = layer.problem
    for wrong, reason in (
        (any(before != after for before, after in p.pad), "its padding is the same at both ends"),
        (p.dilation != (1, 1), "it has no dilation"),
        (p.groups > 1, "it has no groups"),
        (p.flip, "it knows cross-correlation only, not flip"),
    ):
        if wrong:
            raise inexpressible(layer, "deepbench", reason)
    sizes = (p.w, p.h, p.c, p.n, p.k, p.s, p.r, p.pad[1][0], p.pad[0][0], p.stride[1], p.stride[0])
    comment = f"  # {layer.counted_label}" if layer.counted_label else ""
    return " ".join(map(str, sizes)) + comment
