"""Pictures of the documents: what differs from the records is told and drawn anew, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from browser import find

ROOT = Path(__file__).parent.parent
PLOT = "convbench plot results/h200-energy --kind time"
REPORT = "convbench report results/h200-energy"


def pictures(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "results/pictures.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def page(folder: Path, spec: str, picture: str) -> Path:
    file = folder / "page.md"
    file.write_text(f"<!-- drawn: {spec} -->\n![what it shows]({picture})\n")
    return file


@pytest.mark.slow
def test_a_plot_that_says_something_else_is_told_and_drawn_anew(tmp_path: Path) -> None:
    document, picture = page(tmp_path, f"{PLOT} | time_fwd.svg", "time.svg"), tmp_path / "time.svg"
    missing = pictures("--check", document)
    assert missing.returncode == 1 and not picture.exists()
    assert pictures(document).returncode == 0
    drawn = picture.read_text("utf-8")
    assert pictures("--check", document).returncode == 0
    picture.write_text(drawn.replace(">Time per layer", ">Speed per layer"))
    differs = pictures("--check", document)
    assert differs.returncode == 1 and "words that only one of them has" in differs.stdout
    assert pictures(document).returncode == 0 and picture.read_text("utf-8") == drawn


def test_a_file_that_a_command_does_not_write_is_named(tmp_path: Path) -> None:
    failed = pictures(page(tmp_path, f"{PLOT} | error_fwd.svg", "error.svg"))
    assert failed.returncode == 1 and "draws no error_fwd.svg, only time_fwd.svg" in failed.stderr


@pytest.mark.slow
@pytest.mark.skipif(find() is None, reason="no browser")
def test_a_page_is_photographed_once_for_its_cells_and_what_is_chosen(tmp_path: Path) -> None:
    document, picture = (
        page(tmp_path, f"{REPORT} | index.html#workspace=1MiB", "page.png"),
        tmp_path / "page.png",
    )
    assert "None" in pictures(document).stdout
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG") and len(first) > 10_000
    assert pictures("--check", document).returncode == 0
    page(tmp_path, f"{REPORT} | index.html#workspace=64MiB", "page.png")
    assert pictures("--check", document).returncode == 1 and picture.read_bytes() == first
    assert pictures(document).returncode == 0 and picture.read_bytes() != first
