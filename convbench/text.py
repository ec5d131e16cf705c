"""The text form of a problem: n64c256h56w56k256r3s3p1x1u1x1d1x1g1, optionally with flip."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from convbench.errors import UsageError, one_line

if TYPE_CHECKING:
    from convbench.problem import Problem

EXAMPLE = "n64c256h56w56k256r3s3p1u1d1g1"
MEANING = {
    "n": "batch", "c": "input channels", "h": "image height", "w": "image width", "k": "filters",
    "r": "filter height", "s": "filter width", "p": "padding", "u": "stride", "d": "dilation", "g": "groups",
}  # fmt: skip
_TOKEN = re.compile(r"flip|[a-z][-+0-9.x]*|.", re.DOTALL)
_NUMBER = r"\d{1,10}"
_SIZE = re.compile(_NUMBER)
_PAIR = re.compile(rf"({_NUMBER})(?:x({_NUMBER}))?")
_PAD = re.compile(rf"({_NUMBER})(?:\.({_NUMBER}))?(?:x({_NUMBER})(?:\.({_NUMBER}))?)?")


def parse_fields(text: str) -> dict[str, Any]:
    """Fields of a `Problem` from its text form; order free, `_` ignored, w and s default to h and r."""
    tokens: dict[str, str] = {}
    for token in _TOKEN.findall(text.replace("_", "").strip()):
        name, value = ("flip", "") if token == "flip" else (token[0], token[1:])
        if name != "flip" and name not in MEANING:
            letters = ", ".join(MEANING)
            raise _bad(text, token, f"unknown; the letters are {letters} and the word flip")
        if name in tokens:
            raise _bad(text, token, f"{name} is given twice")
        tokens[name] = value
    flip = tokens.pop("flip", None) is not None
    for name in "nchkr":
        if name not in tokens:
            raise UsageError(f"'{one_line(text)}' lacks {name} ({MEANING[name]}); an example: {EXAMPLE}")
    sizes = {name: _size(text, name, tokens[name]) for name in "nchkr"}
    sizes["w"] = _size(text, "w", tokens["w"]) if "w" in tokens else sizes["h"]
    sizes["s"] = _size(text, "s", tokens["s"]) if "s" in tokens else sizes["r"]
    return {
        **sizes,
        "pad": _pad(text, tokens.get("p", "0")),
        "stride": _pair(text, "u", tokens.get("u", "1")),
        "dilation": _pair(text, "d", tokens.get("d", "1")),
        "groups": _size(text, "g", tokens.get("g", "1")),
        "flip": flip,
    }


def format_fields(problem: Problem) -> str:
    """The canonical text of a problem; parses back to an equal one."""
    sizes = "".join(f"{name}{getattr(problem, name)}" for name in "nchwkrs")
    pad = "x".join(str(a) if a == b else f"{a}.{b}" for a, b in problem.pad)
    stride, dilation = ("x".join(map(str, pair)) for pair in (problem.stride, problem.dilation))
    return f"{sizes}p{pad}u{stride}d{dilation}g{problem.groups}{'flip' if problem.flip else ''}"


def _bad(text: str, token: str, rule: str) -> UsageError:
    return UsageError(f"'{one_line(token)}' in '{one_line(text)}': {rule}; an example: {EXAMPLE}")


def _size(text: str, name: str, value: str) -> int:
    if not _SIZE.fullmatch(value):
        raise _bad(text, name + value, f"{name} ({MEANING[name]}) takes one whole number")
    return int(value)


def _pair(text: str, name: str, value: str) -> tuple[int, int]:
    match = _PAIR.fullmatch(value)
    if not match:
        raise _bad(
            text, name + value, f"{name} ({MEANING[name]}) takes one number or two, as {name}2 or {name}2x1"
        )
    first = int(match[1])
    return first, int(match[2] or first)


def _pad(text: str, value: str) -> tuple[tuple[int, int], tuple[int, int]]:
    match = _PAD.fullmatch(value)
    if not match:
        rule = "p (padding) takes p1, p1x0 (height x width) or p0.1x0.1 (top.bottom x left.right)"
        raise _bad(text, "p" + value, rule)
    rows = int(match[1]), int(match[2] or match[1])
    if match[3] is None:
        return rows, rows
    return rows, (int(match[3]), int(match[4] or match[3]))
