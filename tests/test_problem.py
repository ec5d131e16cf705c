"""The problem: its text form, its geometry, its work counted against brute force, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from strategies import problems

from convbench.errors import UsageError
from convbench.problem import Direction, Layout, Precision, Problem

brute_force = settings(deadline=None, max_examples=60)
quick_checks = settings(deadline=None, max_examples=200)


def products(problem: Problem) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Every (x, w, y) index triple whose product enters a result, by the definition and nothing else."""
    p = problem
    c_group, k_group = p.c // p.groups, p.k // p.groups
    (top, _), (left, _) = p.pad
    for n, k, oy, ox, c, r, s in product(
        *map(range, (p.n, p.k, p.output[0], p.output[1], c_group, p.r, p.s)),
    ):
        y = oy * p.stride[0] - top + r * p.dilation[0]
        x = ox * p.stride[1] - left + s * p.dilation[1]
        if 0 <= y < p.h and 0 <= x < p.w:
            yield (n, k // k_group * c_group + c, y, x), (k, c, r, s), (n, k, oy, ox)


def outputs_along(size: int, pad: tuple[int, int], extent: int, stride: int) -> int:
    """How many filter positions fit into the padded image."""
    padded = size + sum(pad)
    return sum(1 for start in range(0, padded, stride) if start + extent <= padded)


# ---- text -------------------------------------------------------------------------------------------------


@quick_checks
@given(problems())
def test_text_parses_back_to_the_same_problem(problem: Problem) -> None:
    kinds = {
        "direction": problem.direction.value,
        "precision": problem.precision.value,
        "layout": problem.layout.value,
    }
    assert Problem.parse(str(problem), **kinds) == problem
    assert Problem.from_dict(problem.as_dict()) == problem


@quick_checks
@given(problems(), problems())
def test_labels_differ_when_problems_do(one: Problem, other: Problem) -> None:
    assert (one.label == other.label) == (one == other)


@pytest.mark.parametrize(
    ("short", "canonical"),
    [
        ("n64c256h56k256r3p1", "n64c256h56w56k256r3s3p1x1u1x1d1x1g1"),
        ("r3_k4_h9_c2_n1", "n1c2h9w9k4r3s3p0x0u1x1d1x1g1"),
        (" n1c1h9k1r3p1x0u2x1d1x2 ", "n1c1h9w9k1r3s3p1x0u2x1d1x2g1"),
        ("n1c1h9k1r3p0.1x2.0", "n1c1h9w9k1r3s3p0.1x2.0u1x1d1x1g1"),
        ("n1c1h9k1r3p0.1", "n1c1h9w9k1r3s3p0.1x0.1u1x1d1x1g1"),
        ("n1c4h9w5k4r3s1g4flip", "n1c4h9w5k4r3s1p0x0u1x1d1x1g4flip"),
        ("flipn1c1h1k1r1", "n1c1h1w1k1r1s1p0x0u1x1d1x1g1flip"),
    ],
)
def test_text_form(short: str, canonical: str) -> None:
    assert str(Problem.parse(short)) == canonical


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n64c256h56k256", ["lacks r", "filter height", "example"]),
        ("n64c256h56k256r3z2", ["'z2'", "unknown", "example"]),
        ("n64c256h56k256r3r5", ["'r5'", "twice"]),
        ("n64c256h56k256r3p1.2.3", ["p1.2.3", "top.bottom"]),
        ("n64c256h56k256r3u2x2x2", ["u2x2x2", "stride"]),
        ("n6-4c256h56k256r3", ["n6-4", "whole number"]),
        ("nc256h56k256r3", ["'n'", "whole number"]),
        ("n0c256h56k256r3", ["n = 0", "from 1"]),
        ("n9999999999c1h1k1r1", ["9999999999", "2147483647"]),
        ("n1c6h9k4r3g4", ["g4", "divide c = 6"]),
        ("n1c4h9k6r3g4", ["g4", "divide k = 6"]),
        ("n1c4h2k6r3", ["output 0 pixels high", "larger"]),
        ("n1c4h9w2k6r3", ["output 0 pixels wide"]),
        ("n1c1h9k1r3u0", ["stride = 0"]),
        ("n1c1h9k1r3d0", ["dilation = 0"]),
        ("", ["lacks n"]),
        ("n1 c1h9k1r3", ["' '", "unknown"]),
        ("n1c1h9k1r3\u0663", ["unknown"]),
        ("n" * 500, ["..."]),
    ],
)
def test_a_bad_text_is_one_line_that_names_token_and_rule(text: str, names: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Problem.parse(text)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500
    for name in names:
        assert name in message


def test_negative_padding_is_refused() -> None:
    with pytest.raises(UsageError, match="must not be negative"):
        Problem(1, 1, 9, 9, 1, 3, 3, pad=((-1, 0), (0, 0)))


@pytest.mark.parametrize("field", ["direction", "precision", "layout"])
def test_an_unknown_choice_lists_the_known_ones(field: str) -> None:
    with pytest.raises(UsageError, match=f"no {field} named 'sideways'; known: "):
        Problem.parse("n1c1h9k1r3", **{field: "sideways"})


# ---- geometry ---------------------------------------------------------------------------------------------


@quick_checks
@given(problems())
def test_output_counts_the_filter_positions(problem: Problem) -> None:
    axes = zip(problem.image, problem.pad, problem.extent, problem.stride, strict=True)
    assert problem.output == tuple(outputs_along(*axis) for axis in axes)
    assert (problem.p, problem.q) == problem.output


def test_shapes_follow_direction_and_layout() -> None:
    problem = Problem.parse("n2c6h5w4k9r3s2g3")
    x, w, y = (2, 6, 5, 4), (9, 2, 3, 2), (2, 9, 3, 3)
    assert problem.shapes == (x, w, y)
    assert problem.with_(direction=Direction.BWD_DATA).shapes == (y, w, x)
    assert problem.with_(direction=Direction.BWD_FILTER).shapes == (x, y, w)
    nhwc = problem.with_(layout=Layout.NHWC)
    assert nhwc.shapes == ((2, 5, 4, 6), (9, 3, 2, 2), (2, 3, 3, 9))


@quick_checks
@given(problems())
def test_operand_bytes_are_those_of_the_shapes(problem: Problem) -> None:
    elements = sum(prod(shape) for shape in (problem.x_shape, problem.w_shape, problem.y_shape))
    assert problem.operand_bytes == elements * problem.precision.itemsize
    assert sorted(problem.shapes) == sorted([problem.x_shape, problem.w_shape, problem.y_shape])


def test_item_sizes() -> None:
    sizes = {precision.value: precision.itemsize for precision in Precision}
    assert sizes == {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}


@pytest.mark.parametrize(
    ("text", "answer"), [("c4k4g4", True), ("c4k8g4", True), ("c4k4g2", False), ("c1k1", False)]
)
def test_depthwise(text: str, answer: bool) -> None:
    assert Problem.parse(f"n1h5r3{text}").depthwise is answer


# ---- work -------------------------------------------------------------------------------------------------


@brute_force
@given(problems())
def test_inbounds_flops_count_the_products_with_real_input(problem: Problem) -> None:
    assert problem.inbounds_flops == 2 * sum(1 for _ in products(problem))


@brute_force
@given(problems())
def test_effective_flops_count_padding_as_well(problem: Problem) -> None:
    """As the in-bounds FLOPs of the image with its padding written out."""
    (top, bottom), (left, right) = problem.pad
    padded = problem.with_(h=problem.h + top + bottom, w=problem.w + left + right, pad=((0, 0), (0, 0)))
    assert problem.flops == padded.flops == padded.inbounds_flops
    assert problem.inbounds_flops <= problem.flops


@quick_checks
@given(problems())
def test_flops_do_not_depend_on_direction(problem: Problem) -> None:
    turned = [problem.with_(direction=direction) for direction in Direction]
    assert len({p.flops for p in turned}) == len({p.inbounds_flops for p in turned}) == 1


@brute_force
@given(problems())
def test_minimum_bytes_are_touched_operands_and_the_whole_result(problem: Problem) -> None:
    triples = list(products(problem))
    x, w, y = ({triple[i] for triple in triples} for i in range(3))
    operands = {"fwd": (x, w), "bwd-data": (y, w), "bwd-filter": (x, y)}[problem.direction.value]
    elements = sum(map(len, operands)) + prod(problem.shapes[2])
    assert problem.min_bytes == elements * problem.precision.itemsize
    assert problem.min_bytes <= problem.operand_bytes


@brute_force
@given(problems())
def test_reduction_is_the_longest_sum(problem: Problem) -> None:
    result = {"fwd": 2, "bwd-data": 0, "bwd-filter": 1}[problem.direction.value]
    lengths: dict[tuple[int, ...], int] = {}
    for triple in products(problem):
        lengths[triple[result]] = lengths.get(triple[result], 0) + 1
    assert max(lengths.values(), default=0) <= problem.reduction


def test_work_of_a_known_layer() -> None:
    problem = Problem.parse("n1c256h56k256r3p1")
    assert problem.flops == 2 * 56 * 56 * 256 * 256 * 9
    assert problem.inbounds_flops == 2 * 256 * 256 * (3 * 56 - 2) ** 2
    assert problem.min_bytes == problem.operand_bytes == 4 * (2 * 256 * 56 * 56 + 256 * 256 * 9)


def test_a_strided_pointwise_layer_touches_a_quarter_of_its_image() -> None:
    problem = Problem.parse("n1c1h4k1r1u2")
    assert problem.min_bytes == 4 * (4 + 1 + 4)
