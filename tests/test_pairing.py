"""Which cells of two result folders belong together, and how environments are compared."""

from __future__ import annotations

from typing import Any

import pytest
from comparing import IDENTITY, blocks, holding, measured, settled

from convbench.compare import Comparison, State, compare
from convbench.errors import UsageError
from convbench.pairing import Difference
from convbench.record import Status

MS = 1e-3
BASE = measured(blocks(MS))


def states(found: Comparison) -> list[str]:
    return [pair.state.value for pair in found.pairs]


@pytest.mark.parametrize(
    "change",
    [{"preset": "rigorous"}, {"source": "edited"}, {"environment": "f"}, {"workspace_limit": 64}],
    ids=str,
)
def test_what_a_cell_was_measured_with_does_not_part_it(change: dict[str, Any]) -> None:
    assert states(compare(holding(BASE), holding(measured(blocks(MS * 1.1), **change)))) == ["SLOW"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": "n2c2h5w4k3r3p1"}, "problem n1c2h5w4k3r3s3p1x1u1x1d1x1g1/fwd/fp32/nchw against n2c2"),
        ({"direction": "bwd-data"}, "/fwd/fp32/nchw against"),
        ({"precision": "fp64"}, "/fwd/fp64/nchw"),
        ({"layout": "nhwc"}, "/fwd/fp32/nhwc"),
        ({"algorithm": "fft"}, "algorithm direct against fft"),
        ({"variant": ""}, "variant shift against ''"),
        ({"device": "cuda"}, "device cpu against cuda"),
        ({"regime": "burst"}, "regime sustained against burst"),
        ({"algorithm": "a\nb\x1b[2J"}, r"direct against a\nb\x1b[2J"),
    ],
    ids=str,
)
def test_without_a_common_cell_the_error_says_what_differs(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare(holding(BASE), holding(measured(blocks(MS), **change)), ("one", "other"))
    assert str(caught.value).startswith("'one' and 'other' have no cell in common: ")
    assert named in str(caught.value) and str(caught.value).isprintable()


def test_cells_may_cross_without_meeting() -> None:
    ours = holding(measured(blocks(MS), "a", "x"), measured(blocks(MS), "b", "y"))
    theirs = holding(measured(blocks(MS), "a", "y"), measured(blocks(MS), "b", "x"))
    with pytest.raises(UsageError, match="other algorithms or variants"):
        compare(ours, theirs)


def test_an_empty_folder_is_named() -> None:
    with pytest.raises(UsageError, match="'other' holds no cells"):
        compare(holding(BASE), holding(), ("one", "other"))


def test_many_values_are_cut() -> None:
    ours = holding(*(measured(blocks(MS), variant=f"v{i}") for i in range(9)))
    with pytest.raises(UsageError, match="variant v0, v1, v2, 6 more against shift"):
        compare(ours, holding(BASE))


def test_two_figures_are_never_compared() -> None:
    (pair,) = compare(holding(BASE), holding(measured(blocks(MS), figure="gpu_hot"))).pairs
    assert pair.state is State.MISSING and pair.ratio is None
    assert pair.reason == "figure cpu against gpu_hot: never compared"


def test_the_last_of_several_counts() -> None:
    again = [measured(blocks(MS * ratio), source=str(ratio)) for ratio in (3, 1)]
    assert states(compare(holding(BASE), holding(*again))) == ["SAME"]
    broken = holding(BASE, settled(Status.WRONG))
    assert states(compare(holding(BASE), broken)) == ["broken"]


def test_a_smaller_limit_does_not_hide_a_figure() -> None:
    limited = settled(Status.OVER_LIMIT, workspace_limit=1)
    for held in (holding(BASE, limited), holding(limited, BASE)):
        assert states(compare(holding(BASE), held)) == ["SAME"]


def test_environments_are_compared_fact_by_fact() -> None:
    other = IDENTITY | {"threads": 4, "libraries": {"numpy": "2.1", "torch": "2"}, "gpu": ["a", 1]}
    found = compare(holding(BASE), holding(measured(blocks(MS), environment="f"), identity=other))
    assert found.differences == [
        Difference("threads", "2", "4"),
        Difference("libraries.numpy", "2.0", "2.1"),
        Difference("libraries.torch", "none", "2"),
        Difference("gpu", "", '["a",1]'),
    ]
    assert compare(holding(BASE), holding(BASE)).differences == []


def test_an_environment_that_was_lost_is_a_difference() -> None:
    lost = holding(measured(blocks(MS), environment="f"))
    lost.environments.clear()
    found = compare(holding(BASE), lost).differences
    assert Difference("environment", "", "f") in found and Difference("cpu", "some cpu", "") in found
