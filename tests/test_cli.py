"""The command line as a user meets it: exit codes, what is written, what is said."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Command
from faults import Correct, Rejects, WrongElement

from convbench.problem import Problem
from convbench.store import FILE, Store, read
from convbench.suites import load_suite

FAST = ("--directions", "fwd", "--quick")
DIRECT = (*FAST, "--algorithms", "direct")
HERE = (*FAST, "--no-isolation")  # plug-ins of this process alone
DIRECT_HERE = (*DIRECT, "--no-isolation")  # in tests that say nothing of processes


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command writes, it writes into an empty folder."""
    monkeypatch.chdir(tmp_path)


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "convbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def written() -> list[str]:
    return sorted(str(file) for file in Path().rglob("*"))


# ---- run ---------------------------------------------------------------------------------------------------


def test_run_measures_writes_a_folder_and_resumes() -> None:
    first = shell("run", TINY, *DIRECT, "--out", "results/try", "--quiet", "--device", "cpu")
    assert (first.returncode, first.stdout) == (0, "")
    assert "1 cells measured; results in results/try" in first.stderr
    again = shell("run", TINY, *DIRECT, "--out", "results/try", "--quiet", "--device", "cpu")
    assert again.returncode == 0 and "0 cells measured, 1 were there already" in again.stderr
    contents = read(Path("results/try"))
    (cell,) = contents.cells.values()
    assert str(cell.cell.problem) == str(Problem.parse(TINY)) and cell.time is not None
    assert [layer["text"] for layer in contents.layers] == [str(Problem.parse(TINY))]
    assert len(contents.environments) == 1 and len(contents.runs) == 2 and len(contents.noise) == 1


def test_run_shows_the_winners(convbench: Command) -> None:
    done = convbench("run", TINY, *DIRECT)
    assert done.code == 0 and "direct" in done.out and "1 cells measured" in done.out
    assert done.err == "" or done.err.startswith("measuring on the CPU")
    assert [path.parent.name for path in Path("results").glob(f"*/{FILE}")] == [str(Problem.parse(TINY))]


@pytest.mark.parametrize(
    "name", ["../x.csv", "-rf.csv", "CON.csv", "a b$(c).csv", "x" * 200 + ".csv", "é\u202e.csv"]
)
def test_the_default_folder_stays_inside_results(convbench: Command, suite_file: Path, name: str) -> None:
    Path("deep").mkdir()
    (Path("deep") / name).write_bytes(suite_file.read_bytes())
    assert convbench("run", f"deep/{name}", *DIRECT_HERE, "--quiet").code == 0
    (folder,) = Path("results").iterdir()
    assert folder.name.isascii() and len(folder.name) < 60 and folder.name[0] not in ".-"
    assert {path.name for path in Path().iterdir()} <= {"deep", "results", "x.csv"} and (
        folder / FILE
    ).is_file()


def test_dry_run_writes_nothing(convbench: Command) -> None:
    done = convbench(
        "run", TINY, *FAST, "--algorithms", "direct,im2col", "--workspace-limit", "1", "--dry-run"
    )
    assert done.code == 0 and written() == []
    assert "im2col" in done.out and "over_limit (needs " in done.out and "would be measured" in done.out


def test_dry_run_knows_what_is_there_already(convbench: Command) -> None:
    convbench("run", TINY, *DIRECT_HERE, "--out", "try", "--quiet")
    done = convbench("run", TINY, *FAST, "--algorithms", "direct,im2col", "--out", "try", "--dry-run")
    assert "direct" not in done.out and "1 are there already" in done.out


def test_the_number_of_threads_can_be_chosen() -> None:
    assert shell("run", TINY, *DIRECT, "--out", "try", "--quiet", "--threads", "3").returncode == 0
    (environment,) = read(Path("try")).environments.values()
    assert environment["identity"]["threads"] == 3


def test_a_failure_is_exit_code_1_and_can_be_retried(convbench: Command, plug_in: Command) -> None:
    plug_in(bad=WrongElement("bad"), good=Correct("good"))
    chosen = ("run", TINY, *HERE, "--algorithms", "bad,good", "--out", "try", "--quiet")
    done = convbench(*chosen)
    assert done.code == 1 and "2 cells measured" not in done.err and "1 failed" in done.err
    assert convbench(*chosen).code == 1  # nothing new, but what is there has failed
    assert convbench(*chosen, "--retry-failed").code == 1


def test_when_no_cell_can_run_the_reason_is_given_with_exit_code_3(
    convbench: Command, plug_in: Command
) -> None:
    plug_in(picky=Rejects("picky"))
    done = convbench("run", TINY, *HERE, "--algorithms", "picky", "--out", "try", "--quiet")
    assert done.code == 3 and done.err.splitlines()[-1] == "convbench: no cell could run: only on Sundays"


def test_a_folder_in_use_is_exit_code_3(convbench: Command) -> None:
    with Store(Path("try")):
        done = shell("run", TINY, *DIRECT, "--out", "try", "--quiet")
    assert done.returncode == 3 and "in use by process" in done.stderr and len(done.stderr.splitlines()) == 1


def test_run_says_what_it_moved_aside(convbench: Command) -> None:
    convbench("run", TINY, *DIRECT_HERE, "--out", "try", "--quiet")
    with Path("try", FILE).open("ab") as stream:
        stream.write(b"torn")
    done = convbench("run", TINY, *DIRECT, "--out", "try", "--quiet")
    assert done.code == 0 and f"{FILE} line" in done.err and "moved to" in done.err


