"""One matrix product through cuBLAS with the arithmetic named, on CuPy's current stream.

Row-major C = A B is column-major C' = B' A', so the operands change places and nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convbench import libcublas
from convbench.dtypes import storage_dtype
from convbench.libcublas import DEFAULT_ALGORITHM, FAST_TF32, SUM_FP32, SUM_FP64, TYPES
from convbench.problem import Precision

COMPUTE = {Precision.FP64: SUM_FP64, Precision.TF32: FAST_TF32}


@dataclass(frozen=True)
class Gemm:
    """A matrix product of m x k by k x n on random data, ready to be launched."""

    launch: Callable[[], None]
    flops: int


def gemm(m: int, n: int, k: int, precision: Precision, seed: int = 1) -> Gemm:
    """fp16 and bf16 sum in fp32; fp32 is strict, tf32 may use the tensor cores."""
    import cupy

    dtype = storage_dtype(precision)
    rng = cupy.random.default_rng(seed)
    a, b = (_uniform(rng, shape, dtype) for shape in ((m, k), (k, n)))
    c = cupy.empty((m, n), dtype)
    scale = np.float64 if precision is Precision.FP64 else np.float32
    alpha, beta = np.array(1, scale), np.array(0, scale)
    kind, compute = TYPES[dtype.name], COMPUTE.get(precision, SUM_FP32)
    libcublas.current()  # allocates its workspace

    def launch() -> None:
        libcublas.current().call(
            "cublasGemmStridedBatchedEx", 0, 0, n, m, k, alpha.ctypes.data, b.data.ptr, kind, n, 0,
            a.data.ptr, kind, k, 0, beta.ctypes.data, c.data.ptr, kind, n, 0, 1, compute, DEFAULT_ALGORITHM,
        )  # fmt: skip

    return Gemm(launch, 2 * m * n * k)


def _uniform(rng: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    return (rng.random(shape, dtype=np.float32) * 2 - 1).astype(dtype)
