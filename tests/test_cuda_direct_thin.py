"""Direct convolution with few result channels a group, on the emulated GPU."""

from __future__ import annotations

import pytest
from convbench.algorithms import cuda_direct_thin
from convbench.algorithms.cuda_direct import CudaDirect, choices
from convbench.algorithms.cuda_direct_gather import TILES, Gather
from convbench.algorithms.cuda_direct_thin import Thin, best
from emulator import failures, slow

from convbench.api import Layout, Precision, Problem

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

every = pytest.mark.parametrize
layouts = every("layout", list(Layout))

# Strides in both axes or one, more phases than a thread has, phases without taps, widths that are no fours,
# filters wider than what is added at once, several blocks in every direction; groups.
STRIDED = (
    "n3c3h37w41k9r7u2p3", "n5c3h20w36k6r11", "n2c4h19w70k5r3u3p1", "n2c5h17w23k7r5s4u4x2p2x1",
    "n3c1h9w8k4r6p2u1x2", "n2c6h11w9k10r3u1x3p1x0g2", "n1c2h5w260k3r2u2", "n1c3h11w12k5r1u2",
    "n2c2h9w16k5r3s1u5x1flip", "n2c3h16w16k8r5s6p2u2d2",
)  # fmt: skip


@layouts
@every("precision", [*slow(Precision.FP64, Precision.FP16), Precision.FP32])
@every("text", STRIDED)
def test_gradients_of_any_stride(
    text: str, precision: Precision, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_direct_thin, "TERMS", 40)  # sums are put aside
    problem = Problem.parse(text, direction="bwd-data", precision=precision, layout=layout)
    assert next(iter(choices(problem, None))) == "thin"
    assert not failures(CudaDirect(), problem)


@layouts
@every("text", [*slow("n3c9h37w41k3r7p3"), "n2c5h20w140k6r5s13p1", "n9c9h6w5k12r3p1g3"])
def test_forward(text: str, layout: Layout) -> None:
    problem = Problem.parse(text, layout=layout)
    assert next(iter(choices(problem, None))) == "thin"
    assert not failures(CudaDirect(), problem)


def chosen(text: str) -> Thin:
    found = best(Gather(Problem.parse(text, direction="bwd-data"), TILES[0]))
    assert found is not None
    return found


def test_a_thread_has_two_phases_of_each_axis() -> None:
    thin = chosen("n2c3h32k8r7u2p3")
    assert (thin.rows.phases, thin.rows.span, thin.rows.taps) == (2, 4, 7)  # 3 taps and 4 of them
    assert chosen("n2c3h32k8r7u4p3").rows.pairs == 2
    assert chosen("n2c3h32k8r7p3").rows.span == 8  # neighbours, one beside the other


def test_blocks_fill_their_threads_and_the_machine() -> None:
    """Images beside each other where rows and columns do not fill a block."""
    thin = chosen("n32c3h224k64r7u2p3")
    assert thin.across * thin.down * thin.images == 128
    assert thin.blocks == 392
