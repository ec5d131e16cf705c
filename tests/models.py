"""ONNX models in the manner of well-known networks, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Builder:
    """A graph that grows by nodes; weights are zeros, for their sizes are what counts."""

    def __init__(self, *image: int | str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", FLOAT, image)]
        self.last, self.channels = "x", int(image[1])

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        out = name or f"{kind.lower()}_{len(self.nodes)}"
        inputs = inputs or (self.last,)
        self.nodes.append(helper.make_node(kind, inputs, [f"{out}_out"], out, **attributes))
        self.last = f"{out}_out"
        return self.last

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def conv(self, k: int, *taps: int, group: int = 1, name: str = "", **attributes: Any) -> str:
        weight = self.weight(k, self.channels // group, *taps)
        self.channels = k
        return self.add("Conv", self.last, weight, name=name, group=group, **attributes)

    def transposed(self, k: int, *taps: int, group: int = 1, name: str = "", **attributes: Any) -> str:
        weight = self.weight(self.channels, k // group, *taps)
        self.channels = k
        return self.add("ConvTranspose", self.last, weight, name=name, group=group, **attributes)

    def model(self, **extra: Any) -> onnx.ModelProto:
        outputs = [helper.make_tensor_value_info(self.last, FLOAT, None)]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, outputs, self.weights)
        others = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(name, 1) for name in others)]
        return helper.make_model(graph, opset_imports=opsets, **extra)

    def save(self, path: Path, **extra: Any) -> Path:
        onnx.save(self.model(**extra), path)
        return path


def resnet_18(batch: int | str = 2) -> Builder:
    net = Builder(batch, 3, 224, 224)
    net.conv(64, 7, 7, strides=[2, 2], pads=[3, 3, 3, 3], name="stem")
    net.add("Relu")
    net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, k in enumerate((64, 128, 256, 512), start=1):
        for block in (1, 2):
            stride = 2 if stage > 1 and block == 1 else 1
            start, channels = net.last, net.channels
            net.conv(k, 3, 3, strides=[stride] * 2, pads=[1] * 4, name=f"layer{stage}.{block}.conv1")
            net.add("Relu")
            main = net.conv(k, 3, 3, pads=[1] * 4, name=f"layer{stage}.{block}.conv2")
            if stride == 2:
                net.last, net.channels = start, channels
                start = net.conv(k, 1, 1, strides=[2, 2], name=f"layer{stage}.{block}.downsample")
            net.add("Add", main, start)
    net.add("GlobalAveragePool")
    net.add("Flatten")
    return net


def mobilenet_v2(batch: int | str = 1) -> Builder:
    """As TensorFlow's: SAME padding, one more pixel at the end with stride 2."""
    net = Builder(batch, 3, 224, 224)
    net.conv(32, 3, 3, strides=[2, 2], auto_pad="SAME_UPPER", name="stem")
    for t, c, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)):
        for block in range(count):
            start, width, same = net.last, net.channels, block > 0
            if t > 1:
                net.conv(width * t, 1, 1)
            step = 1 if same else stride
            net.conv(net.channels, 3, 3, group=net.channels, strides=[step] * 2, auto_pad="SAME_UPPER")
            out = net.conv(c, 1, 1, auto_pad="VALID")
            if same:
                net.add("Add", out, start)
    return net


def u_net(batch: int = 1) -> Builder:
    net = Builder(batch, 1, 64, 64)
    skips = []
    for k in (8, 16):
        net.conv(k, 3, 3, pads=[1] * 4)
        skips.append((net.conv(k, 3, 3, pads=[1] * 4), k))
        net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    net.conv(32, 3, 3, pads=[1] * 4)
    for skip, k in reversed(skips):
        up = net.transposed(k, 2, 2, strides=[2, 2], name=f"up{k}")
        net.add("Concat", skip, up, axis=1)
        net.channels = 2 * k
        net.conv(k, 3, 3, pads=[1] * 4)
    return net


def wave_net(batch: int | str = 1) -> Builder:
    net = Builder(batch, 1, 1000)
    net.conv(16, 1)
    for dilation in (1, 2, 4, 8):
        start = net.last
        main = net.conv(16, 2, dilations=[dilation], pads=[dilation, 0], name=f"dilated{dilation}")
        net.add("Add", main, start)
    return net
