"""What a worker does with a shard: `convbench run` in a process of its own, whose records are the result.

Tasks and results are JSON texts, whatever engine carries them. Where the worker sees the result folder, the
records lie there from the first on, so that they outlive worker and scheduler.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from convbench.errors import one_line
from convbench.leash import PATIENCE
from convbench.store import FILE

PARTS = "parts"
TAIL = 4096
NOTHING_RAN = 3


def run_shard(text: str) -> str:
    """Measure a shard. The task names arguments of `run`, keys finished elsewhere, the limit and the folder;
    the result tells exit code, last words, where it ran, and the part folder or its records."""
    task = json.loads(text)
    with _part(Path(task["folder"]), task["token"]) as (part, shared):
        with tempfile.TemporaryDirectory(prefix="convbench-") as aside:
            finished = _finished(Path(aside), task["finished"])
            arguments = ["run", *task["arguments"], "--out", str(part), *finished]
            code, said = _run(arguments, task["seconds"], Path(aside) / "stderr")
            if code == NOTHING_RAN and not _has_cells(part / FILE):
                sleep(PATIENCE + 1)  # a worker that was killed may be giving back this very device
                code, said = _run(arguments, task["seconds"], Path(aside) / "stderr")
        file = part / FILE
        records = file.read_text("ascii", "replace") if file.exists() and not shared else ""
        name = part.name if shared else ""
    where = f"{_host()} process {os.getpid()}"
    return json.dumps({"code": code, "said": said, "where": where, "part": name, "records": records})


def run_shard_into(text: str, file: str) -> None:
    """As `run_shard`, with the result in a file that is there once it is whole."""
    result, target = run_shard(text), Path(file)
    draft = target.with_suffix(".draft")
    draft.write_text(result, "utf-8")
    draft.replace(target)


def _run(arguments: Sequence[str], seconds: float, errors: Path) -> tuple[int, str]:
    """Exit code and last line of the process; the pipe to its standard input tells it that we live."""
    python = [sys.executable, "-P", "-m"]
    with errors.open("w+b") as stream:
        leash = subprocess.Popen(
            [*python, "convbench.leash", str(seconds), *python, "convbench", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )
        with leash:
            code = leash.wait()
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return code, one_line(lines[-1]) if lines else ""


@contextmanager
def _part(folder: Path, token: str) -> Iterator[tuple[Path, bool]]:
    """A folder for the records, and whether it lies in the result folder.

    The token tells that folder from one of the same name on another disk.
    """
    name = f"{_host()}-{os.getpid()}-{os.urandom(4).hex()}"
    if (folder / PARTS / f"{token}.token").exists():
        yield folder / PARTS / name, True
        return
    with tempfile.TemporaryDirectory(prefix="convbench-") as own:
        yield Path(own) / name, False


def _finished(folder: Path, keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    file = folder / "finished"
    file.write_text(json.dumps(list(keys)), "ascii")
    return ["--finished", str(file)]


def _has_cells(file: Path) -> bool:
    return file.exists() and b'"kind":"cell"' in file.read_bytes()


def _host() -> str:
    return re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
