"""Minimal filtering F(m, r): m outputs of an r-tap filter with a = m + r - 1 products instead of m r.

    y = A^T [(G g) * (B^T d)]        A^T (m x a), G (a x r), B^T (a x a)

Toom-Cook multiplies polynomials: evaluate both at a - 1 points and at infinity, multiply the values,
interpolate. Transposing that algorithm turns the polynomial product into the FIR filter. All matrices are
exact fractions. The denominators of the interpolation sit in G; the points are dyadic, so A^T and B^T are
exact in binary, and with the points 0, 1, -1 (a <= 4) G holds only halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from .cpu import Floats

Matrix = tuple[tuple[Fraction, ...], ...]
# 1/2, -2 errs less than the common 2, -2: one power is small where the other is large.
POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "1/2", "-2", "2", "-1/2"))
LARGEST = len(POINTS) + 1  # beyond 8 points fp32 loses more than half of its digits
EXACT = 4  # up to here small integers stay exact


@dataclass(frozen=True)
class Transforms:
    """A^T, G and B^T of F(m, r) and the finite points they come from."""

    inverse: Matrix
    filter: Matrix
    data: Matrix
    points: tuple[Fraction, ...]


@lru_cache(maxsize=64)
def minimal_filtering(m: int, r: int) -> Transforms:
    """F(m, r), exactly; m + r - 1 is at most `LARGEST`."""
    points = POINTS[: m + r - 2]
    others = [tuple(p for p in points if p != point) for point in points]
    scales = [polynomial(rest, point) for rest, point in zip(others, points, strict=True)]
    filters = [[x / scale for x in powers(p, r)] for p, scale in zip(points, scales, strict=True)]
    values = [powers(p, m) for p in points] + [infinity(m)]
    rows = [[*coefficients(rest), Fraction(0)] for rest in others] + [coefficients(points)]
    return Transforms(
        inverse=tuple(zip(*values, strict=True)),
        filter=_matrix([*filters, infinity(r)]),
        data=_matrix(rows),
        points=points,
    )


def powers(point: Fraction, count: int) -> list[Fraction]:
    """1, p, p^2, ...: the row that evaluates a polynomial at p."""
    return [point**i for i in range(count)]


def infinity(count: int) -> list[Fraction]:
    """The row that evaluates at infinity: the leading coefficient."""
    return [Fraction(0)] * (count - 1) + [Fraction(1)]


def coefficients(roots: tuple[Fraction, ...]) -> list[Fraction]:
    """Of the product of (x - root), lowest power first."""
    product = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *product]
        product = [s - root * p for s, p in zip(shifted, [*product, Fraction(0)], strict=True)]
    return product


def polynomial(roots: tuple[Fraction, ...], x: Fraction) -> Fraction:
    """The value at x of the product of (x - root)."""
    return sum((c * x**i for i, c in enumerate(coefficients(roots))), Fraction(0))


@lru_cache(maxsize=256)
def nested(rows: Matrix, cols: Matrix, dtype: np.dtype) -> Floats:
    """The two-dimensional transform as one matrix: the Kronecker product, rounded once."""
    product = [[x * y for x in row for y in col] for row in rows for col in cols]
    matrix = np.array([[float(x) for x in row] for row in product]).astype(dtype)
    matrix.setflags(write=False)
    return matrix


def _matrix(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)
