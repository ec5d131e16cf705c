"""Right before timed: every plan answers an exact and a dense question before its first sample is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench import accuracy, fills
from convbench.api import Plan, Variant
from convbench.device import Device
from convbench.dtypes import storage_dtype
from convbench.guard import NAN_BYTE, Guarded
from convbench.problem import Precision, Problem
from convbench.record import Check
from convbench.reference import module_of, oracle, reference, sample_positions

ORACLE_BAR = 1e-12
WEAK_SHARE = 0.3
ROUNDED_CLASSES = ("D", "S")

Tensor = NDArray[Any]
Double = NDArray[np.float64]


class WrongError(Exception):
    """A check that failed; the message names it with the error and the bar."""


class EscapedError(RuntimeError):
    """The measurement is not valid: work ran outside the stream that is timed."""


class HarnessError(RuntimeError):
    """Reference and oracle disagree: nothing may be measured."""


@dataclass(frozen=True)
class Question:
    """Operands and the right answer."""

    problem: Problem
    operands: tuple[Tensor, Tensor]
    answer: Double

    @cached_property
    def magnitude(self) -> Double:
        """The same convolution over absolute values."""
        a, b = self.operands
        return reference(self.problem, abs(a), abs(b))


@dataclass(frozen=True)
class Questions:
    """What every cell of a group is asked."""

    problem: Problem
    exact: Question
    dense: Question


def ask(problem: Problem, seed: int, xp: Any = np) -> Questions:
    """Draw both questions for a problem and answer them in float64, checked against the oracle.

    Operands and answers live where `xp` puts its arrays.
    """
    rng = xp.random.default_rng(seed)
    dtype = storage_dtype(problem.precision)
    questions = []
    for fill in (fills.exact, fills.dense):
        a, b = fill(problem, dtype, rng)
        question = Question(problem, (a, b), reference(problem, a, b))
        _consult_oracle(problem, question, seed)
        questions.append(question)
    return Questions(problem, *questions)


def _consult_oracle(problem: Problem, question: Question, seed: int) -> None:
    positions = sample_positions(problem, np.random.default_rng(seed))
    a, b = map(to_host, question.operands)
    values, magnitudes = oracle(problem, a, b, positions)
    layout = (0, 3, 1, 2) if problem.layout == "nhwc" else (0, 1, 2, 3)
    where = module_of(question.answer).asarray(positions.T)
    answers = to_host(question.answer.transpose(layout)[tuple(where)])
    if not (abs(answers - values) <= ORACLE_BAR * magnitudes).all():
        worst = positions[int(np.argmax(abs(answers - values)))].tolist()
        raise HarnessError(f"{problem.label}: reference and oracle disagree at output {worst}")


def to_host(array: Any) -> NDArray[Any]:
    """The array as NumPy's."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())


