"""NVIDIA's run-time compiler through ctypes: what a .cu file becomes on a GPU that need not be there."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = "nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-cccl"
FUNCTION = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel."""

    name: str
    stack_bytes: int
    spill_bytes: int
    registers: int


@dataclass(frozen=True)
class Compilation:
    """Of one file for one architecture; `log` holds errors and warnings."""

    failed: bool
    log: str
    kernels: tuple[Kernel, ...]


@lru_cache(maxsize=1)
def folder() -> Path | None:
    """Where the packages put lib and include."""
    spec = find_spec("nvidia")
    roots = [Path(root) / "cu13" for root in (spec and spec.submodule_search_locations) or ()]
    needed = "lib/libnvrtc.so.13", "include/cuda_fp16.h", "include/nv/target"
    return next((root for root in roots if all((root / file).exists() for file in needed)), None)


def missing() -> str | None:
    """Why nothing can be compiled here, or None."""
    return None if folder() else f"NVRTC 13 is not installed: pip install {PACKAGES}"


@lru_cache(maxsize=1)
def _library() -> Any:
    root = folder()
    assert root is not None, missing()
    for builtins in (root / "lib").glob("libnvrtc-builtins.so.*"):  # found by name once it is loaded
        ctypes.CDLL(str(builtins))
    return ctypes.CDLL(str(root / "lib" / "libnvrtc.so.13"))


def architectures() -> set[int]:
    """Compute capabilities this compiler knows: 80, 90, ..."""
    count = ctypes.c_int()
    _library().nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    _library().nvrtcGetSupportedArchs(known)
    return set(known)


def compile_source(
    path: Path, macros: Sequence[str], architecture: str, optimise: bool = True
) -> Compilation:
    """Compile as CuPy does, and more: ptxas tells of registers and spills.

    Without optimisation it takes a tenth of the time; a virtual architecture (compute_80) stops before ptxas.
    """
    nvrtc, program = _library(), ctypes.c_void_p()
    options = [
        "-std=c++17", f"-arch={architecture}", f"-I{path.parent}", f"-I{folder()}/include", "-ftz=true",
        "--device-as-default-execution-space", "--ptxas-options=-v" if optimise else "-G",
        *(f"-D{macro}" for macro in macros),
    ]  # fmt: skip
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), path.read_bytes(), path.name.encode(), 0, None, None)
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    return Compilation(bool(status), _complaints(text), tuple(_kernels(text)))


def _complaints(log: str) -> str:
    """The log without what ptxas was asked to tell, and what concerns a debugger alone."""
    kept = (line for line in log.splitlines() if line and not re.match(r"ptxas (info|  )", line))
    return "\n".join(line for line in kept if "Function too large, generated debug information" not in line)


def _kernels(log: str) -> list[Kernel]:
    found = FUNCTION.findall(log)
    return [
        Kernel(name, int(stack), int(stores) + int(loads), int(r)) for name, stack, stores, loads, r in found
    ]
