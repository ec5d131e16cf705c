"""The emulated GPU that kernels are tested on: does it compute as CUDA does, and see what CUDA punishes?"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from convbench.algorithms.gpu import HERE, Kernel, by_value, pointer
from convbench.algorithms.gpu_blas import Gemm, prepare
from emulator.blas import FakeCublas
from emulator.cupy import AllocatesError, RawModule, asarray, empty, no_allocation

from convbench.cublas import gemm
from convbench.libcublas import CublasError
from convbench.problem import Precision

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

CODE = """
#include "gpu.cuh"

struct Shape { long long stride; int count; };

extern "C" __global__ void convert(const ELEMENT *from, float *wide, ELEMENT *back, Shape shape) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= shape.count) return;
    wide[i * shape.stride] = to_float(from[i]);
    back[i] = from_float<ELEMENT>(wide[i * shape.stride]);
}

extern "C" __global__ void narrow_all(const float *from, ELEMENT *to) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    to[i] = from_float<ELEMENT>(from[i]);
}

extern "C" __global__ void __launch_bounds__(128) reverse(const float *from, float *to) {
    extern __shared__ __align__(16) float block[];
    __shared__ int size;
    if (threadIdx.x == 0) size = blockDim.x;
    block[threadIdx.x] = from[threadIdx.x];
    __syncthreads();
    to[threadIdx.x] = block[size - 1 - threadIdx.x];
}

extern "C" __global__ void warp_sums(const float *from, float *to, int *votes) {
    float sum = from[threadIdx.x];
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    to[threadIdx.x] = sum + __shfl_sync(~0u, from[threadIdx.x], 3, 4) + __shfl_up_sync(~0u, sum, 1);
    const unsigned odd = __ballot_sync(~0u, threadIdx.x % 2);
    if (threadIdx.x % 32 == 0) atomicAdd(votes, __popc(odd));
}

extern "C" __global__ void lost(int *out) {
    if (threadIdx.x < 3) __syncwarp();
    out[0] = 1;
}

extern "C" __global__ void misaligned(const float *from, float *to) {
    store_pack(to, load_pack<4>(from + 1));
}

extern "C" __global__ void outside(int *out, int i) {
    __shared__ int all[4];
    all[i] = 1;
    out[0] = all[i];
}

