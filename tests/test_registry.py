"""Which algorithms there are: plug-ins beside the built-in ones, and what makes a source another one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from convbench.algorithms import direct, im2col, phases
from faults import Correct

from convbench.errors import UsageError
from convbench.registry import algorithms, load_all, select, source_hash

PlugIn = Callable[..., None]


def broken() -> dict[str, str]:
    return {one.name: one.reason for one in load_all()[1]}


# ---- plug-ins ----------------------------------------------------------------------------------------------


def test_the_built_in_algorithms_come_first(plug_in: PlugIn) -> None:
    plug_in(aaa=Correct("aaa"))
    names = list(algorithms("cpu"))
    assert names == ["direct", "im2col", "fft", "winograd", "torch", "jax", "aaa"]
    assert algorithms("cpu")["direct"].origin == "built in"
    assert algorithms("cpu")["aaa"].origin == "aaa.module" and broken() == {}


def test_a_plug_in_may_be_an_object_a_class_or_several(plug_in: PlugIn) -> None:
    plug_in(one=Correct("one"), kind=Correct, several=(Correct("two"), Correct("three", device="cuda")))
    assert {"one", "correct", "two"} <= set(algorithms("cpu"))
    assert list(algorithms("cuda"))[-1:] == ["three"]


def test_the_same_name_on_another_device_is_no_clash(plug_in: PlugIn) -> None:
    plug_in(gpu=Correct("mine", device="cuda"), here=Correct("mine"))
    assert "mine" in algorithms("cuda") and "mine" in algorithms("cpu") and broken() == {}


@pytest.mark.parametrize(
    ("loads", "reason"),
    [
        (ImportError("no module named 'gone'"), "ImportError: no module named 'gone'"),
        (SystemExit("leaving"), "SystemExit: leaving"),
        (ValueError("two\nlines"), r"ValueError: two\nlines"),
        (object(), "lacks name, device, reject, variants or prepare"),
        (None, "lacks name"),
        (Correct("direct"), "the name 'direct' is taken on device cpu"),
        ((Correct("twin"), Correct("twin")), "the name 'twin' is taken on device cpu"),
    ],
    ids=["missing", "exits", "two-lines", "no-algorithm", "none", "taken", "twins"],
)
def test_a_broken_plug_in_is_listed_and_the_others_work(plug_in: PlugIn, loads: object, reason: str) -> None:
    plug_in(bad=loads, good=Correct("good"))
    assert reason in broken()["bad"] and broken()["bad"].isprintable()
    assert [entry.name for entry in select("cpu", ["good", "direct"])] == ["good", "direct"]
    assert algorithms("cpu")["direct"].origin == "built in"


def test_the_first_plug_in_of_a_name_wins(plug_in: PlugIn) -> None:
    plug_in(b=Correct("same"), a=Correct("same"))
    assert algorithms("cpu")["same"].origin == "a.module" and set(broken()) == {"b"}


def test_asking_for_a_broken_plug_in_says_why_it_is_broken(plug_in: PlugIn) -> None:
    plug_in(bad=ImportError("no module named 'gone'"))
    with pytest.raises(
        UsageError, match=r"algorithm 'bad' cannot be loaded: ImportError: no module named 'gone'"
    ):
        select("cpu", ["bad"])


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"no algorithm for device cpu named 'im2cal'; did you mean im2col\?"
    ):
        select("cpu", ["im2cal"])


@pytest.mark.parametrize("name", ["cudnn", "cudnn-graph", "implicit"])
def test_a_name_of_another_device_says_which(name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' is for device cuda, not cpu; --device cuda"):
        select("cpu", [name])


def test_a_name_given_twice_is_taken_once() -> None:
    assert [entry.name for entry in select("cpu", ["im2col", "direct", "im2col"])] == ["im2col", "direct"]


# ---- source ------------------------------------------------------------------------------------------------

ALGORITHM = "from .tiles import cut\nfrom . import plain\nclass Mine: ...\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that imports two neighbours, one of which imports a third, and a stranger beside them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    sources = {
        "__init__": "",
        "algorithm": ALGORITHM,
        "tiles": "from .deep import depth\ndef cut(): ...\n",
        "plain": "def even(): ...\n",
        "deep": "def depth(): ...\n",
        "stranger": "def other(): ...\n",
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    (folder / "algorithm.cu").write_text("// kernel\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def module() -> ModuleType:
    return importlib.import_module("mine.algorithm")


@pytest.mark.parametrize("file", ["algorithm.py", "algorithm.cu", "tiles.py", "plain.py", "deep.py"])
def test_a_change_of_the_module_its_kernel_or_a_neighbour_is_another_source(package: Path, file: str) -> None:
    before = source_hash(module())
    with (package / file).open("a") as source:
        source.write("# edited\n")
    assert source_hash(module()) != before


def test_a_change_elsewhere_is_the_same_source(package: Path) -> None:
    before = source_hash(module())
    importlib.import_module("mine.stranger")
    (package / "stranger.py").write_text("edited = True\n")
    assert source_hash(module()) == before


def test_the_source_does_not_depend_on_where_it_is_installed(package: Path, tmp_path: Path) -> None:
    before = source_hash(module())
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    (tmp_path / "elsewhere").mkdir()
    package.rename(tmp_path / "elsewhere" / "mine")
    sys.path.insert(0, str(tmp_path / "elsewhere"))
    importlib.invalidate_caches()
    try:
        assert Path(module().__file__ or "").parts[-3] == "elsewhere"
        assert source_hash(module()) == before
    finally:
        sys.path.pop(0)


def test_built_in_algorithms_have_sources_of_their_own() -> None:
    hashes = {entry.name: entry.source for entry in algorithms("cpu").values()}
    assert len(set(hashes.values())) == len(hashes)
    assert source_hash(direct) == hashes["direct"] != source_hash(im2col) != source_hash(phases)
