"""The public functions: what algorithms there are, whether one applies, and one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convbench.errors import UsageError, unknown
from convbench.problem import Problem

if TYPE_CHECKING:
    from convbench.api import Variant
    from convbench.registry import Entry


def list_algorithms(device: str = "cpu") -> list[str]:
    """Names of the algorithms of a device."""
    from convbench import registry

    return list(registry.algorithms(_device(device)))


def reject(algorithm: str, problem: Problem, device: str = "cpu") -> str | None:
    """Why an algorithm cannot solve a problem, or None if it can."""
    return _entry(algorithm, device).algorithm.reject(problem)


def convolve(
    problem: Problem, a: Any, b: Any, algorithm: str, variant: str | None = None, device: str = "cpu"
) -> Any:
    """The result of one convolution; `a`, `b` are (x, w), (dy, w) or (x, dy) in the shapes of the problem."""
    import numpy as np

    from convbench.dtypes import storage_dtype
    from convbench.guard import Guarded

    solver = _entry(algorithm, device).algorithm
    if reason := solver.reject(problem):
        raise UsageError(f"{algorithm} cannot solve {problem.label}: {reason}")
    chosen = _variant(solver.variants(problem, None), variant)
    dtype = storage_dtype(problem.precision)
    operands = [np.ascontiguousarray(array, dtype=dtype) for array in (a, b)]
    for name, array, shape in zip("ab", operands, problem.shapes, strict=False):
        if array.shape != shape:
            raise UsageError(f"operand {name} has shape {array.shape}; {problem.label} needs {shape}")
    out = np.empty(problem.shapes[2], dtype)
    x, w = operands
    plan = solver.prepare(problem, chosen)
    try:
        with np.errstate(all="ignore"):  # garbage in unused vector lanes of BLAS is no business of the caller
            plan.run(x, w, out, Guarded(chosen.workspace_bytes).take(chosen.workspace_bytes))
    finally:
        plan.close()
    return out


def _entry(algorithm: str, device: str) -> Entry:
    from convbench import registry

    return registry.select(_device(device), [algorithm])[0]


def _device(name: str) -> str:
    from convbench import devices

    if name not in devices.NAMES:
        raise unknown("device", name, devices.NAMES)
    return name


def _variant(variants: Sequence[Variant], name: str | None) -> Variant:
    by_name = {variant.name: variant for variant in variants}
    if not by_name:
        raise UsageError("the algorithm offers no variant for this problem")
    if name is None:
        return next(iter(by_name.values()))
    if name not in by_name:
        raise unknown("variant", name, by_name)
    return by_name[name]
