"""cuBLAS through ctypes: a handle with a workspace of its own, and strided batches of matrix products.

CuPy's wrappers set the stream before every call, which takes a workspace away again, and refuse capture.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

# Asked for explicitly, so that cuBLAS allocates nothing by itself; counts as workspace of what multiplies.
SMALL_WORKSPACE = 4 << 20  # large or batched products lose nothing by it
LARGE_WORKSPACE = 32 << 20  # what NVIDIA advises for Hopper: long sums of small products are cut
NO_REDUCED_PRECISION = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION: sums of fp16 stay in fp32
STATUS = {
    1: "NOT_INITIALIZED",
    3: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}

# cudaDataType by NumPy's name, and cublasComputeType_t
TYPES = {"float32": 0, "float64": 1, "float16": 2, "complex64": 4, "bfloat16": 14}
SUM_FP32, SUM_FP64, FAST_TF32 = 68, 70, 77
DEFAULT_ALGORITHM = -1

_I, _L, _P, _Z = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p, ctypes.c_size_t
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (_P,),
    "cublasSetStream_v2": (_P, _P),
    "cublasSetWorkspace_v2": (_P, _P, _Z),
    "cublasSetMathMode": (_P, _I),
    "cublasGemmStridedBatchedEx": (
        _P, _I, _I, _I, _I, _I, _P, _P, _I, _I, _L, _P, _I, _I, _L, _P, _P, _I, _I, _L, _I, _I, _I,
    ),
    "cublasCgemmStridedBatched": (
        _P, _I, _I, _I, _I, _I, _P, _P, _I, _L, _P, _I, _L, _P, _P, _I, _L, _I,
    ),
}  # fmt: skip


class CublasError(RuntimeError):
    """A status of cuBLAS that is not success."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"{function}: {STATUS.get(status, f'status {status}')}")


def open_library() -> Any:
    """The cuBLAS that CuPy is linked to: its functions are found through CuPy's own module."""
    from cupy_backends.cuda.libs import cublas

    return ctypes.CDLL(cublas.__file__)


class Cublas:
    """A handle on the current device; `on_stream` comes before calls, and is cheap when repeated."""

    def __init__(self, library: Any, workspace_bytes: int) -> None:
        import cupy

        self._functions = {name: _bound(library, name) for name in SIGNATURES}
        handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", ctypes.addressof(handle))
        self._handle = handle.value
        self._check("cublasSetMathMode", self._handle, NO_REDUCED_PRECISION)
        self._workspace, self._workspace_bytes = cupy.cuda.alloc(workspace_bytes), workspace_bytes
        self._stream = -1

    def on_stream(self, stream: int) -> None:
        """Work on this stream; setting it has made cuBLAS forget the workspace."""
        if stream != self._stream:
            self._check("cublasSetStream_v2", self._handle, stream)
            self._check("cublasSetWorkspace_v2", self._handle, self._workspace.ptr, self._workspace_bytes)
            self._stream = stream

    def call(self, name: str, *arguments: Any) -> None:
        self._check(name, self._handle, *arguments)

    def _check(self, name: str, *arguments: Any) -> None:
        status = self._functions[name](*arguments)
        if status:
            raise CublasError(name, status)


def _bound(library: Any, name: str) -> Any:
    function = getattr(library, name)
    function.argtypes, function.restype = SIGNATURES[name], ctypes.c_int
    return function


def current(workspace_bytes: int) -> Cublas:
    """The handle of the current device with so much workspace, on CuPy's current stream."""
    import cupy

    cublas = _opened(cupy.cuda.runtime.getDevice(), workspace_bytes)
    cublas.on_stream(cupy.cuda.get_current_stream().ptr)
    return cublas


@lru_cache(maxsize=16)
def _opened(device: int, workspace_bytes: int) -> Cublas:
    return Cublas(open_library(), workspace_bytes)
