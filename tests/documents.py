"""The commands that README and docs name, and where each of them can be executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from convbench.store import FILE, PACKED

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "results/README.md",
    *ROOT.glob("docs/**/*.md"),
]
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")
INLINE = re.compile(r"`(convbench [^`\n]+)`")
COMMENT = re.compile(r"(?s)<!--.*?-->")
Words = tuple[str, ...]

# What stands for something else in a command, and what is put there to see whether it parses.
STANDS_FOR = {
    **dict.fromkeys(("DIR", "A", "results/base", "results/host-a"), "results/cpu-torch"),
    **dict.fromkeys(("B", "results/new", "results/host-b"), "results/cpu-torch"),
    **{
        "NAME": "direct",
        "$name": "direct",
        "OLD": "direct",
        "NEW": "im2col",
        "LAYER": "n1c1h3k1r3",
        "FILE": "quick",
    },
    **{"ADDRESS": "tcp://head:8786", "SUITE": "quick", "KIND": "csv", "$1": "nchw", "$2": "fp32", "N": "4"},
    **{"$layout": "nchw", "$precision": "fp32"},
}
# What a sweep named on the same page has left, and whose records stand for it.
EARLIER = dict.fromkeys(("results/resnet", "results/vgg", "results/run"), "results/h200-vgg16")
STOPPED = "interrupted"  # how a command ended, in the record of those that a GPU has executed


def lines(text: str) -> Iterator[str]:
    """Code blocks line by line, continued lines joined; then commands in tables and sentences."""
    text = COMMENT.sub("", text)
    for language, block in FENCE.findall(text):
        if language in ("", "sh", "bash"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(FENCE.sub("", text))


def split(line: str) -> list[str]:
    """Words and operators as a shell sees them, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every convbench command; `...` says that there may be more."""
    for line in lines(text):
        words = split(line) if "convbench" in line else []
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set(";&|<>()"):
                if command[:1] == ["convbench"]:
                    yield [STANDS_FOR.get(one, one) for one in command[1:] if one != "..."]
                command = []
            else:
                command.append(word)


FOUND = sorted(
    {tuple(command) for document in DOCUMENTS for command in commands(document.read_text("utf-8"))}
)


def ended_well(words: Words, end: str) -> bool:
    """Whether a command did what it says, verdicts included, or stopped in order when it was told to."""
    return end in ("0", STOPPED) or (end == "1" and "--fail-on" in words)


def runnable(words: Words) -> bool:
    """Whether a command needs no GPU, writes nothing and is done soon."""
    first = words[0] if words else ""
    needs = any(word in ("--time", "cuda", "-o", "--out", "--plot", "model.csv") for word in words)
    reads = first in ("show", "plan") and _has_records(words)
    return not needs and (reads or first == "list" or words[:2] == ("suite", "show"))


def writes(words: Words) -> bool:
    """Whether a command makes files, or plans, of records that are here or that stand for others."""
    reads = words[:1] in (("export",), ("compare",), ("merge",), ("plan",), ("plot",), ("report",), ("show",))
    suites = words[:2] in (("suite", "export"), ("suite", "import")) and "model.onnx" not in words
    return (reads or suites) and len(words) > 1 and not runnable(words)


def plannable(words: Words) -> bool:
    """Whether this is a sweep that a machine without a GPU could make."""
    gpu = any(word == "cuda" or word.startswith(("cudnn", "--devices")) for word in words)
    return words[:1] == ("run",) and not gpu and len(words) > 2 and not words[1].endswith(".csv")


def kept(words: Words) -> Path | None:
    """The folder in which a measurement's records are kept, if they are."""
    out = dict(pairwise(words)).get("--out", "")
    return ROOT / out if words[:1] in (("run",), ("ab",)) and out.startswith("results/h200-") else None


def for_gpu(words: Words) -> bool:
    """Whether a command measures on the GPU of a machine that has one, and leaves no records here."""
    here = {"cpu", "--threads", "results/cpu-torch", "model.csv", "results/h200-selftest"} & set(words)
    measures = words[:1] in (("ab",), ("run",), ("verify",)) and len(words) > 1 and words[1][:2] != "--"
    other = words in (("ceilings",), ("doctor",), ("selftest",)) or "--time" in words
    return (measures or other) and not here and kept(words) is None


def _has_records(words: Words) -> bool:
    return any((ROOT / word / file).is_file() for word in words[1:] for file in (FILE, PACKED))
