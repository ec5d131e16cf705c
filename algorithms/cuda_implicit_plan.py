"""The launches of one implicit matrix product: scales, operands, products, sums of parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from convbench.api import Array, Problem

from . import cuda_implicit_operands as operands
from . import gpu_maps
from .cuda_implicit_operands import Filters, Images, Launch
from .cuda_implicit_products import Product
from .gpu import pointer

SCALE_BYTES = 4
SCALE_THREADS = 1024

Addresses = Mapping[str, int]


class Needs(Protocol):
    """What is to be computed, and where things lie in the workspace."""

    @property
    def product(self) -> Product: ...
    @property
    def problem(self) -> Problem: ...
    @property
    def gradient(self) -> bool: ...
    @property
    def first(self) -> Images: ...
    @property
    def second(self) -> Images | Filters: ...
    @property
    def keys(self) -> int: ...
    def finish(self) -> Launch: ...
    def places(self, base: int) -> dict[str, int]: ...


class ImplicitPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: Needs) -> None:
        self._form, self._multiply = form, form.product.launch()
        self._convert = form.first.convert(), form.second.convert()
        self._maxima = form.first.maxima(), form.second.maxima()
        self._finish = form.finish()
        self._own = operands.source(form.problem.precision).load()
        self._maps: dict[tuple[int, int], tuple[Any, Any]] = {}

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        form, at = self._form, self._form.places(pointer(workspace))
        if "scale" in at:
            self._scale(a, b, at)
        if not form.gradient and at["b"]:
            self._convert[1](b, at["b"], at.get("b_scales", 0))
        for first in range(0, form.problem.n, form.product.images):
            self._chunk(first, a, b, out, at)
        if form.gradient:
            self._add(pointer(out), at)

    def close(self) -> None:
        pass

    def _chunk(self, first: int, a: Array, b: Array, out: Array, at: Addresses) -> None:
        """The products of some images, from the first on."""
        n, gradient = self._form.problem.n, self._form.gradient
        left = pointer(a, first * (a.size // n))
        right = pointer(b, first * (b.size // n) if gradient else 0)
        if at["a"]:
            self._convert[0](left, at["a"], self._scales("a_scales", first, at))
        if gradient and at["b"]:
            self._convert[1](right, at["b"], self._scales("b_scales", first, at))
        matrices = self._matrices(at["a"] or left, at["b"] or right)
        result = pointer(out, 0 if gradient else first * (out.size // n))
        more = int(gradient and first > 0)
        self._multiply(*matrices, result, at["partial"], at.get("scale", 0), more)
        if not gradient:
            self._add(result, at)

    def _matrices(self, a: int, b: int) -> tuple[Any, Any]:
        """Both operands as the kernel wants them; maps are encoded once for the same addresses."""
        product = self._form.product
        if not product.engine.bulk:
            return a, b
        if (a, b) not in self._maps:
            first, second = product.maps(a, b)
            self._maps[a, b] = gpu_maps.encode(first), gpu_maps.encode(second)
        return self._maps[a, b]

    def _add(self, out: int, at: Addresses) -> None:
        """The parts of every result, in order."""
        if self._form.product.partly:
            self._finish(at["partial"], out, at.get("scale", 0))

    def _scales(self, name: str, first: int, at: Addresses) -> int:
        """Where the scales of a chunk begin; 0 if nothing is scaled."""
        return at[name] + SCALE_BYTES * first * self._form.gradient if "scale" in at else 0

    def _scale(self, a: Array, b: Array, at: Addresses) -> None:
        """A power of two for every key, from the largest values there."""
        import cupy

        size = at["scale"] - at["a_scales"]
        cupy.cuda.runtime.memsetAsync(at["a_scales"], 0, size, cupy.cuda.get_current_stream().ptr)
        for maxima, tensor, name in zip(self._maxima, (a, b), ("a_scales", "b_scales"), strict=True):
            maxima(tensor, at[name])
        keys = at["a_scales"], at["b_scales"], at["scale"], self._form.keys
        self._own["scales"](1, SCALE_THREADS, *keys)
