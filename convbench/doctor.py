"""What this machine can do, and the command that adds what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from convbench import devices, environment, libcudnn, registry
from convbench.libcudnn_find import MissingError
from convbench.sizes import format_size

OPTIONAL = {"torch": "pip install 'convbench[torch]'", "jax": "pip install 'convbench[jax]'"}
OPTIONAL |= {"cupy": "pip install 'convbench[cuda13]' (or cuda12)"}
OPTIONAL |= {"cudnn": "pip install 'nvidia-cudnn-frontend>=1.26,<1.27' (for cudnn-graph)"}


def examine() -> Iterator[str]:
    """One finding a line."""
    facts = environment.collect()
    identity = facts["identity"]
    yield f"convbench {facts['convbench']}, Python {facts['python']}, {facts['system']}"
    memory = format_size(facts["memory"])
    yield f"cpu: {identity['cpu']}, {identity['threads']} of {facts['cpus']} threads, {memory}"
    libraries = ", ".join(f"{name} {version}" for name, version in identity["libraries"].items() if version)
    yield f"libraries: {libraries}; BLAS {identity['blas']}"
    for name in devices.NAMES:
        yield f"device {name}: {devices.missing(name) or 'ready'}"
    if devices.missing("cuda") is None:
        yield f"cuDNN: {_cudnn()}"
    yield f"default device: {devices.choose(None)}"
    entries, broken = registry.load_all()
    for entry in entries:
        yield f"algorithm {entry.name} ({entry.device}): {entry.origin}"
    for one in broken:
        yield f"algorithm {one.name}: cannot be loaded from {one.origin}: {one.reason}"
    for module, command in OPTIONAL.items():
        if find_spec(module) is None:
            yield f"not installed: {module}; {command}"
    yield from _warnings(facts)


def _cudnn() -> str:
    try:
        return libcudnn.open_library().version
    except MissingError as error:
        return str(error)


def _warnings(facts: dict[str, object]) -> Iterator[str]:
    """Conditions under which figures are less steady."""
    load, cpus, governor = facts["load"], facts["cpus"], facts["governor"]
    if isinstance(load, float) and isinstance(cpus, int) and load > cpus / 2:
        yield f"warning: the load average is {load:.1f}; other work on this machine makes figures noisy"
    if governor not in ("", "performance"):
        yield f"warning: the CPU frequency governor is '{governor}'; 'performance' gives steadier figures"
