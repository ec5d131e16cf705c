"""What a supervisor and its child say to each other: one JSON object a line, through pipes.

No pickle: the child runs code that may do anything, so whatever comes from it is data to be checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 16 << 20


def encode(content: Mapping[str, Any]) -> bytes:
    """One line; TypeError or ValueError if the content is no JSON."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes, word: str) -> dict[str, Any]:
    """The content of a line, in which `word` holds a text; ValueError if it is anything else."""
    try:
        content = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict) or not isinstance(content.get(word), str):
        raise ValueError(f"an object with '{word}' was expected")
    return content


class Splitter:
    """Lines out of the chunks in which a pipe delivers them."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now; ValueError if one grows beyond measure."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST:
            raise ValueError(f"a line longer than {LONGEST} bytes")
        return lines
