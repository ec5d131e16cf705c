"""Which algorithms there are: the built-in families, and those of installed packages (entry points)."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from convbench.api import Algorithm
from convbench.errors import UsageError, one_line, unknown

BUILT_IN = (
    *("direct", "im2col", "fft", "winograd"),
    *("cuda_direct", "cuda_im2col", "cuda_fft", "cuda_winograd", "cuda_implicit"),
    *("torch", "jax", "cudnn", "cudnn_graph"),
)
GROUP = "convbench.algorithms"


@dataclass(frozen=True)
class Entry:
    """An algorithm with where it came from."""

    algorithm: Algorithm
    origin: str
    source: str

    @property
    def name(self) -> str:
        return self.algorithm.name

    @property
    def device(self) -> str:
        return self.algorithm.device


@dataclass(frozen=True)
class Broken:
    """A plug-in that could not be loaded."""

    name: str
    origin: str
    reason: str


@lru_cache(maxsize=1)
def load_all() -> tuple[tuple[Entry, ...], tuple[Broken, ...]]:
    """Every algorithm for every device, built-in ones first; plug-ins that fail are listed, never fatal."""
    entries: list[Entry] = []
    broken: list[Broken] = []
    for module_name in BUILT_IN:
        module = import_module(f"convbench.algorithms.{module_name}")
        entries += (_entry(algorithm, "built in") for algorithm in module.ALGORITHMS)
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            entries += _plug_in(point, origin, entries)
        except (Exception, SystemExit) as error:  # a plug-in may raise anything; the others go on
            broken.append(Broken(point.name, origin, f"{type(error).__name__}: {one_line(str(error))}"))
    return tuple(entries), tuple(broken)


def _plug_in(point: EntryPoint, origin: str, present: Iterable[Entry]) -> list[Entry]:
    loaded = point.load()
    taken = {(entry.name, entry.device) for entry in present}
    found = []
    for algorithm in loaded if isinstance(loaded, tuple | list) else (loaded,):
        algorithm = algorithm() if isinstance(algorithm, type) else algorithm
        if not isinstance(algorithm, Algorithm):
            raise TypeError(
                f"{algorithm!r} lacks name, device, reject, variants or prepare (convbench.api.Algorithm)"
            )
        if (algorithm.name, algorithm.device) in taken:
            raise ValueError(f"the name '{algorithm.name}' is taken on device {algorithm.device}")
        taken.add((algorithm.name, algorithm.device))
        found.append(_entry(algorithm, origin))
    return found


def algorithms(device: str) -> dict[str, Entry]:
    """The algorithms of a device by name."""
    return {entry.name: entry for entry in load_all()[0] if entry.device == device}


def select(device: str, names: Iterable[str] | None = None) -> list[Entry]:
    """The named algorithms, or all of the device."""
    known = algorithms(device)
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            reasons = {broken.name: broken.reason for broken in load_all()[1]}
            if name in reasons:
                raise UsageError(f"algorithm '{name}' cannot be loaded: {reasons[name]}")
            if elsewhere := [entry.device for entry in load_all()[0] if entry.name == name]:
                other = elsewhere[0]
                raise UsageError(f"algorithm '{name}' is for device {other}, not {device}; --device {other}")
            raise unknown(f"algorithm for device {device}", name, known)
    return [known[name] for name in dict.fromkeys(names)]


def _entry(algorithm: Algorithm, origin: str) -> Entry:
    return Entry(algorithm, origin, source_hash(sys.modules[type(algorithm).__module__]))


def source_hash(module: ModuleType) -> str:
    """Content of the module and of its neighbours that it uses: a changed kernel makes new cells."""
    digest = hashlib.sha256()
    for file in sorted(_files(module, {module.__name__})):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(module: ModuleType, seen: set[str]) -> Iterator[Path]:
    package = module.__name__.rpartition(".")[0]
    if module.__file__:
        file = Path(module.__file__)
        yield file
        yield from file.parent.glob(f"{file.stem}*.cu*")
    for value in list(vars(module).values()):
        name = _module_name(value)
        if package and name.startswith(package + ".") and name not in seen and name in sys.modules:
            seen.add(name)
            yield from _files(sys.modules[name], seen)


def _module_name(value: Any) -> str:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return name if isinstance(name, str) else ""
