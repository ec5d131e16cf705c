"""PyTorch's convolution, what a user would pick instead: oneDNN on the CPU, cuDNN on CUDA.

Optional (the extra `torch`). PyTorch allocates its result and its scratch by itself, so the result is copied
into ours inside the timed call and the memory it takes is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from convbench import threads
from convbench.api import Array, Direction, Layout, Plan, Precision, Problem, Variant

# PyTorch keeps cuDNN's plans by thread and problem and, where it has one, ignores `cudnn.benchmark`:
# what `default` left would never be searched for again, so searches have a thread of their own.
SEARCHES = ThreadPoolExecutor(1, "cudnn.benchmark")
BACKENDS = {"cpu": "oneDNN", "cuda": "cuDNN"}


@dataclass(frozen=True)
class Torch:
    """`aten::convolution` and its backward; beside them `unfold` and a matrix product.

    On CUDA `default` is what cuDNN's heuristic picks and `autotuned` what `cudnn.benchmark` finds.
    """

    device: str
    name: str = "torch"

    def reject(self, problem: Problem) -> str | None:
        if find_spec("torch") is None:
            return "PyTorch is not installed; pip install 'convbench[torch]'"
        if any(before != after for before, after in problem.pad):
            return "asymmetric padding: PyTorch's convolution pads both sides alike"
        if problem.flip:
            return "flip: PyTorch computes cross-correlation only"
        if problem.precision is Precision.TF32 and self.device == "cpu":
            return "tf32: PyTorch has no TF32 on this device"
        if self.device == "cuda" and not _cuda_works():
            return "this PyTorch has no CUDA; install a build that fits the driver"
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        # these libraries may choose Winograd, or sum in narrow types: integer data need not come out exactly
        details = {"flops": None, "backend": BACKENDS[self.device]}
        names = ["default"] if self.device == "cpu" else ["default", "autotuned"]
        if problem.direction is Direction.FWD and problem.groups == 1:
            names.append("unfold")
        return [Variant(name, library_bytes=None, exact=False, details=details) for name in names]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        kind = UnfoldPlan if variant.name == "unfold" else TorchPlan
        if self.device == "cpu":
            return kind(problem)
        return CudaPlan(kind(problem), autotuned=variant.name == "autotuned")


def _cuda_works() -> bool:
    import torch

    return bool(torch.cuda.is_available())


class TorchPlan:
    """Tensors share memory with the arrays; nhwc is PyTorch's channels-last memory format."""

    def __init__(self, problem: Problem) -> None:
        import torch

        torch.set_num_threads(threads.count())
        self._torch = torch
        self.problem = problem
        self._padding = [before for before, _ in problem.pad]

    def close(self) -> None:
        pass

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        with self._torch.inference_mode():
            self._tensor(out).copy_(self._result(self._tensor(a), self._tensor(b)))

    def _tensor(self, array: Array) -> Any:
        bits = self.problem.precision is Precision.BF16  # no array protocol knows bfloat16
        tensor = self._torch.as_tensor(array.view(np.int16) if bits else array)
        if bits:
            tensor = tensor.view(self._torch.bfloat16)
        return tensor if self.problem.layout is Layout.NCHW else tensor.permute(0, 3, 1, 2)

    def _result(self, a: Any, b: Any) -> Any:
        p, aten = self.problem, self._torch.ops.aten
        sizes = (p.stride, self._padding, p.dilation, False, (0, 0), p.groups)
        match p.direction:
            case Direction.FWD:
                return aten.convolution(a, b, None, *sizes)
            case Direction.BWD_DATA:
                x = self._unread(p.n, p.c, p.h, p.w, like=a)
                return aten.convolution_backward(a, x, b, None, *sizes, (True, False, False))[0]
            case Direction.BWD_FILTER:
                w = self._unread(p.k, p.c // p.groups, p.r, p.s, like=a)
                return aten.convolution_backward(b, a, w, None, *sizes, (False, True, False))[1]

    def _unread(self, *shape: int, like: Any) -> Any:
        """A tensor whose shape and memory format matter and whose content is never read."""
        formats = self._torch.contiguous_format, self._torch.channels_last
        chosen = formats[self.problem.layout is Layout.NHWC]
        return self._torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=chosen)


class UnfoldPlan(TorchPlan):
    """im2col as PyTorch spells it: `unfold`, then a matrix product."""

    def _result(self, a: Any, b: Any) -> Any:
        p = self.problem
        columns = self._torch.nn.functional.unfold(a, p.taps, p.dilation, self._padding, p.stride)
        return (b.reshape(p.k, -1) @ columns).reshape(p.n, p.k, p.p, p.q)


class CudaPlan:
    """A plan on CuPy's current stream, with TF32 allowed only where the problem allows it."""

    def __init__(self, plan: TorchPlan, *, autotuned: bool) -> None:
        import torch

        self._plan, self._torch = plan, torch
        self._tf32 = plan.problem.precision is Precision.TF32
        self._autotuned = autotuned

    def close(self) -> None:
        self._plan.close()

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        import cupy

        stream = cupy.cuda.get_current_stream().ptr
        if self._autotuned:
            SEARCHES.submit(self._run, stream, a, b, out, workspace).result()
        else:
            self._run(stream, a, b, out, workspace)

    def _run(self, pointer: int, a: Array, b: Array, out: Array, workspace: Array) -> None:
        torch = self._torch
        stream = torch.cuda.ExternalStream(pointer)
        torch.backends.cuda.matmul.allow_tf32 = self._tf32
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=self._autotuned, allow_tf32=self._tf32)
        with torch.cuda.stream(stream), flags:
            self._plan.run(a, b, out, workspace)


ALGORITHMS = (Torch("cpu"), Torch("cuda"))
