"""Layers from ONNX models: the right shapes, nothing dropped in silence, and hostile files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from conftest import Command
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import FLOAT, Builder
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from convbench import convolve, formats, onnx_model
from convbench.errors import UsageError
from convbench.layers import Layer
from convbench.onnx_model import read_model
from convbench.onnx_node import Unreadable, problem_of
from convbench.problem import Direction, Problem
from convbench.suites import load_suite


def layers(net: Builder, folder: Path, batch: int | None = None) -> dict[str, Layer]:
    found = read_model(str(net.save(folder / "net.onnx")), batch)
    assert not found.skipped
    return {layer.name: layer for layer in found.suite.layers}


def reasons(net: Builder, folder: Path) -> dict[str, str]:
    """What is left out of a model that has one good layer too."""
    found = read_model(str(net.save(folder / "net.onnx")))
    assert found.suite.layers
    return {one.name: one.reason for one in found.skipped}


def good() -> Builder:
    net = Builder(1, 2, 8, 8)
    net.conv(2, 1, 1, name="good")
    return net


def count(net: Builder) -> int:
    return sum(node.op_type in ("Conv", "ConvTranspose") for node in net.nodes)


# ---- networks ---------------------------------------------------------------------------------------------


def test_resnet_18_is_the_suite_of_that_name(tmp_path: Path) -> None:
    found = layers(models.resnet_18("N"), tmp_path, batch=32).values()
    known = load_suite("resnet-18").layers
    assert Counter({one.problem: one.repeat for one in found}) == {one.problem: one.repeat for one in known}


@pytest.mark.parametrize("make", [models.resnet_18, models.mobilenet_v2, models.u_net, models.wave_net])
@pytest.mark.parametrize("batch", [None, 5])
def test_every_convolution_is_in_some_layer(tmp_path: Path, make: Any, batch: int | None) -> None:
    net = make(1)
    found = layers(net, tmp_path, batch)
    assert sum(one.repeat for one in found.values()) == count(net)
    assert {one.problem.n for one in found.values()} == {batch or 1}


def test_tensorflow_padding_is_asymmetric_and_depthwise_is_grouped(tmp_path: Path) -> None:
    found = layers(models.mobilenet_v2(), tmp_path)
    assert found["stem"].problem == Problem.parse("n1c3h224k32r3p0.1u2")
    assert found["conv_1"].problem == Problem.parse("n1c32h112k32r3p1g32")
    assert found["conv_4"].problem == Problem.parse("n1c96h112k96r3p0.1u2g96")


def test_a_transposed_convolution_is_the_one_it_reverses(tmp_path: Path) -> None:
    found = layers(models.u_net(), tmp_path)
    assert found["up16_transposed"].problem == Problem.parse("n1c16h32k32r2u2")
    assert found["up16_transposed"].problem.direction is Direction.FWD  # a suite has no direction


def test_one_dimension_is_an_image_one_pixel_high(tmp_path: Path) -> None:
    found = layers(models.wave_net(), tmp_path)
    assert found["dilated8"].problem == Problem.parse("n1c16h1w1000k16r1s2p0x8.0d1x8")


@pytest.mark.parametrize("kind", ["csv", "text", "benchdnn"])
@pytest.mark.parametrize("make", [models.mobilenet_v2, models.u_net, models.wave_net])
def test_layers_of_a_model_go_out_and_come_in_again(tmp_path: Path, make: Any, kind: str) -> None:
    suite = read_model(str(make().save(tmp_path / "net.onnx"))).suite
    assert formats.read(formats.write(suite, kind), kind) == suite.layers


# ---- one node ---------------------------------------------------------------------------------------------


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """A convolution node with the shapes of its image and its filters."""
    transposed, axes, groups = draw(st.booleans()), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    size = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    taps, strides, dilations = draw(size), draw(size), draw(size)
    attributes = {"strides": strides, "dilations": dilations, "group": groups}
    auto = draw(st.sampled_from(["", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    attributes |= {"auto_pad": auto} if auto else {}
    if auto in ("", "NOTSET"):
        attributes["pads"] = draw(st.lists(st.integers(0, 2), min_size=2 * axes, max_size=2 * axes))
    if transposed and auto != "VALID":
        attributes["output_padding"] = [draw(st.integers(0, stride - 1)) for stride in strides]
    attributes |= {"kernel_shape": taps} if draw(st.booleans()) else {}
    inputs, outputs = (groups * draw(st.integers(1, 2)) for _ in range(2))
    image = (
        draw(st.integers(1, 2)),
        inputs,
        *draw(st.lists(st.integers(1, 6), min_size=axes, max_size=axes)),
    )
    filters = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    kind = "ConvTranspose" if transposed else "Conv"
    return helper.make_node(kind, ["x", "w"], ["y"], "node", **attributes), image, (*filters, *taps)


def evaluated(node: Any, x: Any, w: Any) -> Any:
    """What ONNX's own reference computes, group by group, since it errs on several at once."""
    groups = next(one.i for one in node.attribute if one.name == "group")
    values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in "xwy"]
    plain = NodeProto()
    plain.CopyFrom(node)
    del plain.attribute[:]
    plain.attribute.extend(one for one in node.attribute if one.name != "group")
    graph = helper.make_graph([plain], "graph", values[:2], values[2:])
    session = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    parts = zip(np.split(x, groups, axis=1), np.split(w, groups), strict=True)
    return np.concatenate([session.run(None, {"x": a, "w": b})[0] for a, b in parts], axis=1)


