"""Compiles .cu files with g++ into shared objects, kept by content, and calls their kernels."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from convbench.cuda import headers

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / f"convbench-emulator-{os.getuid()}"
# Hidden, as libraries of one kernel under other macros have variables of the same names, but other sizes.
OPTIONS = (
    "-Og", "-std=c++17", "-shared", "-fPIC", "-march=native", "-ffp-contract=off", "-w", "-U_FORTIFY_SOURCE",
    "-fno-strict-aliasing", "-fno-ipa-modref", "-fno-ipa-reference", "-fno-ipa-pure-const",
    "-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error", "-fvisibility=hidden",
)  # fmt: skip
SCHEDULER = ("-O2", "-fno-sanitize=all")  # what every kernel spends time in, and no kernel's own code
SEEN = '__attribute__((visibility("default")))'
ALIGNMENT = 64
ALIGNED = r"(?:(?:__align__|alignas|__attribute__)\s*\(.*?\)+\s*)?"
DYNAMIC = re.compile(rf"extern\s+__shared__\s+{ALIGNED}([\w:<>, ]+?)\s+(\w+)\s*\[\s*\]\s*;")
KERNEL = re.compile(r"__global__\s+(?:void\s+)?(?:__launch_bounds__\s*\([^)]*\)\s*)?(?:void\s+)?(\w+)\s*\(")
OUTCOMES = {
    1: "deadlock: some threads wait for others that have ended or wait elsewhere",
    2: "fault: a misaligned or forbidden address, an index out of range, or a division by zero",
    3: "too large: at most 1024 threads and 227 KiB of shared memory a block",
}


def missing() -> str | None:
    """Why nothing can be emulated here, or None."""
    if shutil.which("g++") is None:
        return "no C++ compiler: g++ is not on the PATH"
    return None if "Free Software" in _version() else "g++ here is not GCC, which the emulator is written for"


def compile_kernels(code: str, options: Sequence[str]) -> ctypes.CDLL:
    """The shared object of a .cu file's text under NVRTC's options; compiled at most once."""
    macros = tuple(option for option in options if option.startswith("-D"))
    folders = [Path(option[2:]) for option in options if option.startswith("-I")]
    included = {name: plain(text) for folder in folders for name, text in headers(code, folder).items()}
    return _compiled(plain(code) + _entries(code), macros, tuple(included.items()))


def plain(code: str) -> str:
    """CUDA C++ as a C++ compiler reads it: dynamic shared memory becomes a pointer."""
    return DYNAMIC.sub(r"\1 *const \2 = reinterpret_cast<\1 *>(emulator::dynamic_shared);", code)


def _entries(code: str) -> str:
    """C functions that describe and start each kernel."""
    return "".join(
        f"""
