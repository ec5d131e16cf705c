"""What this GPU sustains: GEMM rate per precision, copy bandwidth and the launch floor, measured.

`sustained` follows a second of the same work, `burst` follows idling; clocks may differ by a fifth. The rates
are those of a good library, not limits: a kernel may beat them a little, the physical peak it cannot.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from convbench.cublas import gemm
from convbench.problem import Precision

if TYPE_CHECKING:
    from convbench.cuda_timer import CudaTimer
    from convbench.device_cuda import CudaDevice

SHAPES = ((8192, 8192, 8192), (4096, 8192, 8192), (16384, 8192, 4096))
COPY_BYTES = 1 << 30
SUSTAINED_SECONDS, REST_SECONDS, BURST_SAMPLES = 1.0, 0.25, 5


@dataclass(frozen=True)
class Ceiling:
    """A rate in FLOP/s, bytes/s or, for the launch floor, seconds."""

    name: str
    unit: str
    sustained: float
    burst: float
    clock_hz: float


def measure(device: CudaDevice) -> list[Ceiling]:
    """All ceilings of the current device; about half a minute."""
    found = [_gemm(device.timer, precision) for precision in Precision]
    return [*found, copy(device), _floor(device.timer)]


def _gemm(timer: CudaTimer, precision: Precision) -> Ceiling:
    """The best of several shapes."""
    rates = []
    for m, n, k in SHAPES:
        product = gemm(m, n, k, precision)
        sustained, burst, clock = _regimes(timer, product.launch)
        rates.append(
            Ceiling(f"gemm {precision}", "FLOP/s", product.flops / sustained, product.flops / burst, clock)
        )
    return max(rates, key=lambda ceiling: ceiling.sustained)


def copy(device: CudaDevice, count: int = COPY_BYTES) -> Ceiling:
    """A copy of so many bytes, a multiple of 8: bytes read plus bytes written."""
    xp = device.xp
    source = xp.random.default_rng(1).random(count // 8)
    target = xp.empty_like(source)
    sustained, burst, clock = _regimes(device.timer, lambda: xp.copyto(target, source))
    return Ceiling("copy", "byte/s", 2 * count / sustained, 2 * count / burst, clock)


def _floor(timer: CudaTimer) -> Ceiling:
    sustained, burst, clock = _regimes(timer, timer.empty)
    return Ceiling("launch floor", "s", sustained, burst, clock)


def _regimes(timer: CudaTimer, call: Callable[[], None]) -> tuple[float, float, float]:
    """Median cold time after sustained work and after rest, and the SM clock under sustained work."""
    timer.stream.use()
    call()
    timer.stream.synchronize()
    stop = time.monotonic() + SUSTAINED_SECONDS
    samples: list[float] = []
    with timer.clock() as clock:
        while time.monotonic() < stop or len(samples) < BURST_SAMPLES:
            samples.append(timer.cold(call))
    rested = []
    for _ in range(BURST_SAMPLES):
        time.sleep(REST_SECONDS)
        rested.append(timer.cold(call))
    return median(samples[len(samples) // 2 :]), median(rested), clock[0] if clock else 0.0


# ---- kept per device, driver and libraries -----------------------------------------------------------------


def cache_file(environment_id: str) -> Path:
    """Where the ceilings of an environment are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "convbench" / f"ceilings-{environment_id}.json"


def save(environment_id: str, ceilings: list[Ceiling]) -> Path:
    file = cache_file(environment_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(ceiling) for ceiling in ceilings], indent=1))
    return file


def stored(environment_id: str) -> list[Ceiling] | None:
    """Ceilings measured before, if they can be read."""
    try:
        return [Ceiling(**item) for item in json.loads(cache_file(environment_id).read_text())]
    except (OSError, ValueError, TypeError):
        return None
