"""cuDNN 9's legacy convolution API through ctypes: functions bound at first use, errors, owned objects.

No maintained Python package binds it. Every entry point is marked deprecated, so one that a later cuDNN no longer
has is a refusal of its own, and what remains goes on working.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Any

from convbench import libcudnn_find
from convbench.libcudnn_find import MissingError
from convbench.libcudnn_types import (
    RESULTS,
    SIGNATURES,
    TYPES,
    AlgorithmPerf,
    ConvolutionMode,
    DataType,
    MathType,
    Operation,
    TensorFormat,
)

OLDEST = 90000  # status codes have categories since 9.0
TEXT_BYTES = 1024
Pair = tuple[int, int]
Sizes = tuple[int, int, int, int]
Launch = Callable[[int, int, int, int | None], None]
"""Enqueues one convolution: addresses of the operands in cuDNN's order, of the result and of the workspace."""


class CudnnError(RuntimeError):
    """A status that is not success; `reason` is its name with cuDNN's own words, if it had any."""

    def __init__(self, function: str, status: int, reason: str) -> None:
        super().__init__(f"{function}: {reason}")
        self.status, self.reason = status, reason


class SetupError(CudnnError):
    """cuDNN cannot work here."""


class BadParameterError(CudnnError):
    """The caller has a bug."""


class NotSupportedError(CudnnError):
    """cuDNN declines."""


class InternalError(CudnnError):
    """cuDNN failed."""


class OutOfMemoryError(InternalError, MemoryError):
    """cuDNN could not allocate."""


class ExecutionError(CudnnError):
    """A kernel failed; CUDA's context is of no use any more."""


class RemovedError(NotSupportedError):
    """This cuDNN does not have the function any more."""


CATEGORIES = {1: SetupError, 2: BadParameterError, 3: NotSupportedError, 4: InternalError, 5: ExecutionError}
ALLOCATION_FAILED = (4003, 4004)  # on the host, on the device


class Library:
    """The functions of a loaded cuDNN, by name."""

    def __init__(self, shared: Any) -> None:
        self._shared = shared
        self._functions: dict[str, Callable[..., Any]] = {}

    def function(self, name: str) -> Callable[..., Any]:
        """A bound function, which returns its status; RemovedError where there is none."""
        if name not in self._functions:
            try:
                function = getattr(self._shared, name)
            except AttributeError:
                raise RemovedError(name, 0, f"removed from this cuDNN ({self.version})") from None
            function.argtypes = [TYPES[letter] for letter in SIGNATURES[name]]
            function.restype = RESULTS.get(name, ctypes.c_int)
            self._functions[name] = function
        return self._functions[name]

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; a status other than success is raised."""
        self.check(self.function(name)(*arguments), name)

    def check(self, status: int, name: str) -> None:
        if status == 0:
            return
        kind = CATEGORIES.get(status // 1000, CudnnError)
        if status in ALLOCATION_FAILED:
            kind = OutOfMemoryError
        words = self.function("cudnnGetErrorString")(status).decode(), self.last_words()
        raise kind(name, status, ": ".join(filter(None, words)))

    def last_words(self) -> str:
        """What cuDNN had to say about the last failure in this thread; reading it empties it."""
        buffer = ctypes.create_string_buffer(TEXT_BYTES)
        self.function("cudnnGetLastErrorString")(buffer, TEXT_BYTES)
        return " ".join(buffer.value.decode(errors="replace").split())

    @cached_property
    def number(self) -> int:
        """The version as cuDNN gives it: 91900."""
        return int(self.function("cudnnGetVersion")())

    @property
    def version(self) -> str:
        """The version as people write it: 9.19.0."""
        return f"{self.number // 10000}.{self.number // 100 % 100}.{self.number % 100}"

    # ---- descriptors ---------------------------------------------------------------------------------------

    def tensor(self, kind: DataType, layout: TensorFormat, sizes: Sizes) -> Owned:
        """Sizes are N, C, H, W in either format."""
        made = Owned(self, "TensorDescriptor")
        self.call("cudnnSetTensor4dDescriptor", made.pointer, layout, kind, *sizes)
        return made

    def filter(self, kind: DataType, layout: TensorFormat, sizes: Sizes) -> Owned:
        """Sizes are K, C/groups, R, S in either format."""
        made = Owned(self, "FilterDescriptor")
        self.call("cudnnSetFilter4dDescriptor", made.pointer, kind, layout, *sizes)
        return made


class Owned:
    """An object of the library's, destroyed by `close` or when it is forgotten."""

    def __init__(self, library: Library, kind: str = "") -> None:
        self.library, self.pointer = library, ctypes.c_void_p()
        library.call(f"cudnnCreate{kind}", ctypes.byref(self.pointer))
        self.close = weakref.finalize(self, library.call, f"cudnnDestroy{kind}", self.pointer)
        self.close.atexit = False  # CUDA may be gone by then


class Handle(Owned):
    """cuDNN on the current device."""

    _stream: int | None = None

    def use(self, stream: int) -> None:
        """Everything from here on goes on this stream."""
        if stream != self._stream:
            self.library.call("cudnnSetStream", self.pointer, stream)
            self._stream = stream


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


@lru_cache(maxsize=1)
def open_library() -> Library:
    """The cuDNN of this process; MissingError where there is none that could be used."""
    library = Library(libcudnn_find.load())
    if library.number < OLDEST:
        raise MissingError(f"cuDNN {library.version} is too old: 9.0 or later is needed")
    return library
