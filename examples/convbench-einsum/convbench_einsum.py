"""A convbench plug-in in 40 lines: forward convolution as one einsum over sliding windows."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convbench.api import Direction, Layout, Precision, Problem, Variant


class Einsum:
    name = "einsum"
    device = "cpu"

    def reject(self, problem: Problem) -> str | None:
        if problem.direction is not Direction.FWD or problem.layout is not Layout.NCHW:
            return "only forward in nchw"
        if problem.precision not in (Precision.FP64, Precision.FP32, Precision.TF32):
            return "no 16-bit types"
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> list[Variant]:
        # what einsum allocates inside is not ours to promise: library_bytes=None says so
        return [Variant("windows", library_bytes=None, details={"flops": problem.flops})]

    def prepare(self, problem: Problem, variant: Variant) -> "EinsumPlan":
        return EinsumPlan(problem)


class EinsumPlan:
    def __init__(self, problem: Problem) -> None:
        self.p = problem

    def run(self, x, w, y, workspace) -> None:
        p, g = self.p, self.p.groups
        padded = np.pad(x, ((0, 0), (0, 0), *p.pad))
        windows = sliding_window_view(padded, p.extent, axis=(2, 3))
        windows = windows[:, :, :: p.stride[0], :: p.stride[1], :: p.dilation[0], :: p.dilation[1]]
        windows = windows.reshape(p.n, g, p.c // g, p.p, p.q, p.r, p.s)
        taps = w[:, :, ::-1, ::-1] if p.flip else w
        filters = taps.reshape(g, p.k // g, p.c // g, p.r, p.s)
        result = np.einsum("ngcpqrs,gkcrs->ngkpq", windows, filters, optimize=True)
        y[...] = result.reshape(y.shape)

    def close(self) -> None: ...
