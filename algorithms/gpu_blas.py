"""Matrix products for our CUDA families: row-major, batched with strides, through cuBLAS.

Row-major C = A B is column-major C' = B' A', so the operands change places and nothing is transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convbench import libcublas
from convbench.api import Precision
from convbench.libcublas import DEFAULT_ALGORITHM, FAST_TF32, SUM_FP32, SUM_FP64, TYPES

__all__ = ["LARGE_LIBRARY_BYTES", "LIBRARY_BYTES", "Gemm", "prepare", "stored"]

Number = Literal["float64", "float32", "float16", "bfloat16", "complex64"]

LIBRARY_BYTES = libcublas.SMALL_WORKSPACE
LARGE_LIBRARY_BYTES = libcublas.LARGE_WORKSPACE
"""What cuBLAS may use beside the operands; belongs into `Variant.library_bytes` of what multiplies here."""

LARGEST = 2**31 - 1


def stored(precision: Precision) -> Number:
    """How tensors of a precision are stored."""
    match precision:
        case Precision.FP64:
            return "float64"
        case Precision.FP16:
            return "float16"
        case Precision.BF16:
            return "bfloat16"
    return "float32"


@dataclass(frozen=True)
class Gemm:
    """C[i] = alpha A[i] B[i] + beta C[i] for i < batch; A[i] is m x k, B[i] k x n, C[i] m x n, all row-major.

    With `transpose_a` memory holds k x m for A[i], with `transpose_b` n x k for B[i]. `lda`, `ldb`, `ldc` are
    elements from one stored row to the next, by default its length; strides are elements from one matrix of
    the batch to the next, 0 to use one for all. fp16 and bf16 are summed in fp32 and may give fp32. fp32 and
    complex64 are strict unless `tf32` allows fp32 the tensor cores.
    """

    m: int
    n: int
    k: int
    input: Number = "float32"
    output: Number = "float32"
    tf32: bool = False
    transpose_a: bool = False
    transpose_b: bool = False
    lda: int = 0
    ldb: int = 0
    ldc: int = 0
    batch: int = 1
    stride_a: int = 0
    stride_b: int = 0
    stride_c: int = 0
    alpha: float = 1.0
    beta: float = 0.0
    library_bytes: int = LIBRARY_BYTES

    def __post_init__(self) -> None:
        if max(self.m, self.n, self.k, self.lda, self.ldb, self.ldc, self.batch) > LARGEST:
            raise ValueError(f"{self}: cuBLAS counts in 32 bits; cut the product into parts")

    def __call__(self, a: int, b: int, c: int) -> None:
        """Enqueue on CuPy's current stream; a, b, c are device addresses."""
        head, first, second, third, tail = self._arguments
        libcublas.current(self.library_bytes).call(
            self._function, *head, b, *first, a, *second, c, *third, *tail
        )

    @property
    def flops(self) -> int:
        return (8 if self.input == "complex64" else 2) * self.batch * self.m * self.n * self.k

    @property
    def _function(self) -> str:
        if self.input == "complex64":
            return "cublasCgemmStridedBatched"
        return "cublasGemmStridedBatchedEx"

    @property
    def _compute(self) -> int:
        if self.input == "float64":
            return SUM_FP64
        return FAST_TF32 if self.tf32 else SUM_FP32

    @cached_property
    def _arguments(self) -> tuple[tuple[Any, ...], ...]:
        """Everything but the addresses, cut where they go."""
        alpha, beta = (_scalar(value, self.input) for value in (self.alpha, self.beta))
        head = (int(self.transpose_b), int(self.transpose_a), self.n, self.m, self.k, alpha.ctypes.data)
        lda = self.lda or (self.m if self.transpose_a else self.k)
        ldb = self.ldb or (self.k if self.transpose_b else self.n)
        ldc = self.ldc or self.n
        if self.input == "complex64":
            operands = (ldb, self.stride_b), (lda, self.stride_a, beta.ctypes.data), (ldc, self.stride_c)
            return (head, *operands, (self.batch,))
        kind = TYPES[self.input]
        operands_ = (
            (kind, ldb, self.stride_b),
            (kind, lda, self.stride_a, beta.ctypes.data),
            (TYPES[self.output], ldc, self.stride_c),
        )
        return (head, *operands_, (self.batch, self._compute, DEFAULT_ALGORITHM))


@cache
def _scalar(value: float, number: Number) -> NDArray[Any]:
    """A number in host memory, kept for ever: its address is handed out."""
    kind = {"complex64": np.complex64, "float64": np.float64}.get(number, np.float32)
    return np.array(value, kind)


def prepare(library_bytes: int = LIBRARY_BYTES) -> None:
    """Create the handle and its workspace; belongs into `prepare` of a plan, as `run` must not allocate."""
    libcublas.current(library_bytes)
