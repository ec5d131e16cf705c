"""Grids among layers: what differs in one or two sizes only is found, whatever else is in the run."""

from __future__ import annotations

import pytest
from convbench.report.grids import lines, maps

from convbench.suites import load_suite


def texts(*names: str) -> list[str]:
    return [str(layer.problem) for name in names for layer in load_suite(name).layers]


@pytest.mark.parametrize(
    ("suite", "axis", "values"),
    [
        ("grid-filter", "filter size", list(range(1, 16))),
        ("grid-channels", "channels", [8 * 2**i for i in range(8)]),
        ("grid-image", "image size", [7, 14, 28, 56, 112, 224]),
        ("grid-batch", "batch", [2**i for i in range(9)]),
    ],
)
def test_a_grid_suite_is_one_line(suite: str, axis: str, values: list[int]) -> None:
    (line,) = lines(texts(suite))
    assert line.axes == (axis,) and line.values(0) == values
    assert set(line.places.values()) == set(texts(suite))


def test_lines_are_found_among_other_layers() -> None:
    found = lines(texts("vgg-d", "grid-filter", "quick", "grid-batch"))
    assert {line.axes for line in found} >= {("filter size",), ("batch",)}
    (line,) = (line for line in found if line.axes == ("filter size",))
    assert line.values(0) == list(range(1, 16))
    assert line.fixed == "batch 16, 64 channels in and out, 56x56 pixels"


def test_what_differs_in_more_than_one_size_is_no_line() -> None:
    assert lines(["n1c8h8k8r3p1", "n2c16h8k8r3p1", "n4c32h8k8r3p1"]) == []  # channels and batch together
    assert lines(["n1c8h8k8r3", "n2c8h8k8r3", "n4c8h8k8r3u2", "n8c8h8k8r3d2"]) == []
    assert lines(["n1c8h8w9k8r3", "n1c8h9w8k8r3", "n1c8h10w8k8r3"]) == []  # not square


def test_depthwise_and_dense_channels_are_two_lines() -> None:
    dense, depthwise = texts("grid-channels"), texts("grid-channels:n16c64h56k64r3p1g64")
    (line,) = lines([*dense[:4], *depthwise])
    assert set(line.places.values()) == set(depthwise)


def test_a_map_needs_most_of_its_places() -> None:
    whole = texts("grid-map")
    assert {grid.axes for grid in maps(whole)} == {
        ("filter size", "channels"),
        ("filter size", "batch"),
        ("channels", "batch"),
    }
    assert all(len(grid.places) == len(grid.values(0)) * len(grid.values(1)) for grid in maps(whole))
    assert maps(texts("grid-filter", "grid-channels", "grid-batch")) == []  # three lines span no map


def test_lines_that_cross_a_map_leave_it_whole() -> None:
    """They lengthen a row that they share with it, and no more."""
    several = texts("grid-map", "grid-filter", "grid-channels", "grid-batch")
    found = {grid.axes: grid for grid in maps(several)}
    assert all(grid.whole for grid in found.values())
    assert found["filter size", "channels"].values(0) == [1, 3, 5, 7, 11]
    assert found["filter size", "channels"].values(1) == [8, 32, 64, 128, 512]
    assert found["filter size", "channels"].fixed == "batch 16, 56x56 pixels"
    assert found["channels", "batch"].values(0) == [8, 32, 64, 128, 512]


def test_a_map_with_a_hole_keeps_the_row_that_has_it() -> None:
    hole = "c8h56w56k8r3s3"
    (grid,) = maps([text for text in texts("grid-map") if text.startswith("n1c") and hole not in text])
    assert len(grid.places) == 19 and not grid.whole
