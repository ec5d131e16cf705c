"""Published figures beside one's own, and the tables in the shapes of other benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from convbench.report import published as shown
from convbench.report.peers import DEEPBENCH, deepbench, layerwise
from convbench.report.published import NONE, published
from convbench.report.tables import MISSING, Table, csv_text
from convbench.report.views import by_network
from test_report import A, B, column, contents, frames, record

from convbench.frame import cells_frame, layers_frame
from convbench.problem import Direction
from convbench.store import Contents
from convbench.suites import load_suite

ROOT = Path(__file__).parent.parent
LAYERS = [layer for layer in load_suite("convnet-benchmarks").layers if layer.network == "layerwise"]


def own(**ms: float) -> Contents:
    """A run of L1 to L5 in all directions by some algorithms, under other names than the suite's."""
    return contents(
        *(
            record(name, time * (1 + i), str(layer.problem), direction=direction)
            for name, time in ms.items()
            for i, layer in enumerate(LAYERS)
            for direction in Direction
        )
    )


def tables(held: Contents) -> dict[str, Table]:
    found = published(held, cells_frame(held), layers_frame(held))
    return {table.title.removeprefix("Published figures: ").partition(" (")[0]: table for table in found}


def test_every_row_names_its_hardware_and_source() -> None:
    for name in ("networks", "layerwise"):
        for row in shown._rows(name):
            assert row["hardware"].startswith("NVIDIA Titan") and " at b" in row["source"]


def test_the_figures_are_those_of_their_sources() -> None:
    rows = {
        (r["network"], r["library"], r["precision"], r["source"].split()[0]): r
        for r in shown._rows("networks")
    }
    overfeat = rows["overfeat_fast", "CuDNN[R3]", "fp32", "VittalP/convnet-benchmarks"]
    assert (overfeat["total_ms"], overfeat["forward_ms"], overfeat["backward_ms"]) == ("326", "113", "213")
    vgg = rows["vgg_a", "Nervana-neon", "fp32", "soumith/convnet-benchmarks"]
    assert (vgg["total_ms"], vgg["forward_ms"], vgg["backward_ms"]) == ("320", "103", "217")
    for row in shown._rows("layerwise"):
        assert sum(int(row[f"{name}_ms"]) for name in shown.LAYERS) == int(row["total_ms"])


def test_a_cherry_picked_row_is_the_best_of_each_layer() -> None:
    for passes in shown.PASSES:
        *others, best = [row for row in shown._rows("layerwise") if row["passes"] == passes]
        for name in shown.LAYERS:
            assert int(best[f"{name}_ms"]) == min(int(row[f"{name}_ms"]) for row in others)


def test_own_rows_come_first_and_are_recognised_by_their_shapes() -> None:
    table = tables(own(fast=1.0, slow=10.0))["layerwise"]
    assert column(table, "library")[:3] == ["fast", "slow", "best per layer"]
    assert column(table, "total (ms)")[:2] == ["45.0", "450"]
    assert column(table, "forward (ms)")[0] == "15.0" and column(table, "backward (ms)")[0] == "30.0"
    assert all(text.startswith("CPU (cpu") for text in column(table, "measured on")[:3])
    assert set(column(table, "measured on")[3:]) == {
        "NVIDIA Titan X, Intel Core i7-5930K",
        "NVIDIA Titan Black",
    }
    assert table.best == frozenset() and len(table.rows) - table.totals == 3


def test_layers_stand_beside_the_published_ones() -> None:
    found = tables(own(fast=1.0))
    forward, backward = found["layerwise, forward"], found["layerwise, backward"]
    assert forward.rows[0][3:9] == ("1.00", "2.00", "3.00", "4.00", "5.00", "15.0")
    assert backward.rows[0][3:9] == ("2.00", "4.00", "6.00", "8.00", "10.0", "30.0")
    assert "fbfft" in column(forward, "library") and "cherry-picking" in column(backward, "library")


