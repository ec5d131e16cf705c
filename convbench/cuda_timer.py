"""Device time of one call: events behind a kernel that holds the stream, so that launch gaps never count.

    sink   overwrite twice the L2 cache                    (cold samples only; outside the events)
    hold   keep the stream busy until the host says go
    start, the call, stop                                  enqueued while the stream is held
    go

A call that synchronises inside would wait for the held stream for ever: the holding kernel gives up after a
few seconds, and the call is known as one that synchronises. So is one that launches more than the queue of a
held stream takes (about a thousand kernels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from convbench import cuda
from convbench.cuda_sampler import HoldGaveUpError
from convbench.device import Call

HOLD_SECONDS = 5.0
STAMP_BLOCKS_PER_SM = 4
BUSY_CYCLES = 50_000_000  # some 25 ms: longer than a host takes to enqueue a call


class CudaTimer:
    """Timing on one non-blocking stream of the current device.

    The stream is made current before each use and stays so: leaving a `with` block would make CuPy's default
    stream current, which does not wait for ours.
    """

    def __init__(self, hold_seconds: float = HOLD_SECONDS) -> None:
        import cupy

        self._cupy = cupy
        self.facts = cuda.facts(cupy.cuda.Device().id)
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._limit = np.uint64(hold_seconds * 1e9)
        names = ("hold", "stamp", "spin", "empty", "sink", "touch")
        file = Path(__file__).with_name("timer.cu")
        loaded = cuda.kernels(file, names)
        self._hold, self._stamp, self._spin, self._empty, self._sink, self._touch = loaded
        self._flags_memory = cupy.cuda.alloc_pinned_memory(8)
        self._flags = np.frombuffer(self._flags_memory, np.int32, 2)  # go, gave up
        self._events = [cupy.cuda.Event() for _ in range(2)]
        self._lines = cupy.empty(2 * self.facts.l2_bytes // 4, cupy.float32)
        self._stamps = cupy.zeros((2, 2), cupy.uint64)
        self._turn_cell, self._turn = cupy.zeros(1, cupy.int32), 0
        self._warm_up()

    def _warm_up(self) -> None:
        """CUDA loads a kernel at its first launch, and that may synchronise: never behind a held stream."""
        self._flags[0] = 1
        self.stream.use()
        self._launch_hold()
        self.spin(1)
        self.empty()
        self.flush()
        self.touch(self._lines)
        self._launch_stamp(0)
        self.stream.synchronize()

    # ---- work of known length, enqueued on the current stream ---------------------------------------------

    def spin(self, cycles: int) -> None:
        """One thread busy for this many SM cycles."""
        self._spin((1,), (1,), (np.int64(cycles),))

    def empty(self) -> None:
        """A kernel that does nothing."""
        self._empty((1,), (1,), ())

    def flush(self) -> None:
        """Overwrite twice the L2 cache."""
        count = np.int64(self._lines.size // 4)
        self._sink((self.facts.multiprocessors * 4,), (512,), (self._lines, count, np.float32(1.0)))

    def touch(self, array: Any) -> None:
        """Bring an array into the cache, as much of it as fits."""
        count = np.int64(array.nbytes // 16)
        self._touch((self.facts.multiprocessors * 4,), (512,), (array, count, self._turn_cell))

    # ---- samples -------------------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """The stream waits from here until the end of the block, whatever happens inside."""
        self._flags[:] = 0
        self._launch_hold()
        try:
            yield
        finally:
            self._flags[0] = 1
        if self._flags[1]:
            raise HoldGaveUpError(
                f"the call did not return within {int(self._limit) / 1e9:g} s of a held stream"
            )

    def _launch_hold(self) -> None:
        pointer = self._flags_memory.ptr
        self._hold((1,), (1,), (np.uint64(pointer), np.uint64(pointer + 4), self._limit))

    def cold(self, call: Call, warm: Sequence[Any] = ()) -> float:
        """Seconds of one call that finds its data in memory, not in the cache, but for the `warm` arrays."""
        self.stream.use()
        self._clear(warm)
        return self._between_events(call, self.held())

    def _clear(self, warm: Sequence[Any]) -> None:
        self.flush()
        for array in warm:
            self.touch(array)
        self.stream.synchronize()

    def hot(self, call: Call, calls: int = 1) -> float:
        """Seconds per call of several calls back to back, nothing flushed."""

        def repeated() -> None:
            for _ in range(calls):
                call()

        self.stream.use()
        return self._between_events(repeated, self.held()) / calls

    def _between_events(self, call: Call, held: AbstractContextManager[None]) -> float:
        start, stop = self._events
        with held:
            start.record(self.stream)
            call()
            stop.record(self.stream)
        stop.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(start, stop)) * 1e-3

    def synchronises(self, call: Call) -> bool:
        """Whether the call waits for what was enqueued before it, and leaves nothing to do."""
        self.stream.use()
        self.spin(BUSY_CYCLES)
        call()
        waited = bool(self.stream.done)
        self.stream.synchronize()
        return waited

    def unheld(self, call: Call, flush: bool = True, warm: Sequence[Any] = ()) -> float:
        """Seconds of a call that cannot be held; launch gaps count."""
        self.stream.use()
        if flush:
            self._clear(warm)
        self.stream.synchronize()
        return self._between_events(call, nullcontext())

    # ---- the clock -----------------------------------------------------------------------------------------

    def _launch_stamp(self, index: int) -> None:
        self._turn += 1
        blocks = self.facts.multiprocessors * STAMP_BLOCKS_PER_SM
        self._stamp((blocks,), (1,), (self._stamps[index], self._turn_cell, np.int32(self._turn)))

    @contextmanager
    def clock(self) -> Iterator[list[float]]:
        """Fills its list with the mean SM clock in Hz between entering and leaving."""
        result: list[float] = []
        self.stream.use()
        self._launch_stamp(0)
        try:
            yield result
        finally:
            self.stream.use()
            self._launch_stamp(1)
            self.stream.synchronize()
            first, second = self._stamps.get()
            cycles, nanoseconds = second - first
            if nanoseconds:
                result.append(float(cycles) / float(nanoseconds) * 1e9)
