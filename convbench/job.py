"""A sweep as it was asked for, and what is written down about it before it begins."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from convbench.book import Notify
from convbench.problem import Problem
from convbench.record import Cell, Record
from convbench.store import FILE, Store, read
from convbench.suites import Suite
from convbench.supervise import Limits
from convbench.sweep import Options, problems


@dataclass(frozen=True)
class Where:
    """On which devices a sweep runs, and how its processes are kept."""

    device: str | None = None
    cache: str = "cold"
    isolated: bool = True
    devices: str | None = None
    spread: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Job:
    """Everything about a sweep. `wishes` are its options with the names of algorithms instead of algorithms;
    `finished` are keys of cells that are done elsewhere."""

    suite: Suite
    wishes: Mapping[str, Any]
    folder: Path
    where: Where
    finished: Collection[str]
    notify: Notify

    @cached_property
    def options(self) -> Options:
        """Without the algorithms, for which a device has to be known."""
        named = ("algorithms", "baseline")
        return Options((), **{name: wish for name, wish in self.wishes.items() if name not in named})

    @cached_property
    def problems(self) -> list[Problem]:
        return problems(self.suite, self.options)

    def known(self) -> dict[str, Record]:
        """The cells in the folder, for one who only looks."""
        return read(self.folder).cells if (self.folder / FILE).is_file() else {}

    @contextmanager
    def store(self, notice: str, environments: Sequence[dict[str, Any]]) -> Iterator[Store]:
        """The folder, held for writing and told what will come."""
        with Store(self.folder) as store:
            if notice:
                self.notify("hint", text=notice)
            for note in store.contents.notes:
                self.notify("note", text=f"convbench: {note}")
            describe(store, self.suite, self.options, environments[0])
            for environment in environments[1:]:
                add_environment(store, environment)
            yield store


@dataclass(frozen=True)
class Preview:
    """What would become of one problem."""

    problem: Problem
    cells: Sequence[Cell]
    settled: Sequence[Record]
    finished: int


def add_environment(store: Store, environment: Mapping[str, Any]) -> None:
    if environment["id"] not in store.contents.environments:
        store.append({"kind": "environment", **environment})


def describe(
    store: Store, suite: Suite, options: Options, environment: Mapping[str, Any], **extra: Any
) -> None:
    """Environment, layers and wishes go into the folder, so that it explains itself."""
    add_environment(store, environment)
    describe_suite(store, suite, sys.argv[1:], options.limits, options.preset, **extra)


def describe_suite(
    store: Store,
    suite: Suite,
    command: Sequence[str],
    limits: Sequence[int | None],
    preset: str,
    **extra: Any,
) -> None:
    """Layers and wishes alone, where environments come with the records."""
    layers = [
        {
            "suite": suite.name,
            "network": layer.network or suite.name,
            "name": layer.name,
            "repeat": layer.repeat,
            "text": str(layer.problem),
        }
        for layer in suite.layers
    ]
    store.add_once("layer", layers, store.contents.layers)
    wishes = {"command": list(command), "limits": list(limits), "preset": preset}
    store.append({"kind": "run", **wishes, **extra})
