"""CUDA as a device: CuPy's arrays on one non-blocking stream, timed by events behind a held stream."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

from convbench import environment
from convbench.cuda_timer import CudaTimer, HoldGaveUpError
from convbench.device import Block, Call
from convbench.guard import NAN_BYTE, Guarded
from convbench.record import canonical

SHORT_CALL, BATCH_SECONDS, MOST_CALLS = 20e-6, 100e-6, 16
SAMPLES_A_BLOCK, FEWEST, MOST = 2, 5, 200  # blocks of twice the preset's sample: 20 ms by default
SLOW_CALL = 0.1
ESCAPE_WAIT, ESCAPE_BYTES = 0.01, 1 << 20
LIBRARIES = ("cupy-cuda13x", "cupy-cuda12x", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "torch")


class AllocatesError(RuntimeError):
    """The call asked CuPy for memory while it was timed."""


class CudaDevice:
    """The current CUDA device; all work goes on its one stream."""

    name = "cuda"
    rotates = True

    def __init__(self, cache: str = "cold") -> None:
        import cupy

        self.xp = cupy
        self.figure = f"gpu_{cache}"
        self.timer = CudaTimer()
        self.timer.stream.use()

    def environment(self) -> dict[str, Any]:
        facts, host = self.timer.facts, environment.collect()
        identity = {
            "gpu": facts.name,
            "driver": facts.driver,
            "runtime": facts.runtime,
            "cpu": host["identity"]["cpu"],
            "libraries": {name: environment.version_of(name) for name in LIBRARIES},
        }
        digest = hashlib.sha256(canonical({**identity, "uuid": facts.uuid})).hexdigest()
        gpu = {"uuid": facts.uuid, "multiprocessors": facts.multiprocessors, "l2_bytes": facts.l2_bytes}
        return {**host, "id": digest[:12], "identity": identity, "gpu": {**gpu, "memory": facts.memory_bytes}}

    def free_memory(self) -> int | None:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def guarded(self, capacity: int) -> Guarded:
        return Guarded(capacity, self.xp)

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        """Single calls; below 20 µs batches of calls, each on tensors of its own."""
        if seconds > SLOW_CALL:
            return Block(1, 1, 0)
        calls = min(MOST_CALLS, ceil(BATCH_SECONDS / seconds)) if seconds < SHORT_CALL else 1
        samples = ceil(SAMPLES_A_BLOCK * sample_seconds / (seconds * calls))
        return Block(calls, min(MOST, max(FEWEST, samples)) - 1, 1)

    def sampler(self) -> CudaSampler:
        return CudaSampler(self.timer, self.figure == "gpu_cold")

    def escapes(self, call: Call, out: Any) -> bool:
        """Whether the call writes its result while our stream is held; such work would never be timed."""
        raw = out.reshape(-1).view(self.xp.uint8)
        windows = [
            raw[start : start + ESCAPE_BYTES] for start in (0, raw.size // 2, max(0, raw.size - ESCAPE_BYTES))
        ]
        raw[...] = NAN_BYTE
        self.timer.stream.synchronize()
        beside = self.xp.cuda.Stream(non_blocking=True)
        try:
            with self.timer.held():
                call()
                time.sleep(ESCAPE_WAIT)
                seen = [window.get(stream=beside) for window in windows]
        except HoldGaveUpError:
            return False  # it synchronises, which its figures will say
        finally:
            self.timer.stream.synchronize()
        return any((window != NAN_BYTE).any() for window in seen)


@dataclass
class CudaSampler:
    """Device time of one cell, by the strictest way that works for it."""

    timer: CudaTimer
    cold: bool
    flags: list[str] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)
    held: bool = True

    def block(self, calls: Sequence[Call], count: int) -> list[float]:
        with self.timer.clock() as clock, self._no_allocation():
            samples = [self._sample(calls) for _ in range(count)]
        self.clocks += clock
        return samples

    def _flag(self, word: str) -> None:
        if word not in self.flags:
            self.flags.append(word)

    @contextmanager
    def _no_allocation(self) -> Iterator[None]:
        import cupy

        if "allocates" in self.flags:
            yield
            return
        with cupy.cuda.using_allocator(_refuse):
            yield

    def _sample(self, calls: Sequence[Call]) -> float:
        run = partial(_in_row, calls)
        try:
            if self.held:
                return (self.timer.cold(run) if self.cold else self.timer.hot(run)) / len(calls)
        except HoldGaveUpError:
            self.held = False
            self._flag("sync" if self.timer.synchronises(run) else "unblocked")
        except AllocatesError:
            self._flag("allocates")
            raise
        return self.timer.unheld(run, flush=self.cold) / len(calls)


def _in_row(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _refuse(size: int) -> Any:
    raise AllocatesError(f"{size} bytes were asked for inside a timed call; take them from the workspace")
