"""Result folders as they were at a commit: `REV:PATH`, read out of git without touching the working tree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from convbench.errors import UsageError, one_line
from convbench.store import FILE, PACKED, Contents, read

SECONDS = 60
# No question at the terminal, no fetching of what a partial clone lacks, no other object than the named one.
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}


def contents_of(named: Path) -> Contents:
    """What a result folder holds, or held at the commit in front of a colon: `HEAD~3:results/run`."""
    revision, colon, path = str(named).partition(":")
    if not colon or named.exists() or not revision:
        return read(named)
    with TemporaryDirectory(prefix="convbench-") as folder:
        there = f"{_commit(revision)}:./{_inside(path)}"
        held = _git(["ls-tree", "--name-only", there], str(named)).decode("utf-8", "replace").split()
        name = PACKED if PACKED in held and FILE not in held else FILE
        with (Path(folder) / name).open("wb") as file:
            _git(["cat-file", "blob", f"{there}/{name}"], str(named), file)
        return read(Path(folder))


def _commit(revision: str) -> str:
    """The commit's full name; whatever the text is, git takes it for no option."""
    found = _git(["rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"], revision)
    return found.decode("ascii", "replace").strip()


def _inside(path: str) -> str:
    """The folder relative to here, as git writes it."""
    shown = Path(path)
    if not path or shown.is_absolute():
        raise UsageError(
            f"'{one_line(path)}': behind REV: stands a folder relative to this one, such as results/x"
        )
    return shown.as_posix()


def _git(arguments: list[str], named: str, out: IO[bytes] | None = None) -> bytes:
    command = ["git", "--no-replace-objects", *arguments]
    where = out if out is not None else subprocess.PIPE
    try:
        done = subprocess.run(
            command, stdout=where, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=SECONDS,
            env={**os.environ, **QUIET}, check=False,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"'{one_line(named)}': git could not be asked: {one_line(str(error))}") from error
    if done.returncode:
        said = one_line(done.stderr.decode("utf-8", "replace").strip()) or "git found nothing"
        raise UsageError(
            f"'{one_line(named)}' is no result folder, and at that commit: {said}; "
            "name a folder, or REV:FOLDER with a commit that holds it"
        )
    return done.stdout or b""