@settings(deadline=None, max_examples=150)
@given(nodes(), st.integers(0, 9))
def test_a_layer_computes_what_the_node_does(case: Any, seed: int) -> None:
    node, image, filters = case
    random = np.random.default_rng(seed)
    x, w = (random.integers(-3, 4, shape).astype(float) for shape in (image, filters))
    try:
        problem = problem_of(node, {"x": image, "w": filters}).with_(precision="fp64")
    except (Unreadable, UsageError):
        assume(False)
    flat = len(image) == 3
    a, b = (array[:, :, None] if flat else array for array in (x, w))
    ours = convolve(problem, a, b, "direct")
    np.testing.assert_array_equal(ours[:, :, 0] if flat else ours, evaluated(node, x, w))


# ---- what is left out -------------------------------------------------------------------------------------


def test_an_image_that_is_not_fixed_is_named(tmp_path: Path) -> None:
    net = Builder(1, 3, "height", 32)
    net.conv(4, 3, 3, name="open")
    with pytest.raises(UsageError, match="open: the image has sizes that are not fixed: 'height'; export it"):
        read_model(str(net.save(tmp_path / "net.onnx")))


def test_an_open_batch_asks_for_one(tmp_path: Path) -> None:
    file = str(models.wave_net("N").save(tmp_path / "net.onnx"))
    with pytest.raises(
        UsageError, match=r"5 convolutions and no layer; .*batch 'N' is not fixed; give --batch 32"
    ):
        read_model(file)
    assert {layer.problem.n for layer in read_model(file, 7).suite.layers} == {7}


def test_a_model_without_convolutions_says_so(tmp_path: Path) -> None:
    net = Builder(1, 3, 4, 4)
    net.add("Relu")
    with pytest.raises(UsageError, match="no convolutions"):
        read_model(str(net.save(tmp_path / "net.onnx")))


def _volume(net: Builder) -> None:
    net.inputs.append(helper.make_tensor_value_info("v", FLOAT, (1, 2, 8, 8, 8)))
    net.add("Conv", "v", net.weight(4, 2, 3, 3, 3), name="bad")


def _deformed(net: Builder) -> None:
    net.add("DeformConv", "x", net.weight(2, 2, 1, 1), "x", name="bad")


def _fused(net: Builder) -> None:
    net.add("FusedConv", "x", net.weight(2, 2, 1, 1), name="bad", domain="com.microsoft")


def _behind_unknown(net: Builder) -> None:
    net.add("Mystery", "x", domain="somewhere")
    net.conv(2, 1, 1, name="bad")


def _other_channels(net: Builder) -> None:
    net.add("Conv", "x", net.weight(4, 3, 1, 1), name="bad")


def _other_taps(net: Builder) -> None:
    net.add("Conv", "x", net.weight(4, 2, 1, 1), name="bad", kernel_shape=[3, 3])


