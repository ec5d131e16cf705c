"""Few channels on Hopper in one pass: rows of images go through shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from convbench.algorithms import cuda_implicit_lines as lines
from convbench.algorithms import cuda_implicit_taps as taps
from convbench.algorithms.cuda_implicit import CudaImplicit, offered
from emulator import Emulated, failures, slow
from implicit_forms import Chosen

from convbench import accuracy
from convbench.api import Direction, Layout, Precision, Problem
from convbench.conformance import check_taps, questions, solve
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

IMPLICIT = CudaImplicit()
MODULES = {Direction.FWD: lines, Direction.BWD_FILTER: taps}
every = pytest.mark.parametrize
directions = every("direction", list(MODULES))

# With bands: padding that differs, strides and dilation that share factors or none, filters turned around,
# more stride than taps, pixels that no tap meets, rows in padding alone, more than one tile, stage or unit.
SHAPES = (
    ("n2c3h9w8k4r4s5p1.2x2.1d1x2flip", 2),
    ("n1c3h15w13k70r7u2p3", 3),
    *slow(
        ("n1c3h9w16k70r3p1", 1),
        ("n2c3h13w12k9r3u2x1d2x3p2x3", 3),
        ("n1c6h3w9k3r1s4u1x2", 1),
        ("n1c3h14w11k8r5s3u3x2d2x4p4x3flip", 2),
        ("n1c1h9w10k5r2s1u4x3", 1),
        ("n1c2h16w9k6r3s2u4x2d6x2p5x1", 2),
        ("n1c2h5w4k8r3p9x7u2", 3),
        ("n1c2h5w200k8r3s5p1", 1),
        ("n1c3h14w13k50r9flip", 2),
    ),
)


@dataclass(frozen=True)
class Given(Chosen):
    """The first tiles that are possible, with so many bands, also where rows are too short to be worth it."""

    possible: Callable[[Problem], Sequence[Any]]
    bands: int = 1
    tiles: int = 1

    def offered(self, problem: Problem) -> list[Any]:
        return [replace(one, bands=self.bands) for one in self.possible(problem)[: self.tiles]]


@directions
@every("shape", SHAPES)
def test_every_shape(shape: tuple[str, int], direction: Direction) -> None:
    text, bands = shape
    problem = Problem.parse(text, direction=direction)
    given = Given(MODULES[direction].possible, bands)
    assert given.offered(problem)
    assert not failures(given, problem)


@pytest.mark.slow
@directions
def test_every_tile(direction: Direction) -> None:
    problem = Problem.parse("n1c3h15w13k70r7u2p3", direction=direction)
    assert not failures(Given(MODULES[direction].possible, bands=2, tiles=4), problem)


@directions
def test_tf32(direction: Direction) -> None:
    problem = Problem.parse("n1c3h7w9k16r3p1", direction=direction, precision="tf32")
    assert not failures(Given(MODULES[direction].possible), problem)


@directions
def test_every_tap(direction: Direction) -> None:
    problem = Problem.parse("n1c2h6w7k3r3s2p1u2x1", direction=direction)
    findings = list(check_taps(Emulated(Given(MODULES[direction].possible)), problem))
    assert findings
    assert not [finding for finding in findings if finding.failure]


@directions
@every("text", ["n128c3h128k96r11", "n32c3h224k64r7u2p3"])
def test_first_layers_need_one_pass(text: str, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction)
    first, *_ = offered(problem, None).values()
    assert first in MODULES[direction].forms(problem).values()


@directions
@every(
    "changes",
    [
        {"layout": Layout.NHWC},
        {"precision": Precision.FP16},
        {"c": 64},
        {"w": 24},
        {"r": 7, "s": 1},
        {"r": 31, "s": 31},
    ],
)
def test_others_do_not_suit(changes: dict[str, Any], direction: Direction) -> None:
    problem = Problem.parse("n8c3h64w128k64r7p3", direction=direction)
    assert MODULES[direction].suits(problem)
    assert not MODULES[direction].suits(problem.with_(**changes))


# ---- numbers -----------------------------------------------------------------------------------------------


def answer(problem: Problem, a: Any, b: Any) -> Any:
    given = Given(MODULES[problem.direction].possible)
    variant, *_ = given.variants(problem, None)
    return solve(Emulated(given), problem, variant, a, b)


@directions
def test_keys_of_very_different_size(direction: Direction) -> None:
    """What is small in one operand and large in the other counts as much as the rest."""
    problem = Problem.parse("n4c4h5w6k4r2", direction=direction)
    a, b = (operand.copy() for operand in questions(problem).dense.operands)
    sizes = np.exp2(np.linspace(-30, 30, 4, dtype=np.float32).round())
    a *= sizes[:, None, None, None] if direction is Direction.BWD_FILTER else sizes[:, None, None]
    b /= sizes[:, None, None] if direction is Direction.FWD else sizes[:, None, None, None]
    right = reference(problem, a, b)
    assert norm(answer(problem, a, b) - right) < accuracy.BARS["S"] * norm(right)


@directions
@every("value", [np.inf, np.nan])
def test_what_is_not_finite_is_not_hidden(value: float, direction: Direction) -> None:
    problem = Problem.parse("n1c2h5w6k4r3p1", direction=direction)
    a, b = (operand.copy() for operand in questions(problem).dense.operands)
    a[0, 1, 2, 2] = value
    with np.errstate(all="ignore"):
        hit = ~np.isfinite(reference(problem, a, b))
    assert hit.any()
    assert np.isnan(answer(problem, a, b))[hit].all()


@directions
def test_zeros_give_zeros(direction: Direction) -> None:
    problem = Problem.parse("n1c2h5w6k4r3p1", direction=direction)
    a, b = (operand.copy() for operand in questions(problem).dense.operands)
    b[:] = 0
    assert not answer(problem, a, b).any()
    assert not answer(problem, b * 0 + 1 if b.shape == a.shape else a * 0, b).any()
