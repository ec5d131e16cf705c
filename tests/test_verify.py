"""The checker is checked: fed every kind of wrong result, it has to catch each one by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convbench import accuracy, verify
from convbench.api import Variant
from convbench.device_cpu import CpuDevice
from convbench.guard import GUARD, Guarded
from convbench.problem import Direction, Precision, Problem
from convbench.reference import oracle, reference, sample_positions
from convbench.verify import Bench, HarnessError, WrongError, ask

PROBLEM = Problem.parse("n2c6h9w8k8r3p1")
Spoil = Callable[[Any, Any, Any, Any], None]


class Solver:
    """A right answer, then spoiled."""

    def __init__(self, problem: Problem, spoil: Spoil = lambda a, b, out, workspace: None) -> None:
        self.problem, self.spoil = problem, spoil

    def run(self, a: Any, b: Any, out: Any, workspace: Any) -> None:
        out[...] = reference(self.problem, a, b)
        self.spoil(a, b, out, workspace)

    def close(self) -> None: ...


def verdict(spoil: Spoil, problem: Problem = PROBLEM, **variant: Any) -> str:
    """What the checker says about a spoiled solver; empty if it finds nothing."""
    made = Variant("v", workspace_bytes=variant.pop("workspace_bytes", 64), **variant)
    bench = Bench(CpuDevice(), ask(problem, seed=1), made.workspace_bytes)
    try:
        bench.verify(Solver(problem, spoil), made, lambda plan, *args: plan.run(*args))
    except WrongError as error:
        return str(error)
    return ""


def one_nan(a: Any, b: Any, out: Any, workspace: Any) -> None:
    out[1, 3, 4, 5] = np.nan


def one_element_off(a: Any, b: Any, out: Any, workspace: Any) -> None:
    out[1, 3, 4, 5] += 1


def swapped_channels(a: Any, b: Any, out: Any, workspace: Any) -> None:
    out[:, [2, 5]] = out[:, [5, 2]]


def all_zero(a: Any, b: Any, out: Any, workspace: Any) -> None:
    out[...] = 0


def shifted_by_one(a: Any, b: Any, out: Any, workspace: Any) -> None:
    out[...] = np.roll(out, 1, axis=3)


def raw(array: Any, offset: int, count: int) -> Any:
    """Bytes around an array, as a kernel with a wrong index would reach them."""
    import ctypes

    return (ctypes.c_uint8 * count).from_address(array.ctypes.data + offset)


def past_the_result(a: Any, b: Any, out: Any, workspace: Any) -> None:
    raw(out, out.nbytes, 4)[0] ^= 1


def before_the_result(a: Any, b: Any, out: Any, workspace: Any) -> None:
    raw(out, -4, 4)[0] ^= 1


def past_the_workspace(a: Any, b: Any, out: Any, workspace: Any) -> None:
    raw(workspace, workspace.nbytes, 4)[3] ^= 0x80


def modified_input(a: Any, b: Any, out: Any, workspace: Any) -> None:
    b[0, 0, 0, 0] = -b[0, 0, 0, 0] + 1


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (one_nan, "unwritten"),
        (one_element_off, "exact"),
        (swapped_channels, "exact"),
        (all_zero, "exact"),
        (shifted_by_one, "exact"),
        (past_the_result, "out_of_bounds: bytes next to the result"),
        (before_the_result, "out_of_bounds: bytes next to the result"),
        (past_the_workspace, "out_of_bounds: bytes next to the workspace"),
        (modified_input, "input_modified: operand b"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_every_fault_is_caught_by_name(spoil: Spoil, name: str, exact: bool) -> None:
    """Of a transform, wrong integers are told apart from rounding by the error on dense data."""
    names = (name,) if exact or name != "exact" else ("error", "element")
    assert verdict(spoil, exact=exact).startswith(names)


def test_a_transform_of_the_strictest_class_has_to_round_to_the_right_integers() -> None:
    calls = iter(range(3))

    def wrong_on_integers(a: Any, b: Any, out: Any, workspace: Any) -> None:
        if next(calls) == 0:
            out[0, 0, 0, 0] += 1

    assert verdict(wrong_on_integers, exact=False).startswith("exact")


def test_a_transform_of_a_lower_class_may_lose_digits_of_large_integers() -> None:
    problem = Problem.parse("n8c2h64k2r3p1", direction="bwd-filter")
    off = []

    def loses_digits(a: Any, b: Any, out: Any, workspace: Any) -> None:
        right = out.copy()
        out *= np.float32(1 + 3e-3)
        off.append(float(abs(out - right).max()))

    assert verdict(loses_digits, problem, exact=False) == ""
    assert off[0] > 0.5  # rounding to integers would have told


def test_a_right_answer_passes() -> None:
    assert verdict(lambda a, b, out, workspace: None) == ""


def test_stale_output_is_caught() -> None:
    class Stale(Solver):
        calls = 0

        def run(self, a: Any, b: Any, out: Any, workspace: Any) -> None:
            self.calls += 1
            if self.calls == 1:
                super().run(a, b, out, workspace)

    made = Variant("v")
    bench = Bench(CpuDevice(), ask(PROBLEM, seed=1), 0)
    with pytest.raises(WrongError, match="unwritten"):
        bench.verify(Stale(PROBLEM), made, lambda plan, *args: plan.run(*args))


def test_a_cached_answer_is_caught() -> None:
    answer = reference(PROBLEM, *ask(PROBLEM, seed=1).exact.operands)

    def from_cache(a: Any, b: Any, out: Any, workspace: Any) -> None:
        out[...] = answer

    assert verdict(from_cache).startswith("error: relative L2")


def test_one_wrong_element_of_many_is_caught_even_where_relative_l2_is_blind() -> None:
    """Dense data in 16 bits: one element wrong by its own size moves relative L2 by less than its class."""
    problem = Problem.parse("n4c8h64k32r3p1", precision="bf16")
    questions = ask(problem, seed=1)
    out = questions.dense.answer.astype(np.float64)
    ordinary = np.argmin(abs(abs(out) - np.sqrt(np.mean(out**2))))
    out.flat[ordinary] = 0
    assert np.linalg.norm(out - questions.dense.answer) < accuracy.BARS["B"] * np.linalg.norm(out)
    with pytest.raises(WrongError, match="element"):
        verify.check_dense(problem, Variant("v"), questions.dense, out)
    with pytest.raises(WrongError, match="element"):
        verify.check_dense(problem, Variant("v", exact=False), questions.dense, out)


def test_results_that_depend_on_the_workspace_are_caught() -> None:
    def leaks(a: Any, b: Any, out: Any, workspace: Any) -> None:
        out[0, 0, 0, 0] += workspace[0]

    assert verdict(leaks).startswith("exact")


def test_a_declared_deterministic_variant_has_to_be() -> None:
    state = np.random.default_rng(3)

    def wobbles(a: Any, b: Any, out: Any, workspace: Any) -> None:
        out *= 1 + 1e-7 * state.random()

    assert verdict(wobbles, exact=False, details={"deterministic": True}).startswith("nondeterministic")
    assert verdict(wobbles, exact=False) == ""


def test_padding_only_outputs_must_be_zero() -> None:
    problem = Problem.parse("n1c2h3k2r1p1")

    def dust(a: Any, b: Any, out: Any, workspace: Any) -> None:
        out[0, 0, 0, 0] = 1e-30

    assert "exact" in verdict(dust, problem)


@pytest.mark.parametrize(
    ("precision", "error", "expected"),
    [
        ("fp32", 1e-6, "S"),
        ("fp32", 1e-5, "F"),
        ("fp32", 5e-4, "T"),
        ("fp32", 5e-3, "X"),
        ("fp32", 2e-2, None),
        ("tf32", 5e-4, "T"),
        ("fp16", 5e-4, "H"),
        ("fp16", 5e-3, "X"),
        ("bf16", 2e-3, "B"),
        ("bf16", 2e-2, "X"),
        ("fp64", 1e-13, "D"),
        ("fp64", 1e-9, None),
        ("fp32", float("nan"), None),
        ("fp32", float("inf"), None),
    ],
)
def test_accuracy_classes(precision: str, error: float, expected: str | None) -> None:
    assert accuracy.grade(Precision(precision), error).accuracy == expected


def test_fp32_results_of_tf32_accuracy_are_marked_as_dropped() -> None:
    assert accuracy.grade(Precision.FP32, 5e-4).dropped
    assert not accuracy.grade(Precision.TF32, 5e-4).dropped


@pytest.mark.parametrize("direction", list(Direction))
def test_reference_and_oracle_watch_each_other(direction: Direction, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(problem: Problem, a: Any, b: Any) -> Any:
        answer = reference(problem, a, b)
        answer *= 1 + 1e-9
        return answer

    monkeypatch.setattr(verify, "reference", broken)
    with pytest.raises(HarnessError, match="disagree"):
        ask(PROBLEM.with_(direction=direction), seed=1)


def test_the_oracle_looks_at_every_corner() -> None:
    positions = {tuple(p) for p in sample_positions(PROBLEM, np.random.default_rng(0)).tolist()}
    n, k, p, q = PROBLEM.y_shape
    assert {(i, 0, h, w) for i in (0, n - 1) for h in (0, p - 1) for w in (0, q - 1)} <= positions
    assert (n - 1, k - 1, p - 1, q - 1) in positions


def test_the_oracle_agrees_with_a_hand_computed_sum() -> None:
    problem = Problem.parse("n1c1h3k1r3p1")
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 3, 3))
    values, magnitudes = oracle(problem, x, w, np.array([[0, 0, 0, 0], [0, 0, 1, 1]]))
    assert values.tolist() == magnitudes.tolist() == [0 + 1 + 3 + 4, 36]


def test_exact_fills_stay_exactly_representable() -> None:
    for text in ("n1c512h7k8r3p1", "n2c3h40w37k5r7"):
        for direction in Direction:
            for precision, bound in (("fp32", 2**24), ("fp16", 2048), ("bf16", 256)):
                problem = Problem.parse(text, direction=direction, precision=precision)
                assert ask(problem, seed=2).exact.magnitude.max() <= bound


def test_guards_sit_directly_around_what_was_asked_for() -> None:
    buffer = Guarded(1000)
    for size in (1000, 10, 0):
        view = buffer.take(size)
        assert view.nbytes == size
        assert size == 0 or view.ctypes.data % 64 == 0
        view[...] = 7
        assert not buffer.damaged()
        raw(view, size + GUARD - 1, 1)[0] ^= 1
        assert buffer.damaged()
