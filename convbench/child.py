"""The process that runs algorithms: `python -m convbench.child PARENT`, started and watched by a supervisor.

    requests   start, open, learn, plan, measure; one JSON line each on standard input
    events     JSON lines on what was standard output; `done` or `refused` ends an answer

Before each step that might be its last it says which cell it is at (`starting`): that is all its supervisor
knows if it never speaks again. It does not recover from an error that costs it the device.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from convbench import devices, sweep, wire
from convbench.device import Device
from convbench.errors import CannotRunError, UsageError
from convbench.problem import Problem
from convbench.record import Record, Status, canonical
from convbench.runner import GroupRunner
from convbench.timing import PRESETS

PARENT_DEATH_SIGNAL = 1  # Linux: PR_SET_PDEATHSIG
BEFORE_TIMING = ("prepare", "check")
Send = Callable[..., None]


class Child:
    """Answers requests, one at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stack = ExitStack()
        self._tainted = False
        self._suspects: set[str] = set()
        self._device: Device | None = None
        self._options: sweep.Options
        self._environment: dict[str, Any]
        self._group: sweep.Group
        self._answers: dict[str, Callable[..., dict[str, Any]]] = {
            "start": self._choose,
            "open": self._open,
            "learn": self._learn,
            "plan": self._plan,
            "measure": self._measure,
        }

    def serve(self, requests: Iterable[bytes]) -> None:
        """Until the requests end, as they do when the supervisor is gone."""
        with self._stack:
            for line in requests:
                request = wire.decode(line, "do")
                self._answer(request.pop("do"), request)

    def _answer(self, do: str, content: dict[str, Any]) -> None:
        try:
            answer = self._answers[do](**content)
        except (UsageError, CannotRunError) as error:
            self._send("refused", usage=isinstance(error, UsageError), message=str(error))
        else:
            self._send("done", **answer)

    # ---- the device ----------------------------------------------------------------------------------------

    def _choose(
        self, device: str | None, cache: str, index: int | None, wishes: dict[str, Any]
    ) -> dict[str, Any]:
        """Which device it will be, before anything runs there."""
        self._name, self._cache = devices.choose(device, cache), cache
        self._options = sweep.options_for(self._name, wishes)
        self._place = devices.identity(self._name, index)
        return {"device": self._name, "place": self._place, "notice": devices.why(device)}

    def _open(self) -> dict[str, Any]:
        """Open the device and see that it computes."""
        with self._step("", "open"):
            device = self._device = devices.open_device(self._name, self._cache)
            _add(device)  # may have to be compiled
        with self._step("", "probe"):
            _add(device)
        self._stack.enter_context(device.watched())
        self._environment = device.environment()
        if self._options.spread:
            self._environment = _at(self._environment, self._place)
        return {"environment": self._environment, "free": device.free_memory()}

    def _learn(self) -> dict[str, Any]:
        with self._step("", "learn"):
            for line in self._opened.learn_limits():
                self._send("note", text=line)
        return {}

    @property
    def _opened(self) -> Device:
        assert self._device is not None
        return self._device

    # ---- groups --------------------------------------------------------------------------------------------

    def _plan(self, problem: dict[str, Any], skip: list[str]) -> dict[str, Any]:
        """The cells of a problem: each pending one as the record that it would leave if it died."""
        planner = sweep.Planner(
            self._options,
            self._opened,
            self._environment,
            {},
            watch=self._step,
            skip=frozenset(skip),
        )
        self._send("algorithms", records=[one.to_json() for one in planner.whole(Problem.from_dict(problem))])
        self._group = planner.group(Problem.from_dict(problem))
        pending = [one.record(Status.CRASHED, self._environment["id"]) for one in self._group.candidates]
        return {
            "pending": [record.to_json() for record in pending],
            "settled": [record.to_json() for record in self._group.settled],
        }

    def _measure(self, keys: list[str], alias: bool) -> dict[str, Any]:
        """Measure those cells of the problem that was planned last."""
        wanted, options = frozenset(keys), self._options
        candidates = [one for one in self._group.candidates if one.key in wanted]
        runner = GroupRunner(
            self._opened,
            PRESETS[options.preset],
            self._environment["id"],
            sweep.SEED,
            options.energy,
            keep=self._keep,
            watch=self._step,
        )
        outcome = runner.run(self._group.problem, candidates, options.baseline, alias)
        return {
            "noise": outcome.noise,
            "kernel_seconds": outcome.kernel_seconds,
            "tainted": self._tainted,
        }

    def _keep(self, record: Record) -> None:
        """Tell it; and if it is about a cell that harms those after it, leave them to another process."""
        self._send("record", record=record.to_json())
        if record.key in self._suspects:
            self._send("leaving")
            raise SystemExit

    # ---- steps ---------------------------------------------------------------------------------------------

    @contextmanager
    def _step(self, key: str, phase: str) -> Iterator[None]:
        """A step that may be the last: of a cell, or of nobody in particular (key "")."""
        self._send("starting", key=key, phase=phase)
        try:
            yield
        except Exception as error:
            self._leave_if_broken(error)
            if key and _taints(error):
                self._tainted = True
                if phase in BEFORE_TIMING:
                    self._suspects.add(key)
            raise

    def _leave_if_broken(self, error: Exception) -> None:
        """At once if the device is lost to this process: ordinary clean-up could raise again, or hang."""
        try:
            if self._device is not None:
                self._device.finish()
        except Exception:  # CuPy, the driver and the libraries each have their own kinds
            self._send("broken", error=f"{type(error).__name__}: {error}")
            os._exit(1)


def _add(device: Device) -> None:
    """A little of everything: allocate, compute, wait, read back."""
    total = device.xp.arange(8, dtype="i8").sum()
    device.finish()
    if int(total) != 28:
        raise CannotRunError(f"device '{device.name}' adds 0 to 7 to {int(total)}")


def _at(environment: dict[str, Any], place: str) -> dict[str, Any]:
    """An environment that is told apart from that of a device of the same model."""
    identity = {**environment["identity"], "place": place}
    return {**environment, "identity": identity, "id": hashlib.sha256(canonical(identity)).hexdigest()[:12]}


def _taints(error: Exception) -> bool:
    """Whether later cells would suffer: memory is used up, or was written to where it must not be."""
    return isinstance(error, MemoryError) or str(error).startswith("out_of_bounds")


# ---- the process -------------------------------------------------------------------------------------------


def _claim(standard: int, other: int) -> int:
    """A private copy of a standard stream, which libraries are then turned away from."""
    private = os.dup(standard)
    os.dup2(other, standard)
    return private


def _die_with(parent: int) -> None:
    """Never outlive the supervisor, not even while an algorithm hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def _sender(pipe: int) -> Send:
    def send(event: str, **content: Any) -> None:
        rest = memoryview(wire.encode({"event": event, **content}))
        while rest:
            rest = rest[os.write(pipe, rest) :]

    return send


def main() -> None:
    _die_with(int(sys.argv[1]))
    events = _claim(1, 2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    with os.fdopen(_claim(0, nothing), "rb") as requests:
        Child(_sender(events)).serve(requests)


if __name__ == "__main__":
    main()
