"""cuDNN's graph API through the package nvidia-cudnn-frontend (`import cudnn`): a problem as a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ctypes import CDLL, c_size_t
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from convbench.errors import one_line
from convbench.problem import Direction, Layout, Precision, Problem

OLDEST = (1, 26)
INSTALL = "pip install 'nvidia-cudnn-frontend>=1.26,<1.27'"
MODES = ("A", "B", "FALLBACK")
A, B, OUT = 1, 2, 3  # what the tensors are called when a plan is executed
MAPS = Path("/proc/self/maps")

TYPES = {"fp64": "DOUBLE", "fp32": "FLOAT", "tf32": "FLOAT", "fp16": "HALF", "bf16": "BFLOAT16"}
OPERATIONS = {
    Direction.FWD: ("conv_fprop", ("image", "weight")),
    Direction.BWD_DATA: ("conv_dgrad", ("loss", "filter")),
    Direction.BWD_FILTER: ("conv_wgrad", ("image", "loss")),
}


def missing() -> str | None:
    """Why the graph API cannot be used here, with the command that fixes it, or None."""
    try:
        cudnn = import_module("cudnn")
    except ImportError as error:
        return f"cuDNN's frontend cannot be imported ({first_line(error)}); {INSTALL}"
    except Exception as error:  # it looks for libcudnn while it is imported, and asserts what it finds
        return f"cuDNN's frontend cannot be loaded: {first_line(error)}"
    version = str(getattr(cudnn, "__version__", "unknown"))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        return f"cuDNN's frontend is version {version}, 1.26 is the oldest that will do; {INSTALL}"
    try:
        cudnn.backend_version()
    except RuntimeError as error:
        return f"cuDNN's frontend finds no libcudnn.so.9 ({first_line(error)}); pip install nvidia-cudnn-cu13"
    return _mixed()


def _mixed() -> str | None:
    """Two cuDNN libraries in one process call into each other's parts."""
    lines = MAPS.read_text().splitlines() if MAPS.exists() else []
    paths = {line.split()[-1] for line in lines if "/libcudnn.so" in line}
    found = sorted({version_of(path) for path in paths})
    if len(found) < 2:
        return None
    return f"cuDNN is loaded in versions {' and '.join(map(str, found))}; leave one, see LD_LIBRARY_PATH"


def version_of(path: str) -> int:
    """The version that a libcudnn gives itself."""
    get = CDLL(path).cudnnGetVersion
    get.restype = c_size_t
    return int(get())


def first_line(error: Exception) -> str:
    """What a message of many lines begins with."""
    return one_line(next(iter(str(error).strip().splitlines()), type(error).__name__))


def versions() -> dict[str, str]:
    """What decides which plans there are."""
    cudnn = import_module("cudnn")
    return {"cudnn": str(cudnn.backend_version_string()), "frontend": str(cudnn.__version__)}


def not_supported() -> type[Exception]:
    """What the frontend raises when cuDNN has no engine for a problem."""
    kind: type[Exception] = import_module("cudnn").cudnnGraphNotSupportedError
    return kind


class Session:
    """A handle of the current device, told of a stream only when it changes."""

    def __init__(self) -> None:
        self._cudnn = import_module("cudnn")
        self.handle = self._cudnn.create_handle()
        self._stream = 0

    def on(self, stream: int) -> Any:
        """The handle, at work on that stream."""
        if stream != self._stream:
            self._cudnn.set_stream(handle=self.handle, stream=stream)
            self._stream = stream
        return self.handle


@lru_cache(maxsize=8)
def _session(device: int) -> Session:
    return Session()


def session() -> Session:
    """The one session of the current device; it lasts as long as the process."""
    import cupy

    return _session(cupy.cuda.runtime.getDevice())


def planned(problem: Problem, modes: Iterable[str] = MODES) -> Any:
    """A fresh graph of the problem with the plans that heuristics propose, none of them built.

    Always fresh: planning the same graph twice raises in 1.32, and puts notes out of step with plans in 1.26.
    """
    cudnn = import_module("cudnn")
    graph = _convolution(cudnn, problem)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([getattr(cudnn.heur_mode, mode) for mode in modes])
    return graph


def _convolution(cudnn: Any, problem: Problem) -> Any:
    """Sizes are N, C, H, W and K, C/g, R, S in either layout: strides tell it, channels tell the groups."""
    io = getattr(cudnn.data_type, TYPES[problem.precision])
    compute = cudnn.data_type.DOUBLE if problem.precision is Precision.FP64 else cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        io_data_type=io,
        intermediate_data_type=compute,
        compute_data_type=compute,
        handle=session().handle,
    )
    a, b, out = problem.with_(layout=Layout.NCHW).shapes
    operation, names = OPERATIONS[problem.direction]
    operands = {
        name: graph.tensor(name=name, dim=list(dims), stride=strides(dims, problem.layout), uid=uid)
        for name, dims, uid in zip(names, (a, b), (A, B), strict=True)
    }
    modes = cudnn._compiled_module.convolution_mode  # the package does not export it
    result = getattr(graph, operation)(
        **operands,
        pre_padding=[before for before, _ in problem.pad],
        post_padding=[after for _, after in problem.pad],
        stride=list(problem.stride),
        dilation=list(problem.dilation),
        convolution_mode=modes.CONVOLUTION if problem.flip else modes.CROSS_CORRELATION,
    )
    result.set_output(True).set_data_type(io).set_uid(OUT)
    result.set_dim(list(out)).set_stride(strides(out, problem.layout))  # gradients cannot infer their size
    return graph


def strides(dims: tuple[int, ...], layout: Layout) -> list[int]:
    """Elements from one N, C, H, W to the next."""
    _, c, h, w = dims
    return [c * h * w, h * w, w, 1] if layout is Layout.NCHW else [h * w * c, 1, w * c, c]
