"""A convolution in cuDNN's terms, ready to be launched; and cuDNN's Find."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any

from convbench import fills, libcudnn
from convbench.api import Array, Direction, Layout, Precision, Problem
from convbench.dtypes import storage_dtype
from convbench.guard import address
from convbench.libcudnn import Handle
from convbench.libcudnn_convolution import Convolution, Geometry, Row
from convbench.libcudnn_types import ConvolutionMode, DataType, MathType, Operation, TensorFormat

OPERATIONS = {
    Direction.FWD: Operation.FORWARD,
    Direction.BWD_DATA: Operation.BACKWARD_DATA,
    Direction.BWD_FILTER: Operation.BACKWARD_FILTER,
}
TYPES = {
    Precision.FP64: DataType.DOUBLE,
    Precision.FP32: DataType.FLOAT,
    Precision.TF32: DataType.FLOAT,
    Precision.FP16: DataType.HALF,
    Precision.BF16: DataType.BFLOAT16,
}
FORMATS = {Layout.NCHW: TensorFormat.NCHW, Layout.NHWC: TensorFormat.NHWC}
FIND_SEED = 1


@lru_cache(maxsize=16)
def _handle_on(device: int) -> Handle:
    return Handle(libcudnn.open_library())


def open_handle() -> Handle:
    """The one of the current device: cuDNN loads its kernels once per handle."""
    import cupy

    return _handle_on(cupy.cuda.Device().id)


def compute_type(problem: Problem) -> DataType:
    """What products are summed in."""
    return DataType.DOUBLE if problem.precision is Precision.FP64 else DataType.FLOAT


def describe(problem: Problem) -> Convolution:
    """The problem in cuDNN's terms."""
    p = problem
    geometry = Geometry(
        x=(p.n, p.c, p.h, p.w),
        w=(p.k, p.c // p.groups, p.r, p.s),
        y=(p.n, p.k, p.p, p.q),
        data=TYPES[p.precision],
        compute=compute_type(p),
        format=FORMATS[p.layout],
        pad=(p.pad[0][0], p.pad[1][0]),
        stride=p.stride,
        dilation=p.dilation,
        groups=p.groups,
        mode=ConvolutionMode.CONVOLUTION if p.flip else ConvolutionMode.CROSS_CORRELATION,
    )
    return Convolution(open_handle().library, OPERATIONS[p.direction], geometry)


def _operands(problem: Problem, a: Array, b: Array) -> tuple[int, int]:
    """Addresses in cuDNN's order, which has w before dy."""
    first, second = (b, a) if problem.direction is Direction.BWD_DATA else (a, b)
    return address(first), address(second)


class CudnnPlan:
    """One algorithm bound to its descriptors: a call hands over four addresses."""

    def __init__(
        self,
        problem: Problem,
        algorithm: IntEnum,
        math: MathType,
        workspace_bytes: int,
        details: dict[str, Any] | None = None,
        setup: dict[str, float] | None = None,
    ) -> None:
        import cupy

        self.details, self.setup = details or {}, setup or {}
        self._problem, self._workspace_bytes = problem, workspace_bytes
        self._stream, self._handle = cupy.cuda.get_current_stream, open_handle()
        self._convolution = describe(problem)
        self._convolution.use_math(math)
        self._launch = self._convolution.launch(self._handle, algorithm, workspace_bytes)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        self._handle.use(self._stream().ptr)
        scratch = address(workspace) if self._workspace_bytes else None
        self._launch(*_operands(self._problem, a, b), address(out), scratch)

    def close(self) -> None:
        self._convolution.close()


def find(problem: Problem, math: MathType, workspace_bytes: int) -> list[Row]:
    """Run every algorithm on random operands, whose memory is back in CuPy's pool afterwards."""
    import cupy

    dtype = storage_dtype(problem.precision)
    operands = fills.dense(problem, dtype, cupy.random.default_rng(FIND_SEED))
    out, workspace = cupy.empty(problem.shapes[2], dtype), cupy.empty(workspace_bytes, "u1")
    handle, convolution = open_handle(), describe(problem)
    handle.use(cupy.cuda.get_current_stream().ptr)
    convolution.use_math(math)
    scratch = address(workspace) if workspace_bytes else None
    a, b = _operands(problem, *operands)
    rows = convolution.find(handle, a, b, address(out), scratch, workspace_bytes)
    convolution.close()
    return rows
