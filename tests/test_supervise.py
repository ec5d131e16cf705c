"""Who is to blame, what is written for it, and how several devices share a sweep."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Command
from faults import Correct
from isolating import cells, contents, make_site, run, written
from samples import PROBLEM, record

from convbench import devices
from convbench.book import Book
from convbench.child import Child
from convbench.deaths import Death, tail_text
from convbench.device_cpu import CpuDevice
from convbench.errors import CannotRunError, UsageError
from convbench.lock import hold_device
from convbench.process import DiedError
from convbench.progress import Bar, JsonLog, observer
from convbench.record import Cell, Record, Status
from convbench.supervise import Limits
from convbench.trial import Known, Task, Trial, Work
from convbench.wire import LONGEST, Splitter, decode, encode

# ---- deaths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("death", "status", "reason"),
    [
        (Death("check", code=-11), "crashed", "killed by SIGSEGV (signal 11) in phase 'check'"),
        (Death("check", code=-9), "crashed", "killed by SIGKILL (signal 9) in phase 'check'"),
        (Death("check", code=-9, starved=True), "oom", "SIGKILL (signal 9), the system ran out of memory"),
        (Death("check", code=-6, starved=True), "crashed", "killed by SIGABRT (signal 6) in"),
        (Death("check", code=-200), "crashed", "killed by signal 200 in"),
        (Death("round 3", code=0), "crashed", "the process left with exit code 0 in phase 'round 3'"),
        (Death("plan", code=1, stderr="a | KeyError: 1"), "crashed", "code 1 (KeyError: 1) in phase 'plan'"),
        (Death("plan", code=1, error="CUDA\nerror"), "crashed", r"CUDA\nerror in phase 'plan'"),
        (Death("prepare", code=-15, limit=300.0), "timeout", "within 300 s, ended in phase 'prepare'"),
    ],
)  # fmt: skip
def test_a_death_has_a_status_and_a_reason(death: Death, status: str, reason: str) -> None:
    assert death.status == status and reason in death.reason and death.reason.isprintable()


def test_the_tail_of_an_error_stream_is_one_printable_line() -> None:
    assert tail_text(b"") == ""
    text = tail_text(b"x" * 9000 + b"\n\n \xff\x1b]0;owned\x07\n last")
    assert text.isprintable() and len(text) < 5000 and text.endswith("| last")


# ---- the wire ----------------------------------------------------------------------------------------------


def test_lines_come_in_whatever_pieces() -> None:
    splitter, data = Splitter(), encode({"event": "é"}) + encode({"event": "b", "n": 1})
    lines = [line for byte in data for line in splitter.feed(bytes([byte]))]
    assert [decode(line, "event") for line in lines] == [{"event": "é"}, {"event": "b", "n": 1}]


@pytest.mark.parametrize("line", [b"", b"\xff", b"[]", b'{"do": 1}', b"{}", b"[" * 100_000])
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line, "do")


def test_a_line_may_not_grow_without_bound() -> None:
    splitter = Splitter()
    with pytest.raises(ValueError, match="longer than"):
        for _ in range(20):
            splitter.feed(b"x" * (LONGEST // 10))


# ---- a group and its culprits ------------------------------------------------------------------------------


def template(name: str, variant: str = "v") -> Record:
    return record(name + variant, cell=Cell(PROBLEM, name, variant, "cpu"), status=Status.CRASHED, time=None)


def json_of(*records: Record) -> list[dict[str, Any]]:
    return [json.loads(encode(one.to_json())) for one in records]


@pytest.fixture
def kept() -> list[Record]:
    return []


@pytest.fixture
def trial(kept: list[Record]) -> Trial:
    """Three cells of two algorithms, and one that is settled."""
    trial = Trial(Task(PROBLEM), Known({}), kept.append)
    trial.expect(json_of(template("a", ""), template("b", "")))
    settled = replace(template("b", "big"), status=Status.OVER_LIMIT)
    trial.plan(json_of(template("a"), template("a", "w"), template("b")), json_of(settled))
    assert [one.status for one in kept] == [Status.OVER_LIMIT]
    kept.clear()
    return trial


def died(key: str, **facts: Any) -> DiedError:
    return DiedError(key, Death("check", **{"code": -11, **facts}))


def test_the_cell_announced_last_is_blamed_and_the_others_go_on(trial: Trial, kept: list[Record]) -> None:
    assert trial.blame(died("aw", stderr="words"))
    (one,) = kept
    assert (one.key, one.status, one.details) == ("aw", Status.CRASHED, {"stderr": "words"})
    assert "SIGSEGV" in one.reason and one.started
    assert list(trial.pending) == ["av", "bv"] and not trial.done


def test_an_algorithm_that_dies_in_planning_is_not_asked_again(kept: list[Record]) -> None:
    trial = Trial(Task(PROBLEM), Known({}), kept.append)
    trial.expect(json_of(template("a", ""), template("b", "")))
    assert trial.blame(died("a"))
    assert trial.skip == {"a"} and [one.key for one in kept] == ["a"] and not trial.done


def test_a_death_that_is_nobodys_costs_the_group_only_if_it_comes_again(
    trial: Trial, kept: list[Record]
) -> None:
    assert trial.blame(died("")) and kept == []
    assert trial.blame(died("", limit=60.0))
    assert [one.key for one in kept] == ["av", "aw", "bv"] and trial.done
    assert {one.status for one in kept} == {Status.TIMEOUT}


def test_a_death_before_anything_was_planned_is_the_devices_if_it_comes_again(kept: list[Record]) -> None:
    trial = Trial(Task(PROBLEM), Known({}), kept.append)
    assert trial.blame(died("")) and not trial.blame(died("")) and kept == []


def test_a_record_is_kept_once_and_only_if_it_was_asked_for(trial: Trial, kept: list[Record]) -> None:
    done = replace(template("a"), status=Status.WRONG, reason="first")
    trial.take(json_of(done)[0], "av")
    trial.take(json_of(replace(done, reason="second"))[0], "av")
    trial.take(json_of(template("c"))[0], "av")
    assert [(one.key, one.reason) for one in kept] == [("av", "first")]


@pytest.mark.parametrize("content", [{}, {"key": "av"}, {"cell": 1}])
def test_a_record_that_cannot_be_read_is_a_failure(
    trial: Trial, kept: list[Record], content: dict[str, Any]
) -> None:
    trial.take(content, "av")
    (one,) = kept
    assert one.key == "av" and "its record cannot be read" in one.reason


def test_no_cell_vanishes(trial: Trial, kept: list[Record]) -> None:
    trial.plan(json_of(template("a")), [])  # the next child is offered less by a library
    assert sorted(one.key for one in kept) == ["aw", "bv"]
    trial.complete()
    assert kept[-1].key == "av" and "gave no record" in kept[-1].reason and trial.done


def test_what_is_known_is_not_wanted() -> None:
    finished, failed = record("ok"), replace(template("a"), status=Status.TIMEOUT)
    unplanned = template("b", "")
    stored = {one.key: one for one in (finished, failed, unplanned)}
    known = Known(stored, elsewhere=["far"])
    assert all(key in known for key in (*stored, "far")) and "new" not in known
    assert known.unplanned(PROBLEM) == ["b"] and known.failed("av") and not known.failed("ok")
    again = Known(stored, retry_failed=True)
    assert "ok" in again and "av" not in again and again.unplanned(PROBLEM) == []


def test_what_a_lost_device_has_finished_is_not_wanted_again(trial: Trial, kept: list[Record]) -> None:
    trial.blame(died("av"))
    other: list[Record] = []
    second = Trial(trial.rest, Known({}), other.append)
    second.plan(json_of(template("a"), template("b")), [])
    assert list(second.pending) == ["bv"] and "av" in second.skip and other == []
    assert (second.finished, len(kept)) == (0, 1)


def test_work_that_is_given_back_is_taken_next() -> None:
    first, second = Task(PROBLEM), Task(PROBLEM, twice=True)
    work = Work([first, second])
    assert work.take() == first
    work.give_back(first)
    assert len(work) == 2 and [work.take(), work.take(), work.take()] == [first, second, None]


def test_every_step_has_a_limit() -> None:
    limits = Limits(block=7, build=70)
    assert {limits.of(step) for step in ("check", "round 3", "look", "finish", "close")} == {7}
    assert {limits.of(step) for step in ("plan", "prepare", "reference")} == {70}
    assert limits.of("probe") <= limits.of("open")


# ---- the child ---------------------------------------------------------------------------------------------


def talk(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    """A child in this process, and what it says."""
    said: list[dict[str, Any]] = []
    lines = (encode(request) for request in requests)
    Child(lambda event, **content: said.append(json.loads(encode({"event": event, **content})))).serve(lines)
    return said


def start_request(**changes: Any) -> dict[str, Any]:
    wishes = {"algorithms": ["direct"], "baseline": None, "limits": [None], "preset": "quick"}
    return {"do": "start", "device": "cpu", "cache": "cold", "index": None, "wishes": wishes | changes}


def asked(said: Sequence[dict[str, Any]], event: str) -> Iterator[dict[str, Any]]:
    return (one for one in said if one["event"] == event)


def test_a_child_announces_every_step_of_a_cell_before_it_takes_it() -> None:
    plan = {"do": "plan", "problem": PROBLEM.as_dict(), "skip": []}
    start = start_request()
    done = [*asked(talk(start, {"do": "open"}, plan), "done")]
    assert done[0] | done[1] and done[0]["place"] == "cpu" and done[1]["environment"]["id"]
    (cell,) = done[2]["pending"]
    measure = {"do": "measure", "keys": [cell["key"]], "alias": True}
    said = talk(start, {"do": "open"}, {"do": "learn"}, plan, measure)
    steps = [one["phase"] for one in asked(said, "starting") if one["key"] == cell["key"]]
    assert steps[:3] == ["prepare", "check", "check"] and steps[-1] == "finish" and "round 6" in steps
    (made,) = asked(said, "record")
    assert Record.from_json(made["record"]).status is Status.OK
    assert [*asked(said, "done")][-1]["noise"] > 0


class Broken(CpuDevice):
    """A device that an algorithm breaks: from then on it answers everything with an error."""

    broken = False

    def finish(self) -> None:
        if self.broken:
            raise RuntimeError("context lost")


def test_a_child_does_not_go_on_with_a_broken_device(
    monkeypatch: pytest.MonkeyPatch, plug_in: Callable[..., None]
) -> None:
    device, left = Broken(), list[int]()

    class Breaks(Correct):
        def spoil(self, call: object) -> None:
            device.broken = True
            raise ValueError("illegal address")

    def leave(code: int) -> None:
        left.append(code)
        raise SystemExit

    plug_in(breaks=Breaks("breaks"))
    monkeypatch.setattr(devices, "open_device", lambda name, cache: device)
    monkeypatch.setattr(os, "_exit", leave)
    said: list[dict[str, Any]] = []
    child = Child(lambda event, **content: said.append({"event": event, **content}))
    requests = [
        start_request(algorithms=["breaks"]),
        {"do": "open"},
        {"do": "plan", "problem": PROBLEM.as_dict(), "skip": []},
    ]
    child.serve(map(encode, requests))
    key = said[-1]["pending"][0]["key"]
    with pytest.raises(SystemExit):
        child.serve([encode({"do": "measure", "keys": [key], "alias": False})])
    assert left == [1] and said[-1] == {"event": "broken", "error": "ValueError: illegal address"}
    assert said[-2]["key"] == key and not [*asked(said, "record")]


def test_a_child_refuses_what_a_user_got_wrong() -> None:
    (refused,) = talk(start_request(algorithms=["dirct"]))
    assert refused == {"event": "refused", "usage": True, "message": refused["message"]}
    assert "did you mean direct?" in refused["message"]


def test_a_child_does_not_ask_an_algorithm_that_is_to_be_skipped() -> None:
    plan = {"do": "plan", "problem": PROBLEM.as_dict(), "skip": []}
    *_, algorithms, _, done = talk(start_request(), {"do": "open"}, plan)
    key = algorithms["records"][0]["key"]
    said = talk(start_request(), {"do": "open"}, {**plan, "skip": [key]})
    assert done["pending"] and said[-1]["pending"] == said[-1]["settled"] == []
    assert not [one for one in asked(said, "starting") if one["phase"] == "plan"]


# ---- locks -------------------------------------------------------------------------------------------------


def test_a_device_has_one_sweep_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    held = hold_device("GPU-1/../../2")
    assert [file.parent for file in tmp_path.rglob("*.lock")] == [tmp_path / "convbench"]
    with pytest.raises(CannotRunError, match=f"is in use by process {os.getpid()} on "):
        hold_device("GPU-1/../../2")
    hold_device("GPU-2").close()
    held.close()
    hold_device("GPU-1/../../2").close()


def test_locks_have_a_folder_wherever_the_variable_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for base in ("", str(tmp_path / "missing"), "/proc"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        hold_device("cpu").close()


# ---- several devices ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


PROBLEMS = ("n1c1h4k1r3p1", "n1c1h5k1r3p1", "n1c1h6k1r3p1", "n1c1h7k1r3p1")
SWEEP = (*PROBLEMS, "--algorithms", "correct,exits-0", "--baseline", "correct")


def test_devices_share_a_sweep(site: Path, tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert run(site, *SWEEP, "--out", alone).returncode == 1
    done = run(site, *SWEEP, "--out", shared, "--devices", "0,2", "--json-log")
    assert done.returncode == 1
    assert sorted(written(shared)) == sorted(written(alone)) and len(written(alone)) == 8
    groups = [line for line in map(json.loads, done.stderr.splitlines()) if line["event"] == "group"]
    assert {group["device"] for group in groups} == {"cpu-0", "cpu-2"}
    assert len({group["problem"] for group in groups}) == len(groups) == 4


def test_a_spread_measures_every_cell_on_each_device(site: Path, tmp_path: Path) -> None:
    chosen = (*PROBLEMS[:1], "--algorithms", "correct", "--out", tmp_path / "run")
    assert run(site, *chosen, "--spread", "--devices", "0,1").returncode == 0
    found = [*contents(tmp_path / "run").cells.values()]
    assert len(found) == 2 and len({one.environment for one in found}) == 2
    assert {one.environment for one in found} == set(contents(tmp_path / "run").environments)
    again = run(site, *chosen, "--spread", "--devices", "0,1")
    assert "0 cells measured, 2 were there already" in again.stderr
    assert "1 cells measured" in run(site, *chosen).stderr  # one that says nothing of the device


LOST = """
import os
from pathlib import Path
from faults import Correct

