"""cuDNN 9's legacy convolution API through ctypes: functions bound at first use, errors, owned objects.

No maintained Python package binds it. Every entry point is marked deprecated, so one that a later cuDNN no
longer has is a refusal of its own, and what remains goes on working.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from convbench import libcudnn_find
from convbench.libcudnn_find import MissingError
from convbench.libcudnn_types import RESULTS, SIGNATURES, TYPES, DataType, TensorFormat

OLDEST = 90000  # status codes have categories since 9.0
TEXT_BYTES = 1024
Sizes = tuple[int, int, int, int]


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

    def __init__(self, function: str, version: str) -> None:
        super().__init__(function, 0, f"{function} was removed from this cuDNN ({version})")

    def __str__(self) -> str:
        return self.reason


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
                raise RemovedError(name, self.version) from None
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


@lru_cache(maxsize=1)
def open_library() -> Library:
    """The cuDNN of this process; MissingError where there is none that could be used."""
    library = Library(libcudnn_find.load())
    if library.number < OLDEST:
        raise MissingError(f"cuDNN {library.version} is too old: 9.0 or later is needed")
    return library
