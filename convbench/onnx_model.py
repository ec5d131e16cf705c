"""Layers of an ONNX model: its convolutions with the shapes that shape inference gives them.

A model file is foreign data: it is capped, only its graph is read, weights outside the file are never opened,
and nothing in it is run. A convolution that cannot be a layer is listed with the reason, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.errors import CannotRunError, UsageError, one_line
from convbench.layers import LONGEST_NAME, Layer, Suite, distinct
from convbench.onnx_node import Shape, Unreadable, is_convolution, problem_of, text_of
from convbench.problem import Direction

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto

LARGEST_MODEL = 2**31 - 1  # a longer file is no protocol buffer
MOST_NODES = 200_000
SMALL = 64  # elements: what shapes are computed from is small
DATA = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
MISSING = "reading a model needs the package onnx; install it with: pip install 'convbench[onnx]'"


@dataclass(frozen=True)
class Skipped:
    """A convolution that is no layer, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{one_line(self.name)}: {self.reason}"


@dataclass(frozen=True)
class Model:
    suite: Suite
    skipped: tuple[Skipped, ...]


def read_model(path: str, batch: int | None = None) -> Model:
    """The convolutions of a model as layers, equal ones counted; `batch` becomes that of every input."""
    graph = _graph(path, batch)
    shapes, network = dict(_shapes(graph)), _network(path)
    layers: list[Layer] = []
    skipped: list[Skipped] = []
    for node, owner in _convolutions(graph):
        try:
            layers.append(_layer(node, owner, shapes, network))
        except (Unreadable, UsageError) as error:
            skipped.append(Skipped(_name(node), str(error)))
    if not layers:
        reason = f"{len(skipped)} convolutions and no layer; {skipped[0]}" if skipped else "no convolutions"
        raise UsageError(f"{one_line(path)}: {reason}")
    forward = {"direction": Direction.FWD}
    merged = (replace(layer, problem=layer.problem.with_(**forward)) for layer in distinct(layers))
    return Model(Suite(network, tuple(merged), f"from {one_line(path)}"), tuple(skipped))


def _layer(node: Any, owner: str, shapes: Mapping[str, Shape], network: str) -> Layer:
    if owner:
        raise Unreadable(
            f"it stands in a branch or loop of {one_line(owner)}, so how often it runs is not fixed"
        )
    problem = problem_of(node, shapes)
    suffix = "_transposed" if problem.direction is Direction.BWD_DATA else ""
    return Layer(_name(node, suffix), problem, 1, network)


def _name(node: Any, suffix: str = "") -> str:
    """What the model calls the node, else its result, as a layer may be called."""
    names = map(text_of, (node.name, next(iter(node.output), ""), "convolution"))
    plain = next(filter(None, (" ".join(_printable(name).split()) for name in names)))
    return plain[: LONGEST_NAME - len(suffix)].strip() + suffix


def _network(path: str) -> str:
    return _printable(Path(path).stem).replace(":", "-")[:LONGEST_NAME].strip() or "model"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


# ---- the file ----------------------------------------------------------------------------------------------


def _graph(path: str, batch: int | None) -> GraphProto:
    """The graph with its shapes inferred."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import inliner, shape_inference
    except ImportError:
        raise CannotRunError(MISSING) from None
    try:  # unlike load, this never follows weights into other files
        model = onnx.load_model_from_string(_bytes(path))
    except DecodeError:
        raise UsageError(
            f"'{one_line(path)}' is no ONNX model, or it is cut short; export it again"
        ) from None
    _check_size(model, path)
    _drop_weights(model.graph)
    if batch is not None:
        _set_batch(model.graph, batch)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        model = shape_inference.infer_shapes(model)
    except Exception as error:  # the C++ library raises its own kinds, RuntimeError and ValueError among them
        raise UsageError(f"{one_line(path)}: shape inference failed: {one_line(str(error))}") from None
    return model.graph


def _bytes(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_MODEL + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read model '{one_line(path)}': {reason}; check the path") from None
    if len(data) > LARGEST_MODEL:
        raise UsageError(
            f"'{one_line(path)}' is larger than {LARGEST_MODEL} bytes; keep its weights in another file"
        )
    return data


def _check_size(model: ModelProto, path: str) -> None:
    """Functions are counted as often as they would be written out."""
    if not model.graph.node:
        raise UsageError(f"'{one_line(path)}' is no ONNX model: its graph is empty; export it again")
    bodies = {(function.domain, function.name): function for function in model.functions}
    if len(bodies) < len(model.functions) or _count(model.graph.node, bodies, {}) > MOST_NODES:
        raise UsageError(
            f"{one_line(path)}: more than {MOST_NODES} nodes, or a function in itself; simplify it"
        )


def _count(
    nodes: Sequence[Any], bodies: Mapping[tuple[str, str], FunctionProto], counts: dict[tuple[str, str], int]
) -> int:
    total = 0
    for node in nodes:
        total += 1 + sum(_count(graph.node, bodies, counts) for graph in _subgraphs(node))
        key = node.domain, node.op_type
        if key in bodies:
            if key not in counts:
                counts[key] = MOST_NODES + 1  # what a function that calls itself finds
                counts[key] = _count(bodies[key].node, bodies, counts)
            total += counts[key]
    return total


def _subgraphs(node: Any) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _convolutions(graph: GraphProto, owner: str = "") -> Iterator[tuple[Any, str]]:
    """Convolutions of the graph; of its subgraphs too, with the name of the node that holds them."""
    for node in graph.node:
        if is_convolution(node):
            yield node, owner
        for inner in _subgraphs(node):
            yield from _convolutions(inner, owner or _name(node))


def _drop_weights(graph: GraphProto) -> None:
    """Their sizes are all that is needed."""
    attributes = (attribute for node in graph.node for attribute in node.attribute)
    constants = (attribute.t for attribute in attributes if attribute.HasField("t"))
    for tensor in (*graph.initializer, *constants):
        if max(prod(tensor.dims), *(len(getattr(tensor, field)) // 8 for field in DATA)) > SMALL:
            for field in DATA:
                tensor.ClearField(field)


def _set_batch(graph: GraphProto, batch: int) -> None:
    """Shapes noted in the file belong to its own batch."""
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        shape = value.type.tensor_type.shape
        if value.name not in weights and len(shape.dim) > 1:
            shape.dim[0].dim_value = batch
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _shapes(graph: GraphProto) -> Iterator[tuple[str, Shape]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            yield value.name, tuple(map(_size, value.type.tensor_type.shape.dim))
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, tuple(sparse.dims)


def _size(dim: Any) -> int | str:
    """Old exporters write 0 or -1 for a size that is not fixed."""
    return dim.dim_value if dim.dim_value > 0 else text_of(dim.dim_param) or "?"
