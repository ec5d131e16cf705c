"""Launches that begin early: what the driver is told."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from convbench.algorithms import gpu_launch
from convbench.algorithms.gpu import Kernel
from emulator.cupy import STREAM, zeros

pytest_plugins = ("emulator.plugin",)

FUNCTION = 0xF00


class Driver:
    """Notes down what it is given."""

    status = 0

    def cuLaunchKernelEx(self, config: Any, function: Any, arguments: Any, extra: Any) -> int:
        self.config, self.function = config._obj, function.value
        self.early = (self.config.attributes[0].id, self.config.attributes[0].value)
        self.numbers = [ctypes.c_longlong.from_address(address).value for address in arguments]
        return self.status


@pytest.fixture
def driver(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(gpu_launch, "_driver", lambda: made)
    return made


def kernel(calls: list[Any]) -> Kernel:
    """One of CuPy's, which notes down its plain launches."""

    class Raw:
        num_regs = local_size_bytes = 0
        kernel = SimpleNamespace(ptr=FUNCTION)

        def __call__(self, *arguments: Any, **options: Any) -> None:
            calls.append((arguments, options))

    return Kernel(Raw())


def test_structs_are_as_large_as_those_of_the_driver() -> None:
    assert ctypes.sizeof(gpu_launch.Attribute) == 72
    assert ctypes.sizeof(gpu_launch.Config) == 56


def test_early_launches_go_to_the_driver(driver: Driver) -> None:
    calls: list[Any] = []
    array, struct = zeros(4, np.float32), np.frombuffer(np.int64(7).tobytes(), "V8")
    gpu_launch.launch(kernel(calls), (3, 2), (32,), array, 5, struct, shared=1024)
    config = driver.config
    assert (config.grid_x, config.grid_y, config.grid_z) == (3, 2, 1)
    assert (config.block_x, config.block_y, config.block_z) == (32, 1, 1)
    assert (config.shared, config.stream, config.count) == (1024, STREAM, 1)
    assert driver.early == (6, 1)  # programmatic stream serialization
    assert (driver.function, driver.numbers) == (FUNCTION, [array.data.ptr, 5, 7])
    assert not calls


def test_emulated_ones_are_plain_and_empty_ones_are_none(driver: Driver) -> None:
    calls: list[Any] = []
    plain = kernel(calls)
    plain._function.kernel = None  # which emulated ones have not
    gpu_launch.launch(plain, (3,), (32,), 5)
    gpu_launch.launch(kernel(calls), (0,), (32,), 5)
    assert calls == [(((3,), (32,), (5,)), {"shared_mem": 0})]


def test_what_the_driver_refuses_is_told(driver: Driver) -> None:
    driver.status = 1
    with pytest.raises(RuntimeError, match="CUresult 1"):
        gpu_launch.launch(kernel([]), (3,), (32,), 5)
