"""The fixture that puts the emulated device in place."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from convbench.algorithms import cuda_winograd_fused, gpu, gpu_fft, gpu_maps

from convbench import cuda, libcublas

from . import compile, cupy, maps
from .blas import FakeCublas
from .fft import FakeCufft


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCublas]:
    """CuPy is the emulator's and cuBLAS is NumPy's for as long as a test lasts."""
    if reason := compile.missing():
        pytest.skip(reason)
    for name, module in cupy.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    blas = FakeCublas()
    monkeypatch.setattr(libcublas, "open_library", lambda: blas)
    cufft = FakeCufft()
    monkeypatch.setattr(gpu_fft, "library", lambda: cufft)
    monkeypatch.setattr(gpu_maps, "encode", maps.encode)
    monkeypatch.setattr(cuda_winograd_fused, "encode", lambda tensor, box: maps.encode(tensor))
    _forget()
    yield blas
    _forget()


def _forget() -> None:
    """What is kept of one CuPy must not meet another."""
    for kept in (cuda.module, gpu._load, cuda.facts, libcublas._opened, gpu_fft.transforms):
        kept.cache_clear()
