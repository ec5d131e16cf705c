"""Fixtures that several tests share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from samples import ENVIRONMENT, LAYER, NOISE, RUN, record

from convbench import registry, threads
from convbench.store import Store
from convbench.suites import Suite, load_suite

for _variable in threads.VARIABLES:  # nothing has imported NumPy yet
    os.environ[_variable] = "1"

_runtime = tempfile.TemporaryDirectory()  # sweeps of tests that run side by side do not exclude each other
os.environ["XDG_RUNTIME_DIR"] = _runtime.name

TINY = "n1c2h5w4k3r3p1"
# A source distribution comes without the records that documents and pictures are made from.
RECORDS = Path(__file__).parent.parent / "results" / "cpu-torch"
collect_ignore = [] if RECORDS.is_dir() else ["test_documents.py", "test_pictures.py"]


def pytest_report_header() -> str | None:
    """What is left out is said."""
    return (
        f"not collected, because the records are not here: {', '.join(collect_ignore)}"
        if collect_ignore
        else None
    )


@pytest.fixture
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny layers, one of them twice."""
    file = tmp_path_factory.mktemp("suites") / "tiny.csv"
    file.write_text(
        "name,n,c,h,w,k,r,s,pad_h,pad_w,repeat\nfirst,1,2,5,4,3,3,3,1,1,2\nsecond,2,2,4,4,2,1,1,0,0,1\n"
    )
    return file


@pytest.fixture
def suite(suite_file: Path) -> Suite:
    return load_suite(str(suite_file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with four cells and one line of every other kind."""
    folder = tmp_path / "deep" / "run"
    with Store(folder) as store:
        store.append({"kind": "environment", **ENVIRONMENT})
        store.add_once("layer", [LAYER], [])
        store.append(RUN)
        for key in "abcd":
            store.add_record(record(key))
        store.append(NOISE)
    return folder


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def convbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process, from its real entry, in whatever the working directory is."""
    from convbench.cli import main

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["convbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        text = capsys.readouterr()
        return Done(int(stop.value.code or 0), text.out, text.err)

    return run


class Point(EntryPoint):
    """An entry point of no installed package, which loads what it is given or raises it."""

    loads: Any = None

    def load(self) -> Any:
        if isinstance(self.loads, BaseException):
            raise self.loads
        return self.loads


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Adds plug-ins: keyword is the entry point's name, value what it loads or raises."""
    points: list[EntryPoint] = []

    def add(**plug_ins: Any) -> None:
        for name, loads in plug_ins.items():
            point = Point(name, f"{name}.module", registry.GROUP)
            vars(point)["loads"] = loads
            points.append(point)
        registry.load_all.cache_clear()

    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.load_all.cache_clear()
    yield add
    registry.load_all.cache_clear()
