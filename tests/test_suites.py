"""Suites: what the built-in ones hold, how targets combine, and what a bad file says."""

from __future__ import annotations

import csv
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest

from convbench.errors import UsageError
from convbench.layers import Layer
from convbench.problem import Problem
from convbench.suites import Suite, load_suite, select, suite_names

DATA = Path(sys.modules["convbench.suites"].__file__ or "").with_name("data")
TEXT = "n2c3h8k4r3p1"


def macs(layers: tuple[Layer, ...], network: str = "") -> float:
    """Billions of multiply-adds for one image."""
    chosen = [layer for layer in layers if network in ("", layer.network)]
    return sum(layer.problem.flops / 2 / layer.problem.n * layer.repeat for layer in chosen) / 1e9


def weights(suite: Suite) -> float:
    """Millions of convolution weights."""
    return sum(prod(layer.problem.w_shape) * layer.repeat for layer in suite.layers) / 1e6


def count(suite: Suite) -> int:
    return sum(layer.repeat for layer in suite.layers)


# ---- built in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_loads(name: str) -> None:
    suite = load_suite(name)
    assert suite.layers and suite.name == name and suite.about == suite_names()[name]
    for layer in suite.layers:
        assert layer.problem == Problem.parse(str(layer.problem))  # forward, fp32, nchw
        assert layer.name and layer.repeat >= 1


@pytest.mark.parametrize(
    ("name", "convolutions", "gmacs", "mweights"),
    [  # as published, the fully connected layers and biases taken off
        ("vgg-a", 8, 7.49, 9.22),
        ("vgg-b", 10, 11.18, 9.40),
        ("vgg-c", 13, 11.65, 9.99),
        ("vgg-d", 13, 15.35, 14.71),
        ("vgg-e", 16, 19.51, 20.02),
        ("resnet-18", 20, 1.81, 11.17),
        ("resnet-50", 53, 4.09, 23.45),
        ("mobilenet-v2", 52, 0.300, 2.19),
        ("convnext-t", 58, 4.46, 27.76),
        ("unet", 23, 150.4, 31.02),
    ],
)
def test_a_network_has_the_published_size(
    name: str, convolutions: int, gmacs: float, mweights: float
) -> None:
    suite = load_suite(name)
    assert count(suite) == convolutions
    assert macs(suite.layers) == pytest.approx(gmacs, rel=0.005)
    assert weights(suite) == pytest.approx(mweights, rel=0.005)
    assert len({layer.problem for layer in suite.layers}) == len(suite.layers)


@pytest.mark.parametrize(
    ("name", "n"), [("vgg-d", 64), ("resnet-50", 32), ("mobilenet-v2", 32), ("convnext-t", 32), ("unet", 1)]
)
def test_a_network_has_its_batch(name: str, n: int) -> None:
    assert {layer.problem.n for layer in load_suite(name).layers} == {n}


def test_resnet_50_strides_in_the_3x3() -> None:
    strided = [p for p in (layer.problem for layer in load_suite("resnet-50").layers) if p.stride == (2, 2)]
    assert sorted(p.r for p in strided) == [1, 1, 1, 3, 3, 3, 7]


def test_unet_lists_up_convolutions_as_what_they_reverse() -> None:
    up = next(layer for layer in load_suite("unet").layers if layer.name == "up4_transposed")
    backward = up.problem.with_(direction=type(up.problem.direction)("bwd-data"))
    assert backward.shapes == ((1, 1024, 28, 28), (1024, 512, 2, 2), (1, 512, 56, 56))


def test_small_filters_compare_equal_shapes_in_and_out() -> None:
    layers = load_suite("small-filters").layers
    for one, other in (
        ("7x7_once", "7x7_as_three_3x3"),
        ("wide_3x3_once", "wide_3x3_as_bottleneck"),
        ("3x3_once", "3x3_as_1x3_3x1"),
    ):
        ends = []
        for network in (one, other):
            chain = [layer.problem for layer in layers if layer.network == network]
            assert [p.y_shape for p in chain[:-1]] == [p.x_shape for p in chain[1:]]
            ends.append((chain[0].x_shape, chain[-1].y_shape))
        assert ends[0] == ends[1]
        assert macs(layers, one) > macs(layers, other)


@pytest.mark.parametrize(
    ("suite", "file", "start", "networks"),
    [
        (
            "convnet-benchmarks",
            "convnet_benchmarks.csv",
            "",
            {"layerwise", "alexnet", "overfeat_fast", "vgg_a", "googlenet_v1"},
        ),
        (
            "deepbench-train",
            "deepbench.csv",
            "train_",
            {"deepspeech", "ocr", "face_recognition", "vision", "speaker_id", "resnet"},
        ),
        (
            "deepbench-inference",
            "deepbench.csv",
            "infer_",
            {
                "deepspeech",
                "ocr",
                "face_recognition",
                "face_recognition_id",
                "vision",
                "speaker_id",
                "resnet",
                "kws",
            },
        ),
    ],
)
def test_shipped_tables_are_listed_row_by_row(suite: str, file: str, start: str, networks: set[str]) -> None:
    with (DATA / file).open(newline="") as table:
        names = [row["name"] for row in csv.DictReader(table) if row["name"].startswith(start)]
    layers = load_suite(suite).layers
    assert [layer.name for layer in layers] == names
    assert {layer.network for layer in layers} == networks


