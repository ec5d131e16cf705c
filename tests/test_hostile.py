"""Suite, result and foreign files are data: whatever they say, nothing is run, or written elsewhere."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from samples import ENVIRONMENT, LAYER, NOISE, RUN, fails_in_one_line, record

from convbench import formats
from convbench.errors import UsageError
from convbench.layers import LONGEST_NAME, Layer, Suite
from convbench.problem import Problem
from convbench.record import Cell, Record, Status
from convbench.run import slug
from convbench.seal import seal
from convbench.store import FILE, Store, read
from convbench.suites import LARGEST_FILE, load_file

ROOT = Path(__file__).resolve().parent.parent
PROBLEM = Problem.parse("n1c2h5w4k3r3p1")
NAMES = [
    "../x", "../../etc/passwd", "/etc/passwd", "/tmp/evil", "~/x", "$HOME/x", "`id`", "$(id)", "; rm -rf .",
    "a\0b", "a\nb", "a\r\nb", "a\tb", "\x1b[2J", "x" * 300, "CON", "NUL.txt", "-rf", "--out=/tmp/evil",
    "\u202egnp.exe", "\u2066x", "trailing.", " ", ".", "..", "a/../../b", "C:\\x", "\\\\host\\x", "%2e%2e%2f",
    "\ufeffx", "=1+1", "+1", "-1", "@SUM(A1)", "<script>alert(1)</script>", "{{ 7*7 }}", "${7*7}", "[0.5]",
    "[0,5]", "os", "evil_module", "évêque", "\U0001f600", "'=1", "a|b", "*", "?", "#", '"', "n1c1h1k1r1",
]  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


# ---- suites ------------------------------------------------------------------------------------------------

WHOLE = LARGEST_FILE - 64
TEXTS = {
    "quotes": '"' * WHOLE,
    "digits": "n" + "1" * WHOLE,
    "commas.csv": "n,c,h,k,r\n" + "," * WHOLE,
    "columns.csv": ",".join("n" * (WHOLE // 2)),
    "unclosed.csv": 'n,c,h,k,r\n"' + "a" * WHOLE,
    "zeros": "\0" * WHOLE,
    "zeros.csv": "n,c,h,k,r\n1,1,1,1,\0",
    "tuples": "make_tuple(" * (WHOLE // 11),
    "blanks": "make_tuple" + " " * WHOLE,
    "flags": "MIOpenDriver conv " + "-n 1 " * (WHOLE // 5) + "x",
    "sizes": "ic1oc1ih1kh1" * (WHOLE // 12),
    "underscores": "_" * WHOLE,
    "stars": "*" * WHOLE,
    "repeat": "n1c1h1k1r1 *9999999999",
    "huge": "n9999999999c1h1k1r1",
    "padding": "n1c1h1k1r1p" + "0.0x" * (WHOLE // 4),
    "escape": "\x1b[2J: n1c1h1k1r1",
    "marks": "\ufeff" * (WHOLE // 3),
    "foreign digits": "n\u0661c1h1k1r1",
    "batch": "--batch=/etc/passwd\nmb1ic1oc1ih1kh1",
    "json": "[" * WHOLE,
    "yaml": "!!python/object/apply:os.system ['id']",
    "long name": "x" * (LONGEST_NAME + 1) + ": n1c1h1k1r1",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_suite_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(TEXTS[name], newline="")
    assert file.stat().st_size <= LARGEST_FILE
    message = fails_in_one_line(UsageError, lambda: load_file(str(file)))
    assert len(message) < 1500


def test_size_and_number_of_layers_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big.txt"
    file.write_text("n1c1h1k1r1\n" * (LARGEST_FILE // 11 + 1))
    assert "is larger than" in fails_in_one_line(UsageError, lambda: load_file(str(file)))
    monkeypatch.setattr(formats, "MOST_LAYERS", 3)
    assert len(formats.read("n1c1h1k1r1\n" * 3, "text")) == 3
    message = fails_in_one_line(UsageError, lambda: formats.read("n1c1h1k1r1\n" * 4, "text"))
    assert "more than 3 layers" in message


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_layer_name_is_text_or_refused(tmp_path: Path, convbench: Command, name: str) -> None:
    try:
        layer = Layer(name, PROBLEM, network=name)
    except UsageError as error:
        assert str(error).isprintable()
        return
    text = formats.write(Suite("s", (layer,)), "csv")
    cells = next(csv.DictReader(io.StringIO(text)))
    assert not cells["name"].startswith(tuple("=+-@")) and not cells["network"].startswith(tuple("=+-@"))
    assert formats.read(text, "csv") == (layer,)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_suite_name_becomes_a_harmless_folder_name(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,60})", slug(name))


def test_folder_names_stay_distinct() -> None:
    assert len({slug(name) for name in NAMES}) == len(NAMES)


def test_a_sweep_of_hostile_names_stays_in_its_folder(
    tmp_path: Path, convbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    layers = tuple(Layer(name, PROBLEM, network=name) for name in NAMES if _named(name))
    assert len(layers) > 25
    suite = work / "$(id) ..csv"
    suite.write_text(formats.write(Suite("s", layers), "csv"))
    before = files(tmp_path)
    fast = ("--device", "cpu", "--quick", "--quiet", "--algorithms", "direct", "--directions", "fwd")
    done = convbench("run", "./" + suite.name, *fast)
    assert done.code == 0, done.err
    made = files(tmp_path) - before
    assert made and all(re.match(r"deep/work/results(/id-[0-9a-f]{8}(/|$)|$)", file) for file in made), made
    assert len(read(work / "results" / slug("$(id) .")).layers) == len(layers)


def _named(name: str) -> bool:
    try:
        Layer(name, PROBLEM, network=name)
    except UsageError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_a_file_name_that_is_no_text_is_told_in_one_line(tmp_path: Path, convbench: Command) -> None:
    file = os.fsencode(tmp_path) + b"/\xff\xfe.csv"
    Path(os.fsdecode(file)).write_text("n,c,h,k,r\n1,1,1,1,1\n")
    for command in (("suite", "show"), ("run", "--dry-run", "--device", "cpu", "--algorithms", "direct")):
        done = convbench(*command, os.fsdecode(file))
        assert done.code == 0 and done.err == "" and "\udcff" not in done.out


# ---- results -----------------------------------------------------------------------------------------------


def hostile(index: int, name: str) -> Record:
    return record(
        f"k{index}",
        cell=Cell(PROBLEM.with_(h=5 + index), name, name, "cpu"),
        status=Status.OK if index % 2 else Status.WRONG,
        reason=name,
        flags=[name],
        details={"module": name, "path": name, name: [{name: name}]},
    )


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A result folder in which every name is hostile."""
    folder = tmp_path / "deep" / "run"
    with Store(folder) as store:
        for index, name in enumerate(NAMES):
            identity = {"cpu": name, "libraries": {name: name}, "gpu": name}
            store.append(
                {"kind": "environment", **ENVIRONMENT, "id": name, "host": name, "identity": identity}
            )
            one = hostile(index, name)
            layer = {**LAYER, "suite": name, "network": name, "name": name, "text": str(one.cell.problem)}
            store.append({"kind": "layer", **layer})
            store.append({**RUN, "command": ["run", name], "preset": name})
            store.add_record(one)
            store.append({**NOISE, "environment": name, "problem": one.cell.problem.label})
    return folder


