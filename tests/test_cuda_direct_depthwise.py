"""Depthwise convolution on CUDA, on the emulated GPU: packs of every kind, and what serves what."""

from __future__ import annotations

import pytest
from convbench.algorithms import cuda_direct_depthwise
from convbench.algorithms.cuda_direct import CudaDirect
from emulator import failures

from convbench.api import Direction, Precision, Problem

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

every = pytest.mark.parametrize
wide = every("precision", [Precision.FP64, Precision.FP32, Precision.FP16])
both = every("direction", [Direction.FWD, Direction.BWD_DATA])

# Strips of full height and a rest, rows and columns without padding or with much of it; packs of 1, 2, 4 and
# 8; turned filters; several filters a channel; padding that is wider than the filter.
NCHW = (
    "n1c4h33w16k4r3p1g4", "n2c8h9w10k8r3p1x2g8flip", "n1c4h31w24k4r3p1u2g4", "n1c4h5w8k4r3g4",
    "n2c4h3w13k4r3p2g4", "n1c4h20w8k4r5p2g4flip", "n1c4h31w16k4r5p2u2g4", "n2c8h3w9k8r5p4g8",
    "n1c8h14k16r3p1g8", "n2c24h7k24r3p1g24", "n1c2h5w8k2r3p0x1g2", "n2c6h9w5k6r3p5g6",
)  # fmt: skip
# Channels in fours and in twos; columns and rows with a rest.
NHWC = (
    "n2c16h31w24k16r3p1g16", "n2c40h19w17k40r3p1u2g40flip", "n1c24h15w9k24r5p2g24flip",
    "n1c72h15w9k72r5p2u2g72", "n2c16h13w60k16r3p1x0g16", "n1c8h9w5k8r3p2g8", "n1c136h5w3k136r3p1g136",
    "n1c6h3w9k6r5p4g6", "n2c6h9w10k6r3p5g6",
)  # fmt: skip


@wide
@both
@every("layout", ["nchw", "nhwc"])
def test_packs(precision: Precision, direction: Direction, layout: str) -> None:
    texts = NCHW if layout == "nchw" else NHWC
    cases = [Problem.parse(t, direction=direction, precision=precision, layout=layout) for t in texts]
    assert not failures(CudaDirect(), *cases)


def kernel(text: str, direction: str = "fwd", layout: str = "nchw", precision: str = "fp32") -> str:
    problem = Problem.parse(text, direction=direction, layout=layout, precision=precision)
    return cuda_direct_depthwise.strips(problem).function


@every(
    ("text", "direction", "expected"),
    [
        ("n1c4h9k4r3p1g4", "fwd", "forward_3_1"),
        ("n1c4h9k8r5p2u2g4", "fwd", "forward_5_2"),
        ("n1c4h9w8k4r3p1g4", "fwd", "packs_3_1_by4"),
        ("n1c4h9w12k4r3p1u2g4", "fwd", "packs_3_2_by2"),
        ("n1c4h9w10k4r5p2g4", "bwd-data", "packs_5_1_by2"),
        ("n1c4h9w8k4r3p1x0g4", "fwd", "forward_3_1"),
        ("n1c4h9w8k4r3p0x1g4", "fwd", "packs_3_1_by4"),
        ("n1c4h9k4r3d2p2g4", "fwd", "forward_any"),
        ("n1c4h9k4r3s5p1x2g4", "fwd", "forward_any"),
        ("n1c4h9k4r3p1g4", "bwd-data", "backward_3_1"),
        ("n1c4h9k8r3p1g4", "bwd-data", "backward_any"),
        ("n1c4h9k4r3p1u2g4", "bwd-data", "backward_any"),
        ("n1c4h9k4r3p3g4", "fwd", "forward_3_1"),
        ("n1c3h9k3r3p1g3", "fwd", "forward_3_1"),
    ],
)
def test_usual_filters_have_kernels_of_their_own(text: str, direction: str, expected: str) -> None:
    assert kernel(text, direction) == expected


@every(
    ("text", "layout", "precision", "expected"),
    [
        ("n1c8h16k8r3p1g8", "nchw", "fp16", "packs_3_1_by8"),
        ("n1c8h14k8r3p1g8", "nchw", "fp16", "packs_3_1_by2"),
        ("n1c8h16k8r3g8", "nchw", "fp16", "forward_3_1"),
        ("n1c8h7k8r3g8", "nhwc", "fp16", "packs_3_1_by4"),
        ("n1c8h7k8r3g8", "nhwc", "fp32", "packs_3_1_by2"),
        ("n1c6h7k6r3g6", "nhwc", "fp16", "packs_3_1_by2"),
        ("n1c7h7k7r3p1g7", "nhwc", "fp32", "forward_3_1"),
        ("n1c8h3k8r3p1g8", "nhwc", "fp32", "forward_3_1"),
        ("n1c8h7k8r5p2g8", "nhwc", "fp32", "packs_5_1_by2"),
        ("n1c8h7k16r3p1g8", "nhwc", "fp32", "forward_3_1"),
    ],
)
def test_packs_are_as_wide_as_alignment_allows(text: str, layout: str, precision: str, expected: str) -> None:
    assert kernel(text, layout=layout, precision=precision) == expected


def test_strips_are_short_where_there_would_be_few_blocks() -> None:
    heights = [
        cuda_direct_depthwise.strips(Problem.parse(f"n{n}c240h28k240r5p2g240", precision="fp16")).arguments[
            -1
        ]
        for n in (128, 1)
    ]
    assert heights == [28, 7]
