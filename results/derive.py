"""Tables of the documents that come from records, written anew or, with --check, compared:

    python results/derive.py [--check] [FILE.md ...]        default: README.md and docs

A block stands between two comments; the first holds a command and, after ` | `, what to take of its output:

    <!-- derived: convbench show results/run --format markdown | table Winners (cpu, fp32 | columns layer -->
    <!-- end -->

    table TITLE                  the one table whose title begins so; without it, all that was printed
    rows COLUMN=PATTERN          rows whose cell matches, as file names do (*, ?, [ab])
    columns A, B                 these columns
    cross A, B by C, D: VALUE    a row for each A and B, a column for each C and D
"""

from __future__ import annotations

import difflib
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from convbench.api import Direction, Precision

ROOT = Path(__file__).parent.parent
USUAL = [*Precision, *Direction]
BLOCK = re.compile(r"(?m)^(<!-- derived: (.+?) -->\n)(?:(?!<!-- ).*\n)*(<!-- end -->)$")
Rows = list[list[str]]  # names of the columns, the rule under them, and what follows


@cache
def run(command: str) -> str:
    """What a command prints."""
    if not command.startswith(("convbench ", "python results/")):
        raise SystemExit(
            f"derive: '{command}': must be a convbench command, or python and a script in results"
        )
    words = shlex.split(command.removeprefix("python ") if command[0] == "p" else f"-m {command}")
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"derive: '{command}' ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def derive(spec: str) -> str:
    """The lines of a block."""
    command, *stages = spec.split(" | ")
    if not stages:
        printed = run(command)
        return printed if printed[:1] == "|" else re.sub(r"(?m) +$", "", f"```\n{printed.strip()}\n```\n")
    rows = table(run(command), stages.pop(0).removeprefix("table "))
    for name, _, argument in (stage.partition(" ") for stage in stages):
        rows = STAGES[name](rows, argument)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plain(cell: str) -> str:
    return re.sub(r"\\(.)", r"\1", re.sub(r"^\*\*(.*)\*\*$", r"\1", cell))


def table(printed: str, title: str) -> Rows:
    found = [part for part in re.split(r"(?m)^### ", printed)[1:] if plain(part).startswith(title)]
    if len(found) != 1:
        raise SystemExit(
            f"derive: '{title}': {len(found)} tables have a title that begins so; it must be one"
        )
    lines = [line for line in found[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def place(rows: Rows, column: str) -> int:
    if column in (names := [plain(name) for name in rows[0]]):
        return names.index(column)
    raise SystemExit(f"derive: '{column}': no such column; there are {', '.join(names)}")


def matching(rows: Rows, argument: str) -> Rows:
    column, _, pattern = argument.partition("=")
    at = place(rows, column)
    return rows[:2] + [row for row in rows[2:] if fnmatchcase(plain(row[at]), pattern)]


def columns(rows: Rows, argument: str) -> Rows:
    at = [place(rows, name) for name in argument.split(", ")]
    return [[row[i] for i in at] for row in rows]


def usual(name: str) -> list[int]:
    """Where a column of a cross table stands: precisions and directions as usual, others as they come."""
    return [USUAL.index(word) if word in USUAL else len(USUAL) for word in name.split(" ")]


def cross(rows: Rows, argument: str) -> Rows:
    keys, value = argument.split(": ")
    down, across = ([place(rows, name) for name in part.split(", ")] for part in keys.split(" by "))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows[2:]:
        name = " ".join(row[i] for i in across)
        cells.setdefault(tuple(row[i] for i in down), {})[name] = row[place(rows, value)]
    names = sorted(dict.fromkeys(name for held in cells.values() for name in held), key=usual)
    head = [[rows[0][i] for i in down] + names, ["---"] * len(down) + ["---:"] * len(names)]
    return head + [[*key, *(held.get(name, "–") for name in names)] for key, held in cells.items()]


STAGES = {"rows": matching, "columns": columns, "cross": cross}


def main(arguments: list[str]) -> int:
    check, differs = "--check" in arguments, False
    files = [Path(name) for name in arguments if name != "--check"]
    for file in files or [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        old = file.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda block: block[1] + derive(block[2]) + block[3], old)
        lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(*lines, f"{file}, as written", "as derived"))
        differs |= old != new
        if not check:
            file.write_text(new, encoding="utf-8")
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
