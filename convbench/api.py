"""The contract between the harness and a convolution implementation.

An algorithm says whether it can solve a problem, in which variants and with how much workspace, and prepares
one variant for one shape. The harness allocates operands, result and workspace, checks, and times `Plan.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from convbench.problem import Direction, Layout, Precision, Problem

__all__ = ["Algorithm", "Array", "Direction", "Layout", "Plan", "Precision", "Problem", "Variant"]

Array = Any
"""An array of the algorithm's device: numpy.ndarray on "cpu"."""


@dataclass(frozen=True)
class Variant:
    """One way an algorithm can solve one problem.

    workspace_bytes  what the harness must grant; exactly this much is granted
    library_bytes    what a library underneath allocates by itself during `run`; None if it cannot be known
    exact            sums of products and nothing else, so that small integers must come out bit for bit;
                     transform methods (Winograd, FFT) are not
    refused          why a library will not run it: listed and recorded as unsupported, never prepared
    details          tile, engine, math, deterministic, flops (algorithmic) ... as JSON values
    """

    name: str
    workspace_bytes: int = 0
    library_bytes: int | None = 0
    exact: bool = True
    refused: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Plan(Protocol):
    """A variant made ready for one shape; everything that depends on the shape alone is done.

    A plan may have two more attributes: `details`, what is known only now (added to the variant's), and
    `setup`, the seconds that parts of `prepare` took by name.
    """

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        """Compute the result into `out`. No allocation, compilation, synchronisation or host copy.

        What depends on tensor values (filter transforms, layout changes) belongs here and is timed.
        `workspace` is a one-dimensional byte array with unknown content; `out` too may hold anything.
        """
        ...

    def close(self) -> None:
        """Release what `prepare` took."""
        ...


@runtime_checkable
class Algorithm(Protocol):
    """One implementation on one device; holds no state of its own."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    def reject(self, problem: Problem) -> str | None:
        """Why this problem cannot be solved here, or None."""
        ...

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        """Variants worth timing. The limit is a hint to add smaller ones; the harness alone enforces it."""
        ...

    def prepare(self, problem: Problem, variant: Variant) -> Plan: ...
