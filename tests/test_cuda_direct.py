"""Direct convolution on CUDA, on the emulated GPU: every path, every tile, and which path serves what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from convbench.algorithms import cuda_direct, cuda_direct_filter, cuda_direct_gather
from convbench.algorithms.cuda_direct import Choice, CudaDirect, choices
from convbench.algorithms.cuda_direct_batch import TILES as BATCH_TILES
from convbench.algorithms.cuda_direct_batch import Batch, BatchPlan
from convbench.algorithms.cuda_direct_filter import Filter
from convbench.algorithms.cuda_direct_gather import Gather
from convbench.algorithms.cuda_direct_walk import met, walks
from emulator import Emulated, failures, slow
from hypothesis import given, settings
from strategies import problems

from convbench import accuracy, conformance
from convbench.api import Direction, Layout, Plan, Precision, Problem, Variant
from convbench.conformance import check_adjoint, check_taps, questions, solve
from convbench.verify import norm

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

every = pytest.mark.parametrize
directions = every("direction", list(Direction))
layouts = every("layout", list(Layout))
few_layouts = every("layout", [Layout.NCHW, *slow(Layout.NHWC)])  # other precisions see it as well

# Each once more in the other precisions: tiles, channels in fours, strides, groups, thin, depthwise, 1x1.
FEW = (
    "n1c8h7w9k12r3p1", "n2c5h8w6k7r3", "n2c4h9w11k6r3u2p1", "n1c8h7w8k8r3p1d2g2flip", "n2c6h9w7k6r3p1g6",
    "n2c3h8w7k6r3s2u2g3", "n3c7h5w6k5r1", "n2c6h9w8k6r3p1g6",
)  # fmt: skip
# Depthwise in packs of two and of four; more rows and columns of taps than a word has bits.
MORE = ("n1c4h8w12k8r5p2u2g4flip", "n2c3h11w6k6r3p1u2g3", "n1c2h4w40k5r1s33")


@few_layouts
@directions
@every("text", [*conformance.CASES, *FEW, *MORE])
def test_every_case(text: str, direction: Direction, layout: Layout) -> None:
    assert not failures(CudaDirect(), Problem.parse(text, direction=direction, layout=layout))


@layouts
@directions
@every("precision", [Precision.FP16, *slow(Precision.TF32, Precision.BF16, Precision.FP64)])
def test_other_precisions(precision: Precision, direction: Direction, layout: Layout) -> None:
    cases = [Problem.parse(t, direction=direction, precision=precision, layout=layout) for t in FEW]
    assert not failures(CudaDirect(), *cases)


@layouts
@directions
@every("text", [*conformance.TAP_CASES, "n1c4h9w11k4r3p1g4", "n2c8h8w7k3r3p1"])
def test_every_tap(text: str, direction: Direction, layout: Layout) -> None:
    findings = list(
        check_taps(Emulated(CudaDirect()), Problem.parse(text, direction=direction, layout=layout))
    )
    assert findings
    assert all(finding.failure is None for finding in findings)


@layouts
@every("text", [*conformance.ADJOINT_CASES, "n2c6h9w8k6r5p2g6", "n1c9h8w9k10r3u3p1"])
def test_directions_are_adjoint(text: str, layout: Layout) -> None:
    findings = list(check_adjoint(Emulated(CudaDirect()), Problem.parse(text, layout=layout)))
    assert findings
    assert all(finding.failure is None for finding in findings)


@settings(max_examples=60, deadline=None)
@given(problem=problems(precisions=(Precision.FP32,)))
def test_any_small_problem(problem: Problem) -> None:
    assert not failures(CudaDirect(), problem)


# ---- every tile --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """Variants that a test chooses."""

    offered: Callable[[Problem], Sequence[Choice]]
    name: str = "direct"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [choice.variant(problem) for choice in self.offered(problem)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return next(c for c in self.offered(problem) if c.name == variant.name).plan(problem)


def every_tile(problem: Problem) -> list[Choice]:
    """All tiles, filter gradients in one part and in several."""
    if problem.direction is not Direction.BWD_FILTER:
        gathers = [Gather(problem, tile, run) for tile in cuda_direct_gather.TILES for run in (0, 3, 4)]
        split = [replace(one, parts=parts) for one in gathers for parts in (2, 8) if one.can_split]
        cut = [replace(one, cuts=3) for one in gathers if problem.precision.itemsize == 4]
        found = [*gathers, *split, *cut]
        return [Choice(one.name, tuple(one.launches()), one.workspace, "") for one in found]
    cuts = [Filter(problem, tile, parts) for tile in cuda_direct_filter.TILES for parts in (1, 5)]
    return [Choice(f"{one.tile.size}-{one.parts}", tuple(one.launches()), one.workspace, "") for one in cuts]


def every_batch(problem: Problem) -> list[Choice]:
    found = [Batch(problem, tile, parts) for tile in BATCH_TILES for parts in (1, 3)]
    return [Choice(one.name, (), one.workspace, one.tile.size, one) for one in found]


# Tiles cut on all sides, with a rest; groups; phases of a stride; images that share a tile; taps that only
# meet padding.
BEYOND_A_TILE = (
    "n3c21h9w11k133r3p1", "n2c7h8w9k133r3p1", "n2c8h17w18k24r3u2p1", "n6c16h5w4k16r3p1g2", "n1c140h6w5k9r2",
    "n5c4h3w2k5r5p4", "n2c24h7w20k68r1", "n2c9h12w11k10r3u3x2d2p2flip",
)  # fmt: skip
LARGE, SMALL = BEYOND_A_TILE[:5], BEYOND_A_TILE[5:]


@few_layouts
@directions
@every("text", [*slow(*LARGE), *SMALL])
def test_every_tile(text: str, direction: Direction, layout: Layout) -> None:
    assert not failures(Given(every_tile), Problem.parse(text, direction=direction, layout=layout))


# Phase 0 of a stride alone has taps: cells of two columns at once, of one, of three; a stride of one axis.
CELLS = (
    "n3c9h12w8k10r1u2", "n2c70h8w12k9r1u2", "n2c5h9w6k7r1u3x2", "n2c6h5w8k8r1u1x2g2", "n3c4h10w10k6r1u2",
    "n5c8h4w6k5r3p2u2d2",
)  # fmt: skip


@layouts
@every("precision", [Precision.FP32, *slow(Precision.FP16)])
@every("text", CELLS)
def test_zeros_of_cells(text: str, precision: Precision, layout: Layout) -> None:
    problem = Problem.parse(text, direction="bwd-data", precision=precision, layout=layout)
    assert Gather(problem, cuda_direct_gather.TILES[0]).cells
    assert not failures(Given(every_tile), problem)


@every("direction", [Direction.FWD, Direction.BWD_DATA])
@every("text", ["n2c24h7w20k68r1", "n3c9h6w6k10r1", "n5c140h2w2k6r1", "n2c12h3w5k9r1g3"])
def test_pixels_that_meet_only_themselves_are_one_row(text: str, direction: Direction) -> None:
    problem = cuda_direct_gather.flat(Problem.parse(text, direction=direction))
    assert problem.h == 1
    filters = direction is Direction.BWD_DATA and problem.c % 4 == 0
    assert Gather(problem, cuda_direct_gather.TILES[0]).fours == (problem.w % 4 == 0) + 2 * filters
    assert not failures(Given(every_tile), problem)
    assert not failures(CudaDirect(), Problem.parse(text, direction=direction))


# Images that fill no four, one pixel or several in a tile, phases that no tap meets.
WITH_IMAGES = ("n33c5h6w7k9r3p1", "n260c3h4k5r2", "n40c9h7w9k10r3u3x2d2p2flip", "n2c6h5k4r1u2")


@every("text", [*slow(*LARGE[2:]), *SMALL, *WITH_IMAGES])
def test_images_innermost(text: str) -> None:
    assert not failures(Given(every_batch), Problem.parse(text, direction="bwd-data"))


@layouts
@every(
    "direction",
    [*slow(Direction.FWD, Direction.BWD_DATA), Direction.BWD_FILTER],
)
def test_sums_are_put_aside(direction: Direction, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reductions beyond 1024 terms; in filter gradients, parts of more steps than are summed at once."""
    monkeypatch.setattr(cuda_direct_filter, "CHUNK", 3)
    text = {
        Direction.FWD: "n1c260h4w5k6r3p1",
        Direction.BWD_DATA: "n1c6h4w5k260r3p1",
        Direction.BWD_FILTER: "n2c3h19w18k5r3",
    }[direction]
    problem = Problem.parse(text, direction=direction, layout=layout)
    assert problem.reduction > 500
    assert not failures(Given(every_tile), problem)


