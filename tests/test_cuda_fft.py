"""The FFT on CUDA: kernels and plans by the emulator, geometry and memory by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from convbench.algorithms import cuda_fft_form, gpu_fft
from convbench.algorithms.cuda_fft import CudaFFT, sources
from convbench.algorithms.cuda_fft_form import Square, forms, named
from convbench.algorithms.cuda_fft_products import source as products_source
from convbench.algorithms.cuda_fft_spectra import blocks, places
from convbench.algorithms.cuda_fft_transforms import peak_source, tile_source, whole_source
from convbench.algorithms.gpu_blas import LIBRARY_BYTES
from emulator import Emulated, failures, slow
from emulator.cupy import PROPERTIES

from convbench.api import Variant
from convbench.conformance import (
    ADJOINT_CASES,
    CASES,
    TAP_CASES,
    check_adjoint,
    check_taps,
    questions,
    solve,
)
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.reference import reference

pytest_plugins = ("emulator.plugin",)
ALL_DIRECTIONS = pytest.mark.parametrize("direction", Direction)

# Everything plain; stride and dilation with groups by threads; groups by matrix products; one small image.
OTHER_CASES = ("n2c16h24w20k32r3p1", "n2c4h9w8k8r3u2p1d2x1g2", "n2c32h9w8k64r3p1g2", "n1c2h2w3k3r5p2")
SLOW_CASES = ("n2c16h24w20k32r3p1",)  # half a minute each under the emulator
STRICT = 3e-6  # class S


def relative(problem: Problem, name: str, a: np.ndarray, b: np.ndarray) -> float:
    """The error of one variant on these operands."""
    algorithm = Emulated(CudaFFT())
    variant = next(v for v in algorithm.variants(problem, None) if v.name == name)
    answer = reference(problem, a, b)
    found = solve(algorithm, problem, variant, a, b)
    return float(np.linalg.norm(found - answer) / np.linalg.norm(answer))


# ---- results -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("text", [*(text for text in CASES if text not in SLOW_CASES), *slow(*SLOW_CASES)])
@pytest.mark.parametrize("layout", [Layout.NCHW, *slow(Layout.NHWC)])
def test_every_variant_is_right(text: str, direction: Direction, layout: Layout) -> None:
    problem = Problem.parse(text, direction=direction, layout=layout)
    if CudaFFT().reject(problem) is None:
        assert not failures(CudaFFT(), problem)


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
def test_tiles_hardly_longer_than_the_filter_are_right(direction: Direction) -> None:
    """Offered under a limit alone, so the conformance suite does not meet them."""
    problem = Problem.parse("n2c16h20w18k16r9", direction=direction)
    rng = np.random.default_rng(7)
    a, b = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in problem.shapes[:2])
    variant = Variant("tile16_chunk1", places(named(problem, "tile16_chunk1"))["end"])
    found = solve(Emulated(CudaFFT()), problem, variant, a, b)
    answer = reference(problem, a, b)
    assert np.linalg.norm(found - answer) < STRICT * np.linalg.norm(answer)


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("precision", [Precision.FP16, *slow(Precision.TF32, Precision.BF16, Precision.FP64)])
@pytest.mark.parametrize("text", [*slow(OTHER_CASES[0]), *OTHER_CASES[1:]])
def test_other_precisions_are_right(text: str, precision: Precision, direction: Direction) -> None:
    assert not failures(CudaFFT(), Problem.parse(text, direction=direction, precision=precision))


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("text", ["n1c2h70w66k2r3p1", "n1c1h90w40k2r18s5p1", "n1c2h20w100k2r3s9d2x1"])
def test_large_tiles_are_right(text: str, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction, layout=Layout.NHWC)
    assert any(form.tile >= 64 for form in forms(problem).values())
    assert not failures(CudaFFT(), problem)


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("layout", Layout)
def test_large_tiles_of_many_channels_are_right(direction: Direction, layout: Layout) -> None:
    problem = Problem.parse("n1c10h60w40k12r17s5p1", direction=direction, layout=layout)
    for precision, error in ((Precision.FP32, STRICT / 3), (Precision.FP16, 6e-4)):
        found = problem.with_(precision=precision)
        assert relative(found, "tile64", *questions(found).dense.operands) < error


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("text", ["n2c1h26w31k1r2s2p0.6x4.2d3x2", "n1c2h29w14k1r3s4p9.0x1.5u1x2flip"])
def test_padding_may_be_wider_than_the_filter(text: str, direction: Direction) -> None:
    assert not failures(CudaFFT(), Problem.parse(text, direction=direction))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("direction", [Direction.BWD_FILTER, *slow(Direction.FWD, Direction.BWD_DATA)])
def test_parts_of_the_batch_are_right(direction: Direction, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that do not divide the batch, and products of more tiles than are summed at once."""
    monkeypatch.setattr(cuda_fft_form, "CACHED", 0)
    for module, name in (("products", "LONGEST"), ("products", "LONGEST_HALVES"), ("split", "LONGEST")):
        monkeypatch.setattr(f"convbench.algorithms.cuda_fft_{module}.{name}", 4)
    problem = Problem.parse("n9c2h18w7k3r3p1", direction=direction)
    assert {form.images for form in forms(problem).values()} == {9, 3, 1}
    assert not failures(CudaFFT(), problem)
    split = Problem.parse("n9c10h7k12r3p1", direction=direction)
    assert relative(split, "tile16_3xfp16_chunk3", *questions(split).dense.operands) < STRICT / 3


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("text", ["n24c4h16k4r3p1", *slow("n2c48h10k14r5p2", "n20c20h8k70r3p1")])
def test_fp32_is_strict_in_every_variant(text: str, direction: Direction) -> None:
    problem = Problem.parse(text, direction=direction)
    operands = questions(problem).dense.operands
    names = [variant.name for variant in CudaFFT().variants(problem, None)]
    assert {"tile16", "whole"} <= set(names)
    assert ("tile16_3xfp16" in names) == (problem.c > 8)
    errors = {name: relative(problem, name, *operands) for name in names}
    assert max(errors.values()) < STRICT / 3, errors


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("text", TAP_CASES)
def test_every_tap_counts(text: str) -> None:
    for direction in Direction:
        findings = list(check_taps(Emulated(CudaFFT()), Problem.parse(text, direction=direction)))
        assert findings
        assert [finding for finding in findings if finding.failure] == []


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("text", ADJOINT_CASES)
def test_directions_are_adjoint(text: str) -> None:
    findings = list(check_adjoint(Emulated(CudaFFT()), Problem.parse(text)))
    assert [finding.failure for finding in findings if finding.skipped is None] in ([None], [])


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("direction", [Direction.BWD_FILTER, *slow(Direction.FWD, Direction.BWD_DATA)])
def test_split_products_are_right_on_other_gpus(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROPERTIES, "major", 8)
    problem = Problem.parse("n2c34h9k14r3", direction=direction)
    operands = questions(problem).dense.operands
    assert relative(problem, "tile16_3xfp16", *operands) < STRICT / 3