def test_a_part_of_a_network_has_no_total() -> None:
    one = contents(record("a", 1.0, str(LAYERS[0].problem)))
    assert column(tables(one)["layerwise"], "forward (ms)")[0] == "1 of 5 layers"


def test_without_own_figures_all_published_ones_are_shown_and_it_is_said() -> None:
    found = tables(contents(record("a")))
    assert {"alexnet", "overfeat_fast", "vgg_a", "googlenet_v1", "layerwise, forward"} <= set(found)
    assert all(NONE in table.note and "soumith" in table.note for table in found.values())


def test_the_folder_of_results_points_at_the_data() -> None:
    text = (ROOT / "results" / "published" / "README.md").read_text(encoding="utf-8")
    for file in shown.DATA.glob("published_*.csv"):
        assert file.name in text
    for row in shown._rows("networks"):
        assert row["source"].partition(" at ")[2].split(",")[0] in text


# ---- shapes of peers ---------------------------------------------------------------------------------------


def three(*names: str) -> tuple[Any, Any]:
    times = {"a": (1.0, 8.0), "b": (2.0, 2.0), "c": (4.0, None)}
    many = [
        record(name, ms, text, direction=direction)
        for name in names
        for text, ms in zip((A, B), times[name], strict=True)
        if ms
        for direction in Direction
    ]
    return frames(*many, layers=[("x", A, 2), ("y", B, 1)])


def test_layerwise_sorts_by_total_and_ends_with_the_best_of_each_layer() -> None:
    forward, backward = layerwise(*three("a", "b", "c"))
    assert forward.columns == ("algorithm", "x", "y", "total (ms)")
    assert forward.rows == [
        ("b", "2.00", "2.00", "6.00"),
        ("a", "1.00", "8.00", "10.0"),
        ("c", "4.00", MISSING, "1 of 2 layers"),
        ("best per layer", "1.00", "2.00", "4.00"),
    ]
    assert backward.rows[-1] == ("best per layer", "2.00", "4.00", "8.00")
    assert forward.best == {(0, 2), (1, 1)} and forward.totals == 1


def test_layerwise_leaves_wide_networks_to_the_layers() -> None:
    many = [f"n1c8h{size}k8r3p1" for size in range(8, 28)]
    cells, layers = frames(*(record("a", 1.0, text) for text in many), layers=[(t, t, 1) for t in many])
    (table,) = layerwise(cells, layers)
    assert table.rows == [] and "view layers" in table.note


def test_networks_name_the_classes_that_won() -> None:
    many = [record("a", 1.0, A, "f4"), record("a", 2.0, A, "f2"), record("a", 1.0, B, "f4")]
    (table,) = by_network(*frames(*many, layers=[("x", A, 1), ("y", B, 1)]))
    assert column(table, "class") == ["f4", ""]


def test_deepbench_rows_have_its_columns() -> None:
    text, passes = "n2c8h16w12k4r3s5p1x2u2x1", zip((1, 2, 4), Direction, strict=True)
    (table,) = deepbench(*frames(*(record("a", ms, text, direction=d) for ms, d in passes)))
    (row,) = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert table.columns == DEEPBENCH
    assert " ".join(row[name] for name in DEEPBENCH[:7]) == "12 16 8 2 4 5 3"
    assert " ".join(row[name] for name in DEEPBENCH[7:11]) == "2 1 1 2"
    assert row["total_time (ms)"] == "7.00" and row["fwd_algo"] == "a/v"


@pytest.mark.parametrize("text", ["n1c8h8k8r3p1g8", "n1c8h8k8r3d2", "n1c8h8k8r2p0.1", "n1c8h8k8r3flip"])
def test_what_deepbench_has_no_columns_for_is_left_out(text: str) -> None:
    (table,) = deepbench(*frames(record("a", 1.0, text)))
    assert table.rows == []


def test_a_missing_pass_leaves_the_total_open() -> None:
    (table,) = deepbench(*frames(record("a", 1.0, A)))
    assert column(table, "total_time (ms)") == [MISSING] and "1.00" in csv_text(table)