# ---- export ------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(convbench: Command, plug_in: Command) -> Path:
    """A folder with a measured cell and a reason that a spreadsheet would take for a formula."""

    class Formula(Rejects):
        def reject(self, problem: Problem) -> str:
            return "=1+1"

    plug_in(formula=Formula("formula"))
    assert (
        convbench("run", TINY, *HERE, "--algorithms", "direct,formula", "--out", "try", "--quiet").code == 0
    )
    return Path("try")


def test_export_to_csv_has_a_row_a_cell_and_no_formulas(convbench: Command, hostile: Path) -> None:
    done = convbench("export", hostile, "--to", "csv")
    rows = {row["algorithm"]: row for row in csv.DictReader(io.StringIO(done.out))}
    assert set(rows) == {"direct", "formula"} and done.err == ""
    assert rows["formula"]["reason"] == "'=1+1" and float(rows["direct"]["time_ms"]) > 0


def test_export_says_what_it_could_not_read(convbench: Command, hostile: Path) -> None:
    with (hostile / FILE).open("ab") as stream:
        stream.write(b"torn")
    done = convbench("export", hostile, "--to", "csv", "-o", "out.csv")
    assert done.code == 0 and "skipped" in done.err and Path("out.csv").is_file()


def test_pytest_benchmark_reads_its_export(convbench: Command, hostile: Path) -> None:
    assert convbench("export", hostile, "--to", "pytest-benchmark", "-o", "saved.json").code == 0
    (benchmark,) = json.loads(Path("saved.json").read_text())["benchmarks"]
    tool = Path(sys.executable).with_name("pytest-benchmark")
    done = subprocess.run(
        [tool, "compare", "saved.json"], capture_output=True, text=True, check=True, timeout=60
    )
    assert benchmark["name"] in done.stdout


# ---- the other commands ------------------------------------------------------------------------------------


def test_verify_passes_a_good_algorithm(convbench: Command) -> None:
    done = convbench("verify", "direct", "--precision", "fp32", "--layout", "nchw", "--directions", "fwd")
    assert done.code == 0 and "direct" in done.out


def test_verify_names_what_is_wrong(convbench: Command, plug_in: Command) -> None:
    plug_in(bad=WrongElement("bad"))
    done = convbench("verify", "bad", "--precision", "fp32", "--layout", "nchw", "--directions", "fwd")
    assert done.code == 1 and "bad only n2c3h7w9k4r3s3" in done.out and "exact: 1 of" in done.out


def test_list_tells_where_algorithms_come_from(convbench: Command, plug_in: Command) -> None:
    plug_in(mine=Correct("mine"), gone=ImportError("no module named 'gone'"))
    done = convbench("list", "algorithms")
    assert done.code == 0
    for expected in (
        "direct",
        "built in",
        "mine",
        "mine.module",
        "gone",
        "ImportError: no module named 'gone'",
    ):
        assert expected in done.out


def test_list_tells_what_applies_to_a_problem(convbench: Command, plug_in: Command) -> None:
    plug_in(picky=Rejects("picky"))
    done = convbench("list", "algorithms", "--problem", TINY)
    assert done.code == 0 and "no: only on Sundays" in done.out and "shift" in done.out


def test_list_suites_and_devices(convbench: Command) -> None:
    assert "quick" in convbench("list", "suites").out
    assert "cpu: ready" in convbench("list", "devices").out


def test_doctor_says_what_there_is_and_what_is_missing(convbench: Command, plug_in: Command) -> None:
    plug_in(gone=SystemExit("sorry"))
    done = convbench("doctor")
    assert done.code == 0 and done.err == ""
    for expected in (
        "device cpu: ready",
        "algorithm direct (cpu): built in",
        "gone.module: SystemExit: sorry",
    ):
        assert expected in done.out


def test_suite_show_lists_layers(convbench: Command, suite_file: Path) -> None:
    done = convbench("suite", "show", suite_file, "--batch", 3)
    assert done.code == 0 and "first" in done.out and "n3c2h5w4k3r3s3" in done.out


@pytest.mark.parametrize("kind", ["csv", "text", "benchdnn", "miopen"])
def test_a_suite_goes_out_and_comes_in_again(convbench: Command, suite_file: Path, kind: str) -> None:
    exported, imported = Path("exported"), Path("imported.csv")
    assert convbench("suite", "export", suite_file, "--to", kind, "-o", exported).code == 0
    assert convbench("suite", "import", exported, "--from", kind, "-o", imported).code == 0
    layers = [[layer.problem for layer in load_suite(str(file)).layers] for file in (imported, suite_file)]
    assert layers[0] == layers[1]


def test_show_and_report_read_a_folder(convbench: Command, hostile: Path) -> None:
    assert "direct" in convbench("show", hostile).out
    assert "=1+1" in convbench("show", hostile, "--view", "all", "--format", "markdown").out
    done = convbench("report", hostile)
    assert done.code == 0 and Path(done.out.strip()).is_file()


def test_show_takes_a_folder_as_if_only_some_algorithms_had_been_measured(
    convbench: Command, suite_file: Path
) -> None:
    chosen = [*HERE, "--out", "kept"]
    assert convbench("run", suite_file, "--algorithms", "direct,im2col", *chosen).code == 0
    alone = convbench("show", "kept", "--algorithms", "im2col", "--view", "all", "--format", "markdown")
    assert alone.code == 0 and "im2col/" in alone.out and "direct/" not in alone.out
    refused = convbench("show", "kept", "--algorithms", "fft")
    assert refused.code == 2 and "known: direct, im2col" in refused.err