def test_long_sums_stay_in_class_s() -> None:
    """A chain of 20 000 products errs by 2e-6; 1024 at a time by less than a third of that."""
    problem = Problem.parse("n1c5000h3w3k2r2")
    asked = questions(problem).dense
    for name in ("tile64x64", "tile128x128"):
        choice = Choice(name, (Gather(problem, TILES[name]).launch(),), 0, "")
        offered = Emulated(Given(lambda _, only=choice: [only]))
        error = solve(offered, problem, choice.variant(problem), *asked.operands) - asked.answer
        assert norm(error) < accuracy.BARS["S"] / 4 * norm(asked.answer)


TILES = {f"tile{tile.size}": tile for tile in cuda_direct_gather.TILES}

# ---- which path serves what --------------------------------------------------------------------------------


def names(text: str, direction: str = "fwd", layout: str = "nchw", limit: int | None = None) -> list[str]:
    return list(choices(Problem.parse(text, direction=direction, layout=layout), limit))


@every("direction", ["fwd", "bwd-data"])
def test_depthwise_is_done_in_strips(direction: str) -> None:
    assert names("n2c8h9k8r3p1g8", direction) == names("n2c8h9k16r3p1g8", direction) == ["strips"]
    assert "strips" not in names("n2c8h9k64r3p1g8", direction) + names("n2c8h9k8r3p1g4", direction)


