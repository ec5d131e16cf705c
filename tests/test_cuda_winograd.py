"""Winograd on CUDA: its kernels emulated, its arithmetic, and its workspace to the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from convbench.algorithms import cuda_winograd, cuda_winograd_forms, cuda_winograd_variants
from convbench.algorithms.cuda_winograd import CudaWinograd, sources
from convbench.algorithms.cuda_winograd_forms import CudaForm
from convbench.algorithms.cuda_winograd_operands import UNIT
from convbench.algorithms.cuda_winograd_variants import MANY, forms
from convbench.algorithms.gpu_blas import LIBRARY_BYTES
from emulator import Emulated, failures, slow

from convbench.accuracy import BARS
from convbench.conformance import ADJOINT_CASES, CASES, TAP_CASES, check_adjoint, check_taps, solve
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)

WINOGRAD = CudaWinograd()
FEATURES = (
    "n3c6h13w9k4r3p1g2",
    "n3c13h17w19k11r3p1",
    "n3c4h11w13k4r3d2p2",
    "n3c3h20w21k4r3p0.1x2.0flip",
)
ROUNDED = ("n1c70h6w5k65r3p1", "n2c16h24w20k32r3p1", "n2c6h8w7k4r3p1g2", "n2c5h12w10k6r5p2")
OWN = "n1c64h6w5k96r3p1", "n2c64h5w6k64r3p1g2"
VGG3 = "n64c256h56k256r3p1"
TILES, POINTS = 64 * 14 * 14, 6 * 6  # of F(4, 3) there


def every(text: str, precision: str = "fp32") -> list[Problem]:
    """All directions in both layouts."""
    return [
        Problem.parse(text, direction=direction, precision=precision, layout=layout)
        for direction in Direction
        for layout in Layout
    ]


@pytest.fixture
def older(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU before Hopper, where cuBLAS multiplies."""
    monkeypatch.setattr(cuda_winograd, "can_multiply", lambda: False)


@pytest.mark.parametrize("text", CASES)
def test_every_variant_is_right(text: str, older: None) -> None:
    if WINOGRAD.reject(Problem.parse(text)) is None:
        assert not failures(WINOGRAD, *every(text))


@pytest.mark.slow
@pytest.mark.parametrize("text", OWN)
def test_products_of_our_own_are_right(text: str, emulated: Any) -> None:
    for problem in every(text):
        named = {v.name: v.details["products"] for v in WINOGRAD.variants(problem, None)}
        assert named["f2"] == "cublas"
        assert named["f2_3xfp16"] != "cublas"
        assert not failures(WINOGRAD, problem)


@pytest.mark.parametrize("layout", Layout)
def test_channels_that_do_not_come_in_wholes_are_left_to_cublas(layout: Layout, emulated: Any) -> None:
    for channels, own in ((64, True), (65, False)):
        problem = Problem.parse(f"n1c{channels}h6k3r3p1", layout=layout)
        named = {v.name: v.details["products"] for v in WINOGRAD.variants(problem, None)}
        assert (named["f2_3xfp16"] != "cublas") is own


@pytest.mark.parametrize("precision", [*slow("tf32", "bf16"), "fp16"])
@pytest.mark.parametrize("text", ROUNDED)
def test_every_variant_earns_its_class(text: str, precision: str, older: None) -> None:
    assert not failures(WINOGRAD, *every(text, precision))


