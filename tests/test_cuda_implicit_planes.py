"""1x1 layers whose 16-bit images are read as such, on the emulated GPU: tiles, parts, who else does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from convbench.algorithms import cuda_implicit, cuda_implicit_planes, cuda_implicit_planes_gradient
from convbench.algorithms.cuda_implicit import CudaImplicit
from convbench.algorithms.cuda_implicit_planes import Planes, suits
from convbench.algorithms.cuda_implicit_planes_gradient import PlanesGradient
from emulator import failures, slow
from implicit_forms import Chosen

from convbench.api import Direction, Problem

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

IMPLICIT = CudaImplicit()
every = pytest.mark.parametrize

directions = every("direction", list(Direction))
GRADIENT = Direction.BWD_FILTER

CASES = [
    "n3c8h4w6k5r1",  # less than a step or a tile an image
    "n2c72h8w9k130r1",  # a step and an eighth; more than one tile
    *slow("n1c264h8k24r1", "n2c8h16w24k136r1flip"),
]


def fp16(text: str, direction: str = "bwd-filter", **changes: str) -> Problem:
    return Problem.parse(text, **{"direction": direction, "precision": "fp16", **changes})


@dataclass(frozen=True)
class Given(Chosen):
    """All tiles; of filter gradients in these parts."""

    parts: int = 1

    def offered(self, problem: Problem) -> Iterator[Planes | PlanesGradient]:
        if problem.direction is GRADIENT:
            tiles = cuda_implicit_planes_gradient.TILES
            yield from (PlanesGradient(problem, tile, parts=self.parts) for tile in tiles)
        else:
            yield from (Planes(problem, tile) for tile in cuda_implicit_planes.TILES)


@every("precision", ["fp16", "bf16"])
@directions
@every("text", CASES)
def test_every_tile(text: str, direction: Direction, precision: str) -> None:
    problem = fp16(text, direction, precision=precision)
    assert suits(problem)
    assert not failures(Given(), problem)


@every("parts", [2, 3])
def test_parts_of_a_sum(parts: int) -> None:
    assert not failures(Given(parts), fp16("n3c12h8w9k10r1"))


@every(
    ("text", "changes"),
    [
        ("n1c8h8k8r3", {}),
        ("n1c8h8k8r1p1", {}),
        ("n1c16h8k16r1g2", {}),
        ("n1c8h8k8r1u2", {}),
        ("n1c8h7k8r1", {}),  # rows begin where the copy engine cannot
        ("n1c12h8k8r1", {"direction": "fwd"}),  # those of the filters
        ("n1c8h8k8r1", {"layout": "nhwc"}),
        ("n1c8h8k8r1", {"precision": "fp32"}),
    ],
)
def test_what_is_left_to_others(text: str, changes: dict[str, Any]) -> None:
    problem = fp16(text, **changes)
    assert not suits(problem)
    assert not any(variant.name.startswith("planes") for variant in IMPLICIT.variants(problem, None))


def test_gpus_before_hopper_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_implicit, "capability", lambda: 80)
    names = [variant.name for variant in IMPLICIT.variants(fp16("n1c8h8k8r1"), None)]
    assert names and not any(name.startswith("planes") for name in names)


@directions
def test_it_is_offered_and_right(direction: Direction) -> None:
    problem = fp16("n2c24h8k16r1", direction)
    assert any(variant.name.startswith("planes") for variant in IMPLICIT.variants(problem, None))
    assert not failures(IMPLICIT, problem)


def test_little_memory_is_met_with_fewer_parts() -> None:
    problem = fp16("n32c64h56k64r1")
    best, *_ = IMPLICIT.variants(problem, None)
    assert best.name.startswith("planes") and "parts" in best.name
    small = IMPLICIT.variants(problem, best.workspace_bytes - 1)
    assert min(variant.workspace_bytes for variant in small) < best.workspace_bytes


def test_long_sums_are_cut() -> None:
    tile = cuda_implicit_planes_gradient.TILES[0]
    assert next(PlanesGradient(fp16("n64c64h224k64r1"), tile).cuts()).length <= PlanesGradient.longest


def test_sources_cover_what_is_asked_for() -> None:
    listed = set(cuda_implicit.sources())
    for precision in ("fp16", "bf16"):
        for direction in (Direction.FWD, Direction.BWD_DATA):
            problem = fp16("n1c8h8k8r1", direction, precision=precision)
            for form in cuda_implicit_planes.forms(problem).values():
                assert cuda_implicit_planes.source(problem.precision, form.tile, form.turned) in listed
        gradient = fp16("n1c8h8k8r1", precision=precision)
        for other in cuda_implicit_planes_gradient.forms(gradient, None).values():
            assert cuda_implicit_planes_gradient.source(gradient.precision, other.tile) in listed
