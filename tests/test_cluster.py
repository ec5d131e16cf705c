"""Sweeps on clusters: whatever dies, no finished cell is lost or measured again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from hanging import HANGING, install
from samples import ENVIRONMENT, PROBLEM, lines, record

from convbench.cluster import Outcome, Sweep, Task
from convbench.cluster_slurm import SlurmPlace
from convbench.errors import UsageError
from convbench.leash import GONE, OVER
from convbench.problem import Direction, Problem
from convbench.record import Cell, Record, Status
from convbench.seal import seal
from convbench.shard_task import PARTS
from convbench.shards import Shard, estimate, split
from convbench.store import FILE, Store, read
from convbench.suites import load_suite

FAST = ("--quick", "--device", "cpu", "--algorithms", "direct", "--directions", "fwd")
PYTHON = (sys.executable, "-P", "-m")
PART = re.compile(r"-([0-9]+)-[0-9a-f]{8}")


def texts(count: int) -> list[str]:
    return [f"n1c2h{5 + index}w4k3r3p1" for index in range(count)]


def keys_written(folder: Path) -> Counter[str]:
    """How often each cell was written down."""
    contents = map(json.loads, lines(folder))
    return Counter(content["key"] for content in contents if content["kind"] == "cell")


def until(met: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
    return found


# ---- shards ------------------------------------------------------------------------------------------------


def test_shards_hold_every_problem_once_and_one_kind_each() -> None:
    layers = load_suite("resnet-50").layers
    problems = [layer.problem.with_(direction=d) for layer in layers for d in Direction]
    shards = split(problems, lambda problem: 10.0, 60.0)
    assert Counter(problem for shard in shards for problem in shard.problems) == Counter(problems)
    for shard in shards:
        assert len({(p.direction, p.precision, p.layout) for p in shard.problems}) == 1
        assert shard.seconds == 10 * len(shard.problems) <= 60
    assert len(shards) == 3 * -(-len(layers) // 6)


def test_a_long_problem_is_a_shard_of_its_own() -> None:
    problems = [Problem.parse(text) for text in texts(4)]
    shards = split(problems, lambda problem: 100.0 if problem.h == 6 else 1.0, 10.0)
    assert [[problem.h for problem in shard.problems] for shard in shards] == [[5], [6], [7, 8]]


def test_larger_problems_more_algorithms_and_energy_take_longer() -> None:
    small, large = PROBLEM, Problem.parse("n128c128h64k128r9")
    base = estimate(small, "quick", 2)
    assert estimate(large, "quick", 2) > base < estimate(small, "default", 2)
    assert estimate(small, "quick", 3) > base < estimate(small, "quick", 2, energy=True)


def test_a_dry_run_tells_the_shards_and_hands_on_the_options(convbench: Command, tmp_path: Path) -> None:
    wishes = (
        "--workspace-limit",
        "1MiB,none",
        "--plans",
        "4",
        "--rigorous",
        "--retry-failed",
        "--baseline",
        "direct",
    )
    given = (*texts(3), "--device", "cpu", "--batch", 2, "--layout", "nhwc", *wishes, "--dry-run")
    done = convbench("cluster", "dask", "--shard-minutes", 0.01, "tcp://nowhere:1", *given)
    del os.environ["CONVBENCH_PLANS"]
    assert done.code == 0 and done.out.count("shard ") == 9 and "9 problems in 9 shards" in done.out
    assert "n2c2h5w4k3r3s3p1x1u1x1d1x1g1 --directions bwd-data --precision fp32 --layout nhwc" in done.out
    handed = "--workspace-limit 1MiB,none --rigorous --baseline direct --retry-failed --plans 4 --device cpu"
    assert done.out.count(handed) == 9 and "--batch" not in done.out


# ---- the loop ----------------------------------------------------------------------------------------------

PROBLEMS = [Problem.parse(text) for text in texts(3)]
Answer = Callable[[dict[str, Any]], str | None]


def cell(problem: Problem, key: str = "", status: Status = Status.OK) -> Record:
    changes: dict[str, Any] = {} if status is Status.OK else {"time": None}
    return record(key or f"key {problem}", cell=Cell(problem, "a", "v", "cpu"), status=status, **changes)


def result(*records: Record, code: int = 0, said: str = "") -> str:
    text = b"".join(seal({"schema": 1, **one.to_json()}) for one in records).decode()
    return json.dumps({"code": code, "said": said, "where": "host", "part": "", "records": text})


@dataclass
class FakePlace:
    """A place with one worker, which answers as it is told; None is a lost worker."""

    answers: list[Answer]
    tasks: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def free(self) -> int:
        return 1 - len(self.numbers)

    def submit(self, tasks: Sequence[Task]) -> None:
        self.tasks += [json.loads(task.text) for task in tasks]
        self.numbers += [task.number for task in tasks]

    def collect(self) -> list[Outcome]:
        given = self.answers.pop(0)(self.tasks[-1])
        return [Outcome(self.numbers.pop(), given, "" if given else "worker gone")]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def sweep(tmp_path: Path, told: list[str]) -> Iterator[Sweep]:
    """Two shards, of two problems and of one."""
    with Store(tmp_path / "run") as store:
        shards = [Shard(tuple(PROBLEMS[:2]), 1.0), Shard((PROBLEMS[2],), 1.0)]
        yield Sweep(shards, ["--quick"], 9.0, False, store, told.append)


def good(*numbers: int) -> Answer:
    return lambda task: result(*(cell(PROBLEMS[number]) for number in numbers))


def lost(task: dict[str, Any]) -> None:
    return None


def test_every_shard_is_measured_once(sweep: Sweep, told: list[str]) -> None:
    place = FakePlace([good(0, 1), good(2)])
    sweep.run(place)
    assert len(sweep.store.contents.cells) == 3 and sweep.missing == []
    assert [task["arguments"][-7:] for task in place.tasks] == [
        ["--directions", "fwd", "--precision", "fp32", "--layout", "nchw", "--quick"]
    ] * 2
    assert [task["finished"] for task in place.tasks] == [[], []] and place.tasks[0]["seconds"] == 9.0
    assert told == ["shard 1 of 2: 2 new cells", "shard 2 of 2: 1 new cells"]


def test_a_lost_shard_is_tried_once_more_without_what_is_finished(sweep: Sweep) -> None:
    def dies(task: dict[str, Any]) -> None:
        with Store(Path(task["folder"]) / PARTS / "host-1-abc") as part:
            part.append({"kind": "environment", **ENVIRONMENT})
            part.add_record(cell(PROBLEMS[0]))

    place = FakePlace([dies, good(2), good(1)])
    sweep.run(place)
    assert len(sweep.store.contents.cells) == 3 and sweep.missing == []
    assert [task["finished"] for task in place.tasks] == [[], [], [f"key {PROBLEMS[0]}"]]
    assert list(sweep.store.contents.environments) == ["e"]
    assert list((sweep.store.folder / PARTS).iterdir()) == []


def test_a_shard_lost_twice_is_given_up_and_told(sweep: Sweep, told: list[str]) -> None:
    sweep.run(FakePlace([lost, good(2), lost]))
    assert sweep.missing == ["shard 1 of 2: worker gone"] and len(sweep.store.contents.cells) == 1
    assert told[-1] == "shard 1 of 2: worker gone; given up"


@pytest.mark.parametrize("code", [3, 137, OVER, GONE])
def test_a_run_that_could_not_go_on_is_tried_once_more_and_keeps_its_cells(sweep: Sweep, code: int) -> None:
    place = FakePlace([lambda task: result(cell(PROBLEMS[0]), code=code, said="why"), good(2), good(1)])
    sweep.run(place)
    assert len(sweep.store.contents.cells) == 3 and len(place.tasks) == 3


def test_failed_cells_are_results_and_no_reason_to_try_again(sweep: Sweep) -> None:
    wrong = cell(PROBLEMS[0], status=Status.WRONG)
    place = FakePlace([lambda task: result(wrong, cell(PROBLEMS[1]), code=1), good(2)])
    sweep.run(place)
    assert len(place.tasks) == 2 and sweep.missing == []


def test_failed_cells_are_wanted_again_when_asked(sweep: Sweep) -> None:
    sweep.store.add_record(cell(PROBLEMS[0], status=Status.OOM))
    sweep.store.add_record(cell(PROBLEMS[1]))
    sweep.retry_failed = True
    place = FakePlace([good(0), good(2)])
    sweep.run(place)
    assert place.tasks[0]["finished"] == [f"key {PROBLEMS[1]}"]
    assert sweep.store.contents.cells[f"key {PROBLEMS[0]}"].status is Status.OK


def test_a_refused_command_stops_the_sweep(sweep: Sweep) -> None:
    with pytest.raises(UsageError, match="host refuses its shard: no algorithm named"):
        sweep.run(FakePlace([lambda task: result(code=2, said="no algorithm named x")]))


def test_parts_of_an_earlier_sweep_come_in_first(sweep: Sweep) -> None:
    lost({})
    part = sweep.store.folder / PARTS / "host-1-abc"
    with Store(part) as store:
        store.add_record(cell(PROBLEMS[2]))
    with (part / FILE).open("ab") as stream:
        stream.write(b'{"torn')
    place = FakePlace([good(0, 1), good()])
    sweep.run(place)
    assert place.tasks[1]["finished"] == [f"key {PROBLEMS[2]}"] and not part.exists()


def test_a_part_that_is_being_written_stays(sweep: Sweep) -> None:
    with Store(sweep.store.folder / PARTS / "host-1-abc") as part:
        part.add_record(cell(PROBLEMS[2]))
        sweep.run(FakePlace([good(0, 1), good()]))
        part.add_record(cell(PROBLEMS[2], "late"))
    assert len(sweep.store.contents.cells) == 3
    sweep.shards = []
    sweep.run(FakePlace([]))
    assert "late" in sweep.store.contents.cells


@pytest.mark.parametrize("name", ["../../x", "/etc", "a/b", "..", ""])
def test_a_result_names_no_folder_outside(sweep: Sweep, tmp_path: Path, name: str) -> None:
    with Store(tmp_path / "x") as store:
        store.add_record(cell(PROBLEMS[0]))
    answer = json.dumps({"code": 0, "said": "", "where": "", "part": name, "records": ""})
    sweep.run(FakePlace([lambda task: answer, good(2)]))
    assert len(sweep.store.contents.cells) == 1 and (tmp_path / "x" / FILE).exists()


# ---- the leash ---------------------------------------------------------------------------------------------


def leash(seconds: float, script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PYTHON, "convbench.leash", str(seconds), "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_leash_gives_the_exit_code(script: str, code: int) -> None:
    with leash(60, script) as held:
        assert held.wait() == code


def test_at_its_limit_a_command_ends_with_all_it_started() -> None:
    with leash(0.5, "sleep 1000 & echo $!; wait") as held:
        assert held.stdout is not None
        pid = int(held.stdout.readline())
        assert held.wait() == OVER
        until(lambda: gone(pid))


@pytest.mark.slow
def test_a_command_that_will_not_end_is_killed() -> None:
    with leash(0.5, "trap '' TERM; echo $$; while :; do sleep 1; done") as held:
        assert held.stdout is not None
        pid = int(held.stdout.readline())
        assert held.wait() == OVER and gone(pid)


@pytest.mark.parametrize("how", ["closed", "terminated"])
def test_a_command_ends_with_who_waits_for_it(how: str) -> None:
    with leash(60, "echo $$; exec sleep 1000") as held:
        assert held.stdout is not None and held.stdin is not None
        pid = int(held.stdout.readline())
        held.stdin.close() if how == "closed" else held.terminate()
        assert held.wait() == GONE and gone(pid)


# ---- Dask --------------------------------------------------------------------------------------------------


class Dask:
    """A scheduler and workers as processes of their own, each worker with a device lock of its own."""

    def __init__(self, folder: Path, workers: int, **environment: str) -> None:
        folder.mkdir()
        self.file, self._folder = folder / "scheduler.json", folder
        self._environment = {**os.environ, **environment}
        common = ("--scheduler-file", str(self.file), "--no-dashboard")
        self.scheduler = self._start("scheduler", *common, "--port", "0", "--host", "127.0.0.1")
        until(self.file.exists)
        wishes = (*common, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder))
        self.workers = [self._start("worker", *wishes, name=str(number)) for number in range(workers)]

    def _start(self, what: str, *arguments: str, name: str = "") -> subprocess.Popen[bytes]:
        runtime = self._folder / f"runtime-{what}{name}"
        runtime.mkdir()
        with (runtime / "log").open("wb") as log:
            return subprocess.Popen(
                [*PYTHON, f"distributed.cli.dask_{what}", *arguments],
                env={**self._environment, "XDG_RUNTIME_DIR": str(runtime)},
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Callable[..., Dask]]:
    pytest.importorskip("distributed")
    made: list[Dask] = []

    def make(workers: int, **environment: str) -> Dask:
        made.append(Dask(tmp_path / f"dask{len(made)}", workers, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@dataclass
class Meanwhile:
    """Something done in a thread while a command runs here."""

    do: Callable[[], Any]
    found: list[Any] = field(default_factory=list)

    def __enter__(self) -> list[Any]:
        self._thread = threading.Thread(target=lambda: self.found.append(self.do()))
        self._thread.start()
        return self.found

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def half_done(folder: Path) -> Path | None:
    """A part in which one cell is finished."""
    for file in folder.glob(f"{PARTS}/*/{FILE}"):
        if file.read_bytes().count(b'"kind":"cell"') == 1:
            return file.parent
    return None


@pytest.mark.slow
def test_killing_a_worker_loses_no_cell(
    dask: Callable[..., Dask], tmp_path: Path, convbench: Command
) -> None:
    cluster, out = dask(4), tmp_path / "run"

    def kill() -> int:
        part = until(lambda: half_done(out))
        match = PART.search(part.name)
        assert match is not None
        os.kill(int(match[1]), signal.SIGKILL)
        return int(match[1])

    with Meanwhile(kill) as killed:
        given = ("--shard-minutes", 0.11, cluster.file, *texts(6), *FAST, "--out", out)
        done = convbench("cluster", "dask", *given)
    assert killed[0] in [worker.pid for worker in cluster.workers]
    assert done.code == 0 and done.err.count("is gone") == done.err.count("tried once more") == 1
    written = keys_written(out)
    assert len(written) == 6 and written.total() <= 6 + 2  # at most its shard again
    assert {record.cell.problem.h for record in read(out).cells.values()} == set(range(5, 11))
    assert list((out / PARTS).iterdir()) == []


@pytest.mark.slow
def test_killing_the_scheduler_loses_no_cell(
    dask: Callable[..., Dask], tmp_path: Path, convbench: Command
) -> None:
    cluster, out = dask(1), tmp_path / "run"
    command = ("--shard-minutes", 0.11, *texts(4), *FAST, "--out", out)

    def kill() -> None:
        until(lambda: keys_written(out) if (out / FILE).exists() else None)
        cluster.scheduler.kill()

    with Meanwhile(kill):
        done = convbench("cluster", "dask", *command[:2], cluster.file, *command[2:])
    assert done.code == 3 and "the Dask scheduler is gone" in done.err and "goes on from there" in done.err
    cluster.close()  # what the workers had begun ends with them
    parts = [read(file.parent).cells for file in out.glob(f"{PARTS}/*/{FILE}")]
    finished = {key: record for cells in (read(out).cells, *parts) for key, record in cells.items()}
    assert 1 <= len(finished) < 4
    done = convbench("cluster", "dask", *command[:2], dask(1).file, *command[2:])
    assert done.code == 0
    after = read(out).cells
    assert len(after) == 4 and after.items() >= finished.items()
    assert set(keys_written(out).values()) == {1}


@pytest.mark.slow
def test_a_hung_task_gives_its_worker_back(
    dask: Callable[..., Dask], tmp_path: Path, convbench: Command, plug_in: Callable[..., None]
) -> None:
    plug_in(hanging=HANGING)
    cluster = dask(1, PYTHONPATH=install(tmp_path / "site"))
    out = tmp_path / "run"
    hung = convbench(
        "cluster", "dask", "--shard-limit", 0.06, cluster.file, texts(1)[0], "--quick", "--device", "cpu",
        "--algorithms", "hanging", "--directions", "fwd", "--out", out,
    )  # fmt: skip
    assert hung.code == 3 and f"ended with {OVER}" in hung.err and "given up" in hung.err
    done = convbench("cluster", "dask", cluster.file, texts(1)[0], *FAST, "--out", out)
    assert done.code == 0 and "1 new cells" in done.out


def test_no_scheduler_is_told_in_one_line(tmp_path: Path, convbench: Command) -> None:
    pytest.importorskip("distributed")
    done = convbench("cluster", "dask", "nonsense://x", texts(1)[0], *FAST, "--out", tmp_path / "run")
    assert done.code == 3 and "no Dask scheduler at 'nonsense://x'" in done.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("dask", "tcp://x:1", "n1c1h1k1r1"), "pip install 'convbench[dask]'"),
        (("slurm", "n1c1h1k1r1"), "pip install 'convbench[slurm]'"),
        (("slurm", "--sbatch", "gpu", "n1c1h1k1r1"), "--sbatch 'gpu': must be NAME=VALUE"),
        (("dask", "tcp://x:1", "n1c1h1k1r1", "--spread"), "--spread is for the GPUs of one host"),
        (("dask", "tcp://x:1", "nosuch"), "no suite named 'nosuch'"),
        (("dask", "tcp://x:1", "n1c1h1k1r1", "--nosuch"), "No such option"),
        (("dask", "tcp://x:1"), "ARGUMENTS-OF-RUN"),
    ],
    ids=str,
)
def test_what_is_missing_or_wrong_is_told_in_one_line(
    tmp_path: Path,
    convbench: Command,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.chdir(tmp_path)
    more = ("--device", "cpu", "--out", tmp_path / "run") if len(command) > 2 or "slurm" in command else ()
    done = convbench("cluster", *command, *more)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


# ---- Slurm -------------------------------------------------------------------------------------------------


class FakeJob:
    job_id, state = "7_1", "NODE_FAIL"

    def __init__(self) -> None:
        self.cancelled = False

    def done(self) -> bool:
        return True

    def cancel(self) -> None:
        self.cancelled = True


class FakeExecutor:
    """Jobs that write what they are told, or nothing."""

    def __init__(self, *answers: str | None) -> None:
        self.answers, self.jobs, self.batches = list(answers), list[FakeJob](), 0

    def batch(self) -> FakeExecutor:
        self.batches += 1
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[[str, str], None], text: str, file: str) -> FakeJob:
        assert function.__name__ == "run_shard_into" and json.loads(text)
        if answer := self.answers.pop(0):
            Path(file).write_text(answer)
        self.jobs.append(FakeJob())
        return self.jobs[-1]


def test_slurm_takes_all_shards_as_one_array_and_a_lost_one_again(sweep: Sweep) -> None:
    executor = FakeExecutor(None, result(cell(PROBLEMS[2])), result(cell(PROBLEMS[0]), cell(PROBLEMS[1])))
    sweep.run(SlurmPlace(executor, sweep.store.folder, 0.0))
    assert executor.batches == 2 and len(executor.jobs) == 3
    assert len(sweep.store.contents.cells) == 3 and sweep.missing == []
    assert list((sweep.store.folder / PARTS).iterdir()) == []


SBATCH = """#!/bin/sh
tasks=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
cp "$1" "$(dirname "$0")/submitted"
echo "Submitted batch job 77"
export SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
for task in $(seq 0 ${tasks:-0}); do
    export XDG_RUNTIME_DIR="$(mktemp -d)" SLURM_JOB_ID=$((77 + task))
    test -z "$tasks" || export SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task
    sh "$1" >/dev/null 2>&1 &
