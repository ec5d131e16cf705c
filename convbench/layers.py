"""Layers and suites: named problems, how often each occurs, and the one label that text formats give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from convbench.errors import UsageError, one_line
from convbench.problem import LARGEST, Problem

LONGEST_NAME = 200
_WHOLE = re.compile(r"[0-9]{1,10}")
_REPEAT = re.compile(r"\*([0-9]+)$")


@dataclass(frozen=True)
class Layer:
    """One problem of a suite (forward, fp32, nchw; the sweep applies the rest).

    repeat   how often the network holds this very shape, so that weighted sums are the network's time
    network  where the layer comes from; totals are formed per network
    """

    name: str
    problem: Problem
    repeat: int = 1
    network: str = ""

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("network", self.network)):
            _check_name(what, value)
        if ":" in self.network:
            raise UsageError(f"network '{one_line(self.network)}': ':' ends a network's name; leave it out")
        if not 1 <= self.repeat <= LARGEST:
            raise UsageError(f"repeat {self.repeat} of '{self.name}': must be from 1 to {LARGEST}")

    @classmethod
    def labelled(cls, label: str, problem: Problem, repeat: int = 1) -> Layer:
        """The layer that `label` names: `network:name` or `name`; without a name it is the canonical text."""
        network, colon, name = label.partition(":")
        if not colon:
            network, name = "", label
        return cls(name.strip() or str(problem), problem, repeat, network.strip())

    @property
    def label(self) -> str:
        """The inverse of `labelled`; empty where there is nothing to say beyond the problem."""
        name = "" if self.name == str(self.problem) else self.name
        return f"{self.network}:{name}" if self.network or ":" in name else name

    @classmethod
    def counted(cls, label: str, problem: Problem) -> Layer:
        """As `labelled`, with the repeat count behind the label: `network:name*repeat`."""
        match = _REPEAT.search(label)
        if not match:
            return cls.labelled(label, problem)
        return cls.labelled(label[: match.start()], problem, whole(match[1], "repeat"))

    @property
    def counted_label(self) -> str:
        """The inverse of `counted`."""
        needed = self.repeat > 1 or _REPEAT.search(self.label)
        return f"{self.label}*{self.repeat}" if needed else self.label

    def with_batch(self, n: int) -> Layer:
        problem = self.problem.with_(n=n)
        name = str(problem) if self.name == str(self.problem) else self.name
        return replace(self, name=name, problem=problem)


@dataclass(frozen=True)
class Suite:
    """Layers in a fixed order; names need not be unique."""

    name: str
    layers: tuple[Layer, ...]
    about: str = ""

    def with_batch(self, n: int) -> Suite:
        """The same layers at another batch size."""
        return replace(self, layers=tuple(layer.with_batch(n) for layer in self.layers))


def distinct(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Equal problems of a network merged under the first one's name, their repeats added."""
    merged: dict[tuple[str, Problem], Layer] = {}
    for layer in layers:
        key = layer.network, layer.problem
        known = merged.get(key)
        merged[key] = replace(known, repeat=known.repeat + layer.repeat) if known else layer
    return tuple(merged.values())


def whole(value: str, what: str) -> int:
    """A whole number from foreign text; ASCII digits only, because int() takes signs, blanks and more."""
    if not _WHOLE.fullmatch(value):
        raise UsageError(f"{what} '{one_line(value)}': must be a whole number of at most 10 digits")
    return int(value)


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers. `splitlines` would also split at control characters inside a name."""
    return enumerate((line.rstrip("\r") for line in text.split("\n")), start=1)


@contextmanager
def located(source: str, line: int) -> Iterator[None]:
    """Say where in a file the error inside was found."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{one_line(source)}, line {line}: {error}") from None


def inexpressible(layer: Layer, kind: str, reason: str) -> UsageError:
    """The error for a layer that a foreign format has no words for."""
    return UsageError(
        f"layer '{layer.name}' ({layer.problem}) cannot be written as {kind}: {reason}; use csv"
    )


def _check_name(what: str, value: str) -> None:
    if not value.isprintable():
        raise UsageError(f"{what} '{one_line(value)}': control characters are not allowed; take them out")
    if len(value) > LONGEST_NAME:
        raise UsageError(f"{what} '{one_line(value)}': longer than {LONGEST_NAME} characters; shorten it")
    if value != value.strip():
        raise UsageError(f"{what} '{value}': blanks at its ends are not allowed; take them off")