# ---- scaled halves -----------------------------------------------------------------------------------------

SPLIT = Problem.parse("n2c10h12w9k12r3p1")


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("exponents", [(-90, 20), *slow((40, 60), (0, -100))])
def test_halves_follow_the_size_of_operands(direction: Direction, exponents: tuple[int, int]) -> None:
    """Powers of two in, powers of two out, bit for bit: nothing overflows, nothing is lost."""
    problem = SPLIT.with_(direction=direction)
    algorithm = Emulated(CudaFFT())
    variant = next(v for v in algorithm.variants(problem, None) if v.name == "tile16_3xfp16")
    a, b = questions(problem).dense.operands
    plain = solve(algorithm, problem, variant, a, b)
    scaled = solve(
        algorithm, problem, variant, *(np.ldexp(x, e) for x, e in zip((a, b), exponents, strict=True))
    )
    assert (np.ldexp(plain, sum(exponents)) == scaled).all()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("spread", [0, 8, 14])
def test_halves_keep_their_digits_where_channels_differ(spread: int) -> None:
    """Channels that are small in x and large in w."""
    a, b = questions(SPLIT).dense.operands
    sizes = np.linspace(-spread, spread, SPLIT.c, dtype=int) // 2
    a, b = np.ldexp(a, -sizes[:, None, None]), np.ldexp(b, sizes[:, None, None])
    assert relative(SPLIT, "tile16_3xfp16", a, b) < STRICT / 3


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
@pytest.mark.parametrize("which", [0, *slow(1)])
def test_zeros_give_zeros(direction: Direction, which: int) -> None:
    problem = SPLIT.with_(direction=direction)
    operands = [operand.copy() for operand in questions(problem).dense.operands]
    operands[which][...] = 0
    algorithm = Emulated(CudaFFT())
    for variant in algorithm.variants(problem, None):
        assert (solve(algorithm, problem, variant, *operands) == 0).all(), variant.name


