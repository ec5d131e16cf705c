"""im2col on CUDA, on the emulated GPU."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from convbench.algorithms import cuda_im2col, cuda_im2col_halves, cuda_im2col_products, gpu
from convbench.algorithms.cuda_im2col import CudaIm2col, chunks, in_halves
from convbench.algorithms.cuda_im2col_halves import Halves
from convbench.algorithms.gpu_blas import LARGE_LIBRARY_BYTES
from emulator import Emulated, failures, slow
from emulator.blas import FakeCublas

from convbench import accuracy, conformance
from convbench.api import Direction, Layout, Precision, Problem
from convbench.conformance import check_adjoint, check_taps, questions, solve
from convbench.reference import reference
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

# More images than fit a chunk, more pixels than fit a part, pixels that fill no vector; some with groups.
CUT = ("n5c3h9w10k4r3p1", "n5c3h7w9k5r1", "n4c4h10w9k6r3u2p1g2", "n5c4h8w7k6r3p1g2", "n3c8h7w6k4r2flip")

every = pytest.mark.parametrize
directions = every("direction", list(Direction))
layouts = every("layout", list(Layout))


@layouts
@every("precision", [Precision.FP32, Precision.TF32, Precision.FP16, *slow(Precision.BF16, Precision.FP64)])
@directions
def test_every_case(direction: Direction, precision: Precision, layout: Layout) -> None:
    cases = [
        Problem.parse(text, direction=direction, precision=precision, layout=layout)
        for text in conformance.CASES
    ]
    assert not failures(CudaIm2col(), *cases)


@layouts
@directions
def test_every_tap(direction: Direction, layout: Layout) -> None:
    for text in conformance.TAP_CASES:
        problem = Problem.parse(text, direction=direction, layout=layout)
        findings = list(check_taps(Emulated(CudaIm2col()), problem))
        assert findings
        assert all(finding.failure is None for finding in findings)


@layouts
def test_directions_are_adjoint(layout: Layout) -> None:
    for text in conformance.ADJOINT_CASES:
        findings = list(check_adjoint(Emulated(CudaIm2col()), Problem.parse(text, layout=layout)))
        assert findings
        assert all(finding.failure is None for finding in findings)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that small problems reach: chunks of two images with a rest, sums in parts with a rest."""
    monkeypatch.setattr(cuda_im2col, "L2_BYTES", 40_000)
    monkeypatch.setattr(cuda_im2col_products, "LONGEST_SUMS", {})
    monkeypatch.setattr(cuda_im2col_products, "LONGEST_SUM", 48)
    monkeypatch.setattr(cuda_im2col_products, "SHORTEST_SUM", 16)


@pytest.mark.usefixtures("small_chunks")
@layouts
@every("precision", [Precision.FP32, Precision.BF16])
@directions
def test_chunks_and_parts(direction: Direction, precision: Precision, layout: Layout) -> None:
    problems = [Problem.parse(t, direction=direction, precision=precision, layout=layout) for t in CUT]
    assert not failures(CudaIm2col(), *problems)


@pytest.mark.usefixtures("small_chunks")
@layouts
def test_small_chunks_are_chunks(layout: Layout) -> None:
    """The limits above do what they are for."""
    problem = Problem.parse(CUT[0], direction="bwd-filter", layout=layout)
    found = chunks(problem)
    assert 1 < found["l2"].images < problem.n
    assert problem.n % found["l2"].images
    assert cuda_im2col_products.parts(found["l2"]) > 2


@every("text", ["n64c256h56k256r3p1", "n128c384h13k384r3", "n3c4h20k8r3p1g2"])
@layouts
@directions
def test_workspace_is_what_columns_take(text: str, layout: Layout, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction, layout=layout)
    variants = {variant.name: variant for variant in CudaIm2col().variants(problem, None)}
    image = 4 * problem.c * problem.r * problem.s * prod(problem.output)
    sizes = {name: variant.workspace_bytes for name, variant in variants.items()}
    assert image <= sizes["n1"] < sizes["whole"]
    assert problem.n * image <= sizes["whole"]
    if "l2" in sizes:
        assert sizes["n1"] < sizes["l2"] < sizes["whole"]
        assert variants["l2"].details["images"] * image <= 32 << 20
    if direction is not Direction.BWD_FILTER:
        padding = 16 * problem.c * problem.r * problem.s  # of every row of columns
        assert sizes["n1"] < image + padding + 256


