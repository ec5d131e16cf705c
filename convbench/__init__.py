"""convbench: interchangeable convolution algorithms, checked for agreement and timed across layer shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Problem", "convolve", "list_algorithms", "load", "reject"]

if TYPE_CHECKING:
    from convbench.frame import load
    from convbench.functions import convolve, list_algorithms, reject
    from convbench.problem import Problem

_HOMES = {
    "Problem": "convbench.problem",
    "convolve": "convbench.functions",
    "list_algorithms": "convbench.functions",
    "load": "convbench.frame",
    "reject": "convbench.functions",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import on first use: `import convbench` alone loads no array library."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'convbench' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