@pytest.mark.usefixtures("emulated")
def test_large_fp16_operands_do_not_overflow() -> None:
    problem = SPLIT.with_(precision=Precision.FP16)
    a, b = (operand.copy() for operand in questions(problem).dense.operands)
    a[...] = np.where(a > 0, 6e4, -6e4)
    assert relative(problem, "tile16", a, (b / 64).astype(np.float16)) < 6e-4


# ---- what is offered ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "direction", "tiles"),
    [
        ("n128c3h128k96r11", "fwd", {32, 64, 128}),
        ("n128c64h64k128r9", "fwd", {32, 64}),
        ("n128c128h32k128r9", "bwd-data", {32}),  # what wraps around is zero on both sides
        ("n128c128h16k128r7", "bwd-filter", {16}),
        ("n64c64h224k64r3p1", "fwd", {16, 32, 64}),
        ("n1c1h300k1r70", "fwd", set()),
    ],
)
def test_tiles_are_from_twice_the_filter_up_to_the_image(text: str, direction: str, tiles: set[int]) -> None:
    found = forms(Problem.parse(text, direction=direction))
    assert {form.tile for form in found.values() if isinstance(form, Square)} == tiles
    assert "whole" in found


@ALL_DIRECTIONS
@pytest.mark.parametrize("text", CASES)
def test_every_result_lies_in_one_tile(text: str, direction: Direction) -> None:
    """Steps of all tiles cover the result, and none is longer than what a circular product leaves right."""
    problem = Problem.parse(text, direction=direction)
    for form in forms(problem).values():
        for axis, (wide, narrow) in enumerate(form.cuts):
            assert wide.count == narrow.count
            assert narrow.step * narrow.count >= -(-narrow.size // narrow.parts)
            assert narrow.step <= form.sizes[axis] - form.taps[axis] + 1 or wide.count == 1


def test_workspace_is_what_the_spectra_take() -> None:
    """By hand: 130 frequencies of 8 bytes; 2 images x 4 tiles of 10 and 16 channels, and 16 x 10 filters."""
    problem = Problem.parse("n2c10h28k16r3p1")
    found = forms(problem)
    tiles, filters = 2 * 2 * 2, 10 * 16
    spectra = {"x": 130 * 8 * tiles * 10, "w": 130 * 8 * filters, "y": 130 * 8 * tiles * 16}
    assert blocks(found["tile16"]) == blocks(found["tile16_3xfp16"]) == spectra
    assert blocks(found["tile16_chunk1"])["x"] == 130 * 8 * tiles * 10 // 2


@ALL_DIRECTIONS
def test_blocks_follow_each_other_aligned(direction: Direction) -> None:
    for form in forms(Problem.parse("n3c5h17w9k7r3p1", direction=direction)).values():
        if not form.tile:
            continue
        sizes, starts = blocks(form), places(form)
        assert list(starts) == [*sizes, "end"]
        assert all(start % 256 == 0 for start in starts.values())
        ends = list(starts.values())[1:]
        assert all(
            starts[name] + size <= end < starts[name] + size + 256
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        )


@pytest.mark.usefixtures("emulated")
def test_workspace_is_known_before_anything_runs_and_shrinks_with_the_batch() -> None:
    variants = {v.name: v for v in CudaFFT().variants(Problem.parse("n64c16h56k16r3p1"), None)}
    for name in ("tile16", "tile16_3xfp16", "whole"):
        chunks = [v.workspace_bytes for key, v in variants.items() if key.partition("_chunk")[0] == name]
        assert len(chunks) > 1
        assert chunks == sorted(chunks, reverse=True)


@pytest.mark.usefixtures("emulated")
@ALL_DIRECTIONS
def test_a_limit_is_kept_by_chunks_and_by_tiles_that_are_not_offered_otherwise(direction: Direction) -> None:
    problem, limit = Problem.parse("n16c32h64k64r9", direction=direction), 12 << 20
    usual = {v.name for v in CudaFFT().variants(problem, None)}
    fitting = [v for v in CudaFFT().variants(problem, limit) if v.workspace_bytes + v.library_bytes <= limit]
    made = [v for v in fitting if v.name not in usual]
    assert any(v.name.startswith("tile16_") for v in made)  # 9 taps leave 8 results a tile
    for v in made:
        form = named(problem, v.name)
        assert places(form)["end"] == v.workspace_bytes
        assert places(replace(form, images=form.images * 2))["end"] + LIBRARY_BYTES > limit
    assert [v.name for v in CudaFFT().variants(problem, 1 << 20) if v.name not in usual] == []


@pytest.mark.usefixtures("emulated")
def test_the_work_area_of_cufft_is_part_of_the_workspace() -> None:
    form = forms(Problem.parse("n2c3h9w8k4r3"))["whole"]
    assert (
        blocks(form)["work"]
        == max(
            plan.work_bytes
            for plan in (gpu_fft.transforms(form.sizes, 24, "float32", inverse) for inverse in (False, True))
        )
        > 0
    )


@pytest.mark.usefixtures("emulated")
def test_without_cufft_only_whole_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise gpu_fft.CufftError("cuFFT cannot be loaded (gone); pip install nvidia-cufft")

    monkeypatch.setattr(gpu_fft, "library", missing)
    refused = {v.name: v.refused for v in CudaFFT().variants(Problem.parse("n1c3h9w8k4r3"), None)}
    assert "pip install" in refused["whole"]
    assert not refused["tile16"]


@pytest.mark.usefixtures("emulated")
def test_tiles_that_need_too_much_shared_memory_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROPERTIES, "sharedMemPerBlockOptin", 100 << 10)
    variants = {v.name: v for v in CudaFFT().variants(Problem.parse("n1c10h60k12r9"), None)}
    assert "shared memory" in variants["tile64"].refused
    assert not variants["tile32"].refused


