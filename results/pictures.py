"""Pictures of the documents that come from records, drawn anew or, with --check, compared:

    python results/pictures.py [--check] [FILE.md ...]        default: README.md and docs

A comment before a picture says how it is drawn: the command, and which of the files that it writes.

    <!-- drawn: convbench plot results/run --kind error | error_fwd.svg -->
    ![what it shows](images/error.svg)

Pictures are the same if they say the same: the same words, and as many marks at the same places. Other
versions of matplotlib and other fonts may write other files.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = re.compile(r"(?m)^<!-- drawn: (convbench plot .+?) \| (\S+\.svg) -->\n!\[.*\]\((\S+\.svg)\)$")
MARK = re.compile(r'<use [^>]*?x="([-0-9.]+)" y="([-0-9.]+)"')
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
FAR = 3.0  # points that a mark may be from where it was


@cache
def drawn(command: str) -> dict[str, str]:
    """The files that a plot command writes, by name."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "convbench", *shlex.split(command)[1:], "--out", folder]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"pictures: '{command}' ended with {done.returncode}: {done.stderr.strip()[-500:]}"
            )
        return {file.name: file.read_text(encoding="utf-8") for file in Path(folder).glob("*.svg")}


def difference(old: str, new: str) -> str:
    """What two pictures say differently, in one line; nothing if they agree."""
    if lost := set(TEXT.findall(old)) ^ set(TEXT.findall(new)):
        return f"words that only one of them has: {', '.join(sorted(lost)[:8])}"
    before, after = MARK.findall(old), MARK.findall(new)
    if len(before) != len(after):
        return f"{len(before)} marks, now {len(after)}"
    pairs = zip(before, after, strict=True)
    moved = sum(any(abs(float(a) - float(b)) > FAR for a, b in zip(*pair, strict=True)) for pair in pairs)
    return f"{moved} of {len(after)} marks have moved" if moved else ""


def main(arguments: list[str]) -> int:
    check, differs = "--check" in arguments, False
    files = [Path(name) for name in arguments if name != "--check"]
    for file in files or [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for command, name, place in PICTURE.findall(file.read_text(encoding="utf-8")):
            picture, made = file.parent / place, drawn(command)
            if name not in made:
                raise SystemExit(f"pictures: {file}: '{command}' draws no {name}, only {', '.join(made)}")
            old = picture.read_text(encoding="utf-8") if picture.is_file() else ""
            if told := difference(old, made[name]):
                print(f"{picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture}: {told}")
                differs = True
            if told and not check:
                picture.write_text(made[name], encoding="utf-8")
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
