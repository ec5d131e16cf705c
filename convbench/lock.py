"""One writer a folder: a lock that goes with the process, so that a dead one never blocks."""

from __future__ import annotations

import os
import socket
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
    stream = (folder / LOCK).open("a+")
    if fcntl is None:
        return stream
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        holder = one_line(stream.read().strip()) or "another process"
        stream.close()
        raise CannotRunError(
            f"'{one_line(str(folder))}' is in use by {holder}; wait for it or name another folder"
        ) from None
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
    stream.flush()
    return stream
