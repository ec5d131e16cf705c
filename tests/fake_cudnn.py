"""A cuDNN without a GPU: every call goes through C's calling convention and is recorded.

It is told what to answer, and convolves what its descriptors describe, in host memory.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from convbench.dtypes import storage_dtype
from convbench.libcudnn_types import RESULTS, SIGNATURES, TYPES, AlgorithmPerf, ConvolutionMode, TensorFormat
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.reference import reference

VERSION = 91900
NAMES = {
    1001: "CUDNN_STATUS_NOT_INITIALIZED",
    2000: "CUDNN_STATUS_BAD_PARAM",
    3000: "CUDNN_STATUS_NOT_SUPPORTED",
    4000: "CUDNN_STATUS_INTERNAL_ERROR",
    4004: "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    5000: "CUDNN_STATUS_EXECUTION_FAILED",
}
MOST_ROWS = 16
DOUBLE = 1
DIRECTIONS = {
    "Forward": Direction.FWD,
    "BackwardData": Direction.BWD_DATA,
    "BackwardFilter": Direction.BWD_FILTER,
}
PRECISIONS = {0: Precision.FP32, 1: Precision.FP64, 2: Precision.FP16, 9: Precision.BF16}


@dataclass
class FakeCudnn:
    """Set the fields to choose its answers; `calls` and `alive` tell what happened."""

    version: int = VERSION
    removed: set[str] = field(default_factory=set)
    status: dict[str, int] = field(default_factory=dict)  # by function
    says: dict[int, str] = field(default_factory=dict)  # about a status
    words: str = ""  # not read yet
    refused: dict[tuple[int, int], int] = field(default_factory=dict)  # algorithm, math -> status
    workspaces: dict[tuple[int, int], int] = field(default_factory=dict)
    advice: list[tuple[Any, ...]] = field(default_factory=list)  # algo, status, time, memory, det., math
    found: list[tuple[Any, ...]] = field(default_factory=list)
    asked_under: list[int] = field(default_factory=list)  # math types of the calls for advice
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    alive: dict[int, dict[str, Any]] = field(default_factory=dict)
    _made: int = 0
    _kept: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """A new pointer to a C function, as ctypes' own libraries have it."""
        if name not in SIGNATURES or name in self.removed:
            raise AttributeError(name)
        result = RESULTS.get(name, ctypes.c_int)
        text = result is ctypes.c_char_p  # which no Python function can return to C
        prototype = ctypes.CFUNCTYPE(ctypes.c_void_p if text else result, *map(TYPES.get, SIGNATURES[name]))
        self._kept[name] = prototype(partial(self._called, name))
        return self._kept[name]

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of a function."""
        return [arguments for called, arguments in self.calls if called == name]

    def _called(self, name: str, *arguments: Any) -> Any:
        self.calls.append((name, arguments))
        answer = self.status[name] if name in self.status else self._answer(name, *arguments)
        if name not in RESULTS:
            self.words = self.says.get(answer, self.words)
        return answer

    def _answer(self, name: str, *arguments: Any) -> Any:
        kind = name.removeprefix("cudnn")
        if kind.startswith("Create"):
            return self._create(kind.removeprefix("Create"), *arguments)
        if kind.startswith("Destroy"):
            del self.alive[arguments[0]]
            return 0
        for ending in ("WorkspaceSize", "MaxCount", "Algorithm_v7", "AlgorithmEx"):
            if kind.endswith(ending):
                return getattr(self, f"_{ending}")(*arguments)
        if kind.removeprefix("Convolution") in DIRECTIONS:
            return self._convolve(DIRECTIONS[kind.removeprefix("Convolution")], *arguments)
        return getattr(self, f"_{kind}")(*arguments)

    # ---- texts and objects ---------------------------------------------------------------------------------

    def _GetVersion(self) -> int:
        return self.version

    def _GetErrorString(self, status: int) -> int | None:
        self._kept["text"] = ctypes.create_string_buffer(NAMES[status].encode())
        return ctypes.addressof(self._kept["text"])

    def _GetLastErrorString(self, buffer: int, size: int) -> None:
        text = self.words.encode()[: size - 1] + b"\0"
        ctypes.memmove(buffer, text, len(text))
        self.words = ""

    def _create(self, kind: str, pointer: int) -> int:
        self._made += 16
        self.alive[self._made] = {"kind": kind}
        ctypes.c_void_p.from_address(pointer).value = self._made
        return 0

    def _SetStream(self, handle: int, stream: int | None) -> int:
        self.alive[handle]["stream"] = stream
        return 0

    def _SetTensor4dDescriptor(self, tensor: int, layout: int, kind: int, *sizes: int) -> int:
        self.alive[tensor] |= {"format": TensorFormat(layout), "type": kind, "sizes": sizes}
        return 0

    def _SetFilter4dDescriptor(self, tensor: int, kind: int, layout: int, *sizes: int) -> int:
        return self._SetTensor4dDescriptor(tensor, layout, kind, *sizes)

    def _SetConvolution2dDescriptor(self, conv: int, *values: int) -> int:
        pad, stride, dilation = values[:2], values[2:4], values[4:6]
        self.alive[conv] |= {"pad": pad, "stride": stride, "dilation": dilation}
        self.alive[conv] |= {"mode": ConvolutionMode(values[6]), "compute": values[7]}
        return 0

    def _SetConvolutionGroupCount(self, conv: int, groups: int) -> int:
        self.alive[conv]["groups"] = groups
        return 0

    def _SetConvolutionMathType(self, conv: int, math: int) -> int:
        self.alive[conv]["math"] = math
        return 0

    # ---- questions -----------------------------------------------------------------------------------------

    def _GetConvolution2dForwardOutputDim(self, conv: int, x: int, w: int, *sizes: int) -> int:
        problem = self._problem(conv, x, w)
        for pointer, size in zip(sizes, (problem.n, problem.k, problem.p, problem.q), strict=True):
            ctypes.c_int.from_address(pointer).value = size
        return 0

    def _WorkspaceSize(self, handle: int, a: int, b: int, conv: int, out: int, algo: int, size: int) -> int:
        key = algo, self.alive[conv]["math"]
        ctypes.c_size_t.from_address(size).value = self.workspaces.get(key, 0)
        return self.refused.get(key, 0)

    def _MaxCount(self, handle: int, count: int) -> int:
        ctypes.c_int.from_address(count).value = MOST_ROWS
        return 0

    def _Algorithm_v7(self, *arguments: Any) -> int:
        self.asked_under.append(self.alive[arguments[3]]["math"])
        return _write_rows(self.advice, *arguments[-3:])

    def _AlgorithmEx(self, *arguments: Any) -> int:
        self.asked_under.append(self.alive[arguments[5]]["math"])
        return _write_rows(self.found, *arguments[-5:-2])

    # ---- work ----------------------------------------------------------------------------------------------

    def _problem(self, conv: int, x: int, w: int) -> Problem:
        """What the descriptors describe."""
        (n, c, h, width), (k, part, r, s) = self.alive[x]["sizes"], self.alive[w]["sizes"]
        c_facts, nhwc = self.alive[conv], self.alive[x]["format"] is TensorFormat.NHWC
        assert part * c_facts["groups"] == c
        assert all(self.alive[x][one] == self.alive[w][one] for one in ("format", "type"))
        assert (c_facts["compute"] == DOUBLE) is (self.alive[x]["type"] == DOUBLE)
        return Problem(
            *(n, c, h, width, k, r, s),
            pad=tuple((pad, pad) for pad in c_facts["pad"]),  # type: ignore[arg-type]
            stride=c_facts["stride"],
            dilation=c_facts["dilation"],
            groups=c_facts["groups"],
            precision=PRECISIONS[self.alive[x]["type"]],
            layout=Layout.NHWC if nhwc else Layout.NCHW,
            flip=c_facts["mode"] is ConvolutionMode.CONVOLUTION,
        )

    def _convolve(self, direction: Direction, handle: int, alpha: int, *arguments: Any) -> int:
        a_desc, a, b_desc, b, conv, algo, workspace, size, beta, out_desc, out = arguments
        key = algo, self.alive[conv]["math"]
        if size < self.workspaces.get(key, 0) or (workspace is None) != (size == 0):
            return 2000
        x, w = {
            Direction.FWD: (a_desc, b_desc),
            Direction.BWD_DATA: (out_desc, a_desc),
            Direction.BWD_FILTER: (a_desc, out_desc),
        }[direction]
        problem = self._problem(conv, x, w).with_(direction=direction)
        scalar = ctypes.c_double if self.alive[conv]["compute"] == DOUBLE else ctypes.c_float
        if (scalar.from_address(alpha).value, scalar.from_address(beta).value) != (1, 0):
            return 2000
        operands = (b, a) if direction is Direction.BWD_DATA else (a, b)  # w comes before dy
        views = [_view(problem, *one) for one in zip((*operands, out), problem.shapes, strict=True)]
        views[2][...] = reference(problem, views[0], views[1])
        return 0


def _view(problem: Problem, pointer: int, shape: tuple[int, ...]) -> Any:
    dtype = storage_dtype(problem.precision)
    memory = (ctypes.c_char * (prod(shape) * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memory, dtype).reshape(shape)


def _write_rows(rows: list[tuple[Any, ...]], asked: int, count: int, results: int) -> int:
    """Rows are (algo, status, time, memory, determinism, math)."""
    written = rows[:asked]
    ctypes.c_int.from_address(count).value = len(written)
    for index, row in enumerate(written):
        target = AlgorithmPerf.from_address(results + index * ctypes.sizeof(AlgorithmPerf))
        for (name, *_), value in zip(AlgorithmPerf._fields_, row, strict=False):
            setattr(target, name, value)
    return 0