@layouts
@every("direction", [Direction.FWD, Direction.BWD_DATA])
def test_a_plain_one_by_one_needs_no_workspace(layout: Layout, direction: Direction) -> None:
    problem = Problem.parse("n8c64h14k256r1", direction=direction, layout=layout)
    variant = CudaIm2col().variants(problem, None)[0]
    assert (variant.name, variant.workspace_bytes) == ("gemm", 0)


@layouts
@directions
def test_a_limit_is_used_up(layout: Layout, direction: Direction) -> None:
    """Between one image and the whole batch there is a variant for any limit, and it can be prepared."""
    problem = Problem.parse("n7c16h12k8r3p1", direction=direction, layout=layout)
    algorithm = CudaIm2col()
    sizes = {variant.name: variant.workspace_bytes for variant in algorithm.variants(problem, None)}
    limit = (2 * sizes["n1"] + sizes["whole"]) // 2
    offered = algorithm.variants(problem, limit + LARGE_LIBRARY_BYTES)
    (extra,) = [v for v in offered if v.name not in sizes and "3x" not in v.name]
    assert sizes["n1"] < extra.workspace_bytes <= limit
    assert extra.workspace_bytes > limit / 2
    a, b = questions(problem).dense.operands
    out = solve(Emulated(algorithm), problem, extra, a, b)
    np.testing.assert_allclose(out, questions(problem).dense.answer, rtol=1e-3, atol=1e-4)


# ---- halves ------------------------------------------------------------------------------------------------

# Channels that fill no step, groups, filters that fill no eight, pixels that fill no four.
SPLIT = ("n3c17h6w7k9r3p1", "n4c34h5k6r2g2", "n2c5h8w4k8r3u2d2p2flip", "n3c40h5k33r1", "n2c70h4k3r1p1")


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_im2col_halves, "LONGEST_SUM", 16)
    monkeypatch.setattr(cuda_im2col_halves, "ENOUGH_TILES", 4)


@pytest.mark.usefixtures("short_steps")
@layouts
@every("text", SPLIT)
def test_reductions_are_cut_into_parts_and_steps(text: str, layout: Layout) -> None:
    problem = Problem.parse(text, layout=layout)
    assert all(Halves(chunk).pieces > 1 for chunk in in_halves(problem).values())
    assert not failures(CudaIm2col(), problem)


@pytest.mark.usefixtures("short_steps")
@layouts
def test_short_steps_make_several_of_both(layout: Layout) -> None:
    """The limits above do what they are for."""
    problems = [Problem.parse(text, layout=layout) for text in SPLIT]
    cuts = [Halves(chunk).cut for problem in problems for chunk in in_halves(problem).values()]
    assert any(parts > 1 and steps > 1 for parts, steps, _ in cuts)
    assert any(parts == 1 and steps > 1 for parts, steps, _ in cuts) or layout is Layout.NHWC


@layouts
@every("steeper", ["x", "w", "both", "opposite"])
def test_channels_that_differ_by_much_stay_accurate(layout: Layout, steeper: str) -> None:
    """By a factor of 2^16, either way."""
    problem = Problem.parse("n2c33h6k8r3p1", layout=layout)
    x, w = questions(problem).dense.operands
    slope = 2.0 ** np.linspace(-16, 0, 33)
    channels = (slice(None), None, None) if layout is Layout.NCHW else (slice(None),)
    of_x = {"x": slope, "w": 1 + 0 * slope, "both": slope, "opposite": slope}[steeper]
    of_w = {"x": 1 + 0 * slope, "w": slope, "both": slope, "opposite": 1 / slope}[steeper]
    x, w = (x * of_x[channels]).astype(np.float32), (w * of_w[channels]).astype(np.float32)
    algorithm, exact = Emulated(CudaIm2col()), reference(problem, x, w)
    for variant in algorithm.variants(problem, None):
        error = solve(algorithm, problem, variant, x, w) - exact
        assert norm(error) < accuracy.BARS["S"] / 4 * norm(exact), variant.name


