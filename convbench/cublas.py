"""One matrix product through cuBLAS with the arithmetic named, on CuPy's current stream.

Row-major C = A B is column-major C' = B' A', so the operands change places and nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convbench.dtypes import storage_dtype
from convbench.problem import Precision

# cudaDataType and cublasComputeType_t
DATA = {Precision.FP64: 1, Precision.FP32: 0, Precision.TF32: 0, Precision.FP16: 2, Precision.BF16: 14}
COMPUTE = {Precision.FP64: 70, Precision.FP32: 68, Precision.TF32: 77, Precision.FP16: 68, Precision.BF16: 68}
DEFAULT_ALGORITHM = -1


@dataclass(frozen=True)
class Gemm:
    """A matrix product of m x k by k x n on random data, ready to be launched."""

    launch: Callable[[], None]
    flops: int


def gemm(m: int, n: int, k: int, precision: Precision, seed: int = 1) -> Gemm:
    """fp16 and bf16 sum in fp32; fp32 is strict, tf32 may use the tensor cores."""
    import cupy
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    dtype = storage_dtype(precision)
    rng = cupy.random.default_rng(seed)
    a, b = (_uniform(rng, shape, dtype) for shape in ((m, k), (k, n)))
    c = cupy.empty((m, n), dtype)
    scale = np.float64 if precision is Precision.FP64 else np.float32
    alpha, beta = np.array(1, scale), np.array(0, scale)
    kind, handle = DATA[precision], device.get_cublas_handle()

    def launch() -> None:
        cublas.setStream(handle, cupy.cuda.get_current_stream().ptr)
        cublas.gemmEx(
            handle, 0, 0, n, m, k, alpha.ctypes.data, b.data.ptr, kind, n, a.data.ptr, kind, k,
            beta.ctypes.data, c.data.ptr, kind, n, COMPUTE[precision], DEFAULT_ALGORITHM,
        )  # fmt: skip

    return Gemm(launch, 2 * m * n * k)


def _uniform(rng: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    return (rng.random(shape, dtype=np.float32) * 2 - 1).astype(dtype)