done
"""
SRUN = """#!/bin/sh
while [ "$1" != "${1#--}" ]; do
    test "$1" = --unbuffered || shift
    shift
done
exec "$@"
"""


@pytest.mark.slow
def test_submitit_carries_shards_through_a_cluster_that_looks_like_slurm(
    tmp_path: Path, convbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands named as those of Slurm, which run array tasks side by side on this machine."""
    pytest.importorskip("submitit")
    tools = {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/sh\n", "scancel": "#!/bin/sh\n"}
    (tmp_path / "bin").mkdir()
    for name, script in tools.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    options = ("--shard-minutes", 0.06, "--sbatch", "partition=gpu", "--at-once", 2)
    done = convbench("cluster", "slurm", *options, *texts(2), *FAST, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert len(read(tmp_path / "run").cells) == 2 and list((tmp_path / "run" / PARTS).iterdir()) == []
    assert not list((tmp_path / "run").rglob("*.pkl"))
    script = (tmp_path / "bin" / "submitted").read_text()
    assert "--array=0-1%2" in script and "--partition=gpu" in script and "--gres" not in script


def test_slurm_jobs_are_taken_back(sweep: Sweep) -> None:
    executor = FakeExecutor(None)
    place = SlurmPlace(executor, sweep.store.folder, 0.0)
    place.submit([Task(0, '{"a":1}')])
    place.close()
    assert executor.jobs[0].cancelled
