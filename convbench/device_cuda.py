"""CUDA as a device: CuPy's arrays on one non-blocking stream, timed by events behind a held stream."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from math import ceil
from statistics import median
from typing import Any

from convbench import ceilings, cuda, energy, environment
from convbench.cuda_sampler import AllocatesError, CudaSampler, HoldGaveUpError
from convbench.cuda_timer import CudaTimer
from convbench.device import COLD, HOT, Block, Call
from convbench.energy import Counter
from convbench.floor import floor, limit, memory_floor, peak
from convbench.guard import NAN_BYTE, Guarded
from convbench.problem import Problem
from convbench.record import Energy, Host, Limit, canonical
from convbench.telemetry import Telemetry

SHORT_CALL, BATCH_SECONDS, MOST_CALLS = 20e-6, 100e-6, 16
SAMPLES_A_BLOCK, FEWEST, MOST = 2, 5, 200  # blocks of twice the preset's sample: 20 ms by default
SLOW_CALL = 0.1
ESCAPE_WAIT, ESCAPE_BYTES = 0.01, 1 << 20
WARM_WINDOW, WARM_WINDOWS, WARM_CHANGE = 0.5, 20, 0.01
HOST_CALLS = 5
LIBRARIES = ("cupy-cuda13x", "cupy-cuda12x", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "torch")


class CudaDevice:
    """The current CUDA device; all work goes on its one stream."""

    name = "cuda"

    def __init__(self, cache: str = COLD) -> None:
        import cupy

        self.xp = cupy
        self.cache = cache
        self.figure = f"gpu_{cache.replace('-', '_')}"
        self.rotates = cache != HOT
        self.timer = CudaTimer()
        self.timer.stream.use()
        self.uuid = cuda.uuid(cupy.cuda.Device().id)
        self.telemetry = Telemetry(self.uuid)
        self._warm = False
        facts = self.timer.facts
        self._peaks = peak(facts.capability, facts.multiprocessors, facts.clock_hz)

    # ---- what it is ----------------------------------------------------------------------------------------

    def environment(self) -> dict[str, Any]:
        facts, host = self.timer.facts, environment.collect()
        identity = {
            "gpu": facts.name,
            "driver": facts.driver,
            "runtime": facts.runtime,
            "cpu": host["identity"]["cpu"],
            "libraries": {name: environment.version_of(name) for name in LIBRARIES},
        }
        digest = hashlib.sha256(canonical({**identity, "uuid": self.uuid})).hexdigest()
        gpu = {"uuid": self.uuid, "multiprocessors": facts.multiprocessors, "l2_bytes": facts.l2_bytes}
        return {**host, "id": digest[:12], "identity": identity, "gpu": {**gpu, "memory": facts.memory_bytes}}

    @cached_property
    def ceilings(self) -> dict[str, ceilings.Ceiling]:
        """What `convbench ceilings` measured on this machine, if it did."""
        return {one.name: one for one in ceilings.stored(self.environment()["id"]) or ()}

    def learn_limits(self) -> Iterator[str]:
        if not self.ceilings:
            yield "measuring what this GPU sustains, once: half a minute (convbench ceilings)"
            ceilings.save(self.environment()["id"], ceilings.measure(self))
            del self.ceilings

    def limit(self, problem: Problem, details: Mapping[str, Any]) -> Limit | None:
        return limit(problem, details, self.ceilings)

    def floor(self, problem: Problem, details: Mapping[str, Any]) -> float:
        bounds = [floor(problem, details, self._peaks)]
        if self.cache == COLD and "copy" in self.ceilings:
            facts, copy = self.timer.facts, self.ceilings["copy"]
            bounds.append(memory_floor(problem, max(copy.burst, copy.sustained), facts.l2_bytes))
        return max(bounds)

    # ---- memory and work -----------------------------------------------------------------------------------

    def free_memory(self) -> int | None:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def guarded(self, capacity: int) -> Guarded:
        return Guarded(capacity, self.xp)

    def finish(self) -> None:
        self.timer.stream.synchronize()

    # ---- time ----------------------------------------------------------------------------------------------

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        """Single calls; below 20 µs batches of them, each on tensors of its own unless hot."""
        if seconds > SLOW_CALL:
            return Block(1, 1, 0)
        calls = min(MOST_CALLS, ceil(BATCH_SECONDS / seconds)) if seconds < SHORT_CALL else 1
        samples = ceil(SAMPLES_A_BLOCK * sample_seconds / (seconds * calls))
        return Block(calls, min(MOST, max(FEWEST, samples)) - 1, 1)

    def watched(self) -> AbstractContextManager[Any]:
        return self.telemetry

    def sampler(self) -> CudaSampler:
        return CudaSampler(
            self.timer, self.telemetry, self.cache, self.timer.facts.clock_hz, self._no_allocation
        )

    def _no_allocation(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.xp.cuda.using_allocator(_refuse)
        return context

    def warm_up(self, call: Call) -> None:
        """Load until the clock moves less than 1 % in a second, ten seconds at most."""
        clocks: list[float] = []
        while not self._warm:
            clocks += self._loaded(call)
            steady = len(clocks) > 2 and abs(clocks[-1] / clocks[-3] - 1) < WARM_CHANGE
            self._warm = steady or len(clocks) >= WARM_WINDOWS

    def _loaded(self, call: Call) -> list[float]:
        """The clock over half a second of calls."""
        stop = time.monotonic() + WARM_WINDOW
        with self.timer.clock() as clock:
            while time.monotonic() < stop:
                call()
                self.finish()
        return clock or [0.0]

    def host(self, call: Call) -> Host | None:
        enqueued, finished = [], []
        for _ in range(HOST_CALLS):
            self.finish()
            start = time.perf_counter()
            call()
            enqueued.append(time.perf_counter() - start)
            self.finish()
            finished.append(time.perf_counter() - start)
        return Host(median(enqueued), median(finished))

    def energy(self, call: Call, seconds: float) -> Energy | str:
        """Over a window of calls back to back, in batches of a fifth of the counter's step."""
        if isinstance(self._counter, str):
            return self._counter
        counter, step, idle = self._counter
        calls = max(1, round(step / 5 / seconds))

        def batch() -> None:
            for _ in range(calls):
                call()
            self.finish()

        return energy.measure(batch, calls, counter, time.perf_counter, step, idle)

    @cached_property
    def _counter(self) -> tuple[Counter, float, float] | str:
        """The energy counter, its step and the idle power; or why there is none."""
        counter = energy.board_counter(self.uuid)
        step = counter if isinstance(counter, str) else energy.step_seconds(counter, time.perf_counter)
        if isinstance(counter, str) or isinstance(step, str):
            return str(step)
        idle = energy.measure_idle(counter, time.perf_counter, step)
        return idle if isinstance(idle, str) else (counter, step, idle)

    def escapes(self, call: Call, out: Any) -> bool:
        """Whether the call writes its result while our stream is held; such work would never be timed."""
        raw = out.reshape(-1).view(self.xp.uint8)
        windows = [
            raw[start : start + ESCAPE_BYTES] for start in (0, raw.size // 2, max(0, raw.size - ESCAPE_BYTES))
        ]
        raw[...] = NAN_BYTE
        self.finish()
        beside = self.xp.cuda.Stream(non_blocking=True)
        try:
            with self.timer.held():
                call()
                time.sleep(ESCAPE_WAIT)
                seen = [window.get(stream=beside) for window in windows]
        except HoldGaveUpError:
            return False  # it synchronises, which its figures will say
        finally:
            self.finish()
        return any((window != NAN_BYTE).any() for window in seen)


def _refuse(size: int) -> Any:
    raise AllocatesError(f"{size} bytes were asked for inside a timed call; take them from the workspace")
