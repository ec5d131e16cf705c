"""Byte counts as people write them: 64MiB, 2GB, 80% or plain bytes."""

from __future__ import annotations

import re
from fractions import Fraction

from convbench.errors import UsageError, one_line

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]*|%)", re.IGNORECASE)


def parse_size(text: str, whole: int | None = None) -> int:
    """Bytes from "64MiB", "2GB", "4096" or, of `whole`, "80%"."""
    match = _SIZE.fullmatch(text.strip())
    if match and match[2] == "%" and whole is not None:
        return int(whole * Fraction(match[1]) / 100)
    if not match or match[2].lower() not in _UNITS:
        raise UsageError(f"'{one_line(text)}' is no size; write bytes, 64MiB, 2GB or a share such as 80%")
    return int(Fraction(match[1]) * _UNITS[match[2].lower()])


def format_size(size: int | None) -> str:
    """A byte count for people, in binary units."""
    if size is None:
        return "unknown"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.3g} {units[0]}"
