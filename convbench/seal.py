"""One line of a result folder's file: canonical JSON that carries its own checksum."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from convbench.record import canonical

LONGEST_LINE = 1 << 20
DEEPEST = 200  # brackets in a line, which bound how deep it nests


def seal(content: Mapping[str, Any]) -> bytes:
    """One line of the file: canonical JSON with the first 16 hex digits of its SHA-256."""
    body = {key: value for key, value in content.items() if key != "sum"}
    body["sum"] = hashlib.sha256(canonical(body)).hexdigest()[:16]
    return canonical(body) + b"\n"


def unseal(line: bytes) -> dict[str, Any]:
    """The content of a line; ValueError if it is torn, altered or no line of ours."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE} bytes")
    try:
        content = _DECODER.decode(line.decode("ascii"))
        if not isinstance(content, dict) or "sum" not in content:
            raise ValueError("not a checksummed record")
        if not _intact(line, content["sum"]) and seal(content) != line.rstrip(b"\n") + b"\n":
            raise ValueError("checksum does not match")
    except RecursionError:
        raise ValueError("nested too deep") from None
    if b"\\ud" in line:  # half a surrogate pair is no text and could not be printed
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
# 1e999, which a decoder takes for infinity; two patterns, because a search for one letter is fast
_INFINITE = tuple(re.compile(letter + rb"\+?[0-9]{3,}[],}]") for letter in (b"e", b"E"))


def _intact(line: bytes, total: Any) -> bool:
    """Whether the bytes are as they were written, without writing them anew; False where that takes a look
    at the content: deep nesting, numbers without bounds, a second field like the checksum."""
    field = b'"sum":"%s"' % str(total).encode("ascii", "replace")
    start, end = line.find(field), line.find(field) + len(field)
    if start < 0 or line.find(field, end) >= 0 or line.count(b"{") + line.count(b"[") > DEEPEST:
        return False
    if any(pattern.search(line) for pattern in _INFINITE):
        return False
    start, end = (start, end + 1) if line[end : end + 1] == b"," else (start - 1, end)
    rest = line[:start] + line[end:].rstrip(b"\n")
    return hashlib.sha256(rest).hexdigest()[:16] == str(total)
