"""A convolution of cuDNN's legacy API: its descriptors, what cuDNN says about it, and its launch.

The three operations take their operands in one pattern, so one class serves them all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from convbench.libcudnn import Handle, Library, Owned, Sizes
from convbench.libcudnn_types import (
    AlgorithmPerf,
    ConvolutionMode,
    DataType,
    MathType,
    Operation,
    TensorFormat,
)

Pair = tuple[int, int]
Launch = Callable[[int, int, int, int | None], None]
"""Enqueues one convolution: addresses of the operands in cuDNN's order, the result and the workspace."""


@dataclass(frozen=True)
class Geometry:
    """A 2-D convolution of x with w to y; sizes are N, C, H, W and K, C/groups, R, S in either format."""

    x: Sizes
    w: Sizes
    y: Sizes
    data: DataType
    compute: DataType
    format: TensorFormat
    pad: Pair
    stride: Pair
    dilation: Pair
    groups: int = 1
    mode: ConvolutionMode = ConvolutionMode.CROSS_CORRELATION


@dataclass(frozen=True)
class Row:
    """One line of cuDNN's advice; `memory` holds for this math type. `ms` is -1 where nothing was run."""

    algorithm: IntEnum
    math: MathType
    memory: int
    deterministic: bool
    ms: float


class Convolution:
    """The descriptors of one operation, and what can be asked and done with them."""

    def __init__(self, library: Library, operation: Operation, geometry: Geometry) -> None:
        self.library, self.operation, self._g = library, operation, geometry
        g = geometry
        x, y = (library.tensor(g.data, g.format, sizes) for sizes in (g.x, g.y))
        w = library.filter(g.data, g.format, g.w)
        self._conv = Owned(library, "ConvolutionDescriptor")
        self._set("2dDescriptor", *g.pad, *g.stride, *g.dilation, g.mode, g.compute)
        self._set("GroupCount", g.groups)
        self._check_output(x, w)
        self._first, self._second, self._result = {
            Operation.FORWARD: (x, w, y),
            Operation.BACKWARD_DATA: (w, y, x),
            Operation.BACKWARD_FILTER: (x, y, w),
        }[operation]

    def _set(self, what: str, *values: int) -> None:
        self.library.call(f"cudnnSetConvolution{what}", self._conv.pointer, *values)

    def _check_output(self, x: Owned, w: Owned) -> None:
        sizes = [ctypes.c_int() for _ in self._g.y]
        pointers = self._conv.pointer, x.pointer, w.pointer
        self.library.call("cudnnGetConvolution2dForwardOutputDim", *pointers, *map(ctypes.byref, sizes))
        found = tuple(size.value for size in sizes)
        if found != self._g.y:
            raise ValueError(f"output is {self._g.y} by our formula, {found} by cuDNN's")

    def close(self) -> None:
        for owned in (self._first, self._second, self._result, self._conv):
            owned.close()

    def use_math(self, math: MathType) -> None:
        """Workspace, advice and launches depend on it: set it first."""
        self._set("MathType", math)

    @property
    def _descriptors(self) -> tuple[ctypes.c_void_p, ...]:
        return tuple(o.pointer for o in (self._first, self._second, self._conv, self._result))

    def workspace(self, handle: Handle, algorithm: IntEnum) -> int:
        """Bytes that the algorithm needs; NotSupportedError where cuDNN will not run it."""
        size = ctypes.c_size_t()
        name = f"cudnnGetConvolution{self.operation}WorkspaceSize"
        self.library.call(name, handle.pointer, *self._descriptors, algorithm, ctypes.byref(size))
        return size.value

    def launch(self, handle: Handle, algorithm: IntEnum, workspace_bytes: int) -> Launch:
        """The convolution with everything bound but the addresses: what is left to do per call is little."""
        name = f"cudnnConvolution{self.operation}"
        function, check = self.library.function(name), self.library.check
        scalar = ctypes.c_double if self._g.compute is DataType.DOUBLE else ctypes.c_float
        one, zero = (ctypes.byref(scalar(value)) for value in (1, 0))
        first, second, conv, result = self._descriptors
        context, number, size = handle.pointer, ctypes.c_int(algorithm), ctypes.c_size_t(workspace_bytes)

        def run(a: int, b: int, out: int, workspace: int | None) -> None:
            if status := function(
                context, one, first, a, second, b, conv, number, workspace, size, zero, result, out
            ):
                check(status, name)

        return run

    def advice(self, handle: Handle) -> list[Row]:
        """What the heuristic suggests, best first."""
        name = f"cudnnGetConvolution{self.operation}Algorithm_v7"
        return self._rows(handle, name, *self._descriptors)

    def find(self, handle: Handle, a: int, b: int, out: int, workspace: int | None, size: int) -> list[Row]:
        """What ran on these operands within this workspace, fastest first; the result is overwritten."""
        first, second, conv, result = self._descriptors
        name = f"cudnnFindConvolution{self.operation}AlgorithmEx"
        return self._rows(handle, name, first, a, second, b, conv, result, out, end=(workspace, size))

    def _rows(self, handle: Handle, name: str, *arguments: Any, end: tuple[Any, ...] = ()) -> list[Row]:
        most, found = ctypes.c_int(), ctypes.c_int()
        count_name = f"cudnnGetConvolution{self.operation}AlgorithmMaxCount"
        self.library.call(count_name, handle.pointer, ctypes.byref(most))
        rows = (AlgorithmPerf * most.value)()
        self.library.call(name, handle.pointer, *arguments, most.value, ctypes.byref(found), rows, *end)
        self.library.last_words()  # those of rows that failed; they must not become another failure's reason
        return [self._row(row) for row in rows[: found.value] if row.status == 0]  # else garbage follows

    def _row(self, row: AlgorithmPerf) -> Row:
        algorithm, math = self.operation.algorithms(row.algo), MathType(row.math)
        return Row(algorithm, math, row.memory, bool(row.determinism), row.time)
