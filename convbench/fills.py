"""Operands. `exact`: small integers that no summation order can round. `dense`: uniform [-1, 1], as timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.problem import Precision, Problem

# Largest sum of |products| that every intermediate and the stored result hold exactly, with bits to spare for
# the halves and quarters of F(2x2, 3x3).
EXACT_BOUND = {Precision.FP16: 2048, Precision.BF16: 256}
DEFAULT_BOUND = 1 << 16
AMPLITUDE = 3

Tensor = NDArray[Any]
Generator = Any
"""numpy.random.Generator, or that of another array library: operands are drawn where they are used."""


def dense(problem: Problem, dtype: np.dtype[Any], rng: Generator) -> tuple[Tensor, Tensor]:
    """Uniform random operands, rounded to the storage type."""
    a, b, _ = problem.shapes
    return _uniform(a, dtype, rng), _uniform(b, dtype, rng)


def _uniform(shape: tuple[int, ...], dtype: np.dtype[Any], rng: Generator) -> Tensor:
    values: Tensor = rng.random(shape, dtype=np.float32)
    values *= 2
    values -= 1
    return values.astype(dtype, copy=False)


def exact(problem: Problem, dtype: np.dtype[Any], rng: Generator) -> tuple[Tensor, Tensor]:
    """Random integers; the longer the sums, the smaller and sparser, so that any order is exact."""
    bound = EXACT_BOUND.get(problem.precision, DEFAULT_BOUND)
    amplitude = max(1, min(AMPLITUDE, int((bound / problem.reduction) ** 0.5)))
    density = min(1.0, bound / (2 * problem.reduction * amplitude**2))
    a, b, _ = problem.shapes
    return _integers(a, amplitude, 1.0, dtype, rng), _integers(b, amplitude, density, dtype, rng)


def _integers(
    shape: tuple[int, ...], amplitude: int, density: float, dtype: np.dtype[Any], rng: Generator
) -> Tensor:
    values: Tensor = rng.random(shape, dtype=np.float32)
    values *= 2 * amplitude + 1
    values //= 1
    values -= amplitude
    if density < 1:
        values *= rng.random(shape, dtype=np.float32) < density
    return values.astype(dtype, copy=False)