def test_deepbench_axes_are_not_swapped() -> None:
    first = load_suite("deepbench-train").layers[0].problem
    assert str(first) == "n4c1h161w700k32r5s20p0x0u2x2d1x1g1"


def test_quick_is_small() -> None:
    layers = load_suite("quick").layers
    assert len(layers) == 5 and macs(layers) * 2 < 1


# ---- grids ------------------------------------------------------------------------------------------------


def test_filter_grid_keeps_the_image_size() -> None:
    problems = [layer.problem for layer in load_suite("grid-filter").layers]
    assert [p.r for p in problems] == [p.s for p in problems] == list(range(1, 16))
    assert {p.output for p in problems} == {(56, 56)}
    assert problems[1].pad == ((0, 1), (0, 1)) and problems[2].pad == ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("name", "letters", "values"),
    [
        ("grid-channels", "ck", [8, 16, 32, 64, 128, 256, 512, 1024]),
        ("grid-image", "hw", [7, 14, 28, 56, 112, 224]),
        ("grid-batch", "n", [1, 2, 4, 8, 16, 32, 64, 128, 256]),
    ],
)
def test_a_grid_changes_its_letters_alone(name: str, letters: str, values: list[int]) -> None:
    base = Problem.parse("n4c32h28k32r5p2u2")
    suite = load_suite(f"{name}:n4c32h28k32r5p2u2")
    expected = [base.with_(**dict.fromkeys(letters, value)) for value in values]
    assert [layer.problem for layer in suite.layers] == expected


def test_a_depthwise_channel_grid_stays_depthwise() -> None:
    suite = load_suite("grid-channels:n4c32h28k32r3p1g32")
    assert all(layer.problem.depthwise for layer in suite.layers)


def test_sizes_of_a_grid_are_checked_as_a_text_form() -> None:
    with pytest.raises(UsageError, match="'n4c32' lacks h"):
        load_suite("grid-filter:n4c32")
    with pytest.raises(UsageError, match="resnet-50 has no sizes to choose; the grids do: grid-filter"):
        load_suite("resnet-50:n4c32h28k32r3")


# ---- batch and selection ----------------------------------------------------------------------------------


def test_batch_override_reaches_every_layer_and_its_name() -> None:
    suite = select(["quick", TEXT]).with_batch(7)
    assert {layer.problem.n for layer in suite.layers} == {7}
    assert suite.layers[0].name == "stem7x7"
    assert suite.layers[-1].name == str(suite.layers[-1].problem)


def test_targets_combine_in_order(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(f"# two layers\nfirst: {TEXT} *3\n\n{TEXT}u2\n")
    suite = select([TEXT, "quick", str(tmp_path / "mine.txt")])
    canonical = str(Problem.parse(TEXT))
    assert [layer.name for layer in suite.layers][:2] == [canonical, "stem7x7"]
    assert [(layer.name, layer.repeat) for layer in suite.layers][-2:] == [
        ("first", 3),
        ("n2c3h8w8k4r3s3p1x1u2x2d1x1g1", 1),
    ]
    assert suite.name == f"{canonical}, quick, mine"


def test_one_target_keeps_its_suite() -> None:
    assert select(["resnet-18"]) == load_suite("resnet-18")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "no layers chosen"),
        (["resnet50"], "no suite named 'resnet50'; did you mean resnet-50"),
        (["everything"], "no suite named 'everything'; known: "),
        (["n2c3h8k4"], "lacks r"),
        (["no/such/file"], "no suite file 'no/such/file'; check the path"),
        (["nosuch.csv"], "no suite file 'nosuch.csv'"),
        (["x" * 5000], "no suite named 'xxx"),
        (["a\0b"], r"no suite named 'a\x00b'"),
        (["a\0b/c"], r"cannot read suite file 'a\x00b/c'"),
    ],
)
def test_a_bad_target_is_one_line(targets: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(targets)
    assert message in str(caught.value) and str(caught.value).isprintable()


def test_suites_import_no_array_library() -> None:
    code = "import sys, convbench.suites; print(any(m in sys.modules for m in ('numpy', 'scipy', 'pandas')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_yardstick_is_part_of_the_suites_it_stands_for() -> None:
    layers = {layer.name: layer.problem for layer in load_suite("yardstick").layers}
    layerwise = [one.problem for one in load_suite("convnet-benchmarks").layers[:5]]
    assert [layers[f"L{i}"] for i in range(1, 6)] == layerwise
    assert {layers[name] for name in layers if name.startswith("vgg")} <= {
        one.problem for one in load_suite("vgg-e").layers
    }
