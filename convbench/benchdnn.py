"""oneDNN's benchdnn: convolution descriptors such as g1mb64ic3ih224oc64oh112kh7sh2ph3n"net:conv1*2".

Its rules, followed here: `_` is ignored; mb defaults to 2; a dense dilation is 0; without any h the problem
is one-dimensional, without any w it is square; a missing output follows from the padding, a missing padding
from the output, and the padding at the far end from both. Repeat counts stand at the end of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from convbench.errors import UsageError, one_line
from convbench.layers import Layer, inexpressible, located, numbered, whole
from convbench.problem import Pair, Problem

DEFAULT_BATCH = 2
IGNORED = {
    "alg", "allow-enum-tags-only", "allow-unimpl", "bia-dt", "canonical", "cfg", "cold-cache", "conv",
    "ctx-exe", "ctx-init", "dir", "dt", "dtag", "engine", "execution-mode", "fast-ref", "fast-ref-gpu",
    "fix-times-per-prb", "impl", "max-ms-per-prb", "mem-check", "memory-kind", "mode", "perf-template",
    "repeats-per-prb", "skip-impl", "stag", "stream-kind", "strides", "summary", "verbose", "wtag",
}  # fmt: skip
"""Options that say how benchdnn runs a problem, not which problem; so does every --attr-..."""
REFUSED = {
    "batch": "a path inside a file is not followed; read that file itself",
    "deconv": "a deconvolution is the backward-data pass of a convolution; list that convolution",
    "match": "regular expressions are not applied; keep only the wanted lines",
    "start": "skipping problems is not supported; keep only the wanted lines",
}
_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_TOKEN = re.compile(r"[a-z]+[-0-9]*|.")
_SIZE = re.compile(r"(g|mb|ic|oc|[iokspd][dhw])([0-9]{1,10})")


class Axis(NamedTuple):
    """Image size, filter size, padding, stride and dilation along one axis."""

    size: int = 1
    taps: int = 1
    pad: Pair = (0, 0)
    stride: int = 1
    dilation: int = 1


def read(text: str, source: str) -> Iterator[Layer]:
    """Descriptors and options, several a line or one; --mb=N overrides the batch of what follows."""
    batch = 0
    for number, line in numbered(text):
        for word in _WORD.findall(line):
            if word.startswith("#"):
                break
            layer = None
            with located(source, number):
                if word.startswith("-"):
                    batch = _option(word, batch)
                elif not word.endswith("benchdnn"):  # the program's own name, in a pasted command line
                    layer = _layer(word, batch)
            if layer:
                yield layer


def write(layers: Sequence[Layer]) -> str:
    return "".join(f"{_descriptor(layer)}\n" for layer in layers)


def _option(word: str, batch: int) -> int:
    """The batch override after this option."""
    name, _, value = word.lstrip("-").partition("=")
    if name in REFUSED:
        raise UsageError(f"'{one_line(word)}': {REFUSED[name]}")
    if name == "mb":
        return whole(value, "--mb")
    if name == "reset":
        return 0
    if name in IGNORED or name.startswith("attr-") or re.fullmatch(r"v\d*", name):
        return batch
    raise UsageError(
        f"'{one_line(word)}': this option may change the problem; known are --mb, --reset and, ignored, "
        f"{', '.join(sorted(IGNORED))}, attr-...; remove it"
    )


def _layer(word: str, batch: int) -> Layer:
    sizes, named, label = word.partition("n")  # no size has an n in its name
    problem = _problem(_sizes(sizes.replace("_", "")), batch)
    return Layer.counted(label.strip('"') if named else "", problem)


def _sizes(text: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for token in _TOKEN.findall(text):
        match = _SIZE.fullmatch(token)
        if not match:
            raise UsageError(
                f"'{one_line(token)}' is no benchdnn size; an example: mb64ic3ih224oc64kh7sh2ph3"
            )
        if match[1] in sizes:
            raise UsageError(f"'{token}': {match[1]} is given twice; remove one")
        sizes[match[1]] = int(match[2])
    return sizes


def _problem(sizes: dict[str, int], batch: int) -> Problem:
    for name in ("ic", "oc"):
        if name not in sizes:
            raise UsageError(f"'{name}' is missing; an example: mb64ic3ih224oc64kh7sh2ph3")
    depth, height, width = (_axis(sizes, axis) for axis in "dhw")
    if depth not in (None, Axis()):
        raise UsageError(
            "the problem has a depth (id, kd, ...); only one- and two-dimensional ones are supported"
        )
    if height is None and width is None:
        raise UsageError("no image size is given; add ih and kh, or iw and kw")
    rows = height or Axis()
    columns = width or rows
    return Problem(
        n=batch or sizes.get("mb", DEFAULT_BATCH),
        c=sizes["ic"],
        h=rows.size,
        w=columns.size,
        k=sizes["oc"],
        r=rows.taps,
        s=columns.taps,
        pad=(rows.pad, columns.pad),
        stride=(rows.stride, columns.stride),
        dilation=(rows.dilation, columns.dilation),
        groups=sizes.get("g", 1),
    )


def _axis(sizes: dict[str, int], axis: str) -> Axis | None:
    """What is said about one axis; None if nothing that counts."""
    size, taps, out, sparse = (sizes.get(f"{role}{axis}", 0) for role in "ikod")
    stride, before = sizes.get(f"s{axis}", 1), sizes.get(f"p{axis}")
    if not (size or taps or out or sparse or stride != 1 or before):
        return None
    for name, value in ((f"i{axis}", size), (f"k{axis}", taps), (f"s{axis}", stride)):
        if not value:
            raise UsageError(f"'{name}' is missing or 0; give it, or leave out every size along {axis}")
    pad = _padding(axis, out, before, size - (taps - 1) * (sparse + 1) - 1, stride)
    return Axis(size, taps, pad, stride, sparse + 1)


def _padding(axis: str, out: int, before: int | None, room: int, stride: int) -> Pair:
    """Padding at both ends; `room` is how far the filter can move inside the unpadded image.

    Symmetric where that gives the output asked for: what lies beyond the last tap changes nothing.
    """
    if not out:
        return before or 0, before or 0
    needed = (out - 1) * stride - room
    first = max(needed, 0) // 2 if before is None else before
    for last in (first, max(needed - first, 0)):
        if (room + first + last) // stride + 1 == out:
            return first, last
    raise UsageError(
        f"o{axis}{out} is not what the other sizes give: no padding at the end of the image leads to it; "
        f"correct it, or leave it out to have it computed"
    )


def _descriptor(layer: Layer) -> str:
    p = layer.problem
    if p.flip:
        raise inexpressible(layer, "benchdnn", "it knows cross-correlation only, not flip")
    if '"' in layer.label:
        raise inexpressible(layer, "benchdnn", "a quote ends the name")
    axes = "_".join(
        f"i{a}{p.image[i]}o{a}{p.output[i]}k{a}{p.taps[i]}s{a}{p.stride[i]}"
        f"d{a}{p.dilation[i] - 1}p{a}{p.pad[i][0]}"
        for i, a in enumerate("hw")
    )
    name = f'_n"{layer.counted_label}"' if layer.counted_label else ""
    return f"g{p.groups}mb{p.n}_ic{p.c}oc{p.k}_{axes}{name}"