READERS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "show": lambda folder: ("show", folder, "--view", "all"),
    "markdown": lambda folder: ("show", folder, "--view", "all", "--format", "markdown"),
    "compare": lambda folder: ("compare", folder, folder, "--all"),
    "pytest": lambda folder: ("export", folder, "--to", "pytest-benchmark"),
    "merge": lambda folder: ("merge", folder, folder, "-o", folder.parent / "merged"),
    "report": lambda folder: ("report", folder),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_name_in_a_results_file_does_anything(
    held: Path, tmp_path: Path, convbench: Command, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    done = convbench(*READERS[reader](held))
    assert done.code in (0, 1), done.err
    assert "evil_module" not in sys.modules and "imported" not in done.err
    made = files(tmp_path) - before
    assert all(file.startswith(("deep/run/report", "deep/merged")) for file in made), made
    assert "\x1b[2J" not in done.out + done.err and "\u202e" not in done.out + done.err


@pytest.mark.parametrize(
    "command", [("export", "--to", "csv"), ("show", "--view", "coverage", "--format", "csv")]
)
def test_no_cell_of_an_exported_table_is_a_formula(
    held: Path, convbench: Command, command: tuple[str, ...]
) -> None:
    done = convbench(command[0], held, *command[1:])
    cells = [cell for row in csv.reader(io.StringIO(done.out)) for cell in row]
    assert done.code == 0 and any(cell.startswith("'-") for cell in cells)
    for cell in cells:
        assert not cell.startswith(("=", "@", "+", "-")) or re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", cell)


def test_a_record_nested_deep_is_read_or_named(folder: Path, convbench: Command) -> None:
    deep: list[Any] = []
    for depth in range(1, 901):
        deep = [deep]
        if depth % 300 == 0:
            with (folder / FILE).open("ab") as stream:
                stream.write(seal(record(f"deep{depth}", details={"a": deep}).to_json()))
    for reader in ("show", "pytest", "merge"):
        assert convbench(*READERS[reader](folder)).code in (0, 1)
    assert convbench("export", folder, "--to", "csv").code == 0


def test_a_results_file_imports_nothing_in_a_fresh_process(held: Path, tmp_path: Path) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys, convbench; frame = convbench.load(sys.argv[1]); assert len(frame);"
        "assert not {'evil_module', 'pickle5', 'cupy', 'torch'} & set(sys.modules), sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, held], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ---- our own code ------------------------------------------------------------------------------------------

SOURCES = [file for room in ("convbench", "algorithms", "report") for file in (ROOT / room).glob("*.py")]
LOADERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "marshal",
    "shelve",
    "joblib",
    "yaml",
    "pty",
}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_nothing_of_ours_loads_code_from_data(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not LOADERS & set(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {
                "eval",
                "exec",
                "__import__",
                "compile",
                "os.system",
                "os.popen",
                "torch.load",
            }
            assert not called.endswith((".read_pickle", ".to_pickle"))
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("shell", "False") == "False"
            assert not called.endswith(("np.load", "numpy.load")) or given.get("allow_pickle") == "False"


def test_a_key_is_no_path(tmp_path: Path) -> None:
    """Keys, environments and suites of a file name nothing on the disk."""
    with Store(tmp_path / "run") as store:
        store.add_record(record("../../escape"))
        store.append({"kind": "environment", **ENVIRONMENT, "id": "../escape"})
    assert {file.name for file in (tmp_path / "run").iterdir()} <= {FILE, ".lock"}
    assert json.loads((tmp_path / "run" / FILE).read_bytes().splitlines()[0])["key"] == "../../escape"