def _few_pads(net: Builder) -> None:
    net.add("Conv", "x", net.weight(4, 2, 1, 1), name="bad", pads=[1, 1])


def _no_stride(net: Builder) -> None:
    net.add("Conv", "x", net.weight(4, 2, 1, 1), name="bad", strides=[0, 1])


def _no_filters(net: Builder) -> None:
    net.add("Conv", "x", name="bad")


def _far(net: Builder) -> None:
    net.transposed(2, 3, 3, name="bad", strides=[1, 1], output_padding=[1, 1])


def _filter_too_large(net: Builder) -> None:
    net.conv(2, 9, 9, name="bad")


def _no_group(net: Builder) -> None:
    net.add("Conv", "x", net.weight(4, 2, 1, 1), name="bad", group=0)


def _branch(net: Builder) -> None:
    node = helper.make_node("Conv", ["x", "w0"], ["y"], "bad")
    graph = helper.make_graph([node], "then", [], [helper.make_tensor_value_info("y", FLOAT, None)])
    net.inputs.append(helper.make_tensor_value_info("c", TensorProto.BOOL, ()))
    net.add("If", "c", name="choice", then_branch=graph, else_branch=graph)


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (_volume, "3 spatial axes; only one or two"),
        (_deformed, "operator DeformConv: known are Conv, ConvTranspose"),
        (_fused, "operator com.microsoft.FusedConv: known are"),
        (_behind_unknown, "the shape of its image cannot be inferred"),
        (_other_channels, "its filters take 3 channels, its image has 2"),
        (_other_taps, "kernel_shape is not the shape of its filters"),
        (_few_pads, "attribute pads must hold 4 numbers"),
        (_no_stride, "strides and dilations must be from 1"),
        (_no_filters, "the shape of its filters cannot be inferred"),
        (_far, "it pads its output by a stride or more"),
        (_filter_too_large, "the filter (with dilation) must fit"),
        (_no_group, "its filters take 0 channels"),
        (_branch, "it stands in a branch or loop of choice"),
    ],
)
def test_what_is_no_layer_is_listed_with_its_reason(tmp_path: Path, add: Any, reason: str) -> None:
    net = good()
    net.last = "x"
    add(net)
    found = reasons(net, tmp_path)
    assert set(found) == {"bad"} and reason in found["bad"]


def test_a_result_that_the_model_sees_otherwise_is_no_layer() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "odd")
    with pytest.raises(Unreadable, match="its result is 1x4x6x6 by its attributes, 1x4x7x7 in the model"):
        problem_of(node, {"x": (1, 2, 8, 8), "w": (4, 2, 3, 3), "y": (1, 4, 7, 7)})


def test_functions_of_the_model_are_written_out(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 18)]
    body = [helper.make_node("Conv", ["a", "b"], ["c"], "inner"), helper.make_node("Relu", ["c"], ["d"])]
    function = helper.make_function("mine", "Block", ["a", "b"], ["d"], body, opsets)
    net = Builder(1, 2, 8, 8)
    for _ in range(2):
        net.add("Block", net.last, net.weight(2, 2, 1, 1), domain="mine")
    found = layers(WithFunctions(net, function), tmp_path)
    assert [(str(one.problem), one.repeat) for one in found.values()] == [
        (str(Problem.parse("n1c2h8k2r1")), 2)
    ]


class WithFunctions:
    """A builder whose model has functions."""

    def __init__(self, net: Builder, *functions: Any) -> None:
        self._net, self._functions = net, functions

    def save(self, path: Path) -> Path:
        model = self._net.model(functions=list(self._functions))
        path.write_bytes(model.SerializeToString())
        return path


# ---- hostile files ----------------------------------------------------------------------------------------


def complaint(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_model(str(path))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
    return str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"hello", b"\xff" * 1000, b"\x08\x08"])
def test_what_is_no_model_gets_one_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(data)
    assert "is no ONNX model" in complaint(file)


def test_a_torn_model_gets_one_line(tmp_path: Path) -> None:
    data = models.wave_net().model().SerializeToString()
    file = tmp_path / "net.onnx"
    for length in range(0, len(data), 17):
        file.write_bytes(data[:length])
        try:
            read_model(str(file))
        except UsageError as error:
            assert str(error).isprintable()


