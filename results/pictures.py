"""Pictures of the documents that come from records, drawn anew or, with --check, compared:

    python results/pictures.py [--check] [FILE.md ...]        default: README.md and docs

A comment before a picture says how it is drawn: the command, and which of the files that it writes. A page
is photographed by Chromium, where there is one; what follows its name chooses what it shows.

    <!-- drawn: convbench plot results/run --kind error | error_fwd.svg -->
    ![what it shows](images/error.svg)

    <!-- drawn: convbench report results/run | index.html#workspace=64MiB -->
    ![what it shows](images/page.png)

Pictures are the same if they say the same: the same words, and as many marks at the same places; of a page,
the same cells. Other versions of matplotlib or Chromium and other fonts may write other files.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = re.compile(
    r"(?m)^<!-- drawn: (convbench (?:plot .+?|report \S+)) \| (\S+\.svg|index\.html)(#\S*)? -->\n"
    r"!\[.*\]\((\S+\.(?:svg|png))\)$"
)
MARK = re.compile(r'<use [^>]*?x="([-0-9.]+)" y="([-0-9.]+)"')
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
DATA = re.compile(r'(?s)<script type="application/json" id="data">(.*?)</script>')
FAR = 3.0  # points that a mark may be from where it was
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SHOT = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000")
SIZE = "1440,1130"
SHOWS = "Shows"  # under this name a photograph keeps what it was taken of


def run(words: Sequence[str]) -> None:
    """A convbench command; if it fails, so does all."""
    command = [sys.executable, "-m", "convbench", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        shown = shlex.join(words)
        raise SystemExit(f"pictures: '{shown}' ended with {done.returncode}: {done.stderr.strip()[-500:]}")


@cache
def drawn(command: str) -> dict[str, str]:
    """The files that a command writes, by name."""
    words = shlex.split(command)[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if words[0] == "report":  # which writes beside the records
            shutil.copytree(ROOT / words[1], folder / "run", ignore=shutil.ignore_patterns("report"))
            run(["report", str(folder / "run")])
            folder = folder / "run" / "report"
        else:
            run([*words, "--out", name])
        return {
            file.name: file.read_text("utf-8") for file in (*folder.glob("*.svg"), *folder.glob("*.html"))
        }


# ---- plots ------------------------------------------------------------------------------------------------


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


def plotted(picture: Path, svg: str, check: bool) -> str:
    """Write a plot if it differs; how it does."""
    told = difference(picture.read_text("utf-8") if picture.is_file() else "", svg)
    if told and not check:
        picture.write_text(svg, encoding="utf-8")
    return told


# ---- photographs ------------------------------------------------------------------------------------------


def shows(page: str, chosen: str) -> str:
    """What stands for the cells of a page and what is chosen of them."""
    found = DATA.search(page)
    if found is None:
        raise SystemExit("pictures: the page holds no data")
    data = json.loads(found[1])
    cells = [scope["cells"] for scope in data["scopes"]]
    names = [data["words"][i] for one in cells for kind in ("algorithm", "variant") for i in one[kind]]
    text = json.dumps([data["scopes"], names, chosen, SIZE], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def photographed(picture: Path, page: str, chosen: str, check: bool) -> str:
    """Photograph a page if it shows other cells than the picture; how they differ."""
    from PIL import Image

    old = Image.open(picture).info.get(SHOWS) if picture.is_file() else None
    if old == (new := shows(page, chosen)):
        return ""
    if not check:
        photograph(picture, page, chosen, new)
    return f"shows cells {old}, the records make {new}"


def photograph(picture: Path, page: str, chosen: str, what: str) -> None:
    """The upper part of a page, as a small file."""
    from PIL import Image, PngImagePlugin

    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"pictures: {picture.name} needs a browser: {' or '.join(BROWSERS)} on the PATH")
    with tempfile.TemporaryDirectory() as name:
        file, shot = Path(name, "index.html"), Path(name, "shot.png")
        file.write_text(page, encoding="utf-8")
        place = [f"--user-data-dir={name}/profile", f"--window-size={SIZE}", f"--screenshot={shot}"]
        command = [browser, *SHOT, *place, file.as_uri() + chosen]
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        note = PngImagePlugin.PngInfo()
        note.add_text(SHOWS, what)
        few = Image.open(shot).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)  # rare colours stay
        few.save(picture, optimize=True, pnginfo=note)


def main(arguments: list[str]) -> int:
    check, differs = "--check" in arguments, False
    files = [Path(name) for name in arguments if name != "--check"]
    for file in files or [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for command, name, chosen, place in PICTURE.findall(file.read_text(encoding="utf-8")):
            picture, made = file.parent / place, drawn(command)
            if name not in made:
                raise SystemExit(f"pictures: {file}: '{command}' draws no {name}, only {', '.join(made)}")
            if name.endswith(".svg"):
                told = plotted(picture, made[name], check)
            else:
                told = photographed(picture, made[name], chosen, check)
            if told:
                print(f"{picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture}: {told}")
                differs = True
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
