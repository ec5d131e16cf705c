"""The plots: what is drawn comes from the records, nothing is mixed, and foreign text stays text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from comparing import blocks, holding, measured
from convbench.report import figures
from convbench.report.drawing import blank
from convbench.report.page import write as write_page
from convbench.report.plot_compare import compare_figure
from convbench.report.plot_crossover import crossover_figure, map_figure
from convbench.report.plot_error import error_figure
from convbench.report.plot_limit import curve, limit_figure
from convbench.report.plot_noise import noise_figure
from convbench.report.plot_roofline import ceilings_of, roofline_figure
from convbench.report.plot_tags import Room, Spot, Tag
from convbench.report.plots import workspace_figure
from convbench.report.ranking import current, rankings, split
from convbench.report.theme import looks
from synthetic import COPY, RATES, write
from test_report import HOSTILE, A, contents, frames, record, stored

from convbench import cli_plot
from convbench.cli import cli
from convbench.compare import compare
from convbench.errors import CannotRunError, UsageError
from convbench.frame import cells_frame, layers_frame
from convbench.problem import Precision, Problem
from convbench.record import Limit, Record
from convbench.store import Contents, read
from convbench.suites import load_suite

KIB = 2**10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """A folder with two scopes and every algorithm, forward."""
    held = read(write(tmp_path_factory.mktemp("synthetic") / "run", 460))
    held.cells = {key: one for key, one in held.cells.items() if one.cell.problem.direction == "fwd"}
    return held


def words(figure: Any) -> Iterator[str]:
    """Everything that is written in a drawing."""
    from matplotlib.text import Text

    yield from (text.get_text() for text in figure.findobj(Text))


def grid(*names: str, **ms: float) -> tuple[Any, Any]:
    """Records of grid suites; each algorithm takes its milliseconds, as a function of nothing."""
    problems = [layer.problem for name in names for layer in load_suite(name).layers]
    return frames(*(record(name, time, str(p)) for p in dict.fromkeys(problems) for name, time in ms.items()))


# ---- what every kind has in common -------------------------------------------------------------------------


def test_every_kind_is_written_as_svg_and_png_for_every_scope(tmp_path: Path) -> None:
    held = contents(record("a"), record("b", 2.0), record("a", precision="fp16", grade="H"))
    written = figures.draw(held, list(figures.KINDS), tmp_path)
    kinds = ("time_fwd", "pareto", "error_fwd", "roofline_fwd", "limit", "noise")
    assert {path.stem for path in written} == {f"{kind}{part}" for kind in kinds for part in ("", "-2")}
    for path in written:
        assert path.read_text(encoding="utf-8").startswith("<?xml")
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", [error_figure, roofline_figure, crossover_figure, map_figure])
def test_scopes_are_never_mixed(made: Contents, figure: Any) -> None:
    with pytest.raises(ValueError, match="one kind of figure"):
        figure(cells_frame(made), layers_frame(made), "fwd")


def test_nothing_to_draw_is_said_in_the_drawing_and_in_one_line(tmp_path: Path) -> None:
    cells, layers = frames(record("a", None, reason="no"))
    for figure in (error_figure, roofline_figure, crossover_figure, map_figure):
        assert any(words(figure(cells, layers, "fwd")))
    with pytest.raises(CannotRunError):
        figures.draw(contents(record("a", None, reason="no")), ["time"], tmp_path)


def test_hostile_names_are_drawn_as_text(tmp_path: Path) -> None:
    many = [record(name, 1 + i, A, name) for i, name in enumerate(HOSTILE)]
    held = contents(*many, layers=[(HOSTILE[0], A, 1)])
    for path in figures.draw(held, list(figures.KINDS), tmp_path):
        for element in ElementTree.parse(path).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "image", "a", "iframe", "foreignObject")
            assert not any(name.startswith("on") for name in element.attrib)


def test_a_layer_is_chosen_by_its_name(made: Contents, tmp_path: Path) -> None:
    written = figures.draw(made, ["pareto"], tmp_path, "L1")
    assert {path.stem for path in written} == {"pareto_fwd", "pareto_fwd-2"}
    with pytest.raises(UsageError, match=r"no layer 'L9'.*L1"):
        figures.draw(made, ["pareto"], tmp_path, "L9")


def test_the_command_writes_what_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stored(tmp_path / "run", contents(record("a")))
    assert cli(["plot", str(folder), "--kind", "time"], standalone_mode=False) is None
    assert Path(capsys.readouterr().out.strip()) == folder / "report" / "time_fwd.svg"
    assert set(cli_plot.KINDS) == set(figures.KINDS)
    with pytest.raises(CannotRunError, match="no grid"):
        cli(["plot", str(folder), "--kind", "crossover"], standalone_mode=False)
    with pytest.raises(CannotRunError, match="cannot write"):
        cli(["plot", str(folder), "--out", str(folder / "records.jsonl")], standalone_mode=False)


# ---- the roofline ------------------------------------------------------------------------------------------


def test_ceilings_are_the_rates_behind_the_limits(made: Contents) -> None:
    cells, layers = cells_frame(made), layers_frame(made)
    for part in split(cells, layers):
        (ranking,) = rankings(part, layers)
        found = ceilings_of(current(part))
        precision = Precision(ranking.scope.precision)
        expected = {"copy": COPY, f"gemm {precision}": RATES[precision]}
        assert found and found == pytest.approx({name: expected[name] for name in found})


def test_a_roofline_without_ceilings_says_so() -> None:
    held = contents(record("a"))
    assert any("no measured ceilings" in text for text in words(roofline_figure(*_frames(held), "fwd")))
    limited = [replace(record("a"), limit=Limit(1e-3, "gemm fp32"), details={"flops": 2 * 10**9})]
    shown = list(words(roofline_figure(*_frames(contents(*limited)), "fwd")))
    assert any(text.startswith("gemm fp32: 2") for text in shown)
    assert not any("no measured ceilings" in text for text in shown)


def test_foreign_flops_are_marked_where_an_algorithms_own_are_unknown() -> None:
    shown = list(words(roofline_figure(*_frames(contents(record("closed"))), "fwd")))
    assert "closed*" in shown and any("direct method" in text for text in shown)


def test_transforms_are_counted_where_they_are_recorded() -> None:
    products = {"flops": 2 * 10**9}
    many = [
        replace(record("a"), details=products),
        replace(record("b"), details=products | {"transform_flops": 10**9}),
    ]
    figure = roofline_figure(*_frames(contents(*many)), "fwd")
    drawn = {line.get_label(): float(line.get_ydata()[0]) for line in figure.axes[0].get_lines()}
    assert drawn["b"] == pytest.approx(1.5 * drawn["a"])
    assert any("executed: the FLOPs of products, and of transforms for b" in text for text in words(figure))
    plain = words(roofline_figure(*_frames(contents(*many[:1])), "fwd"))
    assert not any("transforms" in text for text in plain)


@pytest.mark.parametrize("odd", ["x", -1, True, 10**400, [1]], ids=lambda odd: str(odd)[:5])
def test_flops_that_are_no_count_are_unknown(odd: Any, tmp_path: Path) -> None:
    details = {"flops": odd, "transform_flops": odd}
    held = contents(replace(record("a"), limit=Limit(1e-3, "gemm fp32"), details=details))
    assert cells_frame(held)[["algorithm_flops", "transform_flops"]].isna().all(axis=None)
    assert "a*" in list(words(roofline_figure(*_frames(held), "fwd")))
    assert write_page(stored(tmp_path / "run", held)).is_file()


# ---- names beside marks ------------------------------------------------------------------------------------


def crowd() -> list[Record]:
    """Variants as near to each other as those of a real layer, with a front of several algorithms."""
    front = [record("abc"[i % 3], 4 / 1.3**i, A, f"front_{i}_3xfp16", workspace=KIB * 3**i) for i in range(9)]
    behind = [
        record(
            "defg"[i % 4],
            4.1 / 1.3 ** (i / 3) + i % 5 / 9,
            A,
            f"behind{i}",
            workspace=int(KIB * 3 ** (i / 3)),
        )
        for i in range(27)
    ]
    return [*front, *behind, record("x", 3.0, A, "u", library=None), record("y", 2.9, A, "u", library=None)]


def test_every_variant_on_the_front_has_a_name_that_covers_nothing() -> None:
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure = workspace_figure(*frames(*crowd()), str(Problem.parse(A)), "fwd")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    names = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
    assert {f"{'abc'[i % 3]}/front_{i}_3xfp16" for i in range(9)} <= set(names)
    assert {"x/u", "y/u"} <= set(names)
    lines = [line for line in axes.get_lines() if line.get_label().startswith("_")]
    marks = [line for line in axes.get_lines() if line not in lines]
    places = [axes.transData.transform(place) for line in marks for place in line.get_xydata()]
    dots = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for name, box in names.items():
        assert not box.count_overlaps([other for one, other in names.items() if one != name]), name
        assert not box.count_overlaps(dots), name
        assert not any(
            axes.transData.transform_path(line.get_path()).intersects_bbox(box, False) for line in lines
        )


def test_a_name_without_room_is_left_out_unless_it_is_needed() -> None:
    figure, axes = blank(2)
    room = Room(figure, axes, [], [])
    assert room.write([Tag(0.5, 0.5, "first")], [Spot(0, 0, 0.5, 0.5)])
    assert not room.write([Tag(0.5, 0.5, "second")], [Spot(0, 0, 0.5, 0.5)])
    assert room.write([Tag(0.5, 0.5, "third", needed=True)], [Spot(0, 0, 0.5, 0.5)])
    assert [text.get_text() for text in axes.texts] == ["first", "third"]


def test_names_are_put_at_the_same_places_every_time(tmp_path: Path) -> None:
    held = contents(*crowd())
    written = [figures.draw(held, ["pareto"], tmp_path / name)[0].read_bytes() for name in "ab"]
    assert written[0] == written[1]


# ---- crossover, error, limit, noise ------------------------------------------------------------------------


def test_a_crossover_has_one_panel_for_each_size() -> None:
    cells, layers = grid("grid-filter", "grid-channels", "grid-batch", a=1.0, b=2.0)
    figure = crossover_figure(cells, layers, "fwd")
    assert [axes.get_xlabel() for axes in figure.axes] and {
        axes.get_xlabel().split()[0] for axes in figure.axes if axes.axison
    } == {"filter", "input", "batch"}
    ratios = {line.get_label(): set(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert ratios == {"a": {1.0}, "b": {2.0}}


def test_one_algorithm_alone_crosses_nothing(tmp_path: Path) -> None:
    cells, layers = grid("grid-filter", a=1.0)
    assert any("several algorithms" in text for text in words(crossover_figure(cells, layers, "fwd")))


def test_a_map_names_the_winner_and_its_lead() -> None:
    cells, layers = grid("grid-map:n1c8h8k8r3", a=2.0, b=3.0)
    shown = list(words(map_figure(cells, layers, "fwd")))
    assert "1.50" in shown and "a" in shown and "b" not in shown
    assert "not measured" not in shown


def test_a_map_says_in_words_what_stays_the_same_and_what_was_not_measured() -> None:
    problems = [
        layer.problem
        for layer in load_suite("grid-map").layers
        if (layer.problem.r, layer.problem.n) != (11, 1)
    ]
    many = [
        record(name, ms, str(problem)) for problem in problems for name, ms in (("im2col", 1.0), ("fft", 2.0))
    ]
    shown = list(words(map_figure(*frames(*many), "fwd")))
    assert {"im2col + GEMM", "not measured"} <= set(shown) and "FFT" not in shown
    assert any(text.startswith("batch ") and text.endswith("pixels") for text in shown)
    assert not any(text.startswith("n1") for text in shown)


def test_errors_that_are_not_ranked_are_shown_as_such() -> None:
    cells, layers = frames(record("a"), record("b", 0.5, grade="X"))
    assert "not ranked" in list(words(error_figure(cells, layers, "fwd")))
    assert "not ranked" not in list(words(error_figure(*frames(record("a")), "fwd")))


def test_no_two_lines_or_marks_are_alike() -> None:
    styles = looks([f"algorithm {i}" for i in range(20)]).values()
    assert len({(one.color, one.dash) for one in styles}) == 20
    assert len({(one.color, one.marker, one.hollow) for one in styles}) == 20


def test_a_limit_buys_time_and_unknown_memory_none() -> None:
    many = [record("a", 4.0), record("b", 2.0, workspace=KIB), record("c", 1.0, workspace=4 * KIB)]
    many += [record("d", 0.1, library=None)]
    cells, layers = frames(*many, layers=[("x", A, 3)])
    (ranking,) = rankings(cells, layers)
    passes = list(ranking.passes("net"))
    assert curve(ranking, passes, None) == [(0, 12.0), (KIB, 6.0), (4 * KIB, 3.0)]
    assert curve(ranking, passes, "b") == [(KIB, 6.0)] and curve(ranking, passes, "d") == []
    assert any(text == "12.0 ms" for text in words(limit_figure(cells, layers, "net")))
    unknown, layers = frames(record("d", 0.1, library=None))
    assert any("memory is unknown" in text for text in words(limit_figure(unknown, layers, "")))


def test_noise_shows_the_floor_of_its_environment() -> None:
    held = contents(record("a"))
    held.noise += [{"problem": "p", "ratio": 1.05, "environment": "e1"}]
    held.noise += [{"problem": "p", "ratio": 3.0, "environment": "another"}]
    shown = list(words(noise_figure(held, *_frames(held))))
    assert "noise floor 5.00 %" in shown
    assert "nothing was measured twice" in list(words(noise_figure(contents(record("a")), *_frames(held))))


# ---- comparing ---------------------------------------------------------------------------------------------


def test_a_comparison_is_drawn_with_its_verdicts() -> None:
    before = holding(*(measured(blocks(1e-3), name) for name in ("same", "slow")))
    after = holding(measured(blocks(1e-3), "same"), measured(blocks(2e-3), "slow"))
    shown = list(words(compare_figure(compare(before, after), ("$x$", "y"))))
    assert {"SLOW", "SAME"} <= set(shown) and "FAST" not in shown
    assert any("$x$" in text for text in shown)


def test_a_comparison_without_ratios_is_said() -> None:
    one = holding(measured(blocks(1e-3), figure="cpu"))
    other = holding(measured(blocks(1e-3), figure="gpu_cold"))
    assert "no cell was timed on both sides" in list(words(compare_figure(compare(one, other), ("a", "b"))))


def _frames(held: Contents) -> tuple[Any, Any]:
    return cells_frame(held), layers_frame(held)
