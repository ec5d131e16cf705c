"""Filter gradients that read 16-bit images as such, on the emulated GPU: tiles, parts, who else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from convbench.algorithms import cuda_implicit
from convbench.algorithms.cuda_implicit import CudaImplicit
from convbench.algorithms.cuda_implicit_planes import LONGEST, TILES, Planes, forms, source, suits
from emulator import failures, slow

from convbench.api import Plan, Problem, Variant

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

IMPLICIT = CudaImplicit()
every = pytest.mark.parametrize

CASES = [
    "n3c7h4w6k5r1",  # less than a step an image
    "n2c70h8w9k130r1",  # a step and an eighth; more than one tile
    *slow("n1c260h8k20r1", "n2c8h16k136r1flip"),
]


def gradient(text: str, precision: str = "fp16", **changes: Any) -> Problem:
    return Problem.parse(text, **{"direction": "bwd-filter", "precision": precision, **changes})


@dataclass(frozen=True)
class Given:
    """All tiles, in these parts."""

    parts: int = 1
    name: str = "implicit"
    device: str = "cuda"

    def offered(self, problem: Problem) -> Iterator[Planes]:
        yield from (Planes(problem, tile, self.parts) for tile in TILES)

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [form.variant() for form in self.offered(problem)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return {form.name: form for form in self.offered(problem)}[variant.name].plan()


@every("precision", ["fp16", "bf16"])
@every("text", CASES)
def test_every_tile(text: str, precision: str) -> None:
    problem = gradient(text, precision)
    assert suits(problem)
    assert not failures(Given(), problem)


@every("parts", [2, 3])
def test_parts_of_a_sum(parts: int) -> None:
    assert not failures(Given(parts), gradient("n3c12h8w9k10r1"))


@every(
    ("text", "changes"),
    [
        ("n1c8h8k8r3", {}),
        ("n1c8h8k8r1p1", {}),
        ("n1c16h8k16r1g2", {}),
        ("n1c8h8k8r1u2", {}),
        ("n1c8h7k8r1", {}),  # rows of the tensor begin where the copy engine cannot
        ("n1c8h8k8r1", {"layout": "nhwc"}),
        ("n1c8h8k8r1", {"precision": "fp32"}),
        ("n1c8h8k8r1", {"direction": "fwd"}),
    ],
)
def test_what_is_left_to_others(text: str, changes: dict[str, Any]) -> None:
    problem = gradient(text, **changes)
    assert not suits(problem)
    assert not any(variant.name.startswith("planes") for variant in IMPLICIT.variants(problem, None))


def test_gpus_before_hopper_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_implicit, "capability", lambda: 80)
    names = [variant.name for variant in IMPLICIT.variants(gradient("n1c8h8k8r1"), None)]
    assert names and not any(name.startswith("planes") for name in names)


def test_it_is_offered_and_right() -> None:
    problem = gradient("n2c24h8k16r1")
    assert any(variant.name.startswith("planes") for variant in IMPLICIT.variants(problem, None))
    assert not failures(IMPLICIT, problem)


def test_little_memory_is_met_with_fewer_parts() -> None:
    problem = gradient("n32c64h56k64r1")
    best, *_ = IMPLICIT.variants(problem, None)
    assert best.name.startswith("planes") and "parts" in best.name
    small = IMPLICIT.variants(problem, best.workspace_bytes - 1)
    assert min(variant.workspace_bytes for variant in small) < best.workspace_bytes


def test_long_sums_are_cut() -> None:
    form = next(Planes(gradient("n64c64h224k64r1"), TILES[0]).cuts())
    assert form.length <= LONGEST


def test_sources_cover_what_is_asked_for() -> None:
    listed = set(cuda_implicit.sources())
    for precision in ("fp16", "bf16"):
        problem = gradient("n1c8h8k8r1", precision)
        for form in forms(problem, None).values():
            assert source(problem.precision, form.tile) in listed
        assert replace(form, parts=2).workspace > 0
