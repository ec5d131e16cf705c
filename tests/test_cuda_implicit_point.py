"""Products that read fp32 images as such, on the emulated GPU: strides, parts, scales, what is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from convbench.algorithms import cuda_implicit, cuda_implicit_point_gradient
from convbench.algorithms.cuda_implicit import CudaImplicit
from convbench.algorithms.cuda_implicit_point import TILES, Point, forms, source, suits
from convbench.algorithms.cuda_implicit_point_gradient import COLUMNS, PointGradient
from emulator import Emulated, failures, slow

from convbench import accuracy
from convbench.api import Direction, Plan, Problem, Variant
from convbench.conformance import questions, solve
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

IMPLICIT = CudaImplicit()
every = pytest.mark.parametrize
directions = every("direction", list(Direction))


GRADIENT = Direction.BWD_FILTER

CASES = [
    "n3c7h5w7k5r1",  # an odd number of pixels: one at a time
    "n2c70h9w6k130r1",  # an even one: results in pairs
    "n3c64h12w11k72r1",  # four at a time
    "n5c72h7k12r1",  # whole images of an odd number
    "n3c8h15w14k12r1u2",
    "n2c6h7w9k9r1u2",
    "n2c9h8w12k66r1u2",
    "n2c5h7w8k6r1u1x3",
    *slow("n2c40h9w10k7r1u3x2flip", "n1c200h10w10k100r1"),
]


@dataclass(frozen=True)
class Given:
    """All tiles, in these parts; of filter gradients either side as rows."""

    parts: tuple[int, ...] = (1,)
    name: str = "implicit"
    device: str = "cuda"

    def offered(self, problem: Problem) -> Iterator[tuple[str, Point | PointGradient]]:
        for parts in self.parts:
            if problem.direction is not GRADIENT:
                yield from ((f"{m}-{parts}", Point(problem, m, parts)) for m in TILES)
                continue
            for turned in (False, True)[: 2 if problem.stride == (1, 1) else 1]:
                products = (PointGradient(problem, n, turned, parts=parts) for n in COLUMNS)
                yield from ((f"{one.n}-{parts}-{turned}", one) for one in products)

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [replace(form.variant(), name=name) for name, form in self.offered(problem)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return dict(self.offered(problem))[variant.name].plan()


@directions
@every("text", CASES)
def test_every_tile(text: str, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction)
    assert suits(problem)
    assert not failures(Given(), problem)


@directions
def test_parts_of_a_sum(direction: Direction) -> None:
    problem = Problem.parse("n2c130h6w14k70r1", direction=direction)
    for _, form in Given((3,)).offered(problem):
        assert form.workspace >= 3 * 4 * form.results
    assert not failures(Given((3,)), problem)


@directions
def test_tf32(direction: Direction) -> None:
    assert not failures(IMPLICIT, Problem.parse("n2c68h7w6k20r1", precision="tf32", direction=direction))


@every(
    ("text", "changes"),
    [
        ("n1c8h9k8r3", {}),
        ("n1c8h9k8r1p1", {}),
        ("n1c16h9k16r1g2", {}),
        ("n1c8h9k8r1", {"layout": "nhwc"}),
        ("n1c8h9k8r1", {"precision": "fp16"}),
    ],
)
def test_what_is_left_to_others(text: str, changes: dict[str, Any]) -> None:
    problem = Problem.parse(text, **changes)
    assert not suits(problem)
    assert not any(variant.name.startswith("point") for variant in IMPLICIT.variants(problem, None))


def test_gpus_before_hopper_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_implicit, "capability", lambda: 80)
    names = [variant.name for variant in IMPLICIT.variants(Problem.parse("n1c8h9k8r1"), None)]
    assert names
    assert not any(name.startswith("point") for name in names)


@every(("text", "direction"), [("n1c2048h7k512r1", "fwd"), ("n32c64h56k64r1", "bwd-filter")])
def test_little_memory_is_met_with_fewer_parts(text: str, direction: str) -> None:
    problem = Problem.parse(text, direction=direction)
    best, *_ = IMPLICIT.variants(problem, None)
    assert "parts" in best.name
    small = IMPLICIT.variants(problem, best.workspace_bytes - 1)
    assert min(variant.workspace_bytes for variant in small) < best.workspace_bytes


@every(("direction", "both"), [("fwd", False), ("bwd-data", False), ("bwd-filter", True)])
def test_filter_gradients_with_strides_are_offered_both_ways(direction: str, both: bool) -> None:
    problem = Problem.parse("n2c64h14k64r1u2", direction=direction)
    found = {variant.name.startswith("point") for variant in IMPLICIT.variants(problem, None)}
    assert found == ({True, False} if both else {True})


def test_long_sums_are_cut() -> None:
    """However few parts are asked for, one adds at most 2^16 pixels."""
    form = next(PointGradient(Problem.parse("n64c64h224k64r1", direction="bwd-filter"), 64).cuts())
    assert form.parts >= 64 * 224**2 / 2**16


# ---- numbers -----------------------------------------------------------------------------------------------


def answer(problem: Problem, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    variant = IMPLICIT.variants(problem, None)[0]
    out: np.ndarray[Any, Any] = solve(Emulated(IMPLICIT), problem, variant, a, b)
    return out


def operands(problem: Problem) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    a, b = questions(problem).dense.operands
    return a.copy(), b.copy()


def close(problem: Problem, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    right = reference(problem, a, b)
    return bool(norm(answer(problem, a, b) - right) < accuracy.BARS["S"] * norm(right))


@directions
def test_channels_and_images_of_very_different_size(direction: Direction) -> None:
    """What is small in one operand and large in the other counts as much as the rest."""
    problem = Problem.parse("n5c80h7w6k80r1", direction=direction)
    a, b = operands(problem)
    sizes = np.exp2(np.linspace(-30, 30, 5 if direction is GRADIENT else 80, dtype=np.float32).round())
    where = {GRADIENT: ((-1, 1, 1, 1),) * 2, Direction.FWD: ((-1, 1, 1),) * 2}
    left, right = where.get(direction, ((-1, 1, 1), (-1, 1, 1, 1)))
    assert close(problem, a * sizes.reshape(left), b / sizes.reshape(right))


def test_pixels_of_very_different_size() -> None:
    """Each has its own digits."""
    problem = Problem.parse("n2c70h7w6k16r1")
    a, b = operands(problem)
    a *= np.exp2(np.linspace(-40, 40, 42, dtype=np.float32)).reshape(7, 6)
    right = reference(problem, a, b)
    errors = np.linalg.norm(answer(problem, a, b) - right, axis=(0, 1)) / np.linalg.norm(right, axis=(0, 1))
    assert errors.max() < accuracy.BARS["S"]


@directions
@every("size", [1e-30, 1e-18, 1e17])
def test_tensors_far_from_one(size: float, direction: Direction) -> None:
    problem = Problem.parse("n2c70h7w6k16r1", direction=direction)
    a, b = (operand * np.float32(size) for operand in operands(problem))
    right = reference(problem, a, b)
    if np.abs(right).max() < 1e-37:  # below fp32's normal numbers
        assert not answer(problem, a, b).any()
    else:
        assert norm(answer(problem, a, b) - right) < accuracy.BARS["S"] * norm(right)


@directions
@every(("first", "second"), [(1e-33, 1e30), (1e30, 1e-33)])
def test_one_tensor_far_from_the_other(first: float, second: float, direction: Direction) -> None:
    problem = Problem.parse("n2c70h7w6k16r1", direction=direction)
    a, b = operands(problem)
    assert close(problem, a * np.float32(first), b * np.float32(second))


def test_zeros_give_zeros() -> None:
    problem = Problem.parse("n2c16h7w6k16r1")
    a, b = operands(problem)
    b[:] = 0
    assert not answer(problem, a, b).any()
    a[:, :8], b[:, :8] = 0, 1  # no channel is other than zero in both
    assert not answer(problem, a, b).any()


@every("value", [np.inf, np.nan])
def test_what_is_not_finite_spoils_its_pixel_and_no_other(value: float) -> None:
    problem = Problem.parse("n2c70h7w6k16r1")
    a, b = operands(problem)
    right = answer(problem, a, b)
    a[1, 3, 2, 2] = value
    spoilt = answer(problem, a, b)
    assert np.isnan(spoilt[1, :, 2, 2]).all()
    spoilt[1, :, 2, 2] = right[1, :, 2, 2]
    assert (spoilt == right).all()


@every("value", [np.inf, np.nan])
def test_filters_that_are_not_finite_are_not_hidden(value: float) -> None:
    problem = Problem.parse("n2c70h7w6k16r1")
    a, b = operands(problem)
    b[5, 3] = value
    assert np.isnan(answer(problem, a, b)[:, 5]).all()


@every("value", [np.inf, np.nan])
def test_filters_have_what_is_not_finite_in_their_images(value: float) -> None:
    problem = Problem.parse("n2c70h7w6k16r1", direction="bwd-filter")
    a, b = operands(problem)
    a[1, 3, 2, 2] = value
    spoilt = np.isnan(answer(problem, a, b))
    assert spoilt[:, 3].all()
    assert not np.delete(spoilt, 3, axis=1).any()


def test_sources_cover_what_is_asked_for() -> None:
    listed = set(cuda_implicit.sources())
    for precision in ("fp32", "tf32"):
        problem = Problem.parse("n1c8h9k8r1", precision=precision)
        for form in forms(problem, None).values():
            assert source(form.m, form.copies) in listed
        turned = problem.with_(direction=GRADIENT)
        for other in cuda_implicit_point_gradient.forms(turned, None).values():
            assert cuda_implicit_point_gradient.source(other.n, form.copies) in listed