extern "C" __global__ void scaled(float *out, float factor) { out[threadIdx.x] *= factor; }
"""


def kernel(name: str, element: str = "float") -> Kernel:
    return Kernel(RawModule(code=CODE, options=(f"-I{HERE}", f"-DELEMENT={element}")).get_function(name))


class Shape(ctypes.Structure):
    _fields_ = (("stride", ctypes.c_longlong), ("count", ctypes.c_int))


HALVES = pytest.mark.parametrize(
    ("element", "dtype"), [("__half", np.float16), ("__nv_bfloat16", ml_dtypes.bfloat16)]
)


@HALVES
def test_every_sixteen_bit_number_survives(element: str, dtype: Any) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide, back = empty(2 * bits.size, np.float32), empty(bits.size, dtype)
    kernel("convert", element)(257, 255, asarray(bits), wide, back, by_value(Shape(2, bits.size)))
    np.testing.assert_array_equal(wide[::2], bits.view(dtype).astype(np.float32))
    number = ~np.isnan(wide[::2])
    np.testing.assert_array_equal(back.view(np.uint16)[number], bits[number])


@HALVES
def test_rounding_is_to_nearest_even(element: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    anything = rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
    halfway = (anything.view(np.uint32) & 0xFFFF0000 | 0x8000).view(np.float32)
    small = (rng.random(1 << 16, np.float32) * 2.0**-14).astype(np.float32)
    close = np.array([65504, 65519.99, 65520, 65536, -65520, np.inf, 2.0**-25, 2.0**-24, 0], np.float32)
    values = np.concatenate([anything, halfway, small, np.resize(close, 256)])
    out = empty(values.size, dtype)
    kernel("narrow_all", element)(values.size // 256, 256, asarray(values), out)
    with np.errstate(all="ignore"):
        expected = values.astype(dtype)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(out.view(np.uint16)[number], expected.view(np.uint16)[number])


def test_threads_of_a_block_meet() -> None:
    x = np.arange(128, dtype=np.float32)
    out = empty(128, np.float32)
    kernel("reverse")(1, 128, asarray(x), out, shared=512)
    np.testing.assert_array_equal(out, x[::-1])


def test_threads_of_a_warp_exchange() -> None:
    x = np.arange(64, dtype=np.float32)
    out, votes = empty(64, np.float32), asarray(np.zeros(1, np.int32))
    kernel("warp_sums")(1, 64, asarray(x), out, votes)
    np.testing.assert_array_equal(out, np.repeat(2 * x.reshape(2, 32).sum(1), 32) + x // 4 * 4 + 3)
    assert votes[0] == 32


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lost", (empty(1, np.int32),), "deadlock"),
        ("misaligned", (empty(8, np.float32), empty(8, np.float32)), "misaligned"),
        ("outside", (empty(1, np.int32), 5), "out of range"),
    ],
)
def test_what_a_gpu_punishes_is_an_error(name: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        kernel(name)(1, 32, *arguments)
    test_threads_of_a_block_meet()  # and the next launch works


def test_arguments_have_to_be_what_the_kernel_takes() -> None:
    out, scaled = asarray(np.ones(4, np.float32)), kernel("scaled")
    scaled(1, 4, out, np.float32(3))
    assert out.tolist() == [3] * 4
    for wrong in ((out,), (out, 3.0), (out, np.float64(3)), (out, 3), (np.float32(1), np.float32(1))):
        with pytest.raises(TypeError):
            scaled(1, 4, *wrong)
    with pytest.raises(OverflowError):
        kernel("outside")(1, 1, out, 1 << 40)
    with pytest.raises(ValueError, match="grid"):
        scaled((1, 70_000), 4, out, np.float32(1))


def test_much_shared_memory_has_to_be_asked_for() -> None:
    out, reverse = asarray(np.ones(64, np.float32)), kernel("reverse")
    with pytest.raises(ValueError, match="shared"):
        reverse(1, 64, out, out, shared=64 * 1024)
    reverse.allow_shared(64 * 1024)
    reverse(1, 64, out, out, shared=64 * 1024)


def test_memory_is_not_to_be_had_while_a_plan_runs() -> None:
    with no_allocation(), pytest.raises(AllocatesError):
        empty(1)


# ---- matrix products ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("bfloat16", "bfloat16"),
        ("complex64", "complex64"),
    ],
)
def test_products_are_row_major(kind: Any, result: Any, transpose_a: bool, transpose_b: bool) -> None:
    """Batches, gaps between rows and between matrices, one shared operand, C kept in part."""
    rng = np.random.default_rng(3)
    m, n, k, batch = 5, 7, 6, 3
    types = {"bfloat16": ml_dtypes.bfloat16}
    a = asarray(rng.integers(-4, 5, (batch, k if transpose_a else m, 8)), types.get(kind, kind))
    b = asarray(rng.integers(-4, 5, (n if transpose_b else k, 9)), types.get(kind, kind))
    c = asarray(rng.integers(-4, 5, (batch, m, 10)), types.get(result, result))
    left = a[:, :, : m if transpose_a else k].astype(np.complex128)
    left = left.swapaxes(1, 2) if transpose_a else left
    right = b[:, : k if transpose_b else n].astype(np.complex128)
    expected = c.astype(np.complex128)
    expected[:, :, 1 : n + 1] = 2 * left @ (right.T if transpose_b else right) - expected[:, :, 1 : n + 1]
    gemm = Gemm(
        m, n, k, kind, result, transpose_a=transpose_a, transpose_b=transpose_b, lda=8, ldb=9, ldc=10,
        batch=batch, stride_a=a[0].size, stride_c=c[0].size, alpha=2, beta=-1,
    )  # fmt: skip
    gemm(pointer(a), pointer(b), pointer(c, 1))
    np.testing.assert_array_equal(c.astype(np.complex128), expected)


def test_tf32_is_only_used_where_it_is_allowed() -> None:
    rng = np.random.default_rng(4)
    a, b = (asarray(rng.standard_normal((64, 64)), np.float32) for _ in range(2))
    c, exact = empty((64, 64), np.float32), a.astype(np.float64) @ b.astype(np.float64)
    errors = []
    for tf32 in (False, True):
        Gemm(64, 64, 64, tf32=tf32)(pointer(a), pointer(b), pointer(c))
        errors.append(np.linalg.norm(c - exact) / np.linalg.norm(exact))
    assert errors[0] < 1e-6 < 1e-4 < errors[1] < 1e-3


def test_cublas_keeps_to_its_workspace(emulated: FakeCublas) -> None:
    prepare()
    a = asarray(np.ones((4, 4), np.float32))
    with no_allocation():
        Gemm(4, 4, 4)(pointer(a), pointer(a), pointer(a))
    assert emulated.workspace is not None
    assert emulated.workspace[0] % 256 == 0
    assert emulated.math_mode == 16


@pytest.mark.parametrize("precision", list(Precision))
def test_ceilings_multiply_in_every_precision(emulated: FakeCublas, precision: Precision) -> None:
    product = gemm(5, 6, 7, precision)
    with no_allocation():
        product.launch()
    assert emulated.workspace is not None
    assert product.flops == 2 * 5 * 6 * 7


def test_what_cublas_refuses_is_an_error() -> None:
    a = asarray(np.ones((4, 4), np.float32))
    with pytest.raises(CublasError, match="INVALID_VALUE"):
        Gemm(4, 4, 4, ldc=3)(pointer(a), pointer(a), pointer(a))
    with pytest.raises(CublasError, match="NOT_SUPPORTED"):
        Gemm(4, 4, 4, "float32", "float16")(pointer(a), pointer(a), pointer(a))
    with pytest.raises(ValueError, match="32 bits"):
        Gemm(1 << 31, 4, 4)
