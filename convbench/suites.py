"""Built-in suites, suite files, and the choice of layers that a command line names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from convbench import formats, networks
from convbench.errors import UsageError, one_line, unknown
from convbench.layers import Layer, Suite, distinct
from convbench.problem import Problem

__all__ = ["Layer", "Suite", "load_file", "load_suite", "select", "suite_names"]

LARGEST_FILE = 1_000_000
SUFFIXES = (".csv", ".txt", ".suite", ".onnx")
MODEL = ".onnx"
GRID_BASE = "n16c64h56k64r3p1"
_DATA = Path(__file__).with_name("data")
_TEXT = re.compile(r"[nchwkrspudg]_*-?[0-9]", re.ASCII)
_TASK = re.compile(r"(?:train|infer)_(?:(?:server|device)_)?(?:\d+|disabled)_(.*)")

Layers = Callable[[], Iterable[Layer]]
Grid = Callable[[Problem], Iterable[Layer]]


def suite_names() -> dict[str, str]:
    """Every built-in suite with one line about it."""
    return {name: about for name, (about, _) in (*_SUITES.items(), *_GRIDS.items())}


def select(targets: Sequence[str]) -> Suite:
    """One suite of all the layers that suite names, suite files and text forms name, in that order."""
    if not targets:
        raise UsageError("no layers chosen; name a suite (such as quick), a suite file or a problem text")
    suites = [_target(target) for target in targets]
    if len(suites) == 1:
        return suites[0]
    layers = tuple(layer for suite in suites for layer in suite.layers)
    return Suite(", ".join(suite.name for suite in suites), layers)


def load_suite(name_or_path: str) -> Suite:
    """A built-in suite, a grid with its fixed sizes (`grid-filter:n4c32h28k32r3`), or a suite file.

    A built-in name wins over a file of the same name in the working directory; `./name` is the file.
    """
    name, colon, base = name_or_path.partition(":")
    if name in _GRIDS:
        about, grid = _GRIDS[name]
        return Suite(name_or_path, tuple(grid(Problem.parse(base if colon else GRID_BASE))), about)
    if name in _SUITES and colon:
        raise UsageError(
            f"'{one_line(name_or_path)}': {name} has no sizes to choose; the grids do: {', '.join(_GRIDS)}"
        )
    if name in _SUITES:
        about, layers = _SUITES[name]
        return Suite(name, tuple(layers()), about)
    if _is_file(name_or_path):
        return load_file(name_or_path)
    raise unknown("suite", name_or_path, (*_SUITES, *_GRIDS))


def _target(target: str) -> Suite:
    built_in = target.partition(":")[0] in _SUITES | _GRIDS
    if _TEXT.match(target.strip()) and not built_in and not _is_file(target):
        problem = Problem.parse(target)
        return Suite(str(problem), (Layer(str(problem), problem),))
    return load_suite(target)


# ---- files -------------------------------------------------------------------------------------------------


def _is_file(target: str) -> bool:
    separators = {"/", os.sep, os.altsep or "/"}
    if target.endswith(SUFFIXES) or any(separator in target for separator in separators):
        return True
    try:
        return Path(target).is_file()
    except (OSError, ValueError):  # too long for a path, or a NUL in it: no file has that name
        return False


def load_file(path: str, kind: str | None = None) -> Suite:
    """A suite file, in the given format or the one it looks like."""
    if kind is None and path.endswith(MODEL):
        shown = one_line(path)
        raise UsageError(f"'{shown}' is a model; first: convbench suite import {shown} -o layers.csv")
    text = _read_text(path)
    layers = formats.read(text, kind or formats.kind_of(path, text), source=path)
    return Suite(one_line(Path(path).stem), layers, f"from {one_line(path)}")


def import_file(path: str, kind: str | None = None, batch: int | None = None) -> tuple[Suite, list[str]]:
    """Layers of a suite file or a model, and what is to be said about those that could not be read."""
    if kind == "onnx" or (kind is None and path.endswith(MODEL)):
        from convbench.onnx_model import read_model

        model = read_model(path, batch)
        return model.suite, [f"convbench: left out: {one}" for one in model.skipped]
    suite = load_file(path, kind)
    return suite.with_batch(batch) if batch else suite, []


def _read_text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise UsageError(f"no suite file '{one_line(path)}'; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read suite file '{one_line(path)}': {reason}; check the path") from None
    if len(data) > LARGEST_FILE:
        raise UsageError(f"'{one_line(path)}' is larger than {LARGEST_FILE} bytes; split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{one_line(path)}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from None


# ---- built in ----------------------------------------------------------------------------------------------


def _quick() -> Iterator[Layer]:
    texts = {
        "stem7x7": "n2c3h112k32r7u2p3",
        "conv3x3": "n2c64h28k64r3p1",
        "conv5x5": "n2c32h28k32r5p2",
        "pointwise": "n2c128h28k128r1",
        "depthwise3x3": "n2c64h56k64r3p1g64",
    }
    return (Layer(name, Problem.parse(text)) for name, text in texts.items())


def _shipped(file: str, start: str, network: re.Pattern[str]) -> Iterator[Layer]:
    """Rows of a shipped table whose names begin so; the network is a part of the name."""
    for layer in formats.read((_DATA / file).read_text(encoding="utf-8"), "csv", source=file):
        match = network.match(layer.name)
        if match and layer.name.startswith(start):
            yield Layer(layer.name, layer.problem, layer.repeat, match[1])


def _filter_grid(base: Problem) -> Iterator[Layer]:
    """Square filters that keep the image's size; an even filter takes its extra pixel at the end."""
    return (Layer(f"r{taps}", _filter(base, taps)) for taps in range(1, 16))


