"""Plans: the best there is by brute force, one scope and one network, and what the command says."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, pairwise, product
from math import inf, isclose
from pathlib import Path
from typing import Any

import pytest
from comparing import blocks, holding, measured, settled
from conftest import Command
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench.errors import CannotRunError
from convbench.plan import Budget, Choice, Option, Pass, choose, curve, least, pareto, workspaces
from convbench.plan_pieces import pieces
from convbench.record import Record, Status, Workspace
from convbench.store import Contents, Store

MIB = 2**20
checks = settings(deadline=None, max_examples=120)

times = st.integers(1, 40).map(lambda n: n / 8) | st.floats(1e-3, 1e3)
sizes = st.integers(0, 12) | st.integers(0, 1 << 35)
options = st.lists(st.builds(Option, times, st.none() | sizes), max_size=4)


@st.composite
def networks(draw: st.DrawFn, most: int = 3) -> list[Pass]:
    """A few passes, each done at least once, with anything that may be chosen."""
    return [
        Pass(f"l{i}", "p", "fwd", draw(st.integers(1, most)), draw(options))
        for i in range(draw(st.integers(1, 3)))
    ]


def ways(task: Pass) -> Iterator[tuple[int, float]]:
    """Sum of workspaces and of times of every way to do all layers of a pass."""
    known = [option for option in task.options if option.workspace is not None]
    for chosen in combinations_with_replacement(known, task.count):
        yield sum(one.workspace or 0 for one in chosen), sum(one.ms for one in chosen)


def fastest(tasks: Sequence[Pass], limit: int) -> float:
    """By trying everything."""
    plans = product(*(ways(task) for task in tasks if list(ways(task))))
    return min((sum(ms for _, ms in plan) for plan in plans if sum(w for w, _ in plan) <= limit), default=inf)


def total(choices: Sequence[Choice]) -> float:
    return sum(choice.ms for choice in choices)


# ---- the best there is ------------------------------------------------------------------------------------


@checks
@given(networks(), st.none() | sizes)
def test_under_a_limit_for_each_call_every_pass_takes_the_fastest_that_fits(
    tasks: list[Pass], limit: int | None
) -> None:
    chosen = {choice.task.layer: choice for choice in choose(tasks, limit)}
    for task in tasks:
        fitting = [
            o.ms for o in task.options if limit is None or (o.workspace is not None and o.workspace <= limit)
        ]
        if fitting:
            assert chosen[task.layer].option.ms == min(fitting) and chosen[task.layer].count == task.count
        else:
            assert task.layer not in chosen


@checks
@given(networks(), st.data())
def test_under_a_total_no_plan_is_faster(tasks: list[Pass], data: st.DataObject) -> None:
    """Limits that some plan meets to the byte, or misses by one."""
    sums = [data.draw(st.sampled_from(found)) for task in tasks if (found := list(ways(task)))]
    assume(sums)
    limit = max(0, sum(size for size, _ in sums) + data.draw(st.integers(-1, 1)))
    least_time = fastest(tasks, limit)
    if least_time == inf:
        with pytest.raises(CannotRunError, match="the layers together need"):
            choose(tasks, limit, Budget.TOTAL)
        return
    plan = choose(tasks, limit, Budget.TOTAL)
    assert workspaces(plan) <= limit
    assert sum(choice.count for choice in plan) == sum(task.count for task in tasks if list(ways(task)))
    assert all(choice.option in choice.task.options for choice in plan)
    tolerance = limit // 10_000  # of the solver; what needs a little less is never beaten
    assert total(plan) >= least_time * (1 - 1e-9)
    assert total(plan) <= fastest(tasks, limit - tolerance) * (1 + 1e-9)


@checks
@given(networks(), st.sampled_from(Budget))
def test_the_least_limit_is_the_least(tasks: list[Pass], budget: Budget) -> None:
    able = [task for task in tasks if pareto(task.options)]
    limit = least(tasks, budget)
    assert {choice.task.layer for choice in choose(tasks, limit, budget)} == {task.layer for task in able}
    if limit and budget is Budget.TOTAL:
        with pytest.raises(CannotRunError):
            choose(tasks, limit - 1, budget)
    elif limit:
        assert len(choose(tasks, limit - 1, budget)) < len(able)


@checks
@given(options)
def test_the_front_holds_what_nothing_beats(some: list[Option]) -> None:
    front = pareto(some)
    assert all(a.workspace < b.workspace and a.ms > b.ms for a, b in pairwise(front))  # type: ignore[operator]
    for option in some:
        if option.workspace is not None:
            assert any(one.fits(option.workspace) and one.ms <= option.ms for one in front)


@checks
@given(networks(), sizes)
def test_the_curve_is_the_time_under_every_limit(tasks: list[Pass], limit: int) -> None:
    tasks = [task for task in tasks if pareto(task.options)]
    assume(tasks)
    points = curve(tasks, Budget.CALL)
    assert points[0][0] == least(tasks, Budget.CALL)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(points))
    if limit >= points[0][0]:
        assert [ms for at, ms in points if at <= limit][-1] == total(choose(tasks, limit))


@settings(deadline=None, max_examples=15)
@given(networks(), sizes)
def test_the_curve_of_a_total_passes_through_the_plan(tasks: list[Pass], limit: int) -> None:
    tasks = [task for task in tasks if pareto(task.options)]
    assume(tasks and limit >= least(tasks, Budget.TOTAL))
    points, plan = curve(tasks, Budget.TOTAL, limit), choose(tasks, limit, Budget.TOTAL)
    assert any(isclose(ms, total(plan)) and at <= limit for at, ms in points)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(points))


# ---- a batch in pieces ------------------------------------------------------------------------------------


@checks
@given(
    st.integers(2, 9),
    st.dictionaries(
        st.integers(1, 4), st.lists(st.builds(Option, times, st.none() | sizes), max_size=3), max_size=3
    ),
    sizes,
)
def test_pieces_are_the_best_that_fill_the_batch(
    batch: int, smaller: dict[int, list[Option]], limit: int
) -> None:
    def best(left: int) -> float:
        fitting = [(n, o.ms) for n, some in smaller.items() if n <= left for o in some if o.fits(limit)]
        return min((ms + best(left - n) for n, ms in fitting), default=inf) if left else 0.0

    smaller = {n: some for n, some in smaller.items() if n < batch}
    found = [option.ms for option in pieces(batch, smaller) if option.fits(limit)]
    assert isclose(min(found, default=inf), best(batch))


def test_pieces_share_one_workspace_and_add_their_times() -> None:
    small, large = Option(1.0, 5, ()), Option(1.5, 30, ())
    found = {option.workspace: option.ms for option in pieces(10, {2: [small], 4: [large]})}
    assert found == {5: 5.0, 30: 4.0} | ({None: 4.0} if None in found else {})


def test_a_batch_of_too_many_pieces_is_left_whole() -> None:
    assert pieces(10**9, {1: [Option(1.0, 0)]}) == []


# ---- from a folder ----------------------------------------------------------------------------------------

TEXTS = {"a": "n8c2h8k4r3p1", "b": "n8c4h8k4r3p1"}


def cell(text: str, ms: float, size: int | None, algorithm: str, variant: str = "v", **more: Any) -> Record:
    """An ok record with this time and this workspace; None: the library's own share is unknown."""
    one = measured(blocks(ms / 1e3), algorithm, variant, text=text, **more)
    return replace(one, workspace=Workspace(size or 0, size or 0, None if size is None else 0))


