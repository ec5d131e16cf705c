"""Errors that are the user's to fix: one line that names the value, the rule and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(ValueError):
    """Bad input. The command line prints the message alone and exits with 2; nothing has been written."""


class CannotRunError(RuntimeError):
    """The input is fine but nothing could run, or the run could not go on; exit code 3."""


class TerminatedError(BaseException):
    """SIGTERM: like Ctrl-C, but for the exit code."""


def one_line(text: str) -> str:
    """User text made safe for a one-line message: control characters shown, long values cut."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= 120 else shown[:117] + "..."


def unknown(kind: str, value: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a list, with the nearest names."""
    names = sorted(known)
    near = get_close_matches(value, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"no {kind} named '{one_line(value)}'; {hint}")
