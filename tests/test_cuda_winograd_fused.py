"""Fused Winograd on CUDA: the kernel emulated, what it bears, and its workspace to the byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convbench.algorithms import cuda_winograd_fused
from convbench.algorithms.cuda_winograd import CudaWinograd
from convbench.algorithms.cuda_winograd_fused import (
    BLOCKS,
    LONGEST,
    NAME,
    Block,
    Fused,
    fused,
)
from emulator import Emulated, failures, slow

from convbench.accuracy import BARS
from convbench.api import Variant
from convbench.conformance import CASES, TAP_CASES, check_taps, solve
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)

SUMMED = Direction.FWD, Direction.BWD_DATA
VGG1 = "n64c64h224k64r3p1"
# Filters and channels in several blocks and steps; images left over; rows that are of whole 16 bytes, or not.
SHAPES = (
    "n5c20h9w13k40r3p1",
    "n3c32h10w20k48r3p1",
    "n5c32h7k48r3p1",
    *slow(
        "n3c48h37w44k16r3p0.1x2.0",
        "n3c32h13k48r3",
        "n3c32h14k48r3p1",
        "n5c70h9w16k40r3p1",
        "n3c40h20w24k70r3p0.1x2.0",
        "n2c33h10w34k33r3p2",
        "n2c6h7w9k4r3p1flip",
    ),
)


class Only(CudaWinograd):
    """What is fused alone."""

    def variants(self, problem: Problem, workspace_limit: int | None) -> list[Variant]:
        return [v for v in super().variants(problem, workspace_limit) if v.name == NAME]


WINOGRAD = Only()


def form(text: str, direction: Direction = Direction.FWD) -> Fused:
    found = fused(Problem.parse(text, direction=direction), True)
    assert found is not None
    return found


@pytest.mark.parametrize("direction", SUMMED)
@pytest.mark.parametrize("text", [*CASES, *SHAPES])
def test_is_right(text: str, direction: Direction, emulated: Any) -> None:
    problem = Problem.parse(text, direction=direction)
    if WINOGRAD.reject(problem) is None and fused(problem, True):
        assert not failures(WINOGRAD, problem)


@pytest.mark.parametrize("block", slow(*BLOCKS))
@pytest.mark.parametrize("text", ["n5c70h19w21k40r3p1", "n5c20h19w24k40r3p1"])
def test_every_block_is_right(
    text: str, block: Block, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_winograd_fused, "BLOCKS", (block,))
    assert not failures(WINOGRAD, *(Problem.parse(text, direction=direction) for direction in SUMMED))


@pytest.mark.parametrize("direction", SUMMED)
def test_every_tap_is_where_it_belongs(direction: Direction, emulated: Any) -> None:
    problem = Problem.parse(TAP_CASES[0], direction=direction)
    (finding,) = check_taps(Emulated(WINOGRAD), problem)
    assert not finding.failure


# ---- accuracy ----------------------------------------------------------------------------------------------


def operands(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in problem.shapes[:2])
    return a, b


def result(problem: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (variant,) = WINOGRAD.variants(problem, None)
    computed: np.ndarray = np.asarray(solve(Emulated(WINOGRAD), problem, variant, a, b), np.float64)
    return computed


def error(problem: Problem, a: np.ndarray, b: np.ndarray) -> float:
    right = reference(problem, a, b)
    return norm(result(problem, a, b) - right) / norm(right)


@pytest.mark.parametrize("rising", [1, -1])
@pytest.mark.parametrize("power", [0, 24, 60])
@pytest.mark.parametrize("direction", SUMMED)
def test_bears_factors_of_opposite_size(direction: Direction, power: int, rising: int, emulated: Any) -> None:
    """What is summed over is tiny in one operand where it is huge in the other."""
    problem = Problem.parse("n2c40h9w8k40r3p1", direction=direction)
    a, b = operands(problem)
    scales = (2.0 ** (rising * np.linspace(-power, power, 40))).astype(np.float32)
    a *= scales[:, None, None]
    b /= scales[:, None, None, None] if direction is Direction.BWD_DATA else scales[:, None, None]
    assert error(problem, a, b) < BARS["S"]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_bears_tiny_and_huge_tensors(size: float, emulated: Any) -> None:
    problem = Problem.parse("n1c20h9w8k4r3p1")
    a, b = operands(problem)
    assert error(problem, a * np.float32(size), b) < BARS["S"]
    assert error(problem, a, b * np.float32(size)) < BARS["S"]


def test_channels_that_grow_bring_sums_to_a_new_scale(emulated: Any) -> None:
    problem = Problem.parse("n1c64h9w8k4r3p1")
    a, b = operands(problem)
    assert error(problem, a * (2.0 ** np.arange(64, dtype=np.float32))[:, None, None], b) < BARS["S"]


def test_nothing_is_nothing_and_does_not_count(emulated: Any) -> None:
    problem = Problem.parse("n2c40h9w8k4r3p1")
    a, b = operands(problem)
    assert not result(problem, a, 0 * b).any()
    assert not result(problem, 0 * a, b).any()
    a[:, :20] = 0
    b[:, 30] = 0
    a[:, 30] *= np.float32(2.0**60)
    assert error(problem, a, b) < BARS["S"]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_shows(value: float, emulated: Any) -> None:
    problem = Problem.parse("n2c2h9w8k3r3p1")
    a, b = operands(problem)
    a[1, 0, 4, 4] = value
    computed = result(problem, a, b)
    assert not np.isfinite(computed[1, :, 3:6, 3:6]).any()
    assert np.isfinite(computed[0]).all()


# ---- variants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", SUMMED)
def test_workspace_is_the_transformed_filters(direction: Direction, emulated: Any) -> None:
    """Sixteen points, four bytes a number, and a power of two for each channel of 64 filters."""
    assert form(VGG1, direction).workspace_bytes == 16 * 64 * 64 * 4 + 64 * 4
    (variant,) = WINOGRAD.variants(Problem.parse(VGG1, direction=direction), None)
    assert (variant.workspace_bytes, variant.library_bytes) == (form(VGG1).workspace_bytes, 0)


def test_blocks_waste_the_fewest_tiles(emulated: Any) -> None:
    assert form("n128c64h7k512r3p1").block.images == 4  # four images of 4 x 4 tiles
    for text in ("n128c64h7k512r3p1", "n64c64h28k256r3p1", "n9c64h32k64r3p1"):
        plan = form(text)
        assert all(plan._time(plan.block) <= plan._time(block) for block in BLOCKS)


def test_windows_of_rows_in_whole_fours_are_copied_at_once(emulated: Any) -> None:
    assert [form(text).bulk for text in ("n1c16h20k4r3p1", "n1c16h19k4r3p1", "n1c16h20k4r3")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("n1c4h8k4r5p2", {}),
        ("n1c4h8k4r3p1g2", {}),
        ("n1c4h9k4r3d2p2", {}),
        (f"n1c{LONGEST + 1}h8k4r3p1", {}),
        ("n1c4h8k4r3p1", {"layout": Layout.NHWC}),
        ("n1c4h8k4r3p1", {"precision": Precision.FP16}),
        ("n1c4h8k4r3p1", {"direction": Direction.BWD_FILTER}),
    ],
)
def test_others_are_left_to_other_variants(text: str, kind: dict[str, Any], emulated: Any) -> None:
    problem = Problem.parse(text, **kind)
    assert fused(problem, True) is None
    assert CudaWinograd().variants(problem, None)


def test_needs_hopper() -> None:
    assert fused(Problem.parse(VGG1), False) is None
