"""Implicit matrix products on tensor cores: no columns are stored, sums stay in registers.

fp16 and bf16 in nhwc need no workspace (backward data: the filters, turned). Other tensors are first brought
into that form: fp32 split into two scaled halves of fp16, whose three products keep fp32's digits ("3xfp16");
tf32 as scaled fp16, which has as many digits. On Hopper warpgroups multiply what its copy engine brings
("bulk"), or what threads copy where it cannot ("tile"); on other GPUs since Ampere warps multiply.
Of 1x1 layers in nchw it reads images as they are, in fp32 ("point") and in 16 bits ("planes").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convbench.api import Direction, Plan, Precision, Problem, Variant

from . import cuda_implicit_fold as fold
from . import cuda_implicit_lines as lines
from . import cuda_implicit_operands as operands
from . import cuda_implicit_planes as planes
from . import cuda_implicit_planes_gradient as planes_gradient
from . import cuda_implicit_point as point
from . import cuda_implicit_point_gradient as point_gradient
from . import cuda_implicit_stream as stream
from . import cuda_implicit_stream_tiles as stream_tiles
from . import cuda_implicit_taps as taps
from . import cuda_implicit_tiles as tiles
from . import cuda_implicit_unfold as unfold
from .cuda_implicit_choice import best, good
from .cuda_implicit_filter import Filter
from .cuda_implicit_fold import FoldedFilter, FoldedFilters, FoldedImages, folded, worthwhile
from .cuda_implicit_gather import MOST_PHASES, Gather
from .cuda_implicit_lines import Lines
from .cuda_implicit_operands import Filters, Images, Launch, ceil, scaled
from .cuda_implicit_plan import ImplicitPlan
from .cuda_implicit_planes import Planes
from .cuda_implicit_planes_gradient import PlanesGradient
from .cuda_implicit_point import Point
from .cuda_implicit_point_gradient import PointGradient
from .cuda_implicit_products import Product, details
from .cuda_implicit_taps import Taps
from .cuda_implicit_tiles import HOPPER, Engine, capability
from .cuda_implicit_unfold import Unfolded
from .gpu import Source, missing

ALIGNMENT = 256
MOST_CHUNKS = 64  # each costs a few launches
FEWEST_CHANNELS = 8  # of one group
OLDEST = 80
LARGEST_COUNT = 2**31 - 1
MOST_TILES = 3  # that are offered


@dataclass(frozen=True)
class Form:
    """One variant: a product over `product.images` images at a time, and what it needs.

    The product may be of a folded problem that gives the same result.
    """

    problem: Problem
    product: Product

    @property
    def fold(self) -> bool:
        return self.product.problem != self.problem and not isinstance(self.product, Unfolded)

    @property
    def gradient(self) -> bool:
        return self.problem.direction is Direction.BWD_FILTER

    @property
    def first(self) -> Images:
        if self.fold:
            return FoldedImages(self.problem, "x", self.product.images, self.product.engine.bulk)
        return self._images("y" if self.problem.direction is Direction.BWD_DATA else "x")

    @property
    def second(self) -> Images | Filters:
        if isinstance(self.product, Unfolded):
            return unfold.filters(self.problem, self.product)
        kind = FoldedFilters if self.fold else Filters
        return self._images("y") if self.gradient else kind(self.problem, self.product.engine.bulk)

    def finish(self) -> Launch:
        """(parts, result, exponent or 0)"""
        match self.product:
            case Unfolded() as product:
                return unfold.add(self.problem, product)
            case FoldedFilter() as product:
                return fold.add(self.problem, product)
            case product:
                return operands.add(self.problem, product.results, product.parts)

    def _images(self, name: str) -> Images:
        return Images(self.problem, name, self.product.images, self.product.engine.bulk)

    @property
    def keys(self) -> int:
        """What has a scale of its own: channels that are summed over, or images."""
        return self.problem.n if self.gradient else self.first.channels

    @property
    def areas(self) -> dict[str, int]:
        """Bytes of the workspace by name."""
        scales = {"a_scales": 4 * self.keys, "b_scales": 4 * self.keys, "scale": 4}
        second = 0 if self.product.takes_filters else self.second.bytes
        sizes = {"a": self.first.bytes, "b": second, "partial": self.product.partial}
        return sizes | (scales if scaled(self.problem.precision) else {})

    @property
    def workspace(self) -> int:
        return sum(ceil(size, ALIGNMENT) * ALIGNMENT for size in self.areas.values())

    def places(self, base: int) -> dict[str, int]:
        """Addresses of the areas; 0 for those not needed."""
        found = {}
        for name, size in self.areas.items():
            found[name] = base if size else 0
            base += ceil(size, ALIGNMENT) * ALIGNMENT
        return found

    @property
    def name(self) -> str:
        return f"fold-{self.product.name}" if self.fold else self.product.name

    def variant(self) -> Variant:
        product = self.product
        engine = "wgmma" if product.engine.wgmma else "mma"
        return Variant(self.name, self.workspace, details=details(self.problem, product.tile.size, engine))

    def plan(self) -> Plan:
        return ImplicitPlan(self)


@dataclass(frozen=True)
class CudaImplicit:
    """Tensor cores for every precision but fp64; fp32 keeps its accuracy."""

    name: str = "implicit"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        return missing() or _unsuited(problem) or _incapable() or _too_large(problem)

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [form.variant() for form in offered(problem, workspace_limit).values()]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        limits = variant.workspace_bytes, None
        found = {name: form for limit in limits for name, form in offered(problem, limit).items()}
        return found[variant.name].plan()


Offered = Form | Point | PointGradient | Planes | PlanesGradient | Lines | Taps


def hopper() -> bool:
    return capability() == HOPPER


def _unsuited(problem: Problem) -> str | None:
    p = problem
    if p.precision is Precision.FP64:
        return "tensor cores are used for fp32 and less; use direct for fp64"
    if p.groups > 1 and min(p.c, p.k) // p.groups < FEWEST_CHANNELS:
        return f"fewer than {FEWEST_CHANNELS} channels a group leave tensor cores idle; use direct"
    if p.direction is Direction.BWD_DATA and max(p.stride) > MOST_PHASES:
        return f"gradients of x at a stride above {MOST_PHASES} have too many phases; use direct"
    return None


def _incapable() -> str | None:
    import cupy

    if capability() < OLDEST:
        return f"compute capability {capability()}: asynchronous copies need {OLDEST} (Ampere)"
    device = cupy.cuda.runtime.getDevice()
    most = cupy.cuda.runtime.getDeviceProperties(device)["sharedMemPerBlockOptin"]
    engines = [engine for engine in tiles.ENGINES if engine.wgmma == hopper()]
    needed = max(tile.shared(engine) for engine in engines for row in tiles.TILES.values() for tile in row)
    if most < needed:
        return f"a block has {most >> 10} KiB of shared memory here; {ceil(needed, 1024)} KiB are needed"
    return None


def _too_large(problem: Problem) -> str | None:
    """Chunks and pixels are counted in 32 bits, with the padding around images."""
    p = problem
    padded = [size + sum(pad) for size, pad in zip(p.image, p.pad, strict=True)]
    pixels = p.n * max(prod(padded), prod(p.output))
    operand = folded(p, bulk=True) if worthwhile(p) else p
    chunks = max(Images(one, name, p.n).chunks for one in (p, operand) for name in "xy")
    filters = max(p.k, p.c) * (max(p.k, p.c) // p.groups + operands.CHUNK) * p.r * p.s
    if max(pixels * chunks, filters) > LARGEST_COUNT:
        return "more than 2^31 - 1 chunks of 8 channels in a tensor, or numbers in the filters"
    return None


# ---- variants ----------------------------------------------------------------------------------------------


def offered(problem: Problem, limit: int | None) -> Mapping[str, Offered]:
    """The variants by name; images are read as they are where that can be."""
    for thin in (lines, taps):
        if hopper() and thin.suits(problem):
            return {**thin.forms(problem), **forms(problem, limit, True)}
    if hopper() and planes.suits(problem):
        gradient = problem.direction is Direction.BWD_FILTER
        own = planes_gradient.forms(problem, limit) if gradient else planes.forms(problem)
        return {**own, **forms(problem, limit, True)}
    if not hopper() or not point.suits(problem):
        return forms(problem, limit, hopper())
    if problem.direction is not Direction.BWD_FILTER:
        return point.forms(problem, limit)
    strided: Mapping[str, Form] = {} if problem.stride == (1, 1) else forms(problem, limit, wgmma=True)
    return {**strided, **point_gradient.forms(problem, limit)}


@lru_cache(maxsize=256)
def forms(problem: Problem, limit: int | None, wgmma: bool) -> Mapping[str, Form]:
    """The variants by name: over the batch, and over as many images as keep within the limit."""
    found: dict[str, Form] = {}
    for images in (count for count in range(problem.n, 0, -1) if problem.n % count == 0):
        whole = _products(problem, images, wgmma)
        offered = [Form(problem, one) for one in _best(whole)]
        small = Form(problem, _smallest(whole))
        within = [form for form in (*offered, small) if limit is None or form.workspace <= limit]
        chosen = [*(offered if images == problem.n else ()), *within[:1]]
        found |= {form.name: form for form in chosen}
        if within or problem.n // images >= MOST_CHUNKS:
            break
    return found


def _products(problem: Problem, images: int, wgmma: bool) -> list[Product]:
    """On every tile that could do."""
    if worthwhile(problem):
        return fold.products(problem, images, wgmma)
    kind = Filter if problem.direction is Direction.BWD_FILTER else Gather
    bulk = wgmma and kind(problem, images, tiles.TILES[False, 1][0], tiles.ENGINES[-1]).suits_bulk()
    engine = Engine(wgmma, bulk)
    whole = [kind(problem, images, tile, engine) for tile in tiles.tiles(problem, engine)]
    streams = stream.products(problem, images) if wgmma else []
    return unfold.instead(stream.instead(whole, streams), unfold.products(problem, images, wgmma))


def _best(whole: Sequence[Product]) -> list[Product]:
    """The best tile and parts, and others that are nearly as good."""
    return good(best(one.cuts()) for one in whole)[:MOST_TILES]


def _smallest(whole: Sequence[Product]) -> Product:
    """With as few parts as digits allow."""
    fewest = [next(iter(one.cuts())) for one in whole]
    return min(fewest, key=lambda one: (one.partial, one.cycles))


def sources() -> Iterator[Source]:
    """Every compilation there can be."""
    yield from operands.sources()
    yield from fold.sources()
    yield from lines.sources()
    yield from taps.sources()
    yield from point.sources()
    yield from point_gradient.sources()
    yield from planes.sources()
    yield from planes_gradient.sources()
    yield from unfold.sources()
    yield from stream_tiles.sources()
    yield from tiles.sources()


ALGORITHMS = (CudaImplicit(),)