@pytest.mark.usefixtures("emulated")
def test_what_a_transform_cannot_help_is_refused_with_a_reason() -> None:
    assert "1x1" in str(CudaFFT().reject(Problem.parse("n1c3h9w8k4r1")))
    assert "overlap" in str(CudaFFT().reject(Problem.parse("n1c3h9w8k4r2u2")))


@pytest.mark.usefixtures("emulated")
def test_flops_are_those_of_the_products() -> None:
    variants = {v.name: v for v in CudaFFT().variants(Problem.parse("n2c10h28k16r3p1"), None)}
    products = 8 * 130 * (2 * 2 * 2) * 10 * 16
    assert variants["tile16"].details["flops"] == products
    assert variants["tile16_3xfp16"].details["flops"] == 3 * products
    assert variants["tile16_3xfp16"].details["arithmetic"] == "fp16"


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("text", ["n2c16h130k16r3p1", "n2c4h130k4r3p1g2", "n2c32h14k32r3g2", "n1c3h100k4r33"])
def test_every_compilation_is_listed(text: str, precision: Precision) -> None:
    listed = set(sources())
    for form in forms(Problem.parse(text, precision=precision)).values():
        assert whole_source(precision) in listed
        assert not form.tile or tile_source(precision, form.tile, form.halves, form.apart) in listed
        assert not form.halves or peak_source(precision) in listed
    assert products_source(precision) in listed


def test_few_enough_compilations() -> None:
    found = list(sources())
    assert len(set(found)) == len(found) <= 55