class Bench:
    """Guarded result and workspace for the cells of one group; runs plans between the checks."""

    def __init__(self, device: Device, questions: Questions, workspace: int) -> None:
        self.problem = questions.problem
        self.questions = questions
        self._dtype = storage_dtype(self.problem.precision)
        self._shape = self.problem.shapes[2]
        self._out_bytes = int(np.prod(self._shape)) * self._dtype.itemsize
        self._out_guard, self._work_guard = device.guarded(self._out_bytes), device.guarded(workspace)
        self._out_view = self._out_guard.take(self._out_bytes)
        self.out: Tensor = self._out_view.view(self._dtype).reshape(self._shape)
        self._spare: list[tuple[tuple[Tensor, Tensor], Tensor]] = []

    def tensors(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Operands and result to time with; above 0, copies that share no cache line with the others."""
        operands = self.questions.dense.operands
        if index == 0:
            return operands, self.out
        while len(self._spare) < index:
            a, b = operands
            self._spare.append(((a.copy(), b.copy()), self.out.copy()))
        return self._spare[index - 1]

    def workspace(self, variant: Variant) -> NDArray[np.uint8]:
        """Exactly the bytes this variant promised to need."""
        granted: NDArray[np.uint8] = self._work_guard.take(variant.workspace_bytes)
        return granted

    def poison(self) -> None:
        """Make every element of the result a NaN and put its guards up again."""
        self._out_guard.take(self._out_bytes)[...] = NAN_BYTE

    def intact(self) -> None:
        """Raise if anything was written outside result or workspace, or an element was not written at all."""
        for name, guard in (("result", self._out_guard), ("workspace", self._work_guard)):
            _check_guard(name, guard)
        unwritten = int((self.out != self.out).sum())
        if unwritten:
            raise WrongError(f"unwritten: {unwritten} of {self.out.size} elements are NaN")

    def verify(self, plan: Plan, variant: Variant, call: Callable[..., None]) -> Check:
        """Ask both questions; `call` runs the plan and keeps its time. WrongError at the first failure."""
        workspace = self.workspace(variant)
        workspace[...] = NAN_BYTE
        exact = self.questions.exact
        self._run(plan, exact, workspace, call)
        broken = self._integers_differ(variant)
        dense = self.questions.dense
        self._run(plan, dense, workspace, call)
        relative, elementwise, grade = check_dense(self.problem, variant, dense, self.out)
        if broken is not None and grade.accuracy in ROUNDED_CLASSES:
            raise broken
        first = self.out.copy()
        workspace[...] = 0x5A  # another content: what is left in the workspace must not matter
        self._run(plan, dense, workspace, call)
        deterministic = bool((first.view(np.uint8) == self.out.view(np.uint8)).all())
        if not deterministic:
            if variant.details.get("deterministic"):
                raise WrongError("nondeterministic: declared deterministic, but two runs differ")
            check_dense(self.problem, variant, dense, self.out)
        return Check(
            relative_l2=relative,
            elementwise=elementwise,
            accuracy=grade.accuracy,
            exact=bool((exact.answer != 0).any()) and variant.exact,
            deterministic=deterministic,
            weak=bool((exact.answer != 0).mean() < WEAK_SHARE),
        )

    def _integers_differ(self, variant: Variant) -> WrongError | None:
        """Raise for what only sums products; a transform of fp32 has to be right after rounding if, and only
        if, it claims the strictest class."""
        try:
            check_exact(self.problem, variant, self.questions.exact, self.out)
        except WrongError as error:
            if variant.exact:
                raise
            return error
        return None

    def _run(self, plan: Plan, question: Question, workspace: Tensor, call: Callable[..., None]) -> None:
        copies = [operand.copy() for operand in question.operands]
        self.poison()
        with np.errstate(all="ignore"):  # see device_cpu; what comes out is checked
            call(plan, *copies, self.out, workspace)
        self.intact()
        for name, copy, operand in zip("ab", copies, question.operands, strict=True):
            if (copy.view(np.uint8) != operand.view(np.uint8)).any():
                raise WrongError(f"input_modified: operand {name} is not what it was before the call")


def _check_guard(name: str, guard: Guarded) -> None:
    if guard.damaged():
        raise WrongError(f"out_of_bounds: bytes next to the {name} were overwritten")


def check_exact(problem: Problem, variant: Variant, question: Question, out: Tensor) -> None:
    """Integer data: bit for bit where only products are summed, right after rounding for fp32 transforms."""
    xp = module_of(out)
    result = out.astype(np.float64)
    if not variant.exact:
        if problem.precision not in (Precision.FP32, Precision.FP64):
            return
        result = xp.rint(result)
    different = result != question.answer
    if different.any():
        where = tuple(int(i) for i in xp.argwhere(different)[0])
        raise WrongError(
            f"exact: {int(different.sum())} of {out.size} elements differ on integer data, first at {where}: "
            f"{result[where]:g} instead of {question.answer[where]:g}"
        )


def check_dense(
    problem: Problem, variant: Variant, question: Question, out: Tensor
) -> tuple[float, float, accuracy.Grade]:
    """Relative L2 error, scaled element-wise error and the class they earn."""
    error = out.astype(np.float64) - question.answer
    relative = norm(error) / _size(problem, question)
    grade = accuracy.grade(problem.precision, relative)
    if grade.accuracy is None or not np.isfinite(relative):
        raise WrongError(f"error: relative L2 {relative:.3g} is above {grade.bar:.3g}")
    elementwise = _elementwise(problem, question, error, grade.accuracy)
    _check_elements(problem, variant, question, error, elementwise, grade)
    return relative, elementwise, grade


def norm(array: Double) -> float:
    return float(module_of(array).linalg.norm(array.reshape(-1)))


def _size(problem: Problem, question: Question) -> float:
    """The norm of the answer; where padding makes all of it zero, what its operands could have given."""
    size = norm(question.answer)
    return size or float((question.answer.size * problem.reduction) ** 0.5)


def _elementwise(problem: Problem, question: Question, error: Double, name: str) -> float:
    """Largest error in units of epsilon times the sum of |products| behind that element."""
    unit = accuracy.ASKED[problem.precision] if name == accuracy.UNRANKED else name
    scale = question.magnitude * accuracy.EPSILON[unit]
    scaled = abs(error) / (scale + (scale == 0))  # where no product contributes, any error is checked apart
    return float((scaled * (scale > 0)).max())


def _check_elements(
    problem: Problem,
    variant: Variant,
    question: Question,
    error: Double,
    elementwise: float,
    grade: accuracy.Grade,
) -> None:
    """One wrong element must not hide behind thousands of right ones."""
    if not variant.exact or grade.accuracy == accuracy.UNRANKED:
        limit = accuracy.TRANSFORM_GATE * grade.bar * _size(problem, question) / question.answer.size**0.5
        largest = float(abs(error).max())
        if largest > limit:
            raise WrongError(
                f"element: largest error {largest:.3g} is above {limit:.3g}, 40 x the class bar x rms"
            )
        return
    gate = accuracy.GATES[str(grade.accuracy)]
    if elementwise > gate:
        raise WrongError(
            f"element: scaled error {elementwise:.3g} is above {gate:g} (class {grade.accuracy})"
        )
    if (error[question.magnitude == 0] != 0).any():
        raise WrongError("element: an output that only sees padding is not exactly zero")
