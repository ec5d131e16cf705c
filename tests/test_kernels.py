"""Every kernel that can be asked for compiles for three generations of GPUs, without warning or spill."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import nvrtc
import pytest
from convbench.algorithms.gpu import HERE, Source

from convbench import algorithms

OLDEST, TUNED, NEXT = "80", "90a", "100"

# Bytes that a kernel may spill on the GPU it is tuned for, by source and kernel; each with its reason.
SPILLS: dict[tuple[str, str], int] = {}


def sources() -> list[Source]:
    """Of every module of CUDA algorithms, each once."""
    names = sorted(module.name for module in pkgutil.iter_modules(algorithms.__path__))
    modules = [import_module(f"convbench.algorithms.{name}") for name in names if name.startswith("cuda_")]
    offered = [source for module in modules for source in getattr(module, "sources", tuple)()]
    return list(dict.fromkeys(offered))


SOURCES = sources()


def need_compiler() -> None:
    if reason := nvrtc.missing():
        pytest.skip(reason)


def label(source: Source) -> str:
    return "-".join([Path(source.file).stem, *(f"{name}={value}" for name, value in source.defines)])


for_every_source = pytest.mark.parametrize("source", [pytest.param(s, id=label(s)) for s in SOURCES])


@pytest.mark.slow  # `make kernels` runs them
@pytest.mark.parametrize("architecture", [OLDEST, TUNED, NEXT])
@for_every_source
def test_compiles_for_every_generation(source: Source, architecture: str) -> None:
    need_compiler()
    done = nvrtc.compile_source(source.path, source.macros, f"compute_{architecture}", optimise=False)
    assert not done.failed, done.log
    assert not done.log, done.log


@pytest.mark.slow
@for_every_source
def test_nothing_spills(source: Source) -> None:
    """Machine code for the GPU in mind."""
    need_compiler()
    done = nvrtc.compile_source(source.path, source.macros, f"sm_{TUNED}")
    assert not done.failed, done.log
    assert not done.log, done.log
    assert set(source.functions) <= {kernel.name for kernel in done.kernels}
    spilled = {kernel.name: kernel.spill_bytes for kernel in done.kernels if kernel.spill_bytes}
    assert all(spilled[name] <= SPILLS.get((label(source), name), 0) for name in spilled), spilled


def test_every_file_of_kernels_is_compiled() -> None:
    assert {file.name for file in HERE.glob("*.cu")} == {source.file for source in SOURCES}


def test_macros_and_functions_tell_sources_apart() -> None:
    assert all(source.path.exists() and source.functions for source in SOURCES)
    assert len(set(map(label, SOURCES))) == len(SOURCES)


# ---- the compiler itself -----------------------------------------------------------------------------------


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], nvrtc.Compilation]:
    need_compiler()

    def compile_text(text: str) -> nvrtc.Compilation:
        file = tmp_path / "kernel.cu"
        file.write_text(text)
        return nvrtc.compile_source(file, (), f"sm_{TUNED}")

    return compile_text


def test_a_warning_and_an_error_are_seen(compiled: Callable[[str], nvrtc.Compilation]) -> None:
    unused = compiled('extern "C" __global__ void f(int *a) { int unused; a[0] = 1; }')
    assert not unused.failed
    assert "never referenced" in unused.log
    assert compiled('extern "C" __global__ void f(int *a) { a[0] = b; }').failed


def test_a_spill_is_seen(compiled: Callable[[str], nvrtc.Compilation]) -> None:
    crowded = """
    extern "C" __global__ void __launch_bounds__(1024) f(float *a) {
        float x[128];
        #pragma unroll
        for (int i = 0; i < 128; ++i) x[i] = a[i * 1024 + threadIdx.x];
        __syncthreads();
        #pragma unroll
        for (int i = 0; i < 128; ++i) a[i * 1024 + threadIdx.x] = x[i] * x[127 - i];
    }"""
    (kernel,) = compiled(crowded).kernels
    assert kernel.name == "f"
    assert kernel.registers <= 64
    assert kernel.spill_bytes > 0