def test_strips_of_a_depthwise_gradient_are_cut_where_channels_are_few() -> None:
    assert names("n4c2000h14k2000r3p1g2000", "bwd-filter") == ["strips"]
    few = names("n16c8h56k8r3p1g8", "bwd-filter")
    assert few[0].startswith("strips-parts")
    assert few[1] == "strips"


def test_few_results_a_group_slide() -> None:
    assert names("n2c3h32k64r7u2p3", "bwd-data")[0] == "thin"
    assert names("n2c16h32k4r3p1")[0] == names("n2c16h32k16r3p1g2")[0] == "thin"
    assert "thin" not in names("n2c16h32k4r3p1u2") + names("n2c16h32k4r3p2d2") + names("n2c16h32k17r3p1")


@every("layout", ["nchw", "nhwc"])
@every(("k", "tile"), [(64, "tile64x256"), (96, "tile96x128"), (128, "tile128x128"), (512, "tile128x128")])
def test_tiles_fit_the_filters(k: int, tile: str, layout: str) -> None:
    assert tile in names(f"n64c64h56k{k}r3p1", layout=layout)[:2]


def test_few_blocks_share_reductions_where_there_are_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    few = "n1c256h14k256r3p1"
    assert names(few)[0] == "tile64x64-split8"
    assert any("split" in name for name in names("n128c128h16k128r7"))
    assert "split" not in names("n64c256h56k256r3p1")[0]
    monkeypatch.setattr(cuda_direct_gather, "clusters", lambda: False)
    assert names(few)[0] == "tile64x64"


def test_short_runs_are_offered_where_they_skip_columns_of_taps() -> None:
    assert "-run" in names("n128c128h16k128r7", "bwd-data")[0]
    assert not any("-run" in name for name in names("n128c128h16k128r7"))  # no padding
    assert not any("-run" in name for name in names("n1c128h16k128r7", "bwd-data"))  # no image to go on with


def test_many_images_are_turned_around() -> None:
    def turned(text: str, direction: str = "bwd-data", layout: str = "nchw") -> bool:
        return any(name.startswith("chwn") for name in names(text, direction, layout))

    assert turned("n128c128h16k128r7")
    assert not turned("n31c128h16k128r7")
    assert not turned("n64c8h9k8r3")  # few results
    assert not turned("n128c128h16k128r7", direction="fwd")
    assert not turned("n128c128h16k128r7", layout="nhwc")


