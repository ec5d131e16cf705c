"""Workspace limits, memory and disk: what does not fit is said with both numbers, and the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from faults import Correct, Offers
from sweeping import CORRECT, SteadyDevice, options, sweep

from convbench.api import Variant
from convbench.errors import CannotRunError, UsageError
from convbench.record import Status
from convbench.store import read
from convbench.suites import Suite, load_suite
from convbench.sweep import refuse_impossible

# ---- limits ------------------------------------------------------------------------------------------------

STAIRS = Offers("stairs", offered=tuple(Variant(f"v{size}", size) for size in (0, 1000, 1001)))


def test_a_variant_over_the_limit_is_not_run(tmp_path: Path, suite: Suite) -> None:
    summary = sweep(tmp_path, suite, options(STAIRS, limits=(10, 1000)))
    found = {record.cell.variant: record for record in summary.records}
    assert {name: record.status.value for name, record in found.items()} == {
        "v0": "ok",
        "v1000": "ok",
        "v1001": "over_limit",
    }
    assert found["v1001"].reason == "needs 1001 bytes (1001 B), the limit is 1000 (1000 B)"
    assert found["v0"].cell.workspace_limit == 1000
    assert not summary.failures


def test_no_limit_beside_others_lets_everything_run(tmp_path: Path, suite: Suite) -> None:
    summary = sweep(tmp_path, suite, options(STAIRS, limits=(10, None)))
    assert {record.status for record in summary.records} == {Status.OK}


def test_what_a_library_takes_counts_too(tmp_path: Path, suite: Suite) -> None:
    hidden = Offers(
        "hidden", offered=(Variant("a", 500, library_bytes=501), Variant("b", 500, library_bytes=None))
    )
    summary = sweep(tmp_path, suite, options(hidden, limits=(1000,)))
    assert {r.cell.variant: r.status.value for r in summary.records} == {"a": "over_limit", "b": "ok"}


def test_an_algorithm_may_offer_more_under_a_limit(tmp_path: Path, suite: Suite) -> None:
    class Adapts(Correct):
        def variants(self, problem: object, workspace_limit: int | None) -> Sequence[Variant]:
            return [Variant("whole", 4096), *([Variant("part", 8)] if workspace_limit else [])]

    summary = sweep(tmp_path, suite, options(Adapts("adapts"), limits=(None, 64)))
    assert {record.cell.variant for record in summary.records} == {"whole", "part"}


# ---- memory ------------------------------------------------------------------------------------------------


def test_a_cell_that_does_not_fit_ends_with_both_numbers(tmp_path: Path, suite: Suite) -> None:
    device = SteadyDevice()
    device.free = 1 << 24
    greedy = Offers("greedy", offered=(Variant("small"), Variant("big", 1 << 24)))
    summary = sweep(tmp_path, suite, options(CORRECT, greedy), device)
    failed = {record.cell.variant: record for record in summary.failures}
    assert set(failed) == {"big"} and failed["big"].status is Status.OOM
    assert "16777216 (16 MiB) are free" in failed["big"].reason and "needs 1" in failed["big"].reason


def test_where_free_memory_is_unknown_everything_is_tried(tmp_path: Path, suite: Suite) -> None:
    device = SteadyDevice()
    device.free = None
    assert sweep(tmp_path, suite, options(CORRECT), device).measured == 2
    refuse_impossible(suite, options(CORRECT), device)


def test_layers_beyond_memory_are_refused_before_anything_is_allocated(suite: Suite) -> None:
    device = SteadyDevice()
    device.free = 1000
    with pytest.raises(UsageError, match=r"needs \d+ bytes .* 1000 \(1000 B\) are free; use a smaller batch"):
        refuse_impossible(suite, options(CORRECT), device)


def test_one_layer_that_fits_is_enough(tmp_path: Path, suite: Suite) -> None:
    device = SteadyDevice()
    device.free = 1 << 26
    mixed = Suite("mixed", (*suite.layers, *Suite("big", load_suite("vgg-d").layers[:1]).layers))
    refuse_impossible(mixed, options(CORRECT), device)
    summary = sweep(tmp_path, mixed, options(CORRECT), device)
    assert [record.status.value for record in summary.records] == ["ok", "ok", "oom"]


def test_a_full_disk_ends_the_sweep_and_keeps_what_is_there(
    tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(tmp_path, suite, options(CORRECT))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(CannotRunError, match=r"No space left on device"):
            sweep(tmp_path, suite, options(Correct("other")))
    kept = [cell for cell in read(tmp_path).cells.values() if cell.cell.algorithm == "correct"]
    assert [cell.status for cell in kept] == [Status.OK, Status.OK]
