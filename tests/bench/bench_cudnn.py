"""cuDNN on a GPU: the host's cost of our binding per launch, and our timer against a bare loop."""

from __future__ import annotations

import ctypes
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import pytest
from convbench.algorithms.cudnn import Cudnn

from convbench import cuda, fills, libcudnn_find
from convbench.api import Problem
from convbench.cuda_timer import CudaTimer
from convbench.dtypes import storage_dtype

TINY, LARGE = "n1c16h14k16r3p1", "n32c128h56k128r3p1"
PRECOMP, FMA, FLOAT, NCHW, CROSS_CORRELATION = 1, 3, 0, 0, 1
LAUNCHES, SAMPLES = 20, 15
RELATIVE, ABSOLUTE = 0.02, 2e-6

ALGORITHM = Cudnn()
if _reason := cuda.missing() or ALGORITHM.reject(Problem.parse(TINY)):
    pytest.skip(_reason, allow_module_level=True)


@pytest.fixture(scope="module")
def timer() -> CudaTimer:
    return CudaTimer()


class Case:
    """IMPLICIT_PRECOMP_GEMM on random data: the plan of the suite, and the same call in plain ctypes."""

    def __init__(self, text: str, stream: Any) -> None:
        import cupy

        stream.use()
        self.problem = Problem.parse(text)
        variants = {one.name: one for one in ALGORITHM.variants(self.problem, None)}
        variant = variants["IMPLICIT_PRECOMP_GEMM"]
        dtype = storage_dtype(self.problem.precision)
        self.a, self.b = fills.dense(self.problem, dtype, cupy.random.default_rng(1))
        self.out = cupy.empty(self.problem.shapes[2], dtype)
        self.workspace = cupy.empty(variant.workspace_bytes, "u1")
        self.plan = ALGORITHM.prepare(self.problem, variant)
        self.ours = partial(self.plan.run, self.a, self.b, self.out, self.workspace)
        self.bare = self._bare(stream.ptr)
        for call in (self.ours, self.bare):  # loads the kernels
            call()
        stream.synchronize()

    def _bare(self, stream: int) -> partial[int]:
        p, shared, pointer = self.problem, ctypes.CDLL(libcudnn_find.locate()), ctypes.c_void_p
        handle, x, y, w, conv = made = [pointer() for _ in range(5)]
        kinds = ("", *["TensorDescriptor"] * 2, "FilterDescriptor", "ConvolutionDescriptor")
        for kind, one in zip(kinds, made, strict=True):
            assert getattr(shared, f"cudnnCreate{kind}")(ctypes.byref(one)) == 0
        status = [
            shared.cudnnSetStream(handle, pointer(stream)),
            shared.cudnnSetTensor4dDescriptor(x, NCHW, FLOAT, p.n, p.c, p.h, p.w),
            shared.cudnnSetTensor4dDescriptor(y, NCHW, FLOAT, p.n, p.k, p.p, p.q),
            shared.cudnnSetFilter4dDescriptor(w, FLOAT, NCHW, p.k, p.c, p.r, p.s),
            shared.cudnnSetConvolution2dDescriptor(conv, 1, 1, 1, 1, 1, 1, CROSS_CORRELATION, FLOAT),
            shared.cudnnSetConvolutionMathType(conv, FMA),
        ]
        assert not any(status), status
        self.kept = one, zero = ctypes.c_float(1), ctypes.c_float(0)
        data = [pointer(array.data.ptr) for array in (self.a, self.b, self.workspace, self.out)]
        return partial(
            shared.cudnnConvolutionForward,
            *(handle, ctypes.byref(one), x, data[0], w, data[1], conv, PRECOMP),
            *(data[2], ctypes.c_size_t(self.workspace.size), ctypes.byref(zero), y, data[3]),
        )


def host_seconds(call: Any, stream: Any) -> float:
    """Seconds until one of several launches returns, with room in the stream's queue."""
    stream.synchronize()
    start = perf_counter()
    for _ in range(LAUNCHES):
        call()
    seconds = perf_counter() - start
    stream.synchronize()
    return seconds / LAUNCHES


def test_host_overhead(benchmark: Any, timer: CudaTimer) -> None:
    case = Case(TINY, timer.stream)
    pairs = [[host_seconds(call, timer.stream) for call in (case.ours, case.bare)] for _ in range(SAMPLES)]
    ours, bare = (median(column) * 1e6 for column in zip(*pairs, strict=True))
    benchmark.extra_info |= {"ours_us": ours, "bare_us": bare}
    print(f"\nhost per launch: {ours:.1f} us with our binding, {bare:.1f} us bare: {ours - bare:+.1f} us")
    benchmark.pedantic(case.ours, setup=timer.stream.synchronize, rounds=200)


def bare_seconds(case: Case, stream: Any) -> float:
    """The plainest loop: two events around launches back to back."""
    import cupy

    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record(stream)
    for _ in range(LAUNCHES):
        case.bare()
    stop.record(stream)
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) * 1e-3 / LAUNCHES


def test_timer_agrees_with_a_bare_loop(benchmark: Any, timer: CudaTimer) -> None:
    case = Case(LARGE, timer.stream)
    case.ours()
    result = case.out.get()
    case.bare()
    assert (result == case.out.get()).all()
    for _ in range(SAMPLES):  # until the clock is steady
        bare_seconds(case, timer.stream)
    pairs = [
        (timer.hot(case.ours, LAUNCHES), bare_seconds(case, timer.stream)) for _ in range(SAMPLES)
    ]  # in turn, so that the clock is the same for both
    ours, bare = (median(column) for column in zip(*pairs, strict=True))
    benchmark.extra_info |= {"ours_us": ours * 1e6, "bare_us": bare * 1e6}
    print(f"\n{LARGE}: {ours * 1e6:.2f} us by our timer, {bare * 1e6:.2f} us bare ({ours / bare - 1:+.2%})")
    benchmark.pedantic(bare_seconds, args=(case, timer.stream), rounds=3)
    assert abs(ours - bare) <= max(RELATIVE * bare, ABSOLUTE)