extern "C" {SEEN} int start_{name}(void **arguments, unsigned *grid, unsigned *block, size_t shared) {{
    return emulator::start({name}, arguments, grid, block, shared);
}}
extern "C" {SEEN} void describe_{name}(char *kinds, size_t *sizes) {{
    emulator::describe({name}, kinds, sizes);
}}
"""
        for name in dict.fromkeys(KERNEL.findall(code))
    )


@lru_cache(maxsize=None)  # noqa: UP033  # cache_clear is not needed, and a shared object cannot be unloaded
def _compiled(code: str, macros: tuple[str, ...], included: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    folder = CACHE / _digest([code, *macros, *map(str, included)])
    library = folder / "kernels.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in included:
            _write(folder / name, text)
        _write(folder / "kernels.cpp", '#include "cuda_emulator.h"\n' + code)
        before = f"-I{_header().parent}", f"-I{folder}"
        _gxx(library, folder / "kernels.cpp", *macros, str(_runtime()), before=before)
    return ctypes.CDLL(str(library))


@lru_cache(maxsize=1)
def _runtime() -> Path:
    """The scheduler, compiled once for all kernels."""
    return _once("runtime.o", HERE / "runtime.cpp", "-c", *SCHEDULER)


@lru_cache(maxsize=1)
def _header() -> Path:
    """What every kernel includes, read once for all of them: g++ takes this where it finds it first."""
    return _once("cuda_emulator.h.gch", HERE / "cuda_emulator.h", before=("-x", "c++-header"))


def _once(name: str, source: Path, *arguments: str, before: Sequence[str] = ()) -> Path:
    built = CACHE / _digest(SCHEDULER) / name
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        _gxx(built, source, *arguments, before=before)
    return built


def _digest(parts: Iterable[str]) -> str:
    """Of everything that goes into a compilation, the emulator included."""
    own = [file.read_text() for file in sorted(HERE.glob("*.h"))] + [(HERE / "runtime.cpp").read_text()]
    return hashlib.sha256("\0".join([*OPTIONS, _version(), *own, *parts]).encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def _version() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


def _gxx(target: Path, source: Path, *arguments: str, before: Sequence[str] = ()) -> None:
    """Compile beside the target and move it there, since other processes may do the same."""
    part = target.with_suffix(f".{os.getpid()}")
    command = ["g++", *OPTIONS, *before, f"-I{HERE}", str(source), *arguments, "-o", str(part)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"g++ failed:\n{done.stderr[:4000]}")
    part.replace(target)


def _write(file: Path, text: str) -> None:
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(text)
    part.replace(file)


class EmulatedKernel:
    """A kernel with CuPy's calling convention; arguments are held against the kernel's parameters."""

    num_regs = local_size_bytes = 0

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self.max_dynamic_shared_size_bytes = 48 * 1024
        self._start = getattr(library, f"start_{name}")
        kinds, sizes = ctypes.create_string_buffer(64), (ctypes.c_size_t * 64)()
        getattr(library, f"describe_{name}")(kinds, sizes)
        self._parameters = list(zip(kinds.value.decode(), sizes, strict=False))

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        *,
        shared_mem: int = 0,
    ) -> None:
        if len(arguments) != len(self._parameters):
            raise TypeError(f"{self.name}: {len(arguments)} arguments for {len(self._parameters)} parameters")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise ValueError(f"{self.name}: {shared_mem} bytes of shared memory were not asked for")
        places = enumerate(zip(arguments, self._parameters, strict=True))
        kept = [self._encoded(i, value, *parameter) for i, (value, parameter) in places]
        pointers = (ctypes.c_void_p * (len(kept) + 1))(*[value.ctypes.data for value in kept])
        status = self._start(pointers, _three(grid), _three(block), ctypes.c_size_t(shared_mem))
        if status:
            raise RuntimeError(f"{self.name}<<<{grid}, {block}>>>: {OUTCOMES[status]}")

    def _encoded(self, index: int, value: Any, kind: str, size: int) -> np.ndarray:
        """The argument's bytes; what CUDA would misread is refused."""
        if kind == "p" and hasattr(value, "data") and not isinstance(value, np.generic):
            return np.array([value.data.ptr], np.uintp)
        if kind == "p" and isinstance(value, int | np.integer) and not isinstance(value, bool):
            return np.array([int(value)], np.uintp)
        if kind == "i" and isinstance(value, int | np.integer | np.bool_):
            if -(1 << 8 * size - 1) <= int(value) < 1 << 8 * size:
                return np.array([int(value) & (1 << 64) - 1], np.uint64)
            raise OverflowError(f"{self.name}: argument {index}, {value}, needs more than {size} bytes")
        if isinstance(value, np.floating if kind == "f" else np.ndarray) and value.nbytes == size:
            return _aligned(value)
        wanted = {"p": "a pointer", "i": "an integer", "f": "a NumPy float", "s": "a struct"}[kind]
        raise TypeError(f"{self.name}: argument {index} has to be {wanted} of {size} bytes, not {value!r}")


def _aligned(value: Any) -> np.ndarray:
    """A copy on a boundary that suits any struct, as parameters of kernels have."""
    raw = np.empty(value.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    raw[start : start + value.nbytes] = np.frombuffer(value.tobytes(), np.uint8)
    return raw[start : start + value.nbytes]


def _three(sizes: tuple[int, ...]) -> Any:
    return (ctypes.c_uint * 3)(*(*sizes, 1, 1)[:3])
