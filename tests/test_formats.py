"""Foreign layer lists: what is read, what is refused, and that nothing is lost on the way out and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import problems

from convbench import formats
from convbench.errors import UsageError
from convbench.formats import KINDS, kind_of, read, write
from convbench.layers import Layer, Suite
from convbench.problem import Direction, Layout, Precision, Problem

checks = settings(deadline=None, max_examples=60)
names = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=12).map(
    str.strip
)


@st.composite
def layers(draw: st.DrawFn, *, flips: bool = True, symmetric: bool = False) -> Layer:
    problem = draw(
        problems(
            directions=[Direction.FWD],
            precisions=[Precision.FP32],
            layouts=[Layout.NCHW],
            flips=flips,
            symmetric=symmetric,
        )
    )
    network = draw(names).replace(":", "").strip()
    return Layer(draw(names) or str(problem), problem, draw(st.integers(1, 30)), network)


def one(text: str, kind: str) -> Layer:
    (layer,) = read(text, kind)
    return layer


def complaint(text: str, kind: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(text, kind)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 700
    return message


# ---- there and back ---------------------------------------------------------------------------------------


@checks
@given(st.lists(layers(), min_size=1, max_size=4))
def test_csv_keeps_everything(some: list[Layer]) -> None:
    text = write(Suite("s", tuple(some)), "csv")
    assert read(text, "csv") == tuple(some)
    assert kind_of("layers", text) == "csv"


@checks
@given(st.lists(layers(), min_size=1, max_size=4))
def test_text_keeps_everything_or_says_why_not(some: list[Layer]) -> None:
    try:
        text = write(Suite("s", tuple(some)), "text")
    except UsageError as error:
        assert "'#' begins a comment" in str(error) and any("#" in layer.label for layer in some)
    else:
        assert read(text, "text") == tuple(some)


@checks
@given(layers(flips=False))
def test_benchdnn_keeps_everything_but_padding_that_no_tap_reaches(layer: Layer) -> None:
    try:
        text = write(Suite("s", (layer,)), "benchdnn")
    except UsageError as error:
        assert "a quote ends the name" in str(error) and '"' in layer.label
        return
    back = one(text, "benchdnn")
    fronts = [[before for before, _ in problem.pad] for problem in (layer.problem, back.problem)]
    assert fronts[0] == fronts[1] and back.problem.output == layer.problem.output
    assert back.problem.with_(pad=layer.problem.pad) == layer.problem
    assert (back.network, back.repeat) == (layer.network, layer.repeat)
    assert back.name == layer.name or layer.name == str(layer.problem)


@checks
@given(layers(flips=False, symmetric=True))
def test_miopen_keeps_everything(layer: Layer) -> None:
    assert one(write(Suite("s", (layer,)), "miopen"), "miopen") == layer


@checks
@given(layers(flips=False, symmetric=True))
def test_deepbench_keeps_what_it_can_express(layer: Layer) -> None:
    suite = Suite("s", (layer,))
    if layer.problem.groups > 1 or layer.problem.dilation != (1, 1):
        with pytest.raises(UsageError, match="it has no"):
            write(suite, "deepbench")
    else:
        assert one(write(suite, "deepbench"), "deepbench") == layer


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("deepbench", "n1c1h9k1r3p0.1", "padding is the same at both ends"),
        ("deepbench", "n1c1h9k1r3d2", "no dilation"),
        ("deepbench", "n1c2h9k2r3g2", "no groups"),
        ("deepbench", "n1c1h9k1r3flip", "not flip"),
        ("miopen", "n1c1h9k1r3p0.1", "padding is the same at both ends"),
        ("miopen", "n1c1h9k1r3flip", "not flip"),
        ("benchdnn", "n1c1h9k1r3flip", "not flip"),
    ],
)
def test_what_a_format_cannot_express_names_layer_and_reason(kind: str, text: str, reason: str) -> None:
    suite = Suite("s", (Layer("odd one", Problem.parse(text)),))
    with pytest.raises(
        UsageError, match=f"layer 'odd one' .* cannot be written as {kind}: .*{reason}; use csv"
    ):
        write(suite, kind)


def test_formats_are_named() -> None:
    assert list(KINDS) == ["csv", "text", "benchdnn", "deepbench", "miopen"]
    with pytest.raises(UsageError, match="no format named 'onxx'; known: benchdnn, csv"):
        read("", "onxx")


def test_the_number_of_layers_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MOST_LAYERS", 2)
    assert len(read("n1c1h1k1r1\n" * 2, "text")) == 2
    assert "more than 2 layers" in complaint("n1c1h1k1r1\n" * 3, "text")


# ---- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "network", "repeat"),
    [
        ("conv1: n1c1h9k1r3", "conv1", "", 1),
        ("conv1 n1c1h9k1r3*4", "conv1", "", 4),
        ("conv1:n1c1h9k1r3 * 4  # four", "conv1", "", 4),
        ("net:conv1: n1c1h9k1r3", "conv1", "net", 1),
        ("first layer : n1_c1_h9_k1_r3", "first layer", "", 1),
        ("a*2 n1c1h9k1r3", "a*2", "", 1),
        ("c#7 n1c1h9k1r3", "c#7", "", 1),
        ("n1c1h9k1r3", "n1c1h9w9k1r3s3p0x0u1x1d1x1g1", "", 1),
        ("net:: n1c1h9k1r3", "n1c1h9w9k1r3s3p0x0u1x1d1x1g1", "net", 1),
    ],
)
def test_a_line_of_text(line: str, name: str, network: str, repeat: int) -> None:
    assert one(line, "text") == Layer(name, Problem.parse("n1c1h9k1r3"), repeat, network)


# ---- which format -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("a.csv", "anything", "csv"),
        ("a.txt", '\ufeff"name","n","c","h","k","r"\nx,1,1,1,1,1', "csv"),
        ("a.txt", "# from MIOpenDriver\nconv1: n1c1h9k1r3", "text"),
        ("a.txt", "# lines\n./bin/MIOpenDriver conv -n 1", "miopen"),
        ("a", "--reset\n--mb=1\nmb1ic8ih10oc8kh3", "benchdnn"),
        ("a", "g1mb1_ic3oc64_ih224kh7", "benchdnn"),
        ("a", "1 2 3 4 5 6 7 8 9 10 11", "deepbench"),
        ("a", "1 2 3 4 5", "text"),
        ("a", "", "text"),
    ],
)
def test_the_format_is_guessed_from_suffix_and_content(path: str, text: str, kind: str) -> None:
    assert kind_of(path, text) == kind
