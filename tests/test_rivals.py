"""Ours beside cuDNN: who opposes whom, in which accuracy, and how ratios are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from comparing import blocks, holding, measured
from convbench.report.rivals import BEST, SUMMARY, Ratio, mean, rivals
from convbench.report.tables import MISSING, Table

from convbench.frame import cells_frame, layers_frame
from convbench.problem import Direction, Precision, Problem
from convbench.record import Record

OTHER = "n1c2h7w4k3r3p1"


def timed(ms: float, algorithm: str, variant: str, **changes: str) -> Record:
    return measured(blocks(ms * 1e-3, noise=1e-3), algorithm, variant, **changes)


def tables(*records: Record) -> list[Table]:
    held = holding(*records)
    texts = dict.fromkeys(str(record.cell.problem) for record in records)
    held.layers = [
        {"suite": "s", "network": "net", "name": f"l{i}", "repeat": 1, "text": str(Problem.parse(text))}
        for i, text in enumerate(texts)
    ]
    return rivals(cells_frame(held), layers_frame(held))


def row(table: Table, family: str) -> Sequence[str]:
    return next(one for one in table.rows if one[0] == family)[2:]


def test_a_family_meets_its_own_and_the_best_meets_the_best() -> None:
    summary, layers = tables(
        timed(1.0, "direct", "tile"),
        timed(0.5, "fft", "tile32"),
        timed(2.0, "cudnn", "IMPLICIT_GEMM"),
        timed(0.8, "cudnn", "FFT_TILING"),
        timed(0.4, "cudnn-graph", "eng3"),
    )
    assert row(summary, "direct")[0].startswith("2.00 [")
    assert row(summary, "fft")[0].startswith("1.60 [")
    assert row(summary, BEST)[0].startswith("0.80 [")
    assert row(summary, BEST)[1:] == (MISSING, MISSING)
    assert layers.rows[0][:3] == ("l0", "fwd", "0.80")
    assert (layers.rows[0][4], layers.rows[0][7]) == ("fft/tile32", "cudnn-graph/eng3")


def test_opponents_depend_on_the_direction() -> None:
    records = [
        timed(ms, algorithm, variant, direction=Direction.BWD_DATA)
        for ms, algorithm, variant in (
            (1.0, "direct", "tile"),
            (3.0, "cudnn", "ALGO_0"),
            (2.0, "cudnn", "ALGO_1"),
        )
    ]
    summary, _ = tables(*records)
    assert row(summary, "direct")[1].startswith("3.00 [")


def test_a_less_accurate_variant_of_ours_does_not_count_but_cudnns_does() -> None:
    summary, _ = tables(
        timed(1.0, "winograd", "f4"),
        timed(0.2, "winograd", "f6", accuracy="F"),
        timed(0.1, "winograd", "f8", accuracy="T"),
        timed(1.5, "cudnn", "WINOGRAD_NONFUSED", accuracy="F"),
    )
    assert row(summary, "winograd")[0].startswith("1.50 [")


def test_where_tf32_is_asked_for_its_accuracy_counts_on_both_sides() -> None:
    summary, _ = tables(
        timed(1.0, "implicit", "tile", precision=Precision.TF32, accuracy="T"),
        timed(9.0, "implicit", "3xfp16", precision=Precision.TF32, accuracy="S"),
        timed(1.5, "cudnn", "IMPLICIT_GEMM", precision=Precision.TF32, accuracy="T"),
    )
    assert row(summary, "implicit")[0].startswith("1.50 [")
    assert "Ours is of class S or F or T, the opponent of S or F or T." in summary.note


def test_the_library_s_own_choice_is_no_opponent_and_other_libraries_are_not_ours() -> None:
    summary, _ = tables(
        timed(1.0, "direct", "tile"),
        timed(0.1, "torch", ""),
        timed(2.0, "cudnn", "IMPLICIT_GEMM+fma"),
    )
    assert row(summary, BEST)[0].startswith("2.00 [")


def test_frameworks_meet_our_best_in_rows_of_their_own() -> None:
    summary, _ = tables(
        timed(1.0, "direct", "tile"),
        timed(2.0, "cudnn", "IMPLICIT_GEMM"),
        timed(3.0, "torch", "autotuned"),
        timed(4.0, "torch", "default"),
        timed(5.0, "jax", "autotuned", accuracy="F"),
        timed(0.5, "jax", "fast", accuracy="T"),
    )
    best = [(one[1], one[2][:4]) for one in summary.rows if one[0] == BEST]
    assert best == [("best of cuDNN", "2.00"), ("PyTorch", "3.00"), ("JAX", "5.00")]


def test_layers_with_one_side_only_are_left_out_and_nothing_gives_one_empty_table() -> None:
    summary, layers = tables(
        timed(1.0, "direct", "tile"),
        timed(2.0, "cudnn", "IMPLICIT_GEMM"),
        timed(1.0, "direct", "tile", text=OTHER),
    )
    assert "1 layers" in row(summary, "direct")[0]
    assert len(layers.rows) == 1
    assert [(table.columns, table.rows) for table in tables(timed(1.0, "direct", "tile"))] == [(SUMMARY, [])]


def test_the_interval_of_the_mean_shrinks_with_the_layers() -> None:
    one = Ratio(2.0, 1.8, 2.2)
    four = mean([one] * 4)
    assert four.value == pytest.approx(2.0)
    assert 2.0 - four.lo < 2.0 - mean([one]).lo < 0.21
    assert mean([Ratio(1.0, 1.0, 1.0), Ratio(4.0, 4.0, 4.0)]) == pytest.approx((2.0, 2.0, 2.0))
