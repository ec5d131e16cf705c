"""Few channels on tensor cores: taps that become channels, before a product or until after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import pytest
from convbench.algorithms import cuda_implicit_fold as fold
from convbench.algorithms import cuda_implicit_unfold as unfold
from convbench.algorithms.cuda_implicit import CudaImplicit, Form, forms
from convbench.algorithms.cuda_implicit_products import Product
from convbench.algorithms.cuda_implicit_tiles import ENGINES
from convbench.algorithms.cuda_implicit_unfold import Unfolded, unfoldings
from emulator import Emulated, failures, slow
from implicit_forms import Chosen

from convbench import accuracy, conformance
from convbench.api import Direction, Layout, Problem
from convbench.conformance import check_adjoint, check_taps, questions, solve
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

IMPLICIT = CudaImplicit()
every = pytest.mark.parametrize
layouts = every("layout", list(Layout))

# Odd padding, strides and dilation that share factors or none, filters turned around, more stride than taps,
# pixels that no tap meets, groups.
SHAPES = (
    "n2c3h9w8k4r4s5p1.2x2.1d1x2flip",
    "n3c2h13w12k9r3u2x1d2x3p2x3",
    "n1c6h3w9k3r1s4u1x2",
    "n2c3h15w13k32r7u2p3",
    "n1c3h14w11k8r5s3u3x2d2x4p4x3flip",
    "n1c1h9w10k5r2s1u4x3",
    "n1c2h16w9k6r3s2u4x2d6x2p5x1",
    "n2c16h8w7k16r2s3u2x3p1x2g2flip",
    "n1c2h5w4k8r3p9x7u2",
)


@dataclass(frozen=True)
class Given(Chosen):
    """Every number of rows that become channels, on the smallest tile."""

    products: Callable[[Problem, int, bool], Sequence[Product]]
    wgmma: bool = True
    parts: int = 1

    def offered(self, problem: Problem) -> Iterator[Form]:
        for one in self.products(problem, problem.n, self.wgmma):
            if one.tile.size == "64x128":
                yield Form(problem, replace(one, parts=min(self.parts, one.steps)))


@layouts
@every("precision", ["fp32", "bf16", "tf32"])
@every("text", SHAPES)
def test_taps_are_channels_until_after_the_product(text: str, precision: str, layout: Layout) -> None:
    problem = Problem.parse(text, direction="bwd-data", precision=precision, layout=layout)
    assert not failures(Given(unfold.products), problem)


@every("precision", ["fp32", "bf16"])
@every("text", ["n2c3h15w13k33r7u2p3", "n1c2h9w12k6r3s2u2x3p1x0flip", *slow(*SHAPES[:3])])
def test_folded_layers_in_bulk(text: str, precision: str) -> None:
    problem = Problem.parse(text, precision=precision)
    given = Given(fold.products)
    assert {form.product.engine.bulk for form in given.offered(problem)} == {False, True}
    assert not failures(given, problem)


@every("wgmma", [True, False])
@every("text", ["n1c3h11w7k64r7u2p3", "n2c3h9w7k20r5s3p2x1"])
def test_parts_of_a_sum(text: str, wgmma: bool) -> None:
    problem = Problem.parse(text, direction="bwd-data")
    assert not failures(Given(unfold.products, wgmma, parts=3), problem)


@layouts
@every("precision", ["fp32", "bf16"])
@every("text", [text for text in SHAPES if "c1h" not in text and "g2" not in text])
def test_gradients_of_folded_filters(text: str, precision: str, layout: Layout) -> None:
    problem = Problem.parse(text, direction="bwd-filter", precision=precision, layout=layout)
    assert all(name.startswith("fold-") for name in forms(problem, None, True))
    assert not failures(IMPLICIT, problem)


@layouts
@every("direction", [*slow("bwd-data"), "bwd-filter"])
def test_every_tap(direction: str, layout: Layout) -> None:
    problem = Problem.parse(conformance.TAP_CASES[1], direction=direction, layout=layout)
    for offered in (IMPLICIT, Given(unfold.products)):
        findings = list(check_taps(Emulated(offered), problem))
        assert not [finding for finding in findings if finding.failure]


@every("text", ["n2c3h9w11k24r3u2x1p1x2d1x2", *slow("n2c3h12w9k24r5u2p2flip")])
def test_directions_are_adjoint(text: str) -> None:
    (finding,) = check_adjoint(Emulated(IMPLICIT), Problem.parse(text))
    assert finding.outcome == "passed"


@every("direction", slow("bwd-data", "bwd-filter"))
def test_chunks_of_images_take_less_memory(direction: str) -> None:
    problem = Problem.parse("n4c3h65w61k32r5p2", direction=direction)
    whole = min(form.workspace for form in forms(problem, None, True).values())
    small = {name: f for name, f in forms(problem, whole - 1, True).items() if f.workspace < whole}
    assert small
    asked = questions(problem).dense
    for name, form in small.items():
        assert "fold" in name
        out = solve(Emulated(IMPLICIT), problem, form.variant(), *asked.operands).astype(np.float64)
        assert norm(out - asked.answer) < accuracy.BARS["S"] * norm(asked.answer)


@every("direction", ["bwd-data", "bwd-filter"])
@every("value", [np.inf, np.nan])
def test_what_is_not_finite_is_not_hidden(value: float, direction: str) -> None:
    problem = Problem.parse("n2c3h7w9k16r3p1", direction=direction)
    a, b = (operand.copy() for operand in questions(problem).dense.operands)
    a[1, 2, 2, 2] = value
    variant = IMPLICIT.variants(problem, None)[0]
    assert np.isnan(solve(Emulated(IMPLICIT), problem, variant, a, b)).all()


def test_channels_of_very_different_size() -> None:
    problem = Problem.parse("n2c3h9w7k16r3p1", direction="bwd-data")
    a, b = (operand.copy() for operand in questions(problem).dense.operands)
    sizes = np.exp2(np.linspace(-30, 30, 16, dtype=np.float32).round())
    a *= sizes[:, None, None]
    b /= sizes[:, None, None, None]
    right = reference(problem, a, b)
    variant = IMPLICIT.variants(problem, None)[0]
    out = solve(Emulated(IMPLICIT), problem, variant, a, b)
    assert norm(out - right) < accuracy.BARS["S"] * norm(right)


# ---- which problems ----------------------------------------------------------------------------------------


@every("text", ["n128c3h128k96r11", "n32c3h224k64r7u2p3", "n64c3h224k64r3p1"])
def test_first_layers_are_unfolded_in_bulk(text: str) -> None:
    offered = forms(Problem.parse(text, direction="bwd-data"), None, True).values()
    assert all(isinstance(form.product, Unfolded) and form.product.engine == ENGINES[2] for form in offered)


@every("text", ["n1c64h9k64r3p1", "n1c3h9k8r1", "n1c256h9k8r3"])
def test_others_are_not(text: str) -> None:
    offered = forms(Problem.parse(text, direction="bwd-data"), None, True).values()
    assert not any(isinstance(form.product, Unfolded) for form in offered)


@every("text", SHAPES)
def test_the_product_has_the_same_gradients(text: str) -> None:
    """The inner problem has dy's size, one phase and every tap."""
    problem = Problem.parse(text, direction="bwd-data")
    for one in unfoldings(problem):
        inner = one.inner
        assert inner.y_shape[2:] == problem.output
        assert inner.stride == (1, 1)
        assert one.kept * one.taps >= problem.r
        assert one.taps == ceil(problem.r / one.rows)
        assert inner.h <= problem.h + sum(problem.pad[0])


def test_folded_gradients_lie_as_nhwc() -> None:
    problem = Problem.parse("n1c3h9k8r3", direction=Direction.BWD_FILTER)
    assert fold.folded(problem).layout is Layout.NHWC
    assert fold.folded(problem.with_(direction=Direction.FWD)).layout is Layout.NCHW
