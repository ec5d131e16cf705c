"""What is built is what is here: every source file is in wheel and sdist, and the wheel alone runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"convbench": "convbench", "algorithms": "convbench/algorithms", "report": "convbench/report"}


BESIDE = ("docs", "examples", "tests", "results")  # in the source distribution alone
FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md")
FILES += ("CITATION.cff", "Makefile")
SDIST = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
WHEEL = SDIST.replace("sdist", "wheel")
MOST = 4_000_000  # bytes of a source distribution


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, so that no build folder is left behind."""
    source = tmp_path_factory.mktemp("source") / "project"
    source.mkdir()
    for name in (*FOLDERS, *BESIDE, *FILES):
        path, ignored = ROOT / name, shutil.ignore_patterns("__pycache__", "*.egg-info", "quickstart")
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source / name)
    return source


def build_wheel(source: Path, out: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(source)], check=True)
    (found,) = out.glob("convbench-*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    subprocess.run([sys.executable, "-c", SDIST, str(out)], cwd=source, check=True, capture_output=True)
    (found,) = out.glob("convbench-*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def test_every_source_file_is_in_the_wheel(wheel: Path) -> None:
    packed = set(ZipFile(wheel).namelist())
    for folder, package in FOLDERS.items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"{package}/{file.relative_to(ROOT / folder)}" in packed


def test_nothing_but_convbench_lands_in_site_packages(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"convbench"}


def test_the_wheel_alone_runs(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    ZipFile(wheel).extractall(site)
    command = [sys.executable, "-m", "convbench", "run", "n1c2h6k3r3p1", "--directions", "fwd"]
    done = subprocess.run(
        [*command, "--quick", "--report", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report" / "index.html").is_file()


def test_the_sdist_has_what_its_tests_and_documents_need_but_no_records(sdist: Path, source: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for folder in (*FOLDERS, *BESIDE):
        files = {str(file.relative_to(source)) for file in (source / folder).rglob("*") if file.is_file()}
        left_out = files - packed
        assert not left_out or folder == "results"
        assert all(name.startswith("results/") and "/" in name[8:] for name in left_out)
    assert set(FILES) <= packed and "results/derive.py" in packed
    assert not any("records.jsonl" in name or name.endswith(".pyc") for name in packed)
    assert sdist.stat().st_size < MOST


@pytest.mark.slow
def test_the_sdist_collects_its_tests(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("convbench-*")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "test_problem.py::" in done.stdout and "test_documents.py::" not in done.stdout


def test_every_package_is_declared(source: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHEEL, str(tmp_path)], cwd=source, capture_output=True, text=True, check=True
    )
    assert "absent from the `packages`" not in done.stdout + done.stderr


def test_the_sdist_makes_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("convbench-*")
    again = build_wheel(unpacked, tmp_path / "wheel")
    assert again.name == wheel.name
    assert set(ZipFile(again).namelist()) == set(ZipFile(wheel).namelist())


@pytest.mark.slow
def test_quickstart_runs_in_an_environment_that_has_nothing_but_the_wheel(
    wheel: Path, tmp_path: Path
) -> None:
    """Dependencies come from this environment, where a network is not needed; convbench itself does not."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # without the .pth files in it
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    convbench, out = str(home / "bin" / "convbench"), tmp_path / "quickstart"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [
        convbench,
        "run",
        "quick",
        "--quick",
        "--device",
        "cpu",
        "--report",
        "--quiet",
        "--out",
        str(out),
    ]
    subprocess.run(command, cwd=tmp_path, env=clean, check=True)
    assert (out / "report" / "index.html").is_file()
    shown = subprocess.run(
        [convbench, "show", str(out)], cwd=tmp_path, env=clean, check=True, capture_output=True
    )
    assert b"Winners" in shown.stdout
