"""One matrix product through cuBLAS with the arithmetic named, on random data and CuPy's current stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convbench.algorithms import gpu_blas
from convbench.dtypes import storage_dtype
from convbench.problem import Precision


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
    name = gpu_blas.stored(precision)
    product = gpu_blas.Gemm(m, n, k, name, name, tf32=precision is Precision.TF32)
    gpu_blas.prepare()

    def launch() -> None:  # keeps the arrays alive
        product(a.data.ptr, b.data.ptr, c.data.ptr)

    return Gemm(launch, product.flops)


def _uniform(rng: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    return (rng.random(shape, dtype=np.float32) * 2 - 1).astype(dtype)
