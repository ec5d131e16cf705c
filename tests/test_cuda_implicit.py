"""Implicit matrix products on the emulated GPU: both engines, both ways to copy, scales, parts and chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from convbench.algorithms import cuda_implicit, cuda_implicit_filter, cuda_implicit_tiles
from convbench.algorithms.cuda_implicit import CudaImplicit, Form, forms, sources
from convbench.algorithms.cuda_implicit_filter import Filter
from convbench.algorithms.cuda_implicit_gather import Gather, walks
from convbench.algorithms.cuda_implicit_products import MATH
from convbench.algorithms.cuda_implicit_tiles import ENGINES, Engine, tiles
from emulator import Emulated, failures, slow
from implicit_forms import Chosen

from convbench import accuracy, conformance
from convbench.api import Direction, Layout, Precision, Problem
from convbench.conformance import check_adjoint, check_taps, questions, solve
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

IMPLICIT = CudaImplicit()
WARPS, CHUNKS, BULK = ENGINES
every = pytest.mark.parametrize
directions, layouts = every("direction", list(Direction)), every("layout", list(Layout))

# Channels that are no multiple of eight, strides that differ, 1x1.
FEW = ("n2c3h7w9k4r3p1", "n2c4h9w12k6r3s2u2x3p1x0", "n3c7h5w6k5r1")
# Sums and results beyond one tile and one step; groups; phases; filters turned around.
LARGER = ("n1c40h5w4k65r2p1", "n2c18h9w7k20r3u2p1g2flip", "n1c9h5w4k130r2s3p1x2d2")
# What the copy engine can move: whole blocks of channels, one phase.
WHOLE = ("n2c64h7w9k64r3p1", "n2c128h9w8k128r3s2p1x0d2x1g2flip")


@dataclass(frozen=True)
class Given(Chosen):
    """All tiles of an engine, filter gradients in one part and in several."""

    engine: Engine
    parts: tuple[int, ...] = (1,)

    def offered(self, problem: Problem) -> Iterator[Form]:
        kind = Filter if problem.direction is Direction.BWD_FILTER else Gather
        for tile in tiles(problem, self.engine):
            for parts in self.parts:
                yield Form(problem, kind(problem, problem.n, tile, self.engine, parts))


@layouts
@directions
@every("text", FEW)
def test_few_channels(text: str, direction: Direction, layout: Layout) -> None:
    assert not failures(IMPLICIT, Problem.parse(text, direction=direction, layout=layout))


@pytest.mark.slow
@layouts
@directions
@every("text", conformance.CASES)
def test_every_case(text: str, direction: Direction, layout: Layout) -> None:
    problem = Problem.parse(text, direction=direction, layout=layout)
    if IMPLICIT.reject(problem) is None:
        assert not failures(IMPLICIT, problem)


@directions
@every("engine", [WARPS, CHUNKS])
@every("text", [LARGER[0], *slow(*LARGER[1:])])
def test_every_tile(text: str, engine: Engine, direction: Direction) -> None:
    assert not failures(Given(engine), Problem.parse(text, direction=direction))


@directions
@every("text", [WHOLE[0], *slow(WHOLE[1])])
def test_every_tile_in_bulk(text: str, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction)
    assert {form.product.engine for form in forms(problem, None, True).values()} == {BULK}
    assert not failures(Given(BULK), problem)


@layouts
@every("precision", ["fp32", "bf16"])
@every("text", ["n2c3h9w8k4r4s5p1.2x2.1d1x2flip", "n3c2h13w12k9r3u2x1d2x3p2x3", "n1c6h3w9k3r1s4u1x2"])
def test_few_channels_are_folded(text: str, precision: str, layout: Layout) -> None:
    problem = Problem.parse(text, precision=precision, layout=layout)
    assert all(name.startswith("fold-") for name in forms(problem, None, True))
    assert not failures(IMPLICIT, problem)


@every(("text", "direction"), [("n1c8h9k8r3", "fwd"), ("n1c3h9k8r1", "fwd"), ("n1c3h9k8r3", "bwd-data")])
def test_others_are_not_folded(text: str, direction: str) -> None:
    assert not any("fold" in name for name in forms(Problem.parse(text, direction=direction), None, True))


@every("precision", ["fp16", *slow("tf32", "bf16")])
@directions
@every("text", ["n2c12h7w9k20r3u2p1", *slow("n1c64h7w9k64r3p1")])
def test_other_precisions(text: str, direction: Direction, precision: str) -> None:
    both = [Problem.parse(text, direction=direction, precision=precision, layout=layout) for layout in Layout]
    assert not failures(IMPLICIT, *both)


@every("engine", [WARPS, CHUNKS, BULK])
@directions
def test_parts_of_a_sum(direction: Direction, engine: Engine) -> None:
    problem = Problem.parse("n2c64h9w7k64r2", direction=direction)
    offered = Given(engine, parts=(3,))
    assert all(form.workspace > form.product.partial > 0 for form in offered.offered(problem))
    assert not failures(offered, problem)


@layouts
@directions
def test_every_tap(direction: Direction, layout: Layout) -> None:
    problem = Problem.parse(conformance.TAP_CASES[0], direction=direction, layout=layout)
    findings = list(check_taps(Emulated(IMPLICIT), problem))
    assert findings
    assert not [finding for finding in findings if finding.failure]


def test_directions_are_adjoint() -> None:
    (finding,) = check_adjoint(Emulated(IMPLICIT), Problem.parse("n2c16h9w11k24r3u2x1p1x2d1x2g2"))
    assert finding.outcome == "passed"


# ---- memory ------------------------------------------------------------------------------------------------


@directions
@every(("text", "precision"), [("n4c12h17w9k16r3s1p1x0", "fp32"), ("n4c64h17w19k64r1", "bf16")])
def test_chunks_of_images_take_less_memory(text: str, precision: str, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction, precision=precision)
    whole = min(form.workspace for form in forms(problem, None, True).values())
    small = {name: f for name, f in forms(problem, whole - 1, True).items() if f.workspace < whole}
    assert small
    assert all(form.product.images < problem.n for form in small.values())
    asked = questions(problem).dense
    for form in small.values():
        out = solve(Emulated(IMPLICIT), problem, form.variant(), *asked.operands).astype(np.float64)
        bar = accuracy.BARS["S" if precision == "fp32" else "B"]
        assert norm(out - asked.answer) < bar * norm(asked.answer)


@every("precision", ["fp16", "bf16"])
def test_16_bits_in_nhwc_need_no_workspace(precision: str) -> None:
    problem = Problem.parse("n64c256h56k256r3p1", precision=precision, layout="nhwc")
    assert [form.workspace for form in forms(problem, None, True).values()] == [0] * len(
        forms(problem, None, True)
    )
    gradient = problem.with_(direction=Direction.BWD_DATA)
    assert {form.workspace for form in forms(gradient, None, True).values()} == {0}
    turned = forms(gradient.with_(stride=(2, 2)), None, True)
    assert {form.workspace for form in turned.values()} == {2 * 9 * 256 * 256}


def test_a_single_image_is_cut_into_parts() -> None:
    first, *_ = forms(Problem.parse("n1c512h14k512r3p1"), None, True).values()
    assert first.product.parts > 1
    assert first.product.blocks > 132 / 2


# ---- numbers -----------------------------------------------------------------------------------------------


def answer(problem: Problem, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    variant = IMPLICIT.variants(problem, None)[0]
    out: np.ndarray[Any, Any] = solve(Emulated(IMPLICIT), problem, variant, a, b)
    return out


def operands(problem: Problem) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    a, b = questions(problem).dense.operands
    return a.copy(), b.copy()


@directions
def test_channels_and_images_of_very_different_size(direction: Direction) -> None:
    """What is small in one operand and large in the other counts as much as the rest."""
    problem = Problem.parse("n4c16h7w6k16r3p1", direction=direction)
    a, b = operands(problem)
    sizes = np.exp2(np.linspace(-30, 30, 16, dtype=np.float32).round())
    match direction:
        case Direction.FWD:
            a *= sizes[:, None, None]
            b /= sizes[:, None, None]
        case Direction.BWD_DATA:
            a *= sizes[:, None, None]
            b /= sizes[:, None, None, None]
        case Direction.BWD_FILTER:
            a *= sizes[::5, None, None, None]
            b /= sizes[::5, None, None, None]
    right = reference(problem, a, b)
    assert norm(answer(problem, a, b) - right) < accuracy.BARS["S"] * norm(right)


@every("size", [1e-30, 1e-18, 1e17])
def test_tensors_far_from_one(size: float) -> None:
    problem = Problem.parse("n2c16h7w6k16r3p1")
    a, b = (operand * np.float32(size) for operand in operands(problem))
    right = reference(problem, a, b)
    if np.abs(right).max() < 1e-37:  # below fp32's normal numbers
        assert not answer(problem, a, b).any()
    else:
        assert norm(answer(problem, a, b) - right) < accuracy.BARS["S"] * norm(right)


def test_zeros_give_zeros() -> None:
    problem = Problem.parse("n2c16h7w6k16r3p1")
    a, b = operands(problem)
    b[:] = 0
    assert not answer(problem, a, b).any()
    a[:, :8], b[:, :8] = 0, 1  # no channel is other than zero in both
    assert not answer(problem, a, b).any()


@every("value", [np.inf, np.nan])
def test_what_is_not_finite_is_not_hidden(value: float) -> None:
    problem = Problem.parse("n2c16h7w6k16r3p1")
    a, b = operands(problem)
    a[1, 3, 2, 2] = value
    assert np.isnan(answer(problem, a, b)).all()


@pytest.mark.slow
def test_long_sums_are_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.parse("n2c8h40w40k8r3p1", direction="bwd-filter")
    monkeypatch.setattr(cuda_implicit_filter, "LONGEST", {1: 512, 2: 512})
    forms.cache_clear()
    assert all(form.product.parts >= 6 for form in forms(problem, None, True).values())
    assert not failures(IMPLICIT, problem)
    forms.cache_clear()


# ---- which problems, which kernels -------------------------------------------------------------------------


@every(
    ("text", "word", "changes"),
    [
        ("n1c8h9k8r3", "direct", {"precision": Precision.FP64}),
        ("n1c8h9k8r3p1g8", "channels", {}),
        ("n1c8h99k8r3u9", "stride", {"direction": Direction.BWD_DATA}),
        ("n4096c512h300k512r3", "chunks", {}),
    ],
)
def test_what_is_refused_is_told_in_a_line(text: str, word: str, changes: dict[str, Any]) -> None:
    reason = IMPLICIT.reject(Problem.parse(text).with_(**changes))
    assert reason is not None
    assert word in reason
    assert "\n" not in reason


def test_gpus_before_ampere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_implicit, "capability", lambda: 75)
    assert "Ampere" in str(IMPLICIT.reject(Problem.parse("n1c8h9k8r3")))


def test_other_gpus_multiply_by_warps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_implicit, "capability", lambda: 80)
    problem = Problem.parse("n1c64h9k64r3")
    assert IMPLICIT.reject(problem) is None
    assert {variant.details["engine"] for variant in IMPLICIT.variants(problem, None)} == {"mma"}


@every(
    ("text", "direction", "bulk"),
    [
        ("n1c64h9k8r3", "fwd", True),
        ("n1c64h9k8r3", "bwd-data", False),
        ("n1c8h9k64r3", "bwd-data", True),
        ("n1c32h9k8r3", "bwd-filter", False),
        ("n1c64h99k64r3u2", "fwd", True),
        ("n1c64h99k64r3u2", "bwd-data", False),
        ("n1c64h99k64r3u9", "fwd", False),
        ("n1c64h99k64r3p200", "fwd", False),
    ],
)
def test_what_the_copy_engine_can_move(text: str, direction: str, bulk: bool) -> None:
    problem = Problem.parse(text, direction=direction)
    assert {form.product.engine.bulk for form in forms(problem, None, True).values()} == {bulk}


@every("text", ["n1c1h9k1r3p1", "n1c1h10k1r5u3p2d2", "n1c1h7k1r2s4u2x3p1x2flip"])
@every("axis", [0, 1])
def test_walks_meet_every_product_once(text: str, axis: int) -> None:
    """Pairs of a pixel of x and one of y, with their tap: the same from both sides."""

    def met(problem: Problem) -> set[tuple[int, int, int]]:
        found = set()
        for w in walks(problem, axis):
            for i in range(w.count):
                for t in range(w.taps):
                    position = i * w.step + w.start + t * w.dilation
                    if 0 <= position < w.size:
                        found.add((w.first + i * w.every, position, w.tap + t * w.tap_step))
        return found

    forward = Problem.parse(text)
    turned = {(x, y, tap) for y, x, tap in met(forward)}
    assert turned == met(replace(forward, direction=Direction.BWD_DATA))


def test_sources_cover_what_is_asked_for() -> None:
    listed = set(sources())
    assert len(listed) <= 154
    for precision, direction in [(p, d) for p in MATH for d in Direction]:
        for text in (*FEW, *LARGER, *WHOLE):
            problem = Problem.parse(text, direction=direction, precision=precision)
            for form in forms(problem, None, True).values():
                product = form.product
                assert cuda_implicit_tiles.source(problem, product.tile, product.engine) in listed
