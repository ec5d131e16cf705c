"""Streams of tiles of 16-bit nhwc tensors on Hopper: what is offered.

Blocks stay, and one warp streams tiles to those that multiply. Tensors are read as they are; only parts of
sums over pixels need a workspace.
"""

from __future__ import annotations

from collections.abc import Sequence

from convbench.api import Direction, Layout, Problem

from .cuda_implicit_choice import best
from .cuda_implicit_operands import CHUNK
from .cuda_implicit_products import MULTIPROCESSORS, Product
from .cuda_implicit_stream_filter import StreamedFilter
from .cuda_implicit_stream_gather import StreamedGather
from .cuda_implicit_stream_tiles import GRADIENT_TILES, TILES, Streamed
from .cuda_implicit_tiles import Engine

ENGINE = Engine(wgmma=True, bulk=True)
MOST_TILES = 2  # with windows, and without: what copies cost is not known well


def products(problem: Problem, images: int) -> Sequence[Streamed]:
    """On every tile that could do; none where tensors are not operands as they are."""
    p = problem
    plain = p.layout is Layout.NHWC and p.precision.itemsize == 2 and images == p.n
    if not plain or p.c // p.groups % CHUNK or p.k // p.groups % CHUNK:
        return []
    kinds: list[Streamed] = (
        [StreamedFilter(p, images, tile, ENGINE) for tile in GRADIENT_TILES]
        if p.direction is Direction.BWD_FILTER
        else [StreamedGather(p, images, tile, ENGINE) for tile in TILES]
    )
    return [one for one in kinds if one.suits_window() and one.suits_bulk()]


def instead(others: Sequence[Product], streams: Sequence[Streamed]) -> Sequence[Product]:
    """What is left of both: others, where streams have too few tiles, if their sums are cut into parts."""
    if not streams:
        return others
    few = all(isinstance(one, StreamedGather) and one.blocks < MULTIPROCESSORS for one in streams)
    kinds = [[one for one in streams if (one.wide.taps > 1) == windows] for windows in (False, True)]
    kept = [one for kind in kinds for one in sorted(kind, key=_cycles)[:MOST_TILES]]
    return [*kept, *(one for one in others if few and best(one.cuts()).parts > 1)]


def _cycles(one: Product) -> float:
    """In the parts that are best."""
    return best(one.cuts()).cycles
