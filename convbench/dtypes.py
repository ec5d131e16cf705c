"""NumPy types of the five precisions."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from convbench.problem import Precision


def storage_dtype(precision: Precision) -> np.dtype:
    """The type tensors are stored in."""
    types: dict[Precision, DTypeLike] = {
        Precision.FP64: np.float64,
        Precision.FP32: np.float32,
        Precision.TF32: np.float32,
        Precision.FP16: np.float16,
        Precision.BF16: ml_dtypes.bfloat16,
    }
    return np.dtype(types[precision])


def compute_dtype(precision: Precision) -> np.dtype:
    """The type a CPU sums in. It has no TF32 unit, so tf32 is computed as fp32."""
    return np.dtype(np.float64 if precision is Precision.FP64 else np.float32)
