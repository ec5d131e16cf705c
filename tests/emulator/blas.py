"""cuBLAS on the CPU: column-major matrix products by NumPy, called through C's convention."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from convbench.libcublas import SIGNATURES

TYPES: dict[int, Any] = {0: np.float32, 1: np.float64, 2: np.float16, 4: np.complex64, 14: ml_dtypes.bfloat16}
FP32, FP64, TF32 = 68, 70, 77
ALLOWED = {
    (0, 0, FP32),
    (0, 0, TF32),
    (1, 1, FP64),
    (2, 2, FP32),
    (2, 0, FP32),
    (14, 14, FP32),
    (14, 0, FP32),
}
SUCCESS, INVALID_VALUE, INTERNAL_ERROR, NOT_SUPPORTED = 0, 7, 14, 15
HANDLE = 0xB1A5
CONJUGATED = 2


@dataclass
class FakeCublas:
    """`stream` and `workspace` are what was set last; `error` is what went wrong inside a call."""

    stream: int | None = None
    workspace: tuple[int, int] | None = None
    math_mode: int = 0
    error: Exception | None = None
    _functions: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name not in SIGNATURES:
            raise AttributeError(name)
        if name not in self._functions:
            body = getattr(type(self), "_" + name.removeprefix("cublas").removesuffix("_v2"))
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, *SIGNATURES[name])
            self._functions[name] = prototype(self._caught(body))
        return self._functions[name]

    def _caught(self, body: Callable[..., int | None]) -> Callable[..., int]:
        """An exception cannot pass through C."""

        def call(*arguments: Any) -> int:
            try:
                return body(self, *arguments) or SUCCESS
            except Exception as error:
                self.error = error
                return INTERNAL_ERROR

        return call

    def _Create(self, handle: int) -> None:
        ctypes.c_void_p.from_address(handle).value = HANDLE

    def _SetStream(self, handle: int, stream: int) -> None:
        self.stream, self.workspace = stream, None

    def _SetWorkspace(self, handle: int, address: int, size: int) -> None:
        self.workspace = (address, size)

    def _SetMathMode(self, handle: int, mode: int) -> None:
        self.math_mode = mode

    def _GemmStridedBatchedEx(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int,
        a: int, kind_a: int, lda: int, stride_a: int, b: int, kind_b: int, ldb: int, stride_b: int, beta: int,
        c: int, kind_c: int, ldc: int, stride_c: int, batch: int, compute: int, algorithm: int,
    ) -> int:  # fmt: skip
        if kind_a != kind_b or (kind_a, kind_c, compute) not in ALLOWED:
            return NOT_SUPPORTED
        scale = np.float64 if compute == FP64 else np.float32
        first = _Matrices(a, TYPES[kind_a], lda, stride_a, transa)
        second = _Matrices(b, TYPES[kind_b], ldb, stride_b, transb)
        result = _Matrices(c, TYPES[kind_c], ldc, stride_c)
        return self._multiply(first, second, result, (m, n, k), batch, alpha, beta, scale, compute == TF32)

    def _CgemmStridedBatched(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int,
        stride_a: int, b: int, ldb: int, stride_b: int, beta: int, c: int, ldc: int, stride_c: int,
        batch: int,
    ) -> int:  # fmt: skip
        first = _Matrices(a, np.complex64, lda, stride_a, transa)
        second = _Matrices(b, np.complex64, ldb, stride_b, transb)
        result = _Matrices(c, np.complex64, ldc, stride_c)
        return self._multiply(first, second, result, (m, n, k), batch, alpha, beta, np.complex64)

    def _multiply(
        self, first: _Matrices, second: _Matrices, result: _Matrices, sizes: tuple[int, int, int], batch: int,
        alpha: int, beta: int, scale: Any, tf32: bool = False,
    ) -> int:  # fmt: skip
        m, n, k = sizes
        if not (first.fits(m, k) and second.fits(k, n) and result.fits(m, n)):
            return INVALID_VALUE
        factor, keep = (_views(at, scale, (1,), (0,))[0] for at in (alpha, beta))
        left, right = (_operand(one, tf32) for one in (first.all(batch, m, k), second.all(batch, k, n)))
        into, product = result.all(batch, m, n), factor * (left @ right)
        into[...] = product + keep * into.astype(scale) if keep else product
        return SUCCESS


@dataclass
class _Matrices:
    """Column-major matrices in memory; a transposed one is kept as its transpose."""

    address: int
    dtype: Any
    leading: int
    stride: int
    transposed: int = 0

    def fits(self, rows: int, columns: int) -> bool:
        return self.leading >= max(1, columns if self.transposed else rows)

    def all(self, batch: int, rows: int, columns: int) -> np.ndarray:
        size = np.dtype(self.dtype).itemsize
        steps = (self.stride * size, size, self.leading * size)
        if not self.transposed:
            return _views(self.address, self.dtype, (batch, rows, columns), steps)
        view = _views(self.address, self.dtype, (batch, columns, rows), steps).transpose(0, 2, 1)
        return view.conj() if self.transposed == CONJUGATED else view


def _views(address: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    size = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(address)
    return np.ndarray(shape, dtype, memory, strides=strides)


def _operand(matrix: np.ndarray, tf32: bool) -> np.ndarray:
    """What is multiplied: 16 bits widened to fp32, or ten bits of fp32's mantissa."""
    if matrix.dtype.itemsize == 2:
        return matrix.astype(np.float32)
    if not tf32:
        return matrix
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    return ((bits + 0x0FFF + (bits >> 13 & 1)) & np.uint32(0xFFFFE000)).view(np.float32)
