"""A sweep in this process: for debuggers, and for algorithms that exist in it alone."""

from __future__ import annotations

from collections.abc import Iterator

from convbench import devices, sweep
from convbench.book import Summary
from convbench.device import Device
from convbench.job import Job, Preview


def measure(job: Job) -> Summary:
    """Measure what is missing. An algorithm that crashes or hangs takes the sweep with it."""
    device, options = _prepare(job)
    environment = device.environment()
    with job.store(devices.why(job.where.device), [environment]) as store:
        if options.preset != "quick":
            for line in device.learn_limits():  # told before it begins
                job.notify("note", text=line)
        planner = sweep.Planner(options, device, environment, store.contents.cells, skip=job.finished)
        groups = planner.groups(job.suite)
        return sweep.run(
            groups, options, device, environment, store, lambda group, summary: None, notify=job.notify
        )


def foresee(job: Job) -> Iterator[Preview]:
    """What would be measured."""
    device, options = _prepare(job)
    planner = sweep.Planner(options, device, device.environment(), job.known(), skip=job.finished)
    for group in planner.groups(job.suite):
        cells = [candidate.cell for candidate in group.candidates]
        yield Preview(group.problem, cells, group.settled, group.finished)


def _prepare(job: Job) -> tuple[Device, sweep.Options]:
    name = devices.choose(job.where.device, job.where.cache)
    options = sweep.options_for(name, job.wishes)
    device = devices.open_device(name, job.where.cache)
    sweep.refuse_impossible(job.suite, options, device)
    return device, options
