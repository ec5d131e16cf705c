"""The convolution layers of well-known networks and of the small-filter question, written out as code.

Every function lists all convolutions of one network in order; equal shapes are merged afterwards, so that
the repeat counts follow from the architecture instead of being typed in.
"""

from __future__ import annotations

from collections.abc import Iterator

from convbench.layers import Layer
from convbench.problem import Problem

VGG_BLOCKS = {
    "a": ("3", "3", "33", "33", "33"),
    "b": ("33", "33", "33", "33", "33"),
    "c": ("33", "33", "331", "331", "331"),
    "d": ("33", "33", "333", "333", "333"),
    "e": ("33", "33", "3333", "3333", "3333"),
}
"""Table 1 of Simonyan and Zisserman (2014): the filter sizes of the five blocks of each configuration."""

MOBILENET_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of Sandler et al. (2018): expansion, output channels, number of blocks, stride of the first."""

CONVNEXT_T_STAGES = ((96, 3), (192, 3), (384, 9), (768, 3))
"""Liu et al. (2022): channels and number of blocks of each stage."""


def convolution(
    n: int,
    c: int,
    h: int,
    k: int,
    taps: int | tuple[int, int],
    *,
    pad: int | None = None,
    stride: int = 1,
    groups: int = 1,
) -> Problem:
    """A convolution of a square image; without `pad`, odd filters keep the size at stride 1."""
    r, s = (taps, taps) if isinstance(taps, int) else taps
    high, wide = (r // 2, s // 2) if pad is None else (pad, pad)
    return Problem(n, c, h, h, k, r, s, ((high, high), (wide, wide)), (stride, stride), groups=groups)


def vgg(configuration: str, n: int = 64) -> Iterator[Layer]:
    """VGG A to E; in C the last convolution of blocks 3 to 5 is 1x1."""
    c, size = 3, 224
    for block, taps in enumerate(VGG_BLOCKS[configuration]):
        k = min(64 * 2**block, 512)
        for index, r in enumerate(map(int, taps), start=1):
            name = f"conv{block + 1}_{index}"
            yield Layer(name, convolution(n, c, size, k, r), network=f"vgg-{configuration}")
            c = k
        size //= 2


def resnet_18(n: int = 32) -> Iterator[Layer]:
    """Two 3x3 convolutions a block; the first block of stages 2 to 4 halves the image."""
    network = "resnet-18"
    yield Layer("conv1", convolution(n, 3, 224, 64, 7, stride=2), network=network)
    c, size = 64, 56
    for stage in range(1, 5):
        k = 32 * 2**stage
        for block in range(2):
            name, u = f"layer{stage}_{block}", 2 if stage > 1 and block == 0 else 1
            yield Layer(f"{name}_conv1", convolution(n, c, size, k, 3, stride=u), network=network)
            if u > 1:
                yield Layer(f"{name}_shortcut", convolution(n, c, size, k, 1, stride=u), network=network)
            c, size = k, size // u
            yield Layer(f"{name}_conv2", convolution(n, c, size, k, 3), network=network)


def resnet_50(n: int = 32) -> Iterator[Layer]:
    """Bottlenecks 1x1, 3x3, 1x1, with the stride on the 3x3 ("v1.5")."""
    network = "resnet-50"
    yield Layer("conv1", convolution(n, 3, 224, 64, 7, stride=2), network=network)
    c, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for block in range(blocks):
            name, u = f"layer{stage}_{block}", 2 if stage > 1 and block == 0 else 1
            yield Layer(f"{name}_conv1", convolution(n, c, size, width, 1), network=network)
            yield Layer(f"{name}_conv2", convolution(n, width, size, width, 3, stride=u), network=network)
            if block == 0:
                shortcut = convolution(n, c, size, 4 * width, 1, stride=u)
                yield Layer(f"{name}_shortcut", shortcut, network=network)
            c, size = 4 * width, size // u
            yield Layer(f"{name}_conv3", convolution(n, width, size, c, 1), network=network)


def mobilenet_v2(n: int = 32) -> Iterator[Layer]:
    """Inverted residuals: pointwise expansion, depthwise 3x3, pointwise projection."""
    network = "mobilenet-v2"
    yield Layer("stem", convolution(n, 3, 224, 32, 3, stride=2), network=network)
    c, size, index = 32, 112, 0
    for expansion, k, blocks, first_stride in MOBILENET_BLOCKS:
        for block in range(blocks):
            index += 1
            name, wide, u = f"block{index}", c * expansion, first_stride if block == 0 else 1
            if expansion > 1:
                yield Layer(f"{name}_expand", convolution(n, c, size, wide, 1), network=network)
            depthwise = convolution(n, wide, size, wide, 3, stride=u, groups=wide)
            yield Layer(f"{name}_depthwise", depthwise, network=network)
            size //= u
            yield Layer(f"{name}_project", convolution(n, wide, size, k, 1), network=network)
            c = k
    yield Layer("head", convolution(n, c, size, 1280, 1), network=network)


def unet(n: int = 1) -> Iterator[Layer]:
    """The unpadded U-Net of Ronneberger et al. (2015) for a 572x572 image.

    A 2x2 up-convolution is the backward-data pass of a 2x2 convolution with stride 2. That forward
    convolution is what the suite lists, as `up4_transposed` and so on; its FLOPs are those of the
    up-convolution, its time is the up-convolution's only in the direction bwd-data.
    """
    c, size = 1, 572
    for level in range(1, 6):
        k = 32 * 2**level
        yield from _unet_pair(n, f"down{level}", c, size, k)
        c, size = k, (size - 4) // 2 if level < 5 else size - 4
    for level in range(4, 0, -1):
        k, size = c // 2, size * 2
        forward = convolution(n, k, size, c, 2, pad=0, stride=2)
        yield Layer(f"up{level}_transposed", forward, network="unet")
        yield from _unet_pair(n, f"up{level}", c, size, k)  # c = 2 k: the skip connection is concatenated
        c, size = k, size - 4
    yield Layer("head", convolution(n, c, size, 2, 1), network="unet")


def _unet_pair(n: int, name: str, c: int, size: int, k: int) -> Iterator[Layer]:
    yield Layer(f"{name}_conv1", convolution(n, c, size, k, 3, pad=0), network="unet")
    yield Layer(f"{name}_conv2", convolution(n, k, size - 2, k, 3, pad=0), network="unet")


def convnext_t(n: int = 32) -> Iterator[Layer]:
    """7x7 depthwise convolutions; the two linear layers of a block are listed as the 1x1 they are."""
    network = "convnext-t"
    c, size = 3, 224
    for stage, (k, blocks) in enumerate(CONVNEXT_T_STAGES, start=1):
        name, taps = ("stem", 4) if stage == 1 else (f"downsample{stage}", 2)
        yield Layer(name, convolution(n, c, size, k, taps, pad=0, stride=taps), network=network)
        c, size = k, size // taps
        block = (
            Layer(f"stage{stage}_depthwise", convolution(n, c, size, c, 7, groups=c), blocks, network),
            Layer(f"stage{stage}_expand", convolution(n, c, size, 4 * c, 1), blocks, network),
            Layer(f"stage{stage}_project", convolution(n, 4 * c, size, c, 1), blocks, network),
        )
        yield from block


def small_filters(n: int = 16) -> Iterator[Layer]:
    """Filters against the stacks of smaller ones that see the same pixels, from and to the same shape.

    Each alternative is a `network`, so that totals per network compare what can replace what.
    """
    yield Layer("7x7", convolution(n, 64, 56, 64, 7), network="7x7_once")
    yield Layer("3x3", convolution(n, 64, 56, 64, 3), 3, network="7x7_as_three_3x3")
    yield Layer("3x3", convolution(n, 256, 28, 256, 3), network="wide_3x3_once")
    yield Layer("1x1_reduce", convolution(n, 256, 28, 64, 1), network="wide_3x3_as_bottleneck")
    yield Layer("3x3_narrow", convolution(n, 64, 28, 64, 3), network="wide_3x3_as_bottleneck")
    yield Layer("1x1_restore", convolution(n, 64, 28, 256, 1), network="wide_3x3_as_bottleneck")
    yield Layer("3x3", convolution(n, 128, 28, 128, 3), network="3x3_once")
    yield Layer("1x3", convolution(n, 128, 28, 128, (1, 3)), network="3x3_as_1x3_3x1")
    yield Layer("3x1", convolution(n, 128, 28, 128, (3, 1)), network="3x3_as_1x3_3x1")
