"""JAX's convolution and its gradients, compiled by XLA: its own code on the CPU, cuDNN on CUDA.

Optional (the extra `jax`). JAX computes on a stream of its own and allocates its scratch by itself: the
streams wait for each other by events, and how much memory it takes is not known before it has compiled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from convbench import threads
from convbench.api import Array, Direction, Layout, Plan, Precision, Problem, Variant
from convbench.dtypes import storage_dtype

AXES = {Layout.NCHW: ("NCHW", "OIHW", "NCHW"), Layout.NHWC: ("NHWC", "OHWI", "NHWC")}


@dataclass(frozen=True)
class Jax:
    """`jax.lax.conv_general_dilated` and its transposes, as `jax.jit` compiles them.

    On CUDA XLA times cuDNN's algorithms while it compiles, which is in `prepare`, and keeps the fastest.
    """

    device: str
    name: str = "jax"

    def reject(self, problem: Problem) -> str | None:
        if find_spec("jax") is None:
            return "JAX is not installed; pip install 'convbench[jax]'"
        if problem.precision is Precision.TF32 and self.device == "cpu":
            return "tf32: JAX has no TF32 on this device"
        if self.device == "cuda" and not _cuda_works():
            return "this JAX has no CUDA; pip install 'jax[cuda13]' (or cuda12)"
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        details = {"flops": None, "backend": "XLA", "library": f"jax {version('jax')}"}
        if flags := os.environ.get("XLA_FLAGS"):
            details["xla_flags"] = flags
        # cuDNN may choose Winograd: integer data need not come out exactly
        return [Variant("default", library_bytes=None, exact=False, details=details)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return JaxPlan(problem) if self.device == "cpu" else CudaPlan(problem)


def _load() -> Any:
    """JAX, with float64 allowed, as many threads as the others and the GPU's memory left to them."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("PJRT_NPROC", str(threads.count()))
    import jax

    config: Any = jax.config
    config.update("jax_enable_x64", True)
    return jax


def _cuda_works() -> bool:
    try:
        return bool(_load().devices("cuda"))
    except RuntimeError:  # how JAX says that there is none
        return False


def _function(jax: Any, problem: Problem) -> Callable[[Any, Any], Any]:
    """The problem's two operands to its result, as a user of JAX writes it."""
    p = problem
    strict = p.precision is Precision.FP32  # otherwise fp32 is computed in TF32
    options = {
        "window_strides": p.stride,
        "padding": p.pad,
        "rhs_dilation": p.dilation,
        "dimension_numbers": AXES[p.layout],
        "feature_group_count": p.groups,
        "precision": jax.lax.Precision.HIGHEST if strict else jax.lax.Precision.DEFAULT,
    }
    rows_and_columns = [AXES[p.layout][1].index(axis) for axis in "HW"]

    def convolve(x: Any, w: Any) -> Any:
        w = jax.lax.rev(w, rows_and_columns) if p.flip else w
        return jax.lax.conv_general_dilated(x, w, **options)

    shape = partial(jax.ShapeDtypeStruct, dtype=storage_dtype(p.precision))
    match p.direction:
        case Direction.FWD:
            return convolve
        case Direction.BWD_DATA:
            return lambda dy, w: jax.linear_transpose(lambda x: convolve(x, w), shape(p.x_shape))(dy)[0]
        case Direction.BWD_FILTER:
            return lambda x, dy: jax.linear_transpose(partial(convolve, x), shape(p.w_shape))(dy)[0]


class JaxPlan:
    """Compiled for one shape. An operand that XLA finds misaligned is copied, and so is the result."""

    def __init__(self, problem: Problem) -> None:
        jax, dtype = _load(), storage_dtype(problem.precision)
        function = jax.jit(_function(jax, problem))
        self._compiled = _compile(jax, function, problem.shapes[:2], dtype, jax.devices("cpu")[0])

    def close(self) -> None:
        pass

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        np.copyto(out, self._compiled(a, b))


class CudaPlan:
    """Compiled for one shape; DLPack hands arrays over, and each side's stream waits for the other's.

    JAX's stream waits for what CuPy's current one has enqueued, and that one for JAX's result; the host waits
    for neither. The result's memory is donated, so that XLA writes into it.
    """

    def __init__(self, problem: Problem) -> None:
        import cupy

        self._jax = jax = _load()
        function, self._dtype = _function(jax, problem), storage_dtype(problem.precision)
        if problem.precision is Precision.BF16:  # CuPy's DLPack does not know it
            function, self._dtype = _of_bits(jax, function), np.dtype(np.int16)
        here = cupy.cuda.Device().id
        device = next(one for one in jax.local_devices(backend="cuda") if one.local_hardware_id == here)
        self._compiled = _compile(jax, _into(jax, function), problem.shapes, self._dtype, device)
        self.details = _facts(self._compiled)
        # loads what XLA and cuDNN load at the first call
        a, b, out = (cupy.zeros(shape, self._dtype) for shape in problem.shapes)
        self.run(a, b, out, None)
        cupy.cuda.get_current_stream().synchronize()

    def close(self) -> None:
        pass

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        import cupy

        arrays = (self._jax.dlpack.from_dlpack(array.view(self._dtype)) for array in (a, b, out))
        result = cupy.from_dlpack(self._compiled(*arrays))
        if result.data.ptr != out.data.ptr:  # XLA may use donated memory, it need not
            out.data.copy_from_device_async(result.data, out.nbytes)


def _of_bits(jax: Any, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The bfloat16 function with int16 in and out: the same bits, which cost XLA nothing."""
    cast, bfloat16, bits = jax.lax.bitcast_convert_type, jax.numpy.bfloat16, jax.numpy.int16
    return lambda a, b: cast(function(cast(a, bfloat16), cast(b, bfloat16)), bits)


def _into(jax: Any, function: Callable[[Any, Any], Any]) -> Any:
    """The function with a third array, never read, whose memory the result takes."""
    return jax.jit(lambda a, b, out: function(a, b), donate_argnums=2, keep_unused=True)


def _compile(jax: Any, jitted: Any, shapes: Sequence[tuple[int, ...]], dtype: Any, device: Any) -> Any:
    place = jax.sharding.SingleDeviceSharding(device)
    arrays = [jax.ShapeDtypeStruct(shape, dtype, sharding=place) for shape in shapes]
    return jitted.lower(*arrays).compile()


def _facts(compiled: Any) -> dict[str, Any]:
    """What XLA has chosen: library calls, their engines, and the scratch memory of the program."""
    text = compiled.as_text()
    return {
        "calls": re.findall(r'custom_call_target="([^"]+)"', text),
        "engines": re.findall(r'"algo_id":"(\d+)"', text),
        "scratch_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


ALGORITHMS = (Jax("cpu"), Jax("cuda"))
