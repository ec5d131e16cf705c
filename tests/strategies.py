"""Hypothesis strategies that several tests share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from convbench.problem import Direction, Layout, Pair, Precision, Problem


@st.composite
def problems(
    draw: Any,
    *,
    directions: Iterable[Direction] = Direction,
    precisions: Iterable[Precision] = Precision,
    layouts: Iterable[Layout] = Layout,
    symmetric: bool = False,
    flips: bool = True,
) -> Problem:
    """Small valid problems with every feature; the arguments narrow it."""
    groups = draw(st.integers(1, 3))
    rows, columns = draw(_axes(symmetric)), draw(_axes(symmetric))
    return Problem(
        n=draw(st.integers(1, 2)),
        c=groups * draw(st.integers(1, 2)),
        h=rows["size"],
        w=columns["size"],
        k=groups * draw(st.integers(1, 2)),
        r=rows["taps"],
        s=columns["taps"],
        pad=(rows["pad"], columns["pad"]),
        stride=(rows["stride"], columns["stride"]),
        dilation=(rows["dilation"], columns["dilation"]),
        groups=groups,
        direction=draw(st.sampled_from(list(directions))),
        precision=draw(st.sampled_from(list(precisions))),
        layout=draw(st.sampled_from(list(layouts))),
        flip=flips and draw(st.booleans()),
    )


@st.composite
def _axes(draw: Any, symmetric: bool) -> dict[str, Any]:
    """One spatial axis; the image is at least as large as it takes for one output."""
    taps, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    before = draw(st.integers(0, 3))
    pad: Pair = (before, before if symmetric else draw(st.integers(0, 3)))
    least = max(1, (taps - 1) * dilation + 1 - sum(pad))
    size = draw(st.integers(least, least + 6))
    return {"size": size, "taps": taps, "pad": pad, "stride": draw(st.integers(1, 3)), "dilation": dilation}