def _filter(base: Problem, taps: int) -> Problem:
    total = [(taps - 1) * d for d in base.dilation]
    return base.with_(r=taps, s=taps, pad=tuple((t // 2, t - t // 2) for t in total))


def _channel_grid(base: Problem) -> Iterator[Layer]:
    """As many filters as channels; a depthwise base stays depthwise."""
    return (Layer(f"c{c}", _channels(base, c)) for c in (8 * 2**i for i in range(8)))


def _channels(base: Problem, c: int) -> Problem:
    return base.with_(c=c, k=c, groups=c if base.depthwise else base.groups)


def _image_grid(base: Problem) -> Iterator[Layer]:
    return (Layer(f"h{size}", base.with_(h=size, w=size)) for size in (7, 14, 28, 56, 112, 224))


def _batch_grid(base: Problem) -> Iterator[Layer]:
    return (Layer(f"n{n}", base.with_(n=n)) for n in (2**i for i in range(9)))


def _map_grid(base: Problem) -> Iterator[Layer]:
    """Filter size, channels and batch together: a map of who wins where."""
    for n, c, taps in product((1, 16, 128), (8, 32, 128, 512), (1, 3, 5, 7, 11)):
        yield Layer(f"n{n}c{c}r{taps}", _filter(_channels(base.with_(n=n), c), taps))


def _network(layers: Callable[[], Iterable[Layer]]) -> Layers:
    return lambda: distinct(layers())


_CONVNET = re.compile(r"(layerwise|alexnet|overfeat_fast|vgg_a|googlenet_v1)_")
_YARDSTICK = {
    "L1": "n128c3h128k96r11",
    "L2": "n128c64h64k128r9",
    "L3": "n128c128h32k128r9",
    "L4": "n128c128h16k128r7",
    "L5": "n128c384h13k384r3",
    "vgg1_2": "n64c64h224k64r3p1",
    "vgg2_2": "n64c128h112k128r3p1",
    "vgg3_2": "n64c256h56k256r3p1",
    "vgg4_2": "n64c512h28k512r3p1",
    "vgg5_1": "n64c512h14k512r3p1",
}


def _yardstick() -> Iterator[Layer]:
    return (Layer(name, Problem.parse(text)) for name, text in _YARDSTICK.items())


_SUITES: dict[str, tuple[str, Layers]] = {
    "quick": ("five small layers with different winners, for a first run on any machine", _quick),
    "convnet-benchmarks": (
        "convnet-benchmarks: layerwise L1-L5, AlexNet, OverFeat fast, VGG-A, GoogLeNet v1",
        partial(_shipped, "convnet_benchmarks.csv", "", _CONVNET),
    ),
    "yardstick": ("layerwise L1-L5 and the five sizes of VGG: where algorithms are compared", _yardstick),
    "deepbench-train": ("DeepBench, training set", partial(_shipped, "deepbench.csv", "train_", _TASK)),
    "deepbench-inference": (
        "DeepBench, inference on servers and devices",
        partial(_shipped, "deepbench.csv", "infer_", _TASK),
    ),
    **{
        f"vgg-{x}": (f"VGG configuration {x.upper()}, N=64", _network(partial(networks.vgg, x)))
        for x in networks.VGG_BLOCKS
    },
    "resnet-18": ("ResNet-18, N=32", _network(networks.resnet_18)),
    "resnet-50": ("ResNet-50 with the stride on the 3x3 (v1.5), N=32", _network(networks.resnet_50)),
    "mobilenet-v2": ("MobileNetV2: depthwise and pointwise, N=32", _network(networks.mobilenet_v2)),
    "unet": (
        "the unpadded 572x572 U-Net, up-convolutions as what they reverse, N=1",
        _network(networks.unet),
    ),
    "convnext-t": ("ConvNeXt-T: 7x7 depthwise and pointwise, N=32", _network(networks.convnext_t)),
    "small-filters": (
        "a filter against stacks of smaller ones that see as much, N=16",
        networks.small_filters,
    ),
}
_GRIDS: dict[str, tuple[str, Grid]] = {
    "grid-filter": ("filters 1x1 to 15x15, padded to keep the image size", _filter_grid),
    "grid-channels": ("8 to 1024 channels and as many filters", _channel_grid),
    "grid-image": ("images 7x7 to 224x224", _image_grid),
    "grid-batch": ("batches 1 to 256", _batch_grid),
    "grid-map": ("filters 1x1 to 11x11 with 8 to 512 channels at batches 1, 16 and 128", _map_grid),
}
