"""Implicit GEMM in forms that a test chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convbench.algorithms.cuda_implicit import Offered

from convbench.api import Plan, Problem, Variant


class Chosen:
    """The forms that `offered` makes of a problem, whatever the family would choose."""

    name, device = "implicit", "cuda"

    def offered(self, problem: Problem) -> Iterable[Offered]:
        raise NotImplementedError

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [form.variant() for form in self.offered(problem)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return next(form for form in self.offered(problem) if form.name == variant.name).plan()
