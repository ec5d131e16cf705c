"""What a cell's record carries beside its time, and what becomes of it when the measurement is in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from faults import Correct, Offers, ReferencePlan
from sweeping import CORRECT, SteadyDevice, options, sweep

from convbench import contestant
from convbench.api import Plan, Problem, Variant
from convbench.record import Energy, Host, Limit, Record, Status
from convbench.suites import Suite
from convbench.timing import PRESETS

ENERGY = Energy(joules=0.5, watts=400.0, resolution=0.02, window=5.0, step=0.1, calls=9, idle_watts=90.0)


class Instrumented(SteadyDevice):
    """Knows its energy, its rates and the host's share."""

    cache = "hot"

    def __init__(self, energy: Energy | str = ENERGY, floor: float = 0.0) -> None:
        self._energy, self._floor, self.warmed, self.asked = energy, floor, 0, 0

    def warm_up(self, call: Any) -> None:
        call()
        self.warmed += 1

    def host(self, call: Any) -> Host:
        return Host(1e-5, 2e-2)

    def energy(self, call: Any, seconds: float) -> Energy | str:
        assert seconds == 0.02
        self.asked += 1
        return self._energy

    def limit(self, problem: Problem, details: Mapping[str, Any]) -> Limit | None:
        return Limit(details["flops"] / 1e6, "gemm fp32") if "flops" in details else None

    def floor(self, problem: Problem, details: Mapping[str, Any]) -> float:
        return self._floor


def measured(
    folder: Path, suite: Suite, device: SteadyDevice, algorithm: Any = CORRECT, **wishes: Any
) -> Record:
    return sweep(folder, suite, options(algorithm, **wishes), device).records[0]


def test_a_record_says_what_the_host_and_the_machine_have_to_do_with_it(tmp_path: Path, suite: Suite) -> None:
    device = Instrumented()
    counts = Offers("correct", offered=(Variant("only", details={"flops": 5000}),))
    one = measured(tmp_path, suite, device, counts)
    assert one.host == Host(1e-5, 2e-2)
    assert one.limit == Limit(0.005, "gemm fp32")
    assert one.cell.cache == "hot"
    assert one.setup["first_call"] >= 0
    assert device.warmed > 0
    assert one.energy is None and device.asked == 0


def test_energy_is_taken_when_asked_for(tmp_path: Path, suite: Suite) -> None:
    one = measured(tmp_path, suite, Instrumented(), energy=True)
    assert one.energy == ENERGY and "no_energy" not in one.flags


def test_energy_that_cannot_be_known_is_a_reason_not_a_guess(tmp_path: Path, suite: Suite) -> None:
    one = measured(tmp_path, suite, Instrumented("no counter"), energy=True)
    assert one.energy is None and "no_energy" in one.flags and one.details["no_energy"] == "no counter"


def test_a_time_below_the_floor_is_kept_but_not_ok(tmp_path: Path, suite: Suite) -> None:
    one = measured(tmp_path, suite, Instrumented(floor=0.021))
    assert one.status is Status.INVALID
    assert one.reason == "implausible: 0.02 s is less than the 0.021 s it must take"
    assert one.time is not None and one.time.median == 0.02


def test_a_refused_variant_ends_as_unsupported_with_its_reason(tmp_path: Path, suite: Suite) -> None:
    offered = (Variant("no", refused="NOT_SUPPORTED: 5x5", details={"engine": 7}), Variant("yes"))
    records = sweep(tmp_path, suite, options(Offers("correct", offered=offered))).records
    found = {one.cell.variant: one for one in records[:2]}
    assert found["no"].status is Status.UNSUPPORTED
    assert found["no"].reason == "NOT_SUPPORTED: 5x5" and found["no"].details == {"engine": 7}
    assert found["yes"].status is Status.OK


def test_a_reason_that_is_no_text_is_the_plug_ins_fault(tmp_path: Path, suite: Suite) -> None:
    refused: Any = 3000
    one = measured(
        tmp_path, suite, SteadyDevice(), Offers("correct", offered=(Variant("v", refused=refused),))
    )
    assert one.status is Status.CRASHED and "3000" in one.reason


@dataclass
class Knowing(ReferencePlan):
    """A plan that has found out more than its variant knew."""

    details: ClassVar = {"picked": "GEMM"}
    setup: ClassVar = {"find": 0.5}


class Finds(Correct):
    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [Variant("find", details={"selection": "find"})]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return Knowing(problem, self)


def test_what_only_the_plan_knows_is_in_the_record(tmp_path: Path, suite: Suite) -> None:
    one = measured(tmp_path, suite, SteadyDevice(), Finds())
    assert one.details == {"selection": "find", "picked": "GEMM"}
    assert one.setup["find"] == 0.5 and one.setup["prepare"] >= 0


def test_a_call_as_long_as_a_cell_may_take_is_not_called_again(
    tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 1000, 20))
    monkeypatch.setattr("convbench.runner.perf_counter", lambda: float(next(ticks)))
    one = measured(tmp_path, suite, SteadyDevice())
    assert one.status is Status.TIMEOUT
    assert one.reason.startswith("one call took 20.0 s, the limit of a cell is 5 s")


def test_burst_rests_as_long_as_it_works(
    tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(contestant, "sleep", rests.append)
    assert measured(tmp_path / "sustained", suite, SteadyDevice()).cell.regime == "sustained"
    assert not rests
    one = measured(tmp_path / "burst", suite, SteadyDevice(), regime="burst")
    assert one.cell.regime == "burst" and len(rests) > PRESETS["quick"].rounds and min(rests) > 0


def test_cells_of_two_cache_modes_are_two_cells(tmp_path: Path, suite: Suite) -> None:
    first = sweep(tmp_path, suite, options(CORRECT), SteadyDevice())
    second = sweep(tmp_path, suite, options(CORRECT), Instrumented())
    assert second.measured == first.measured and second.finished_before == 0
