"""What an algorithm can do: directions, precisions and layouts, with the reasons where it cannot."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from convbench.conformance import Finding
from convbench.problem import Direction, Layout, Precision
from convbench.report.tables import MISSING, Table, clean

NOTE = (
    "Cases of the conformance suite that passed, over all cases; the rest is rejected (reasons below) or, "
    "where marked, fails for a known reason (k) or an unknown one (f)."
)
Cell = tuple[str, str, str]  # direction, precision, layout


class Matrix:
    """Findings of one algorithm, counted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._cases: dict[Cell, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._reasons: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        if finding.check != "case":
            return
        problem, *cell = finding.problem.rsplit("/", 3)
        self._cases[cell[0], cell[1], cell[2]][problem][finding.outcome] += 1
        if finding.outcome in ("skipped", "known"):
            self._reasons[re.sub(r"\d+", "#", str(finding.skipped or finding.known))] += 1

    def row(self, direction: Direction) -> tuple[str, ...]:
        cells = ((direction.value, p.value, layout.value) for p in Precision for layout in Layout)
        return (self.name, direction.value, *(self._share(cell) for cell in cells))

    def _share(self, cell: Cell) -> str:
        """A case counts if a variant passed and none failed."""
        cases = self._cases.get(cell, {}).values()
        if not cases:
            return MISSING
        passed = sum(bool(case["passed"]) for case in cases)
        marks = "".join(
            f" {sum(case[outcome] for case in cases)}{letter}"
            for outcome, letter in (("known", "k"), ("failed", "f"))
            if any(case[outcome] for case in cases)
        )
        return f"{passed}/{len(cases)}{marks}"

    def reasons(self) -> list[tuple[str, ...]]:
        return [(self.name, clean(reason), str(count)) for reason, count in self._reasons.most_common()]


def tables(matrices: Iterable[Matrix]) -> list[Table]:
    """The coverage matrix, and every reason once."""
    made = list(matrices)
    columns = tuple(f"{p.value} {layout.value}" for p in Precision for layout in Layout)
    rows = [matrix.row(direction) for matrix in made for direction in Direction]
    reasons = [row for matrix in made for row in matrix.reasons()]
    return [
        Table("Coverage matrix", ("algorithm", "direction", *columns), rows, NOTE),
        Table("Reasons", ("algorithm", "reason", "cells"), reasons),
    ]