@layouts
@every("factor", [1e-30, 1e30])
def test_sizes_beyond_fp16_are_scaled(layout: Layout, factor: float) -> None:
    problem = Problem.parse("n2c5h6k8r3p1", layout=layout)
    x, w = questions(problem).dense.operands
    x, w = (x * factor).astype(np.float32), (w / factor).astype(np.float32)
    algorithm, exact = Emulated(CudaIm2col()), reference(problem, x, w)
    for variant in algorithm.variants(problem, None):
        error = solve(algorithm, problem, variant, x, w) - exact
        assert norm(error) < accuracy.BARS["S"] / 4 * norm(exact), variant.name


def test_halves_are_offered_where_they_are_of_use() -> None:
    def names(text: str, **how: str) -> list[str]:
        return [v.name for v in CudaIm2col().variants(Problem.parse(text, **how), None) if "3x" in v.name]

    assert names("n8c64h14k64r3p1") == ["whole_3xfp16", "merged_3xfp16"]
    assert names("n8c64h14k64r3p1", layout="nhwc") == ["whole_3xfp16"]
    assert not names("n8c64h14k64r3p1", precision="tf32") + names("n8c64h14k64r3p1", direction="bwd-data")
    assert not names("n1c1h40k1r33")  # a step cannot cut a filter


@layouts
def test_halves_use_a_limit_up(layout: Layout) -> None:
    problem = Problem.parse("n7c16h12k8r3p1", layout=layout)
    algorithm = CudaIm2col()
    sizes = {v.name: v.workspace_bytes for v in algorithm.variants(problem, None) if "3x" in v.name}
    limit = min(sizes.values()) // 2
    offered = algorithm.variants(problem, limit + LARGE_LIBRARY_BYTES)
    (extra,) = [v for v in offered if "3x" in v.name and v.name not in sizes]
    assert limit / 2 < extra.workspace_bytes <= limit
    a, b = questions(problem).dense.operands
    out = solve(Emulated(algorithm), problem, extra, a, b)
    np.testing.assert_allclose(out, questions(problem).dense.answer, rtol=1e-3, atol=1e-4)


def test_columns_in_halves_take_no_more_than_in_fp32() -> None:
    problem = Problem.parse("n64c64h56k64r3p1")
    chunk = in_halves(problem)["merged_3xfp16"]
    assert Halves(chunk).blocks["columns"] == chunk.blocks()["columns"]


@layouts
def test_long_sums_stay_accurate(layout: Layout) -> None:
    """A filter gradient over 80 000 pixels, in fp32 all the way, belongs to the strictest class."""
    problem = Problem.parse("n2c1h200k1r1p1", direction="bwd-filter", layout=layout)
    a, b = questions(problem).dense.operands
    algorithm = Emulated(CudaIm2col())
    for variant in algorithm.variants(problem, None):
        out = solve(algorithm, problem, variant, a, b)
        assert abs(out.item() / questions(problem).dense.answer.item() - 1) < 3e-5


@layouts
def test_columns_keep_what_sixteen_bits_would_lose(layout: Layout) -> None:
    """Backward-data sums in fp32: 2048 + 1 + 1 + 1 is not 2048."""
    problem = Problem.parse("n1c1h2w2k1r2p1", direction="bwd-data", precision="fp16", layout=layout)
    dy = np.ones(problem.y_shape, np.float16)
    w = np.array([2048, 1, 1, 2], np.float16).reshape(problem.w_shape)
    algorithm = Emulated(CudaIm2col())
    (variant,) = algorithm.variants(problem, None)
    assert (solve(algorithm, problem, variant, dy, w) == 2052).all()


def test_what_cannot_be_counted_is_rejected(emulated: FakeCublas, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = CudaIm2col()
    assert algorithm.reject(Problem.parse("n1c1h1000000w1000000k1r1")) is not None
    assert algorithm.reject(Problem.parse("n1c2000000h500k1r50")) is not None
    assert algorithm.reject(Problem.parse("n64c256h56k256r3p1")) is None
    monkeypatch.setattr(gpu, "missing", lambda: "no GPU")
    assert algorithm.reject(Problem.parse("n64c256h56k256r3p1")) == "no GPU"
    assert emulated.error is None


def test_many_small_images_stay_countable() -> None:
    """A chunk has less than 2^31 pixels, however many images there are."""
    problem = Problem.parse("n3000000c1h40k1r3p1")
    assert all(chunk.images * 1600 < 2**31 for chunk in chunks(problem).values())