def network(name: str, batch: int = 8, repeat: int = 1) -> list[dict[str, Any]]:
    common = {"suite": "s", "network": name}
    texts = {layer: text.replace("n8", f"n{batch}") for layer, text in TEXTS.items()}
    return [
        {**common, "name": layer, "repeat": repeat + (layer == "b"), "text": text}
        for layer, text in texts.items()
    ]


def save(folder: Path, layers: Sequence[dict[str, Any]], *records: Record) -> Path:
    held: Contents = holding(*records)
    with Store(folder) as store:
        for environment in held.environments.values():
            store.append({"kind": "environment", **environment})
        store.add_once("layer", list(layers), [])
        for one in records:
            store.add_record(one)
    return folder


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Layer a once, layer b twice; `lean` needs nothing and takes long."""
    cells = [
        cell(text, ms, size, name)
        for text in TEXTS.values()
        for name, ms, size in (("lean", 8.0, 0), ("fast", 2.0, 4 * MIB))
    ]
    return save(tmp_path / "net", network("net"), *cells, cell(TEXTS["a"], 1.0, None, "closed"))


def planned(convbench: Command, *arguments: object) -> dict[str, Any]:
    done = convbench("plan", *arguments, "--format", "json")
    assert done.err == ""
    return dict(json.loads(done.out))


def picks(plan: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(layer["layer"], layer["steps"][0]["algorithm"], layer["repeat"]) for layer in plan["layers"]]


def test_without_a_limit_unknown_workspaces_count(convbench: Command, net: Path) -> None:
    plan = planned(convbench, net)
    assert picks(plan) == [("a", "closed", 1), ("b", "fast", 2)]
    assert (plan["time_ms"], plan["limit_bytes"], plan["largest_workspace_bytes"]) == (5.0, None, None)


def test_a_limit_costs_what_the_answer_says(convbench: Command, net: Path) -> None:
    done = convbench("plan", net, "--workspace", "1MiB")
    assert done.code == 0
    assert (
        "net, fwd: 24.00 ms ≤ 1 MiB for each call, 5.000 ms without one: the limit costs 19.0 ms (380.0%)"
        in done.out
    )
    assert "Not promised to fit any limit" in done.out and "closed" in done.out
    assert "the limit costs" not in convbench("plan", net).out


def test_shared_is_per_call_and_total_is_the_sum(convbench: Command, net: Path) -> None:
    each, shared = (
        planned(convbench, net, "--workspace", "4MiB", kind) for kind in ("--per-call", "--shared")
    )
    assert each["layers"] == shared["layers"] and picks(each) == [("a", "fast", 1), ("b", "fast", 2)]
    assert (each["budget"], shared["budget"], each["sum_workspace_bytes"]) == ("call", "shared", 12 * MIB)
    plan = planned(convbench, net, "--workspace", "8MiB", "--total")
    assert sum(count for _, name, count in picks(plan) if name == "fast") == 2
    assert (plan["time_ms"], plan["sum_workspace_bytes"]) == (12.0, 8 * MIB)


def test_algorithms_and_accuracy_narrow_the_choice(convbench: Command, tmp_path: Path) -> None:
    cells = [
        cell(t, ms, 0, name, accuracy=one)
        for t in TEXTS.values()
        for name, ms, one in (("rough", 1.0, "F"), ("fine", 2.0, "S"), ("dropped", 0.5, "T"))
    ]
    folder = save(tmp_path / "net", network("net"), *cells)
    assert {name for _, name, _ in picks(planned(convbench, folder))} == {"rough"}
    assert {name for _, name, _ in picks(planned(convbench, folder, "--accuracy", "F"))} == {"rough"}
    assert {name for _, name, _ in picks(planned(convbench, folder, "--accuracy", "S"))} == {"fine"}
    assert {name for _, name, _ in picks(planned(convbench, folder, "--algorithms", "fine"))} == {"fine"}


def test_a_batch_is_run_in_pieces_where_that_helps(convbench: Command, tmp_path: Path) -> None:
    whole = [
        cell(text, ms, size, name)
        for text in TEXTS.values()
        for name, ms, size in (("lean", 9.0, 0), ("fast", 2.0, 8 * MIB))
    ]
    pieces_ = [cell(text.replace("n8", "n4"), 1.5, 4 * MIB, "fast") for text in TEXTS.values()]
    folder = save(tmp_path / "net", network("net"), *whole, *pieces_)
    plan = planned(convbench, folder, "--network", "net", "--workspace", "4MiB")
    (step,) = plan["layers"][0]["steps"]
    assert (step["times"], step["algorithm"], plan["time_ms"]) == (2, "fast", 9.0)
    assert step["problem"].startswith("n4") and plan["largest_workspace_bytes"] == 4 * MIB
    assert "2×n4 fast/v" in convbench("plan", folder, "--network", "net", "--workspace", "4MiB").out
    whole_only = planned(convbench, folder, "--network", "net", "--workspace", "4MiB", "--no-split")
    assert whole_only["time_ms"] == 27.0


def test_gradients_of_filters_are_not_taken_apart(convbench: Command, tmp_path: Path) -> None:
    more = {"direction": "bwd-filter"}
    cells = [cell(text, 9.0, 0, "lean", **more) for text in TEXTS.values()]
    cells += [cell(text.replace("n8", "n4"), 1.0, 0, "lean", **more) for text in TEXTS.values()]
    plan = planned(convbench, save(tmp_path / "net", network("net"), *cells), "--network", "net")
    assert plan["time_ms"] == 27.0


# ---- one scope, one network -------------------------------------------------------------------------------


def test_scopes_are_never_mixed_and_the_message_names_the_options(convbench: Command, tmp_path: Path) -> None:
    kinds = [{}, {"precision": "fp16", "accuracy": "H"}, {"regime": "burst"}, {"environment": "f"}]
    cells = [
        cell(text, 1.0 + i, 0, "lean", **more) for text in TEXTS.values() for i, more in enumerate(kinds)
    ]
    folder = save(tmp_path / "net", network("net"), *cells)
    done = convbench("plan", folder)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "choose with --precision fp16|fp32 --regime burst|sustained --environment e|f" in done.err
    chosen = planned(convbench, folder, "--precision", "fp32", "--regime", "sustained", "--environment", "f")
    assert chosen["time_ms"] == 12.0 and chosen["environment"] == "f"
    assert planned(convbench, folder, "--precision", "fp16")["time_ms"] == 6.0


def test_one_network_at_one_batch(convbench: Command, tmp_path: Path) -> None:
    layers = [*network("one"), *network("one", 4), *network("two", 2)]
    cells = [cell(text.replace("n8", f"n{n}"), n, 0, "lean") for text in TEXTS.values() for n in (8, 4, 2)]
    folder = save(tmp_path / "net", layers, *cells)
    done = convbench("plan", folder)
    assert done.code == 2 and "choose with --network and --batch: one, N=8; one, N=4; two" in done.err
    assert "one, N=8; one, N=4" in convbench("plan", folder, "--network", "one").err
    assert planned(convbench, folder, "--network", "one", "--batch", 4)["network"] == "one, N=4"
    assert planned(convbench, folder, "--batch", 2)["network"] == "two"
    assert planned(convbench, folder, "--network", "one, N=8")["network"] == "one, N=8"
    assert "the results hold N = 4, 8" in convbench("plan", folder, "--network", "one", "--batch", 3).err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--workspace", "much"), 2, "'much' is no size"),
        (("--workspace", "80%"), 2, "--workspace 80%: no share of a memory"),
        (("--network", "nett"), 2, "did you mean net?"),
        (("--precision", "fp16"), 2, "no precision in these results named 'fp16'"),
        (("--directions", "bwd-data"), 2, "no direction in these results named 'bwd-data'"),
        (("--directions", "up"), 2, "no direction named 'up'"),
        (("--algorithms", "lean,quick"), 2, "no ranked algorithm in these results named 'quick'"),
        (("--accuracy", "T"), 2, "no accuracy class that fp32 ranks named 'T'; known: F, S"),
        (("--workspace", "1B", "--total", "--algorithms", "fast"), 3, "give --workspace 12582912 or more"),
    ],
)
def test_a_mistake_gets_one_line(
    convbench: Command, net: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = convbench("plan", net, *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 1) and message in done.err


def test_what_cannot_be_done_is_named_and_exits_with_1(convbench: Command, net: Path) -> None:
    done = convbench("plan", net, "--workspace", "1MiB", "--algorithms", "fast")
    assert (
        done.code == 1 and "Nothing fits for a fwd, b fwd; the least that works is 4194304 bytes" in done.out
    )
    done = convbench("plan", net, "--workspace", "1MiB", "--algorithms", "closed")
    assert done.code == 1 and "Nothing that may be chosen does a fwd, b fwd" in done.out
    done = convbench("plan", net, "--algorithms", "closed")
    assert done.code == 1 and "does b fwd; `convbench show --view coverage` says why" in done.out
    assert "The other 1: 1.000 ms without a limit" in done.out


def test_nothing_ranked_is_no_plan(convbench: Command, tmp_path: Path) -> None:
    folder = save(
        tmp_path / "net", network("net"), *(settled(Status.CRASHED, text=text) for text in TEXTS.values())
    )
    done = convbench("plan", folder)
    assert done.code == 3 and "Nothing to rank" in done.err


# ---- what is printed --------------------------------------------------------------------------------------


def test_the_json_says_everything_a_program_needs(convbench: Command, net: Path) -> None:
    plan = planned(convbench, net, "--workspace", "1MiB")
    assert set(plan) == {
        *(
            "kind",
            "schema",
            "network",
            "directions",
            "device",
            "figure",
            "precision",
            "layout",
            "regime",
            "preset",
        ),
        *("environment", "budget", "limit_bytes", "complete", "time_ms", "time_ms_without_limit"),
        *("largest_workspace_bytes", "sum_workspace_bytes", "layers", "missing"),
    }
    assert plan["complete"] and plan["schema"] == 1
    (step,) = plan["layers"][0]["steps"]
    words = shlex.split(step["command"])
    assert words[:3] == ["convbench", "run", step["problem"]] and "lean" in words
    shown = Path(__file__).parents[1].joinpath("docs", "planning.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in shown for one in (plan, plan["layers"][0], step) for name in one)


def test_csv_and_markdown(convbench: Command, net: Path) -> None:
    done = convbench("plan", net, "--workspace", "1MiB", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["algorithm"] for row in rows] == ["lean/v", "lean/v", ""] and "the limit costs" in done.err
    page = convbench("plan", net, "--workspace", "1MiB", "--format", "markdown").out
    assert page.startswith("### Plan: net") and "| a | fwd | 1 | lean/v |" in page


@pytest.mark.parametrize("kind", ["--per-call", "--total"])
def test_the_plot_is_drawn_twice_the_same(convbench: Command, net: Path, tmp_path: Path, kind: str) -> None:
    drawn = []
    for name in ("one", "two"):
        done = convbench("plan", net, "--workspace", "20MiB", kind, "--plot", tmp_path / name)
        assert done.code == 0 and done.err == f"plot: {tmp_path / name}.svg\n"
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        drawn.append((tmp_path / f"{name}.svg").read_text())
    assert drawn[0] == drawn[1] and "best for each layer" in drawn[0] and "20 MiB" in drawn[0]


@pytest.fixture(params=["\x1b[2J\x07", "a|b", "=1+1", "<script>", "[bold]x[/]", "\u202eabc"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose names are all the same strange one."""
    text = request.param
    layers = [{**line, "network": text, "name": text} for line in network("net")[:1]]
    return save(tmp_path / "net", layers, cell(TEXTS["a"], 1.0, 0, text, text, environment=text))


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json"])
def test_foreign_text_stays_text(convbench: Command, foreign: Path, form: str) -> None:
    done = convbench("plan", foreign, "--format", form)
    assert done.code == 0 and all(line.isprintable() for line in (done.out + done.err).splitlines())
    assert form != "csv" or not any(
        one.startswith("=") for row in csv.reader(io.StringIO(done.out)) for one in row
    )
    assert form != "markdown" or "<script" not in done.out


def test_foreign_text_is_drawn_as_text(convbench: Command, foreign: Path, tmp_path: Path) -> None:
    done = convbench("plan", foreign, "--plot", tmp_path / "plot")
    assert done.code == 0 and all(line.isprintable() for line in (done.out + done.err).splitlines())
    assert "<script" not in (tmp_path / "plot.svg").read_text()