@pytest.mark.slow
@pytest.mark.parametrize("text", FEATURES)
def test_chunks_of_images_and_parts_of_tiles(
    text: str, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images and one that is left over; sums over tiles in parts of a few; many scales."""
    monkeypatch.setattr(cuda_winograd_forms, "LONGEST", 40)
    monkeypatch.setattr(cuda_winograd_forms, "PROMOTED", 40)
    monkeypatch.setattr(cuda_winograd, "FEW", 5)
    for problem in every(text):
        monkeypatch.setattr(
            cuda_winograd_variants, "CACHED", replace(forms(problem)["f4_3xfp16"], images=2).streamed
        )
        assert {form.images for form in forms(problem).values()} == {2, 3}
        assert not failures(WINOGRAD, problem)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("direction", Direction)
def test_every_tap_is_where_it_belongs(direction: Direction, layout: Layout, emulated: Any) -> None:
    problem = Problem.parse(TAP_CASES[0], direction=direction, layout=layout)
    findings = list(check_taps(Emulated(WINOGRAD), problem))
    assert {finding.variant for finding in findings} >= set(forms(problem))
    assert not [finding for finding in findings if finding.failure]


def test_directions_are_adjoint(emulated: Any) -> None:
    (finding,) = check_adjoint(Emulated(WINOGRAD), Problem.parse(ADJOINT_CASES[0]))
    assert finding.outcome == "passed"


# ---- accuracy ----------------------------------------------------------------------------------------------


def operands(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in problem.shapes[:2])
    return a, b


def result(problem: Problem, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    algorithm = Emulated(WINOGRAD)
    variant = next(v for v in algorithm.variants(problem, None) if v.name == name)
    computed: np.ndarray = np.asarray(solve(algorithm, problem, variant, a, b), np.float64)
    return computed


def error(problem: Problem, name: str, a: np.ndarray, b: np.ndarray) -> float:
    right = reference(problem, a, b)
    return norm(result(problem, name, a, b) - right) / norm(right)


def test_fewer_and_better_points_err_less(emulated: Any) -> None:
    problem = Problem.parse("n2c64h14k16r3p1")
    errors = [error(problem, name, *operands(problem)) for name in ("f2", "f4", "f4s", "f6")]
    assert errors == sorted(errors)
    assert error(problem, "f4_3xfp16", *operands(problem)) < 2 * errors[1] < BARS["S"]


@pytest.mark.parametrize("power", [0, 24, 40, 60])
@pytest.mark.parametrize("direction", Direction)
def test_fp16_halves_bear_factors_of_opposite_size(direction: Direction, power: int, emulated: Any) -> None:
    """What is summed over is tiny in one operand where it is huge in the other."""
    problem = Problem.parse("n4c4h9w8k4r3p1", direction=direction)
    a, b = operands(problem)
    scales = (2.0 ** np.linspace(-power, power, 4)).astype(np.float32)
    axis = {Direction.FWD: 1, Direction.BWD_DATA: 0, Direction.BWD_FILTER: 0}[direction]
    first = 0 if direction is Direction.BWD_FILTER else 1
    a *= scales[(slice(None), *[None] * (3 - first))]
    b /= scales[(slice(None), *[None] * (3 - axis))]
    assert error(problem, "f4_3xfp16", a, b) < BARS["S"]


def test_the_largest_of_many_channels_counts(emulated: Any) -> None:
    problem = Problem.parse("n1c300h6k2r3p1")
    a, b = operands(problem)
    a[:, 0] *= 2.0**20
    assert error(problem, "f4_3xfp16", a, b) < BARS["S"]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_fp16_halves_bear_tiny_and_huge_tensors(size: float, emulated: Any) -> None:
    problem = Problem.parse("n1c4h9w8k4r3p1")
    a, b = operands(problem)
    assert error(problem, "f4_3xfp16", a * np.float32(size), b) < BARS["S"]


@pytest.mark.parametrize("direction", Direction)
def test_fp16_halves_of_nothing_are_nothing(direction: Direction, emulated: Any) -> None:
    problem = Problem.parse("n2c4h9w8k4r3p1", direction=direction)
    a, b = operands(problem)
    assert not result(problem, "f4_3xfp16", a, 0 * b).any()
    b[:, 1:3] = 0  # some channels, or in backward-filter none of the tiles
    assert error(problem, "f4_3xfp16", a, b) < BARS["S"]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_shows(value: float, emulated: Any) -> None:
    problem = Problem.parse("n2c2h9w8k3r3p1")
    a, b = operands(problem)
    a[1, 0, 4, 4] = value
    for name in ("f4", "f4_3xfp16"):
        assert not np.isfinite(result(problem, name, a, b)[1, :, 3:6, 3:6]).any()


# ---- variants ----------------------------------------------------------------------------------------------


def test_workspace_is_both_operands_and_the_products() -> None:
    """891 MiB, what cuDNN takes for its non-fused Winograd."""
    forward = 4 * POINTS * (TILES * (256 + 256) + 256 * 256)
    parts = -(-TILES // cuda_winograd_forms.LONGEST)
    padded = parts * (-(-TILES // parts // UNIT) * UNIT)
    gradients = 4 * POINTS * (padded * (256 + 256) + parts * 256 * 256)
    for problem in every(VGG3):
        expected = gradients if problem.direction is Direction.BWD_FILTER else forward
        assert forms(problem)["f4"].workspace_bytes == expected
    assert forward >> 20 == 891


def test_operands_take_six_bytes_if_split_and_two_in_fp16() -> None:
    for problem in every(VGG3):
        single, split = forms(problem)["f4"].areas, forms(problem)["f4_3xfp16"].areas
        assert split["data"] / single["data"] == split["left"] / single["left"] == 6 / 4
        assert split["products"] == single["products"]
        scales = TILES if problem.direction is Direction.BWD_FILTER else 256
        assert 4 * scales <= split["data_scales"] == split["left_scales"] <= 4 * scales + 1024
        half = forms(problem.with_(precision=Precision.BF16))["f4_fp16"].areas
        assert half["data"] / single["data"] == half["left"] / single["left"] == 2 / 4


def test_floating_point_operations_are_those_of_the_products() -> None:
    """Nobody can be faster than its own arithmetic: that of split operands is three products in fp16."""
    variants = {v.name: v.details for v in WINOGRAD.variants(Problem.parse(VGG3), None)}
    products = 2 * POINTS * TILES * 256 * 256
    assert (variants["f4"]["flops"], variants["f4"]["arithmetic"]) == (products, "fp32")
    assert (variants["f4_3xfp16"]["flops"], variants["f4_3xfp16"]["arithmetic"]) == (3 * products, "fp16")


def test_chunks_fit_into_the_cache_and_under_the_limit() -> None:
    problem, limit = Problem.parse(VGG3), 300 << 20
    variants = {v.name: v for v in WINOGRAD.variants(problem, limit)}
    assert variants["f4_chunk1"].workspace_bytes <= cuda_winograd_variants.CACHED
    assert variants["f4_chunk16"].workspace_bytes + LIBRARY_BYTES <= limit  # four chunks; three do not do:
    assert replace(forms(problem)["f4"], images=22).workspace_bytes > limit


def test_under_a_limit_every_tile_size_is_offered_in_chunks_that_keep_it() -> None:
    problem, limit = Problem.parse(VGG3), 64 << 20
    usual, within = (WINOGRAD.variants(problem, one) for one in (None, limit))
    made = {v.name for v in within} - {v.name for v in usual}
    assert {name.partition("_")[0] for name in made} == {"f2", "f4", "f6"}
    assert all(v.workspace_bytes + LIBRARY_BYTES <= limit for v in within if v.name in made)


def test_scales_reach_to_the_end_of_the_last_chunk() -> None:
    problem = Problem.parse("n7c2h9k2r3p1", direction="bwd-filter")
    form: CudaForm = replace(forms(problem)["f4_3xfp16"], images=4)
    assert form.keys == 4 * form.spots + form.tile_parts * form.length
    assert form.tile_parts * form.length >= 4 * form.spots


def test_larger_tiles_are_offered_only_where_they_are_fewer() -> None:
    sizes = {
        name: {form.m for form in forms(Problem.parse(name)).values()} for name in CASES if "r3p1" in name
    }
    assert sizes["n2c3h1w1k4r3p1"] == {2}
    assert {form.m for form in forms(Problem.parse("n1c1h4k1r3p1")).values()} == {2, 4}
    assert {form.m for form in forms(Problem.parse("n1c1h13k1r3p1")).values()} == {2, 4, 6}


def test_large_tiles_of_many_groups_are_left_out() -> None:
    sizes = {form.m for form in forms(Problem.parse("n1c1100h13k1100r3g1100")).values()}
    assert sizes == {2, 4}  # 1100 products for each of 16 or 36 points, but not of 64


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_rounding_to_fp16_is_left_to_many_filters(precision: str) -> None:
    few, many = (
        Problem.parse(f"n1c{c}h13k16r3p1", precision=precision) for c in (MANY // 16 - 1, MANY // 16)
    )
    assert "f2_fp16" not in forms(few)
    assert "f2_fp16" in forms(many)


def test_sources_are_all_that_can_be_asked_for() -> None:
    offered = set(sources())
    asked = {
        form.source
        for text in (VGG3, "n1c4h40w37k3r5p2")
        for precision in ("fp32", "tf32", "fp16", "bf16")
        for problem in every(text, precision)
        for form in forms(problem).values()
    }
    assert asked == offered


@pytest.mark.parametrize(
    ("text", "precision", "word"),
    [
        ("n1c3h8k4r3", "fp64", "fp32"),
        ("n1c3h8k4r3u2", "fp32", "stride"),
        ("n1c3h8k4r1", "fp32", "1x1"),
        ("n1c3h8k4r3s5", "fp32", "3x3 and 5x5"),
        ("n1c3h8k4r2", "fp32", "3x3 and 5x5"),
        ("n2148c1h1000k1r3", "fp32", "32 bits"),
        ("n1c1h1k1r3p50000d50000", "fp32", "32 bits"),
        ("n1c4096h8k4096r3g4096", "fp32", "65536 products"),
    ],
)
def test_says_what_it_does_not_do(text: str, precision: str, word: str, emulated: Any) -> None:
    reason = WINOGRAD.reject(Problem.parse(text, precision=precision))
    assert reason is not None
    assert word in reason
