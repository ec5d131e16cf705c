"""The example plug-in, installed as a user would install theirs: found by its entry point, and checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "convbench-einsum"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it, built from a copy so that nothing is left in the source."""
    folder, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "plugin"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--target", str(folder), str(source)], check=True)
    return folder


def convbench(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convbench", *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_listed_with_its_origin(site: Path) -> None:
    listed = convbench(site, "list", "algorithms").stdout
    assert "einsum" in listed
    assert "convbench-einsum 0.1" in listed


def test_it_passes_the_conformance_suite(site: Path) -> None:
    done = convbench(site, "verify", "einsum", "--directions", "fwd", "--precision", "fp32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "einsum" in done.stdout


def test_it_runs_beside_the_built_in_algorithms(site: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    chosen = ["--algorithms", "einsum,direct", "--directions", "fwd", "--quick", "--out", out]
    done = convbench(site, "run", "n1c3h9k4r3p1", *chosen)
    assert done.returncode == 0, done.stderr
    assert "einsum" in convbench(site, "export", out, "--to", "csv").stdout


def test_without_it_the_name_is_unknown() -> None:
    done = convbench(Path("nowhere"), "verify", "einsum")
    assert done.returncode == 2
    assert "no algorithm for device cpu named 'einsum'" in done.stderr


def test_the_example_stays_short() -> None:
    source = (EXAMPLE / "convbench_einsum.py").read_text()
    assert sum(1 for line in source.splitlines() if line.strip()) <= 40