def test_size_and_nodes_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = models.wave_net().save(tmp_path / "net.onnx")
    monkeypatch.setattr(onnx_model, "MOST_NODES", 5)
    assert "more than 5 nodes" in complaint(file)
    monkeypatch.setattr(onnx_model, "LARGEST_MODEL", 50)
    assert "is larger than 50 bytes" in complaint(file)


@pytest.mark.parametrize("itself", [True, False])
def test_functions_cannot_grow_without_end(tmp_path: Path, itself: bool) -> None:
    """One that calls itself, and forty that call each other twice."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    functions = []
    for level in range(40):
        inner = level if itself else level + 1
        calls = [helper.make_node(f"F{inner}", [a], [b], domain="mine") for a, b in ("ab", "bc")]
        functions.append(helper.make_function("mine", f"F{level}", ["a"], ["c"], calls, opsets))
    net = good()
    net.add("F0", net.last, domain="mine")
    assert "or a function in itself" in complaint(WithFunctions(net, *functions).save(tmp_path / "net.onnx"))


def test_weights_outside_the_file_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = good().model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "/dev/zero"), ("offset", "0"), ("length", str(1 << 40))):
        tensor.external_data.add(key=key, value=value)
    file = tmp_path / "net.onnx"
    file.write_bytes(model.SerializeToString())
    opened: list[str] = []
    before = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *rest: opened.append(str(self)) or before(self, *rest))
    assert len(read_model(str(file)).suite.layers) == 1 and opened == [str(file)]


@pytest.mark.parametrize("name", ["\x1b[2J\n", "a" * 5000, " ", "../../x", "\u202eabc", "=1+1", "a:b*3"])
def test_names_are_text_and_nothing_else(tmp_path: Path, name: str) -> None:
    net = Builder(1, 2, 8, 8)
    net.add("Conv", "x", net.weight(2, 2, 1, 1), name="first")
    net.nodes[-1].name = name
    (layer,) = layers(net, tmp_path).values()
    assert layer.name.isprintable() and 0 < len(layer.name) <= 200


@pytest.mark.parametrize("word", [b"good", b"Conv", b"w0"])
def test_broken_text_is_no_traceback(tmp_path: Path, word: bytes) -> None:
    data = good().model().SerializeToString()
    file = tmp_path / "net.onnx"
    file.write_bytes(data.replace(word, b"\xff" + word[1:]))
    try:
        found = read_model(str(file))
    except UsageError as error:
        assert str(error).isprintable()
    else:
        assert all(layer.name.isprintable() for layer in found.suite.layers)


@pytest.mark.parametrize("size", [-1, 0, 1 << 31, (1 << 63) - 1])
def test_sizes_beyond_reason_get_one_line(tmp_path: Path, size: int) -> None:
    net = Builder(1, 2, size, 8)
    net.conv(2, 1, 1, name="wild")
    complaint(net.save(tmp_path / "net.onnx"))


# ---- the command ------------------------------------------------------------------------------------------


def test_import_writes_a_suite_and_says_what_it_left_out(
    convbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = good()
    net.last = "x"
    _volume(net)
    net.save(Path("net.onnx"))
    done = convbench("suite", "import", "net.onnx", "--batch", 4, "-o", "net.csv")
    assert done.code == 0 and done.err.startswith("convbench: left out: bad: 3 spatial axes")
    (layer,) = load_suite("net.csv").layers
    assert (layer.name, layer.network, layer.problem) == ("good", "net", Problem.parse("n4c2h8k2r1"))


def test_a_model_is_no_suite_file_but_the_message_says_how_to_make_one(
    convbench: Command, tmp_path: Path
) -> None:
    file = good().save(tmp_path / "net.onnx")
    done = convbench("suite", "show", file)
    assert done.code == 2 and "convbench suite import" in done.err


def test_without_the_package_one_line_says_what_to_install(
    convbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = good().save(tmp_path / "net.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    done = convbench("suite", "import", file)
    assert done.code == 3 and "pip install 'convbench[onnx]'" in done.err and len(done.err.splitlines()) == 1
