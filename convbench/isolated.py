"""A sweep whose algorithms run in other processes, on one device or several."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from convbench import devices, lock
from convbench.book import Book, Summary
from convbench.crew import Crew
from convbench.errors import CannotRunError, UsageError
from convbench.job import Job, Preview, Where
from convbench.record import Record
from convbench.supervise import Hello, Place, Supervisor
from convbench.sweep import aliased, refuse_impossible
from convbench.trial import Known, Task, Trial, Work

MOST_FAKES = 64


def measure(job: Job) -> Summary:
    """Measure what is missing; CannotRunError if a device is lost and its work is left."""
    lock.refuse_held(job.folder)
    with _crew(job, places(job.where)) as crew:
        hellos = _open(job, crew)
        with job.store(hellos[0].notice, [hello.environment for hello in hellos]) as store:
            if job.options.preset != "quick":
                crew.each(Supervisor.learn)
            known = Known(store.contents.cells, retry_failed=job.options.retry_failed, elsewhere=job.finished)
            work, book = _work(job, crew), Book(store, job.notify)
            crew.each(lambda one: one.run(work[one], book, known))
    _refuse_rest(crew, work)
    return book.summary


def foresee(job: Job) -> Iterator[Preview]:
    """What would be measured, as the first device tells."""
    with _crew(job, places(job.where)[:1]) as crew:
        _open(job, crew)
        known = Known(job.known(), retry_failed=job.options.retry_failed, elsewhere=job.finished)
        for problem in job.problems:
            settled: list[Record] = []
            trial = Trial(Task(problem), known, settled.append)
            crew.each(partial(Supervisor.work, trial=trial, book=Book(None), measure=False))
            cells = [record.cell for record in trial.pending.values()]
            yield Preview(problem, cells, settled, trial.finished)


def places(where: Where) -> list[Place]:
    """One for each device: the one that a child chooses, or those that were named."""
    if where.devices is None and not where.spread:
        return [Place({})]
    named = where.devices or "all"
    if where.device == "cpu":  # several supervisors of one CPU serve tests
        return [
            Place({}, index) for index in devices.pick("0" if named == "all" else named, range(MOST_FAKES))
        ]
    uuids = devices.gpus()
    if not uuids:
        raise UsageError(f"--devices {named}: no GPU is there ({devices.missing('cuda')})")
    return [Place({"CUDA_VISIBLE_DEVICES": uuids[index]}) for index in devices.pick(named, uuids)]


def _crew(job: Job, places: list[Place]) -> Crew:
    where = job.where
    device = "cuda" if places[0].environment else where.device
    return Crew([Supervisor(p, device, where.cache, job.wishes, where.limits, job.notify) for p in places])


def _open(job: Job, crew: Crew) -> list[Hello]:
    hellos = crew.each(Supervisor.open)
    for hello in hellos:
        refuse_impossible(job.suite, job.options, hello)
    return hellos


def _work(job: Job, crew: Crew) -> dict[Supervisor, Work]:
    """One queue for all, or, to see how devices differ, one of the same for each."""
    twice = aliased(range(len(job.problems)))
    tasks = [Task(problem, index in twice) for index, problem in enumerate(job.problems)]
    shared = Work(tasks)
    return {one: Work(tasks) if job.where.spread else shared for one in crew.supervisors}


def _refuse_rest(crew: Crew, work: dict[Supervisor, Work]) -> None:
    lost = [one.lost for one in crew.supervisors if one.lost is not None]
    if lost and any(len(one) for one in work.values()):
        raise CannotRunError(f"{lost[0]}; what was finished is kept, the same command goes on from there")
