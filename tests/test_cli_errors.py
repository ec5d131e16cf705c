"""What a user can get wrong: one line that names it, exit code 2, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Command

HUGE = "n100000c4096h4096k64r3"
BAD: list[tuple[tuple[str, ...], str]] = [
    (("run", "quikc"), "no suite named 'quikc'; did you mean quick?"),
    (("run", "a\nb\x1b[2J"), r"no suite named 'a\nb\x1b[2J'"),
    (("run", "missing.csv"), "no suite file 'missing.csv'"),
    (("run", "n1c2h5k"), "lacks r (filter height)"),
    (("run", "n1c2h5kk3r3"), "in 'n1c2h5kk3r3'"),
    (("run", "n-1c2h5k3r3"), "'n-1c2h5k3r3'"),
    (("run", "n1c-2h5k3r3"), "'c-2' in 'n1c-2h5k3r3': c (input channels) takes one whole number"),
    (("run", "n0c2h5k3r3"), "n = 0"),
    (("run", "n1c2h5k3r3p-1"), "p-1"),
    (("run", "n1c2h5k3r9"), "an output -3 pixels high"),
    (("run", "n1c3h5k4r3g2"), "groups must divide c = 3"),
    (("run", "n1c4h5k3r3g2"), "groups must divide k = 3"),
    (("run", HUGE), "bytes (701561 TiB) for its tensors"),
    (("run", "n99999999999c1h5k1r3"), "'n99999999999' in"),
    (
        ("run", TINY, "--algorithms", "dirct"),
        "no algorithm for device cpu named 'dirct'; did you mean direct?",
    ),
    (("run", TINY, "--baseline", "dirct"), "named 'dirct'; did you mean direct?"),
    (("run", TINY, "--directions", "forward"), "no direction named 'forward'"),
    (("run", TINY, "--directions", ","), "no direction given; choose from fwd, bwd-data, bwd-filter or all"),
    (("run", TINY, "--precision", "fp31"), "no precision named 'fp31'; did you mean"),
    (("run", TINY, "--layout", "nhcw"), "no layout named 'nhcw'; did you mean"),
    (("run", TINY, "--device", "gpu"), "no device named 'gpu'"),
    (("run", TINY, "--workspace-limit", "64Mb,lots"), "'lots' is no size"),
    (("run", TINY, "--workspace-limit", "-1"), "'-1' is no size"),
    (("run", TINY, "--batch", "0"), "--batch"),
    (("run", TINY, "--threads", "none"), "--threads"),
    (("run", TINY, "--out", "file"), "'file' is a file; name a folder"),
    (("run", TINY, "--out", "file/below"), "cannot write into 'file/below'"),
    (("run", TINY, "--out", "x" * 300), "File name too long"),
    (("run", TINY, "--out", "."), "holds other files"),
    (("run", TINY, "--colour"), "No such option"),
    (("run",), "Missing argument"),
    (("runn", TINY), "No such command 'runn'"),
    (("show", "file"), "'file' is no result folder"),
    (("show", "missing"), "'missing' is no result folder"),
    (("show", "x" * 300), "File name too long"),
    (("show", ".", "--view", "everything"), "--view"),
    (("report", "missing"), "'missing' is no result folder"),
    (("export", ".", "--to", "csv"), "'.' is no result folder"),
    (("export", "missing", "--to", "xls"), "--to"),
    (("verify", "nosuch"), "no algorithm for device cpu named 'nosuch'"),
    (("verify", "direct", "--precision", "fp8"), "no precision named 'fp8'"),
    (("list", "algorithms", "--problem", "n1"), "lacks c (input channels)"),
    (("list", "algorithms", "--device", "tpu"), "no device named 'tpu'"),
    (("suite", "show", "nosuch"), "no suite named 'nosuch'"),
    (("suite", "import", "missing"), "no suite file 'missing'"),
    (("suite", "import", "file", "--from", "xml"), "xml"),
    (("suite", "export", "quick", "--to", "xml"), "xml"),
    (("suite", "export", "quick", "--to", "csv", "-o", "missing/file"), "cannot write 'missing/file'"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder\n")


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=[" ".join(a)[:60].encode("unicode_escape").decode() for a, _ in BAD]
)
def test_a_mistake_gets_one_line(convbench: Command, arguments: tuple[str, ...], message: str) -> None:
    done = convbench(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("convbench: ") and done.err.endswith("\n") and done.err[:-1].isprintable()
    assert message in done.err
    assert [str(file) for file in Path().iterdir()] == ["file"]


@pytest.mark.parametrize("arguments", [("run", "quikc"), ("run", HUGE), ("show", "missing"), ("runn",)])
def test_the_shell_sees_the_same(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "convbench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("arguments", [(), ("list",), ("suite",)])
def test_a_command_without_its_sub_command_gets_the_help(
    convbench: Command, arguments: tuple[str, ...]
) -> None:
    done = convbench(*arguments)
    assert done.code == 2 and done.out + done.err == (done.err or done.out)
    assert (done.out + done.err).startswith("Usage: convbench")


@pytest.mark.parametrize("arguments", [("--help",), ("run", "-h"), ("--version",)])
def test_help_and_version_are_no_mistakes(convbench: Command, arguments: tuple[str, ...]) -> None:
    done = convbench(*arguments)
    assert done.code == 0 and done.err == "" and "convbench" in done.out


def test_a_full_standard_output_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "convbench", "list", "devices"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 3 and done.stderr == "convbench: input or output: No space left on device\n"


def test_an_interrupt_says_how_to_go_on(convbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convbench.suites.suite_names", interrupt)
    done = convbench("list", "suites")
    assert done.code == 130 and done.err.strip().startswith("convbench: interrupted")


LOADED = """
import sys
print(*{"numpy", "scipy", "pandas", "matplotlib", "rich", "torch", "ml_dtypes"}.intersection(sys.modules))
"""


@pytest.mark.parametrize(
    "code",
    [
        "import convbench; convbench.Problem.parse('n1c2h5k3r3')",
        "import convbench; dir(convbench); convbench.list_algorithms",
        "from convbench.cli import cli; cli(['--help'], standalone_mode=False)",
        "from convbench.cli import cli; cli(['run', '--help'], standalone_mode=False)",
        "from convbench.cli import cli; cli(['list', 'devices'], standalone_mode=False)",
    ],
)
def test_no_array_library_is_loaded_before_it_is_needed(code: str) -> None:
    command = [sys.executable, "-c", code + LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == ""
