"""Sweeps in processes of their own, whose children know the algorithms of `faults` as a plug-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from convbench.record import Record
from convbench.registry import GROUP
from convbench.seal import unseal
from convbench.store import FILE, Contents, read

TESTS = Path(__file__).parent
METADATA = "Metadata-Version: 2.1\nName: convbench-faults\nVersion: 1\n"


def make_site(folder: Path, value: str = "faults:DEADLY_ALGORITHMS") -> Path:
    """A folder that looks as if a package with these algorithms were installed in it."""
    info = folder / "convbench_faults-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nfaults = {value}\n")
    return folder


def environment(site: Path, **more: str) -> dict[str, str]:
    path = (str(site), str(TESTS), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def command(*arguments: object) -> list[str]:
    words = ("--quick", "--directions", "fwd", "--device", "cpu", "--quiet")
    return [sys.executable, "-m", "convbench", "run", *map(str, arguments), *words]


def start(
    site: Path, *arguments: object, stderr: int | IO[Any] = subprocess.PIPE, **more: str
) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(*arguments), env=environment(site, **more), stdout=pipe, stderr=stderr, text=True
    )


def run(site: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(site, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def cells(folder: Path) -> dict[str, Record]:
    """The last record of each algorithm, for sweeps of one problem."""
    return {one.cell.algorithm: one for one in contents(folder).cells.values()}


def contents(folder: Path) -> Contents:
    found = read(folder)
    assert found.notes == []
    return found


def written(folder: Path) -> list[str]:
    """The key of every cell record in the file, in order."""
    file = folder / FILE
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    whole = [unseal(line) for line in lines if line.endswith(b"\n")]
    return [line["key"] for line in whole if line["kind"] == "cell"]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