FLAG = Path({flag!r})
if FLAG.exists():
    os._exit(5)

class Breaks(Correct):
    def spoil(self, call):
        FLAG.touch()
        os._exit(1)

ALGORITHMS = (Correct(), Breaks("breaks"))
"""


def test_a_device_that_does_not_come_back_ends_the_sweep(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", "lost:ALGORITHMS")
    (site / "lost.py").write_text(LOST.format(flag=str(tmp_path / "flag")))
    chosen = (*PROBLEMS[:1], "--algorithms", "correct,breaks", "--out", tmp_path / "run")
    done = run(site, *chosen)
    assert done.returncode == 3 and "device cpu is lost: the process left with exit code 5" in done.stderr
    assert "the same command goes on from there" in done.stderr and "Traceback" not in done.stderr
    assert [one.cell.algorithm for one in contents(tmp_path / "run").cells.values()] == ["breaks"]
    (tmp_path / "flag").unlink()
    assert run(site, *chosen).returncode == 1 and cells(tmp_path / "run")["correct"].status is Status.OK


def test_gpus_are_named_by_number_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.pick("all", "abc") == [0, 1, 2] and devices.pick("2,0,2", "abc") == [2, 0]
    for text in ("", "-1", "0,,1", "x", "3", "0;1", "99999"):
        with pytest.raises(UsageError, match="--devices"):
            devices.pick(text, "abc")
    assert devices.gpus() == [] or all(uuid.startswith("GPU-") for uuid in devices.gpus())


# ---- options -----------------------------------------------------------------------------------------------


def test_cells_that_are_finished_elsewhere_are_left_out(site: Path, tmp_path: Path) -> None:
    first = (*PROBLEMS[:2], "--algorithms", "correct")
    assert run(site, *first, "--out", tmp_path / "a").returncode == 0
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(written(tmp_path / "a")[:1]))
    for extra in ((), ("--no-isolation",)):
        out = tmp_path / f"b{len(extra)}"
        done = run(site, *first, "--out", out, "--finished", keys, *extra)
        assert done.returncode == 0 and "1 cells measured, 1 were there already" in done.stderr
        assert written(out) == written(tmp_path / "a")[1:]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[" * 100_000, '["a"'])
def test_a_list_of_keys_that_is_none_is_refused(convbench: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    done = convbench("run", TINY, "--finished", tmp_path / "keys", "--out", tmp_path / "run")
    assert done.code == 2 and "no JSON list of keys" in done.err


def test_json_log_is_a_line_an_event(site: Path, tmp_path: Path) -> None:
    chosen = (TINY, "--algorithms", "correct,segfaults", "--out", tmp_path / "run", "--json-log")
    events = [json.loads(line) for line in run(site, *chosen).stderr.splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "sweep" and names[-1] == "end" and {"child", "group", "step", "death"} <= set(names)
    ends = {event["algorithm"]: event["status"] for event in events if event["event"] == "record"}
    assert ends == {"correct": "ok", "segfaults": "crashed"}
    assert (events[-1]["measured"], events[-1]["failed"]) == (1, 1)


def test_a_bar_knows_done_total_and_failures() -> None:
    from rich.progress import Progress

    with Progress(disable=True) as rich:
        bar = Bar(rich)
        bar("sweep", problems=4, folder="f")
        bar("group", problem="p", cells=3, finished=0, device="cpu")
        bar("step", device="cpu", problem="p", algorithm="[bold]", variant="v", phase="check")
        for status in ("ok", "unsupported", "crashed"):
            bar("record", status=status)
        (task,) = rich.tasks
        assert (task.completed, task.total) == (2, 12)
        assert "1 failed" in task.description and r"\[bold]" in task.description


def test_what_is_told_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, told in ((False, "note\nhint\n"), (True, "note\n")):
        with observer(quiet=quiet, json_log=False) as notify:
            notify("note", text="note")
            notify("hint", text="hint")
            notify("step", phase="check")
        assert capsys.readouterr().err == told
    JsonLog()("record", status="ok")
    assert json.loads(capsys.readouterr().err)["status"] == "ok"


def test_a_record_that_cannot_be_stored_becomes_one_that_says_so(tmp_path: Path) -> None:
    from convbench.store import Store

    with Store(tmp_path / "run") as store:
        book = Book(store)
        book.keep(record("k", details={"x": float("nan")}))
    (kept,) = contents(tmp_path / "run").cells.values()
    assert kept.status is Status.CRASHED and "cannot be stored: ValueError" in kept.reason
    assert book.summary.failures == [kept]


def test_isolated_options_need_isolation(convbench: Command, tmp_path: Path) -> None:
    for option in (("--devices", "0"), ("--spread",)):
        done = convbench("run", TINY, "--no-isolation", *option, "--out", tmp_path / "run")
        assert done.code == 2 and "--no-isolation" in done.err


def test_signals_are_named_as_the_system_names_them() -> None:
    assert "SIGBUS" in Death("check", code=-signal.SIGBUS).reason
