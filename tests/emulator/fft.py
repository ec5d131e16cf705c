"""cuFFT on the CPU: batches of real 2-D transforms by NumPy."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REAL = {0x2A: np.float32, 0x2C: np.float32, 0x6A: np.float64, 0x6C: np.float64}
COMPLEX: dict[Any, Any] = {np.float32: np.complex64, np.float64: np.complex128}
WORK_BYTES = 4096  # of every plan: more than none, so that nobody forgets it
INVALID_PLAN = 1


@dataclass
class Plan:
    """A plan in the making."""

    automatic: bool = True
    shape: tuple[int, int] = (0, 0)
    batch: int = 0
    real: Any = None
    work: int | None = None
    stream: int | None = None


def _number(value: Any) -> Any:
    return getattr(value, "value", value)


@dataclass
class FakeCufft:
    """The functions by their names in C."""

    plans: dict[int, Plan] = field(default_factory=dict)

    def cufftCreate(self, handle: Any) -> int:
        handle._obj.value = len(self.plans) + 1
        self.plans[handle._obj.value] = Plan()
        return 0

    def cufftDestroy(self, handle: int) -> int:
        return 0

    def cufftSetAutoAllocation(self, handle: int, automatic: int) -> int:
        self.plans[handle].automatic = bool(automatic)
        return 0

    def cufftMakePlanMany64(
        self, handle: int, rank: int, sizes: Any, inembed: Any, istride: Any, idist: Any, onembed: Any,
        ostride: Any, odist: Any, kind: int, batch: Any, work_size: Any,
    ) -> int:  # fmt: skip
        assert rank == 2 and inembed is None and onembed is None, "only packed 2-D transforms are emulated"
        plan = self.plans[handle]
        plan.shape, plan.batch, plan.real = (sizes[0], sizes[1]), _number(batch), REAL[kind]
        work_size._obj.value = WORK_BYTES
        return 0

    def cufftSetStream(self, handle: int, stream: Any) -> int:
        self.plans[handle].stream = _number(stream)
        return 0

    def cufftSetWorkArea(self, handle: int, work: Any) -> int:
        self.plans[handle].work = _number(work)
        return 0

    def cufftExecR2C(self, handle: int, source: Any, target: Any) -> int:
        plan, shapes = self._ready(handle)
        x = _view(_number(source), shapes[0], plan.real)
        _view(_number(target), shapes[1], COMPLEX[plan.real])[...] = np.fft.rfft2(x)
        return 0

    def cufftExecC2R(self, handle: int, source: Any, target: Any) -> int:
        """Unscaled; the spectrum is spoilt, as cuFFT may do."""
        plan, shapes = self._ready(handle)
        spectrum = _view(_number(source), shapes[1], COMPLEX[plan.real])
        x = np.fft.irfft2(spectrum, plan.shape, norm="forward")
        spectrum[...] = np.nan
        _view(_number(target), shapes[0], plan.real)[...] = x
        return 0

    cufftExecD2Z, cufftExecZ2D = cufftExecR2C, cufftExecC2R

    def _ready(self, handle: int) -> tuple[Plan, tuple[tuple[int, ...], tuple[int, ...]]]:
        plan = self.plans[handle]
        if not plan.automatic:
            assert plan.work, "no work area was set"
            _view(plan.work, (WORK_BYTES,), np.uint8)[...] = 0xFF
        rows, columns = plan.shape
        return plan, ((plan.batch, rows, columns), (plan.batch, rows, columns // 2 + 1))


def _view(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, (ctypes.c_char * size).from_address(address))
