"""The public functions, as `import convbench` offers them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import Correct, NoVariants, RaisesInRun, Rejects
from samples import record

import convbench
from convbench.errors import UsageError
from convbench.frame import COLUMNS
from convbench.problem import Direction, Layout
from convbench.reference import reference
from convbench.store import FILE, Store

PlugIn = Callable[..., None]
PROBLEM = convbench.Problem.parse("n2c3h6w5k4r3p1")


def operands(problem: convbench.Problem = PROBLEM) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in problem.shapes[:2]]


# ---- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", convbench.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(convbench, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'convbench' has no attribute 'convolv'"):
        _ = convbench.convolv  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from convbench import convolv  # type: ignore[attr-defined]  # noqa: F401
    assert getattr(convbench, "anything", None) is None


def test_algorithms_are_listed_by_device() -> None:
    assert (
        convbench.list_algorithms()[:2] == convbench.list_algorithms(device="cpu")[:2] == ["direct", "im2col"]
    )
    with pytest.raises(UsageError, match=r"no device named 'gpu'"):
        convbench.list_algorithms("gpu")


def test_reject_gives_the_reason_or_none(plug_in: PlugIn) -> None:
    plug_in(picky=Rejects("picky"))
    assert convbench.reject("direct", PROBLEM) is None
    assert convbench.reject("picky", PROBLEM) == "only on Sundays"
    with pytest.raises(
        UsageError, match=r"no algorithm for device cpu named 'direkt'; did you mean direct\?"
    ):
        convbench.reject("direkt", PROBLEM)
    with pytest.raises(UsageError, match=r"no device named 'cpux'; did you mean cpu"):
        convbench.reject("direct", PROBLEM, device="cpux")


# ---- convolve ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
def test_convolve_computes_the_convolution(algorithm: str, direction: Direction, layout: Layout) -> None:
    problem = PROBLEM.with_(direction=direction, layout=layout)
    a, b = operands(problem)
    kept = a.copy(), b.copy()
    result = convbench.convolve(problem, a, b, algorithm=algorithm)
    assert result.shape == problem.shapes[2] and result.dtype == np.float32
    np.testing.assert_allclose(result, reference(problem, a, b), atol=1e-4)
    assert np.array_equal(a, kept[0]) and np.array_equal(b, kept[1])


def test_convolve_takes_lists_other_types_and_strides() -> None:
    problem = convbench.Problem.parse("n1c1h3k1r2")
    x = [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]
    result = convbench.convolve(problem, x, np.ones((1, 1, 2, 2), np.int8), algorithm="direct")
    assert result.tolist() == [[[[12, 16], [24, 28]]]]
    a, b = operands()
    strided = np.asfortranarray(a), b.astype(np.float64)
    expected = convbench.convolve(PROBLEM, a, b, algorithm="direct")
    assert np.array_equal(convbench.convolve(PROBLEM, *strided, algorithm="direct"), expected)


def test_convolve_takes_the_variant_asked_for() -> None:
    a, b = operands()
    result = convbench.convolve(PROBLEM, a, b, algorithm="im2col", variant="chunk1")
    np.testing.assert_allclose(result, reference(PROBLEM, a, b), atol=1e-4)
    with pytest.raises(UsageError, match=r"no variant named 'chunk0'; did you mean chunk"):
        convbench.convolve(PROBLEM, a, b, algorithm="im2col", variant="chunk0")


@pytest.mark.parametrize(("name", "index"), [("a", 0), ("b", 1)])
def test_an_operand_of_the_wrong_shape_is_named_with_both_shapes(name: str, index: int) -> None:
    pair = operands()
    pair[index] = pair[index][..., 1:]
    with pytest.raises(UsageError) as caught:
        convbench.convolve(PROBLEM, *pair, algorithm="direct")
    assert f"operand {name} has shape {pair[index].shape}" in str(caught.value)
    assert f"needs {PROBLEM.shapes[index]}" in str(caught.value)


def test_convolve_passes_on_why_it_cannot(plug_in: PlugIn) -> None:
    plug_in(picky=Rejects("picky"), empty=NoVariants("empty"), raises=RaisesInRun("raises"))
    for name, error, message in (
        ("picky", UsageError, r"picky cannot solve n2c3.*: only on Sundays"),
        ("empty", UsageError, r"no variant for this problem"),
        ("raises", ZeroDivisionError, r"planted"),
    ):
        with pytest.raises(error, match=message):
            convbench.convolve(PROBLEM, *operands(), algorithm=name)


def test_convolve_closes_its_plan_even_after_an_error(plug_in: PlugIn) -> None:
    closed = []

    class Closes(RaisesInRun):
        def close(self) -> None:
            closed.append(self.name)

    plug_in(closes=Closes("closes"), fine=Correct("fine"))
    with pytest.raises(ZeroDivisionError):
        convbench.convolve(PROBLEM, *operands(), algorithm="closes")
    assert closed == ["closes"]
    assert convbench.convolve(PROBLEM, *operands(), algorithm="fine").any()


# ---- load --------------------------------------------------------------------------------------------------


def test_load_gives_one_row_a_cell(folder: Path) -> None:
    frame = convbench.load(folder)
    assert list(frame.columns) == list(COLUMNS) and list(frame["key"]) == list("abcd")
    row = frame.set_index("key").loc["b"]
    assert row["algorithm"] == "direct" and row["status"] == "ok" and row["h"] == 5
    assert row["time_ms"] == 2.0 and row["workspace_bytes"] == 64 and row["prepare_ms"] == 1.0
    assert convbench.load(str(folder)).equals(frame)


def test_load_leaves_figures_out_where_there_are_none(folder: Path) -> None:
    with Store(folder) as store:
        bare = {"status": "crashed", "time": None, "check": None, "workspace": None, "setup": {}}
        store.append(record("z").to_json() | bare)
    row = convbench.load(folder).set_index("key").loc["z"]
    assert row[["time_ms", "gflops", "accuracy", "workspace_bytes", "prepare_ms"]].isna().all()


def test_load_warns_of_what_it_cannot_read(folder: Path) -> None:
    with (folder / FILE).open("ab") as stream:
        stream.write(b"torn")
    with pytest.warns(UserWarning, match=rf"{FILE} line 9 skipped"):
        assert len(convbench.load(folder)) == 4


def test_load_refuses_what_is_no_result_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no result folder"):
        convbench.load(tmp_path)
