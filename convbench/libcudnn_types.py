"""The names, numbers and signatures of cuDNN 9's legacy convolution API, as its headers have them."""

from __future__ import annotations

import ctypes
from enum import IntEnum, StrEnum


class DataType(IntEnum):
    FLOAT = 0
    DOUBLE = 1
    HALF = 2
    BFLOAT16 = 9


class TensorFormat(IntEnum):
    NCHW = 0
    NHWC = 1


class ConvolutionMode(IntEnum):
    CONVOLUTION = 0  # the filter is flipped
    CROSS_CORRELATION = 1


class MathType(IntEnum):
    """FMA alone is strict fp32: DEFAULT lets fp32 convolutions use TF32."""

    DEFAULT = 0
    TENSOR_OP = 1
    TENSOR_OP_ALLOW_CONVERSION = 2
    FMA = 3


class ForwardAlgorithm(IntEnum):
    IMPLICIT_GEMM = 0
    IMPLICIT_PRECOMP_GEMM = 1
    GEMM = 2
    DIRECT = 3
    FFT = 4
    FFT_TILING = 5
    WINOGRAD = 6
    WINOGRAD_NONFUSED = 7


class BackwardDataAlgorithm(IntEnum):
    ALGO_0 = 0
    ALGO_1 = 1
    FFT = 2
    FFT_TILING = 3
    WINOGRAD = 4
    WINOGRAD_NONFUSED = 5


class BackwardFilterAlgorithm(IntEnum):
    ALGO_0 = 0
    ALGO_1 = 1
    FFT = 2
    ALGO_3 = 3
    WINOGRAD = 4
    WINOGRAD_NONFUSED = 5
    FFT_TILING = 6


class Operation(StrEnum):
    """The word in the names of an operation's functions, and the order of its operands in them."""

    FORWARD = "Forward"  # x, w -> y
    BACKWARD_DATA = "BackwardData"  # w, dy -> dx
    BACKWARD_FILTER = "BackwardFilter"  # x, dy -> dw

    @property
    def algorithms(self) -> type[IntEnum]:
        """The same name has another number in each table."""
        return ALGORITHMS[self]


ALGORITHMS: dict[Operation, type[IntEnum]] = {
    Operation.FORWARD: ForwardAlgorithm,
    Operation.BACKWARD_DATA: BackwardDataAlgorithm,
    Operation.BACKWARD_FILTER: BackwardFilterAlgorithm,
}


class AlgorithmPerf(ctypes.Structure):
    """One row of Get_v7 or Find; the three operations have the same layout."""

    _fields_ = (
        ("algo", ctypes.c_int),
        ("status", ctypes.c_int),
        ("time", ctypes.c_float),
        ("memory", ctypes.c_size_t),
        ("determinism", ctypes.c_int),
        ("math", ctypes.c_int),
        ("reserved", ctypes.c_int * 3),
    )


# p: a pointer, a handle or a descriptor; i: an int or an enum; n: a size in bytes
TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "n": ctypes.c_size_t}
SIGNATURES = {
    "cudnnGetVersion": "",
    "cudnnGetErrorString": "i",
    "cudnnGetLastErrorString": "pn",
    "cudnnCreate": "p",
    "cudnnDestroy": "p",
    "cudnnSetStream": "pp",
    "cudnnCreateTensorDescriptor": "p",
    "cudnnDestroyTensorDescriptor": "p",
    "cudnnSetTensor4dDescriptor": "piiiiii",  # format, data type, sizes
    "cudnnCreateFilterDescriptor": "p",
    "cudnnDestroyFilterDescriptor": "p",
    "cudnnSetFilter4dDescriptor": "piiiiii",  # data type, format, sizes
    "cudnnCreateConvolutionDescriptor": "p",
    "cudnnDestroyConvolutionDescriptor": "p",
    "cudnnSetConvolution2dDescriptor": "piiiiiiii",  # padding, stride, dilation, mode, compute type
    "cudnnSetConvolutionGroupCount": "pi",
    "cudnnSetConvolutionMathType": "pi",
    "cudnnGetConvolution2dForwardOutputDim": "ppppppp",
}
for _operation in Operation:
    SIGNATURES |= {
        f"cudnnGetConvolution{_operation}WorkspaceSize": "pppppip",
        f"cudnnConvolution{_operation}": "pppppppipnppp",
        f"cudnnGetConvolution{_operation}AlgorithmMaxCount": "pp",
        f"cudnnGetConvolution{_operation}Algorithm_v7": "pppppipp",
        f"cudnnFindConvolution{_operation}AlgorithmEx": "ppppppppipppn",
    }
RESULTS = {
    "cudnnGetVersion": ctypes.c_size_t,
    "cudnnGetErrorString": ctypes.c_char_p,
    "cudnnGetLastErrorString": None,
}
"""What is not a status."""
