"""What is right: a float64 convolution in the plainest code, and an oracle of sampled sums to watch over it.

Neither shares a line with the algorithms under test or with the other: the reference shifts whole tensors,
the oracle follows the index arithmetic of single outputs. Both see tensors as (N, C, H, W) views.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.problem import Direction, Layout, Problem

Double = NDArray[np.float64]
Index = NDArray[np.intp]
WINDOW_ELEMENTS = 1 << 23  # the reference works on as many images at a time as keep its scratch under 64 MiB
ORACLE_TERMS = 1 << 22  # products the oracle may form; long reductions get fewer samples
RANDOM_SAMPLES = 128


def module_of(array: Any) -> Any:
    """NumPy, or the library with the same functions that made the array."""
    return sys.modules[type(array).__module__.partition(".")[0]]


def reference(problem: Problem, a: NDArray[Any], b: NDArray[Any]) -> Double:
    """The result for operands `a`, `b`, in float64, in the layout of the problem and on the device of `a`."""
    out: Double = module_of(a).zeros(problem.shapes[2])
    direction = {
        Direction.FWD: _forward,
        Direction.BWD_DATA: _backward_data,
        Direction.BWD_FILTER: _backward_filter,
    }[problem.direction]
    direction(problem, _nchw(a, problem), _nchw(b, problem), _nchw(out, problem))
    return out


def _nchw(tensor: NDArray[Any], problem: Problem) -> NDArray[Any]:
    return tensor if problem.layout is Layout.NCHW else tensor.transpose(0, 3, 1, 2)


def _images(problem: Problem) -> list[slice]:
    step = max(
        1, WINDOW_ELEMENTS // (max(problem.c, problem.k) * max(problem.h * problem.w, problem.p * problem.q))
    )
    return [slice(i, min(i + step, problem.n)) for i in range(0, problem.n, step)]


def _windows(problem: Problem, padded: Double) -> list[tuple[int, int, Double]]:
    """For every tap, the view (N, C, P, Q) of the padded image that it multiplies."""
    (u, v), (d, e) = problem.stride, problem.dilation
    views = []
    for r in range(problem.r):
        for s in range(problem.s):
            rows = slice(r * d, r * d + (problem.p - 1) * u + 1, u)
            cols = slice(s * e, s * e + (problem.q - 1) * v + 1, v)
            tap = (problem.r - 1 - r, problem.s - 1 - s) if problem.flip else (r, s)
            views.append((*tap, padded[:, :, rows, cols]))
    return views


def _padded(problem: Problem, images: int, like: NDArray[Any]) -> Double:
    (top, bottom), (left, right) = problem.pad
    shape = images, problem.c, problem.h + top + bottom, problem.w + left + right
    zeros: Double = module_of(like).zeros(shape)
    return zeros


def _inside(problem: Problem, padded: Double) -> Double:
    (top, _), (left, _) = problem.pad
    return padded[:, :, top : top + problem.h, left : left + problem.w]


def _matrix(tensor: NDArray[Any], groups: int) -> Double:
    """(N, C, P, Q) as (N, G, C/G, P Q) in float64."""
    n, c, p, q = tensor.shape
    matrix: Double = tensor.astype(np.float64).reshape(n, groups, c // groups, p * q)
    return matrix


def _forward(problem: Problem, x: NDArray[Any], w: NDArray[Any], y: Double) -> None:
    g = problem.groups
    for part in _images(problem):
        padded = _padded(problem, part.stop - part.start, x)
        _inside(problem, padded)[...] = x[part]
        total = module_of(x).zeros((len(padded), g, problem.k // g, problem.p * problem.q))
        for r, s, window in _windows(problem, padded):
            filters = w[:, :, r, s].astype(np.float64).reshape(g, problem.k // g, -1)
            total += filters @ _matrix(window, g)
        y[part] = total.reshape(len(padded), problem.k, problem.p, problem.q)


def _backward_data(problem: Problem, dy: NDArray[Any], w: NDArray[Any], dx: Double) -> None:
    g = problem.groups
    for part in _images(problem):
        padded, gradient = _padded(problem, part.stop - part.start, dy), _matrix(dy[part], g)
        for r, s, window in _windows(problem, padded):
            filters = w[:, :, r, s].astype(np.float64).reshape(g, problem.k // g, -1)
            window += (filters.transpose(0, 2, 1) @ gradient).reshape(window.shape)
        dx[part] = _inside(problem, padded)


def _backward_filter(problem: Problem, x: NDArray[Any], dy: NDArray[Any], dw: Double) -> None:
    g = problem.groups
    for part in _images(problem):
        padded, gradient = _padded(problem, part.stop - part.start, x), _matrix(dy[part], g)
        _inside(problem, padded)[...] = x[part]
        for r, s, window in _windows(problem, padded):
            products = gradient @ _matrix(window, g).transpose(0, 1, 3, 2)
            dw[:, :, r, s] += products.sum(axis=0).reshape(problem.k, -1)


# ---- the oracle ------------------------------------------------------------------------------------------


def sample_positions(problem: Problem, rng: np.random.Generator) -> Index:
    """Outputs worth looking at, as rows (n, c, h, w): corners and edges of the end images in the end
    channels of the end groups, and random ones; fewer where each is a long sum."""
    view = _nchw(np.empty(problem.shapes[2], np.bool_), problem).shape
    ends = [sorted({0, size - 1}) for size in view]
    per_group = view[1] // (problem.groups if problem.direction is not Direction.BWD_FILTER else 1)
    channels = sorted({0, per_group - 1, view[1] - per_group, view[1] - 1})
    corners = [(n, c, h, w) for n in ends[0] for c in channels for h in ends[2] for w in ends[3]]
    rows = [(n, c, h, w) for n in ends[0] for c in channels[:1] for h in ends[2] for w in range(view[3])]
    cols = [(n, c, h, w) for n in ends[0] for c in channels[:1] for h in range(view[2]) for w in ends[3]]
    wanted = min(RANDOM_SAMPLES, max(0, ORACLE_TERMS // problem.reduction - len(corners)))
    random = np.stack([rng.integers(0, size, wanted) for size in view], axis=1)
    edges = np.array((rows + cols)[:wanted], dtype=np.intp).reshape(-1, 4)
    return np.concatenate([np.array(corners, dtype=np.intp), edges, random])


def oracle(problem: Problem, a: NDArray[Any], b: NDArray[Any], positions: Index) -> tuple[Double, Double]:
    """Value and magnitude (the same sum over absolute values) of each sampled output, by index arithmetic."""
    terms: Callable[..., tuple[NDArray[Any], NDArray[Any]]] = {
        Direction.FWD: _forward_terms,
        Direction.BWD_DATA: _backward_data_terms,
        Direction.BWD_FILTER: _backward_filter_terms,
    }[problem.direction]
    a, b = _nchw(a, problem), _nchw(b, problem)
    values, magnitudes = np.empty(len(positions)), np.empty(len(positions))
    for i, (n, c, h, w) in enumerate(positions.tolist()):
        left, right = terms(problem, a, b, n, c, h, w)
        products = left.astype(np.float64) * right.astype(np.float64)
        values[i], magnitudes[i] = products.sum(), np.abs(products).sum()
    return values, magnitudes


def _reach(problem: Problem, axis: int, output: int) -> tuple[Index, Index]:
    """Filter taps that meet the image at this output, and the pixels they meet."""
    tap = np.arange(problem.taps[axis])
    pixel = output * problem.stride[axis] - problem.pad[axis][0] + tap * problem.dilation[axis]
    keep = (pixel >= 0) & (pixel < problem.image[axis])
    return _stored(problem, axis, tap[keep]), pixel[keep]


def _stored(problem: Problem, axis: int, tap: Index) -> Index:
    return problem.taps[axis] - 1 - tap if problem.flip else tap


def _forward_terms(
    problem: Problem, x: NDArray[Any], w: NDArray[Any], n: int, k: int, p: int, q: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    c, group = problem.c // problem.groups, k // (problem.k // problem.groups)
    (r, i), (s, j) = _reach(problem, 0, p), _reach(problem, 1, q)
    return x[n, group * c : (group + 1) * c][:, i[:, None], j], w[k][:, r[:, None], s]


def _backward_data_terms(
    problem: Problem, dy: NDArray[Any], w: NDArray[Any], n: int, c: int, h: int, col: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    per_group, k = problem.c // problem.groups, problem.k // problem.groups
    group, channel = divmod(c, per_group)
    (r, i), (s, j) = _sources(problem, 0, h), _sources(problem, 1, col)
    filters = slice(group * k, (group + 1) * k)
    return dy[n, filters][:, i[:, None], j], w[filters, channel][:, r[:, None], s]


def _sources(problem: Problem, axis: int, pixel: int) -> tuple[Index, Index]:
    """Filter taps through which a pixel reaches an output, and those outputs."""
    tap = np.arange(problem.taps[axis])
    output, remainder = np.divmod(
        pixel + problem.pad[axis][0] - tap * problem.dilation[axis], problem.stride[axis]
    )
    keep = (remainder == 0) & (output >= 0) & (output < problem.output[axis])
    return _stored(problem, axis, tap[keep]), output[keep]


def _backward_filter_terms(
    problem: Problem, x: NDArray[Any], dy: NDArray[Any], k: int, c: int, r: int, s: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    channel = k // (problem.k // problem.groups) * (problem.c // problem.groups) + c
    ranges = []
    for axis, tap in enumerate((r, s)):
        shift = int(_stored(problem, axis, np.array(tap))) * problem.dilation[axis] - problem.pad[axis][0]
        output = np.arange(problem.output[axis])
        pixel = output * problem.stride[axis] + shift
        keep = (pixel >= 0) & (pixel < problem.image[axis])
        ranges.append((pixel[keep], output[keep]))
    (i, p), (j, q) = ranges
    return x[:, channel][:, i[:, None], j], dy[:, k][:, p[:, None], q]