def test_one_pixel_of_all_images_skips_what_is_padding() -> None:
    """As many taps as a forward convolution has products: what only meets padding costs nothing."""
    problem = Problem.parse("n128c128h16k128r7", direction="bwd-data")
    pixels, outputs = 16 * 16, 10 * 10
    assert Batch(problem, BATCH_TILES[0]).taps[0] * pixels == pytest.approx(49 * outputs)


def test_a_batch_takes_the_workspace_that_it_says() -> None:
    problem = Problem.parse("n34c36h8k5r3p1", direction="bwd-data")
    batch = Batch(problem, BATCH_TILES[0], parts=2)
    images, sizes = 36, (5 * 64 * 36, 5 * 9 * 36, 2 * 36 * 64 * 36)
    assert batch.images == images
    assert batch.workspace == sum(-(-4 * size // 256) * 256 for size in sizes)
    assert BatchPlan(batch)


def test_taps_in_the_padding_are_counted_as_a_tile_skips_them() -> None:
    problem = Problem.parse("n128c128h16k128r7", direction="bwd-data")
    rows = met(walks(problem, 0)[0], 1)
    assert rows == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 6, 5, 4, 3, 2, 1]
    gather = Gather(problem, cuda_direct_gather.TILES[0], run=4)
    assert gather.taps == (sum(rows) / 16 * (4 + 7 + 7 + 4) / 4, 49)


def test_a_tile_sees_one_row_where_images_fill_it() -> None:
    problem = Problem.parse("n128c384h13k384r3", direction="bwd-data")
    assert Gather(problem, cuda_direct_gather.TILES[0]).images == 128


@every("text", ["n64c64h56k64r3p1", "n128c3h224k64r7u2p3", "n1c8h5k8r3"])
def test_filter_gradients_fit_any_workspace(text: str) -> None:
    problem = Problem.parse(text, direction="bwd-filter")
    best, *_ = choices(problem, None).values()
    for limit in (0, best.workspace // 3, best.workspace):
        fitting = [
            variant for variant in CudaDirect().variants(problem, limit) if variant.workspace_bytes <= limit
        ]
        assert fitting
        assert all(CudaDirect().prepare(problem, variant) for variant in fitting)


def test_nhwc_channels_are_loaded_in_fours_where_they_can_be() -> None:
    def order(c: int, r: int) -> tuple[bool, bool]:
        problem = Problem.parse(f"n1c{c}h{2 * r}k8r{r}", layout="nhwc")
        gather = Gather(problem, cuda_direct_gather.TILES[0])
        return gather.by_channel, gather.packed

    assert order(16, 3) == (True, False)
    assert order(4, 3) == (False, True)
    assert order(3, 7) == (False, True)
    assert order(20, 9) == (True, False)  # too many terms for one table
    assert order(21, 9) == (False, False)


@every(
    ("text", "word"),
    [
        ("n1c64h40000w40000k1r1", "image"),
        ("n1c40000h9k40000r3", "filters"),
        ("n1c1h200k1r120", "taps"),
    ],
)
def test_what_is_too_large_is_refused_in_a_line(text: str, word: str) -> None:
    reason = CudaDirect().reject(Problem.parse(text))
    assert reason is not None
    assert word in reason
    assert "\n" not in reason


def test_tensors_beyond_32_bits_are_not() -> None:
    assert CudaDirect().reject(Problem.parse("n4096c64h112k64r3p1")) is None


def test_sources_are_few_and_cover_what_is_asked_for() -> None:
    listed = set(cuda_direct.sources())
    assert len(listed) <= 65
    for text in (*conformance.CASES, *BEYOND_A_TILE):
        for direction in Direction:
            problem = Problem.parse(text, direction=direction, layout="nhwc", precision="bf16")
            asked = {
                launch.source for choice in choices(problem, None).values() for launch in choice.launches
            }
            assert asked <= listed
