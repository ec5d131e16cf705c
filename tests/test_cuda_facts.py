"""What a GPU is called."""

from __future__ import annotations

from typing import Any

import pytest

from convbench.cuda import uuid

UUID = bytes.fromhex("ce4e00a10b5c4f00b7d10000deadbeef")


class Driver:
    """Answers as libcuda does."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.asked = status, -1

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGet(self, handle: Any, device: int) -> int:
        self.asked = device
        return 0

    def cuDeviceGetUuid_v2(self, raw: Any, handle: Any) -> int:
        raw[:] = UUID
        return 0


def test_a_uuid_may_hold_zero_bytes() -> None:
    driver = Driver()
    assert uuid(1, driver) == "GPU-ce4e00a1-0b5c-4f00-b7d1-0000deadbeef"
    assert driver.asked == 1


def test_a_driver_that_does_not_answer_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"UUID of device 0: CUDA error 100"):
        uuid(0, Driver(100))
