"""The exact parts of the transform methods: minimal filtering, tiles and phases."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from convbench.algorithms.phases import Axis, collect, fill
from convbench.algorithms.tiles import FEW, Cut, Tiles, gather, scatter
from convbench.algorithms.toomcook import LARGEST, Matrix, minimal_filtering, nested

SIZES = [(m, r) for m in range(1, LARGEST + 1) for r in range(1, LARGEST + 1) if m + r - 1 <= LARGEST]


def apply(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((x * y for x, y in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


def fractions(random: Random, count: int) -> list[Fraction]:
    return [Fraction(random.randint(-99, 99), random.randint(1, 99)) for _ in range(count)]


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_minimal_filtering_is_the_fir_filter_exactly(m: int, r: int) -> None:
    random, f = Random(m * 100 + r), minimal_filtering(m, r)
    data, taps = fractions(random, m + r - 1), fractions(random, r)
    products = [u * v for u, v in zip(apply(f.filter, taps), apply(f.data, data), strict=True)]
    expected = [sum((data[i + j] * taps[j] for j in range(r)), Fraction(0)) for i in range(m)]
    assert apply(f.inverse, products) == expected


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_data_and_inverse_transforms_are_exact_in_binary(m: int, r: int) -> None:
    f = minimal_filtering(m, r)
    for x in (x for matrix in (f.data, f.inverse) for row in matrix for x in row):
        assert x.denominator & (x.denominator - 1) == 0


def test_f23_is_the_one_of_the_literature() -> None:
    """Rows of G and B^T may be scaled against each other; here a sign of the first products."""
    f, half = minimal_filtering(2, 3), Fraction(1, 2)
    assert f.inverse == ((1, 1, 1, 0), (0, 1, -1, 1))
    assert f.filter == ((-1, 0, 0), (half, half, half), (half, -half, half), (0, 0, 1))
    assert f.data == ((-1, 0, 1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))


def test_nested_transform_is_rows_then_columns() -> None:
    rows, cols = minimal_filtering(2, 3).data, minimal_filtering(4, 3).data
    tile = np.random.default_rng(0).integers(-9, 10, (4, 6)).astype(np.float64)
    b, c = (np.array(matrix, dtype=np.float64) for matrix in (rows, cols))
    flat = nested(rows, cols, np.dtype(np.float64)) @ tile.reshape(-1)
    np.testing.assert_array_equal(flat.reshape(4, 6), b @ tile @ c.T)


# ---- tiles ------------------------------------------------------------------------------------------------


def pixel(image: np.ndarray, row: int, col: int) -> np.ndarray | int:
    """A pixel of (N, G, C, H, W), zero outside."""
    inside = 0 <= row < image.shape[3] and 0 <= col < image.shape[4]
    return image[..., row, col] if inside else 0


def cut(size: int, lead: int, parts: int, step: int, window: int) -> Cut:
    return Cut(size, lead, parts, step, window, -(-(size + abs(lead)) // (parts * step)))


CUTS = {
    "f43": (cut(9, 1, 1, 4, 6), cut(11, 2, 1, 4, 6)),
    "cropped": (cut(9, -2, 1, 2, 4), cut(7, -1, 1, 2, 4)),
    "phases": (cut(9, 3, 2, 3, 5), cut(8, 1, 3, 2, 4)),
    "padding over image": (cut(1, 4, 1, 2, 4), cut(2, 3, 1, 2, 4)),
    "one large tile": (cut(9, 1, 1, 12, 14), cut(7, 2, 1, 12, 14)),
}


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("name", CUTS)
def test_gather_reads_every_element_where_it_belongs(name: str, stacked: bool, channels_first: bool) -> None:
    (rows, cols), rng = CUTS[name], np.random.default_rng(0)
    tiles = Tiles(rows, cols, 2, 2, 3, stacked, channels_first)
    image = rng.integers(1, 99, (2, 2, 3, rows.size, cols.size)).astype(np.float64)
    block = np.full((*tiles.window, tiles.width), np.nan)
    gather(tiles, block, image)
    elements = tiles.elements(block)
    for i, j, a, b, y, x in np.ndindex(*elements.shape[:4], rows.count, cols.count):
        row = (y * rows.step + i) * rows.parts + a - rows.lead
        col = (x * cols.step + j) * cols.parts + b - cols.lead
        expected = np.broadcast_to(pixel(image, row, col), (2, 2, 3)).transpose(1, 2, 0)
        np.testing.assert_array_equal(elements[i, j, a, b, ..., y, x], expected)


@pytest.mark.parametrize("window", [2, 12])
@pytest.mark.parametrize("groups", [1, 2])
def test_scatter_undoes_gather_and_crops_the_overhang(window: int, groups: int) -> None:
    rows, cols = cut(9, 1, 1, window, window), cut(7, 0, 2, window, window)
    tiles = Tiles(rows, cols, 1, groups, 3, True, True)
    assert (FEW * rows.count * cols.count < window * window) == (window == 12), "both ways of copying"
    image = np.random.default_rng(0).uniform(size=(1, groups, 3, 9, 7))
    block, out = np.empty((*tiles.window, tiles.width)), np.full_like(image, np.nan)
    gather(tiles, block, image)
    scatter(tiles, block, out)
    np.testing.assert_array_equal(out, image)


def test_bands_of_rows_are_the_tiles_of_the_whole() -> None:
    whole = Tiles(cut(23, 1, 1, 4, 6), cut(9, 1, 1, 4, 6), 1, 1, 2, False, True)
    image = np.random.default_rng(0).uniform(size=(1, 1, 2, 23, 9))
    expected = np.empty((*whole.window, whole.width))
    gather(whole, expected, image)
    for first in (0, 2, 4):
        band = whole.band(first, 2)
        block = np.empty((*band.window, band.width))
        gather(band, block, image)
        part = whole.elements(expected)[..., first : first + band.rows.count, :]
        np.testing.assert_array_equal(band.elements(block), part)


# ---- phases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [-2, 0, 1, 9])
@pytest.mark.parametrize("step", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 5, 6])
def test_axis_pixels(size: int, step: int, lead: int) -> None:
    """Padding larger than the image, cropping and strides larger than the image included."""
    axis = Axis(size, lead, step, length=6)
    for phase in range(step):
        places, pixels = axis.pixels(phase)
        found = dict(zip(range(*places.indices(6)), range(*pixels.indices(size)), strict=True))
        positions = {i: i * step + phase - lead for i in range(6)}
        assert found == {i: position for i, position in positions.items() if 0 <= position < size}


@pytest.mark.parametrize("lead", [0, 2])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_collect_undoes_fill(step: int, lead: int) -> None:
    length = -(-(9 + lead) // step)
    axes = Axis(9, lead, step, length), Axis(4, lead, 1, 4 + lead)
    image = np.random.default_rng(0).uniform(size=(2, 1, 3, 9, 4))
    phases = np.full((2, 1, step, 1, 3, length, 4 + lead), np.nan)
    fill(phases, image, axes)
    assert phases.sum() == pytest.approx(image.sum()), "zeros around the image"
    out = np.full_like(image, np.nan)
    collect(out, phases, axes)
    np.testing.assert_array_equal(out, image)


def test_collect_zeroes_pixels_in_no_phase() -> None:
    axes = Axis(6, 0, 2, 2), Axis(3, 0, 1, 3)
    out = np.full((1, 1, 1, 6, 3), np.nan)
    collect(out, np.ones((1, 1, 2, 1, 1, 2, 3)), axes)
    np.testing.assert_array_equal(out[0, 0, 0], np.repeat([1.0, 0.0], [4, 2])[:, None] * np.ones(3))
