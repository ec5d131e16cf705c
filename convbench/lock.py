"""One writer a folder, one sweep a device: locks go with the process, so that a dead one never blocks."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from convbench.errors import CannotRunError, one_line

try:
    import fcntl
except ImportError:  # not POSIX: no lock
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


def hold(folder: Path) -> IO[str]:
    """Take the lock of a folder; closing it gives it back. CannotRunError names the process that has it."""
    return _hold(folder / LOCK, f"'{one_line(str(folder))}'", "name another folder")


def hold_device(place: str) -> IO[str]:
    """Take the lock of a device, for all sweeps of this user on this machine."""
    name = re.sub(r"[^A-Za-z0-9-]", "_", place)[:80]
    return _hold(_runtime() / f"{name}.lock", f"device {one_line(place)}", "choose another device")


def refuse_held(folder: Path) -> None:
    """CannotRunError if somebody writes into the folder now."""
    try:
        if (folder / LOCK).is_file():
            hold(folder).close()
    except OSError:  # a folder that cannot be used is refused when it is to be
        pass


def _hold(file: Path, what: str, otherwise: str) -> IO[str]:
    stream = file.open("a+")
    if fcntl is None:
        return stream
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        holder = one_line(stream.read().strip()) or "another process"
        stream.close()
        raise CannotRunError(f"{what} is in use by {holder}; wait for it or {otherwise}") from None
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
    stream.flush()
    return stream


def _runtime() -> Path:
    """The first folder of this user alone that can be used; it need not outlive the machine's run."""
    for folder in _runtime_folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
                return folder
        except OSError:
            continue
    raise CannotRunError("there is no folder for locks; set XDG_RUNTIME_DIR to one that you may write to")


def _runtime_folders() -> Iterator[Path]:
    """Also where the variable is not set, as in a job at night, the same folder is to be found."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}"):
        if base and Path(base).is_dir():
            yield Path(base) / "convbench"
    yield Path(tempfile.gettempdir()) / f"convbench-{os.getuid()}"
