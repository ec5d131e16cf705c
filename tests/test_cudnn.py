"""The algorithm "cudnn" over a fake library that convolves: variants, refusals, picks, launches."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from convbench.algorithms import cudnn, cudnn_plan
from fake_cudnn import FakeCudnn

from convbench import conformance, cuda, libcudnn
from convbench.api import Direction, Layout, Precision, Problem, Variant
from convbench.errors import UsageError
from convbench.libcudnn import Library
from convbench.libcudnn_find import MissingError
from convbench.record import canonical

ALGORITHM = cudnn.Cudnn()
ON_HOST = cudnn.Cudnn(device="cpu")  # what the fake computes on
PROBLEM = Problem.parse("n1c2h5w4k3r3p1")
FORWARD = ("IMPLICIT_GEMM", "IMPLICIT_PRECOMP_GEMM", "GEMM", "DIRECT")
FORWARD += ("FFT", "FFT_TILING", "WINOGRAD", "WINOGRAD_NONFUSED")
DATA = ("ALGO_0", "ALGO_1", "FFT", "FFT_TILING", "WINOGRAD", "WINOGRAD_NONFUSED")
FILTER = ("ALGO_0", "ALGO_1", "FFT", "ALGO_3", "WINOGRAD", "WINOGRAD_NONFUSED", "FFT_TILING")
DEFAULT, TENSOR_OP, CONVERSION, FMA = range(4)
GEMM, FFT, FFT_TILING, NONFUSED = 2, 4, 5, 7  # forward
ANY_MATH = range(4)
REFUSAL = "CUDNN_STATUS_NOT_SUPPORTED"
CASES = ("n2c6h9w7k6r3p1g6", "n2c2h13w12k3r3u2x1d2x3p2x3", "n2c3h7w8k4r3s2p1flip")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCudnn]:
    """A library on a device whose memory is the host's, with one CuPy stream."""
    fake = FakeCudnn()
    library, stream = Library(fake), SimpleNamespace(ptr=0x7F00_0000_0010)
    monkeypatch.setitem(
        sys.modules,
        "cupy",
        SimpleNamespace(
            cuda=SimpleNamespace(Device=lambda: SimpleNamespace(id=0), get_current_stream=lambda: stream),
            random=np.random,
            empty=np.empty,
        ),
    )
    monkeypatch.setattr(cuda, "missing", lambda: None)
    monkeypatch.setattr(libcudnn, "open_library", lambda: library)
    cudnn_plan._handle_on.cache_clear()
    yield fake
    cudnn_plan._handle_on.cache_clear()


def variants(problem: Problem = PROBLEM, limit: int | None = None) -> dict[str, Variant]:
    return {variant.name: variant for variant in ALGORITHM.variants(problem, limit)}


def refuse(fake: FakeCudnn, *algorithms: int, status: int = 3000) -> None:
    fake.refused |= {(algorithm, math): status for algorithm in algorithms for math in ANY_MATH}


# ---- it computes convolutions ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("precision", list(Precision))
def test_conformance(fake: FakeCudnn, precision: Precision, direction: Direction, layout: Layout) -> None:
    """Operand order, sizes, groups, dilation, stride, flip, scalars and workspace, through to the result."""
    refuse(fake, 0, *range(2, 8))
    fake.workspaces = {(1, math): 512 + math for math in ANY_MATH}
    fake.advice = fake.found = [(1, 0, -1.0, 512, 1, math) for math in ANY_MATH]
    for text in conformance.CASES if precision is Precision.FP32 else CASES:
        problem = Problem.parse(text, direction=direction, precision=precision, layout=layout)
        findings = list(conformance.check_case(ON_HOST, problem))
        outcomes = {finding.outcome for finding in findings if finding.skipped != REFUSAL}
        asymmetric = any(before != after for before, after in problem.pad)
        assert outcomes == ({"skipped"} if asymmetric else {"passed"}), findings


def test_a_wrong_result_would_be_seen(fake: FakeCudnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn_plan, "_operands", lambda problem, a, b: (a.ctypes.data, b.ctypes.data))
    square = Problem.parse("n3c3h3k3r3p1", direction="bwd-data")  # dy and w are of one shape
    assert {finding.outcome for finding in conformance.check_case(ON_HOST, square)} == {"failed", "skipped"}


# ---- variants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "names"),
    [(Direction.FWD, FORWARD), (Direction.BWD_DATA, DATA), (Direction.BWD_FILTER, FILTER)],
)
@pytest.mark.parametrize(
    ("precision", "suffixes"),
    [
        (Precision.FP64, [""]),
        (Precision.FP32, [""]),
        (Precision.TF32, ["", "+tensor_op"]),
        (Precision.FP16, ["", "+default", "+fma"]),
        (Precision.BF16, ["", "+default", "+fma"]),
    ],
)
def test_every_algorithm_under_every_math_type_of_the_precision(
    fake: FakeCudnn, direction: Direction, names: Sequence[str], precision: Precision, suffixes: list[str]
) -> None:
    found = variants(PROBLEM.with_(direction=direction, precision=precision))
    assert [*found][:-2] == [name + suffix for name in names for suffix in suffixes]
    assert [*found][-2:] == ["heuristic", "find"]


@pytest.mark.parametrize(
    ("precision", "name", "math", "compute"),
    [
        (Precision.FP64, "GEMM", DEFAULT, "double"),
        (Precision.FP32, "GEMM", FMA, "float"),
        (Precision.TF32, "GEMM", DEFAULT, "float"),
        (Precision.TF32, "GEMM+tensor_op", TENSOR_OP, "float"),
        (Precision.FP16, "GEMM", TENSOR_OP, "float"),
        (Precision.BF16, "GEMM+default", DEFAULT, "float"),
        (Precision.BF16, "GEMM+fma", FMA, "float"),
    ],
)
def test_the_math_type_is_set_before_the_question_and_before_the_launch(
    fake: FakeCudnn, precision: Precision, name: str, math: int, compute: str
) -> None:
    problem = PROBLEM.with_(precision=precision)
    fake.workspaces = {(GEMM, one): 1000 + one for one in ANY_MATH}
    variant = variants(problem)[name]
    assert variant.workspace_bytes == 1000 + math
    assert variant.details["compute"] == compute
    plan = ALGORITHM.prepare(problem, variant)
    assert fake.named("cudnnSetConvolutionMathType")[-1][1] == math
    plan.close()


def test_details_say_what_runs(fake: FakeCudnn) -> None:
    fake.advice = [(GEMM, 0, -1.0, 0, 0, FMA)]
    found = variants()
    assert found["GEMM"].details == {
        "backend": "cuDNN",
        "cudnn": "9.19.0",
        "compute": "float",
        "algorithm": "GEMM",
        "math": "fma",
        "family": "im2col",
        "deterministic": False,  # cuDNN's own word goes before ours
        "flops": PROBLEM.flops,
    }
    families = {name: found[name].details["family"] for name in FORWARD}
    assert [*families.values()] == [
        *("implicit_gemm", "implicit_gemm", "im2col", "direct"),
        *("fft", "fft", "winograd", "winograd"),
    ]
    for name, family in families.items():
        transform = family in ("fft", "winograd")
        assert found[name].exact is not transform
        assert found[name].details["flops"] == (None if transform else PROBLEM.flops)
    assert all(variant.library_bytes == 0 for variant in found.values())
    assert all(canonical(dict(variant.details)) for variant in found.values())


def test_atomic_sums_are_known_to_depend_on_their_order(fake: FakeCudnn) -> None:
    for direction, names in ((Direction.BWD_DATA, DATA), (Direction.BWD_FILTER, FILTER)):
        found = variants(PROBLEM.with_(direction=direction))
        unordered = [name for name in names if not found[name].details["deterministic"]]
        assert unordered == [name for name in names if name in ("ALGO_0", "ALGO_3")]


def test_what_the_library_refuses_is_listed_with_its_words(fake: FakeCudnn) -> None:
    refuse(fake, FFT)
    fake.says[3000] = "stride is not 1"
    found = variants(PROBLEM.with_(precision=Precision.TF32))
    assert found["FFT"].refused == "CUDNN_STATUS_NOT_SUPPORTED: stride is not 1"
    assert found["FFT"].details["family"] == "fft"
    assert [name for name, variant in found.items() if variant.refused] == [
        *("FFT", "FFT+tensor_op", "heuristic")  # the fake has no advice
    ]


@pytest.mark.parametrize(
    ("status", "kind"), [(2000, libcudnn.BadParameterError), (4004, MemoryError), (1001, libcudnn.SetupError)]
)
def test_other_failures_are_no_refusals(fake: FakeCudnn, status: int, kind: type[Exception]) -> None:
    refuse(fake, FFT, status=status)
    with pytest.raises(kind):
        variants()


def test_nothing_is_left_behind(fake: FakeCudnn) -> None:
    variants()
    ALGORITHM.prepare(PROBLEM, variants()["GEMM"]).close()
    gc.collect()
    assert [facts["kind"] for facts in fake.alive.values()] == [""]  # the handle
    assert len(fake.named("cudnnCreate")) == 1


# ---- refusals of the whole problem -------------------------------------------------------------------------


def test_nothing_to_object_to(fake: FakeCudnn) -> None:
    assert ALGORITHM.reject(PROBLEM) is None


def test_without_a_gpu_the_reason_is_cuda_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: "CUDA sees no device")
    assert ALGORITHM.reject(PROBLEM) == "CUDA sees no device"


def test_padding_has_to_be_the_same_on_both_sides(fake: FakeCudnn) -> None:
    reason = ALGORITHM.reject(Problem.parse("n1c2h5w4k3r3p0.1x1"))
    assert reason == "asymmetric padding: cuDNN's legacy API pads both sides alike"


def test_a_missing_library_is_a_reason(fake: FakeCudnn, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Library:
        raise MissingError("there is none; pip install one")

    monkeypatch.setattr(libcudnn, "open_library", none)
    assert ALGORITHM.reject(PROBLEM) == "there is none; pip install one"


def test_a_library_that_cannot_start_is_a_reason(fake: FakeCudnn) -> None:
    fake.status["cudnnCreate"], fake.says[1001] = 1001, "no driver"
    assert ALGORITHM.reject(PROBLEM) == "cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED: no driver"


def test_tensors_that_cannot_be_described_are_a_reason(fake: FakeCudnn) -> None:
    fake.status["cudnnSetTensor4dDescriptor"] = 3000
    assert ALGORITHM.reject(PROBLEM) == "cudnnSetTensor4dDescriptor: CUDNN_STATUS_NOT_SUPPORTED"
    fake.status["cudnnSetTensor4dDescriptor"] = 2000
    with pytest.raises(libcudnn.BadParameterError):
        ALGORITHM.reject(PROBLEM)


def test_each_direction_goes_when_its_function_goes(fake: FakeCudnn) -> None:
    fake.removed |= {"cudnnConvolutionForward"}
    assert ALGORITHM.reject(PROBLEM) == "cudnnConvolutionForward was removed from this cuDNN (9.19.0)"
    assert ALGORITHM.reject(PROBLEM.with_(direction=Direction.BWD_DATA)) is None


# ---- what cuDNN would pick ---------------------------------------------------------------------------------

ADVICE = [
    (NONFUSED, 0, -1.0, 900, 1, FMA),
    (FFT, 3000, -1.0, 2**63, 5, 99),  # garbage
    (1, 0, -1.0, 10, 1, DEFAULT),  # might round to TF32
    (FFT_TILING, 0, -1.0, 300, 1, FMA),
    (GEMM, 0, -1.0, 0, 1, FMA),
]
SIZES = {(NONFUSED, FMA): 900, (FFT_TILING, FMA): 300}
ORDER = [["WINOGRAD_NONFUSED", 900], ["FFT_TILING", 300], ["GEMM", 0]]


@pytest.mark.parametrize(
    ("limit", "picked"),
    [
        (None, "WINOGRAD_NONFUSED"),
        (900, "WINOGRAD_NONFUSED"),
        (899, "FFT_TILING"),
        (299, "GEMM"),
        (0, "GEMM"),
    ],
)
def test_the_heuristic_takes_the_first_that_fits(fake: FakeCudnn, limit: int | None, picked: str) -> None:
    fake.advice, fake.workspaces = ADVICE, SIZES
    found = variants(limit=limit)
    heuristic, named = found["heuristic"], found[picked]
    assert heuristic.workspace_bytes == named.workspace_bytes
    assert heuristic.exact is named.exact
    assert heuristic.details == {
        **named.details,
        "selection": "heuristic",
        "picked": picked,
        "order": ORDER,
    }


def test_the_heuristic_runs_what_it_picked(fake: FakeCudnn) -> None:
    fake.advice, fake.workspaces = ADVICE, SIZES
    heuristic = variants(limit=500)["heuristic"]
    a, b, out = (np.ones(shape, np.float32) for shape in PROBLEM.shapes)
    ALGORITHM.prepare(PROBLEM, heuristic).run(a, b, out, np.empty(300, np.uint8))
    launched = fake.named("cudnnConvolutionForward")[0]
    assert (launched[7], launched[9]) == (FFT_TILING, 300)


def test_where_nothing_fits_the_smallest_is_named_and_the_harness_compares(fake: FakeCudnn) -> None:
    fake.advice, fake.workspaces = ADVICE[:4], SIZES
    heuristic = variants(limit=100)["heuristic"]
    assert (heuristic.details["picked"], heuristic.workspace_bytes) == ("FFT_TILING", 300)


@pytest.mark.parametrize(
    ("precision", "math"),
    [
        (Precision.FP64, DEFAULT),
        (Precision.FP32, FMA),
        (Precision.TF32, DEFAULT),
        (Precision.FP16, TENSOR_OP),
        (Precision.BF16, TENSOR_OP),
    ],
)
def test_advice_is_asked_under_the_usual_math_type(fake: FakeCudnn, precision: Precision, math: int) -> None:
    problem = PROBLEM.with_(precision=precision)
    fake.advice = fake.found = [(GEMM, 0, -1.0, 0, 1, math)]
    cudnn.preferred(problem, "none")
    ALGORITHM.prepare(problem, variants(problem)["find"])
    assert fake.asked_under == [math] * 3


def test_advice_that_leaves_the_precision_is_no_pick(fake: FakeCudnn) -> None:
    fake.advice = [ADVICE[2]]
    assert variants()["heuristic"].refused == (
        "cuDNN suggests IMPLICIT_PRECOMP_GEMM under DEFAULT: no algorithm that runs here under fp32"
    )
    assert variants(PROBLEM.with_(precision=Precision.TF32))["heuristic"].details["picked"] == FORWARD[1]
    under_fp16 = variants(PROBLEM.with_(precision=Precision.FP16))["heuristic"]
    assert under_fp16.details["picked"] == "IMPLICIT_PRECOMP_GEMM+default"


def test_advice_that_would_not_run_is_no_pick(fake: FakeCudnn) -> None:
    fake.advice, fake.workspaces = ADVICE, SIZES
    refuse(fake, NONFUSED)
    assert variants()["heuristic"].details["order"] == ORDER[1:]


@pytest.mark.parametrize("gone", ["status", "removed"])
def test_without_a_heuristic_the_rest_remains(fake: FakeCudnn, gone: str) -> None:
    function = "cudnnGetConvolutionForwardAlgorithm_v7"
    if gone == "status":
        fake.status[function] = 3000
    else:
        fake.removed.add(function)
    found = variants()
    assert found["heuristic"].refused.startswith(
        "CUDNN_STATUS_NOT_SUPPORTED" if gone == "status" else f"{function} was removed"
    )
    assert not found["GEMM"].refused
    assert not found["find"].refused


@pytest.mark.parametrize(("limit", "room"), [(None, 900), (900, 900), (899, 300), (100, 0)])
def test_find_gets_the_most_that_a_variant_within_the_limit_needs(
    fake: FakeCudnn, limit: int | None, room: int
) -> None:
    fake.workspaces = SIZES | {(FFT, FMA): 10**9}
    refuse(fake, FFT)
    assert variants(limit=limit)["find"].workspace_bytes == room


def test_find_tries_on_operands_of_its_own_and_runs_what_won(fake: FakeCudnn) -> None:
    fake.workspaces = SIZES
    fake.found = [
        (1, 0, 0.1, 10, 1, DEFAULT),
        (FFT, 3000, -1.0, 2**63, 5, 99),
        (FFT_TILING, 0, 0.2, 300, 0, FMA),
        (GEMM, 0, 0.3, 0, 1, FMA),
    ]
    variant = variants()["find"]
    assert not variant.exact
    plan: Any = ALGORITHM.prepare(PROBLEM, variant)
    tried = fake.named("cudnnFindConvolutionForwardAlgorithmEx")
    assert len(tried) == 1
    assert tried[0][12] == 900
    assert all(tried[0][index] for index in (2, 4, 7, 11))  # x, w, y and the workspace
    merged = {**variant.details, **plan.details}
    assert merged["selection"] == "find"
    assert merged["picked"] == "FFT_TILING"
    assert merged["order"] == [["FFT_TILING", 300], ["GEMM", 0]]
    assert (merged["family"], merged["flops"], merged["deterministic"]) == ("fft", None, False)
    assert canonical(merged)
    assert plan.setup["find"] > 0
    a, b, out = (np.ones(shape, np.float32) for shape in PROBLEM.shapes)
    plan.run(a, b, out, np.empty(900, np.uint8))
    launched = fake.named("cudnnConvolutionForward")[0]
    assert (launched[7], launched[9]) == (FFT_TILING, 900)


def test_find_is_given_no_zeros(fake: FakeCudnn, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cudnn_plan, "_operands", lambda problem, a, b: seen.extend((a, b)) or (16, 32))
    fake.found = [(GEMM, 0, 0.3, 0, 1, FMA)]
    ALGORITHM.prepare(PROBLEM, variants()["find"])
    assert [operand.shape for operand in seen] == [*PROBLEM.shapes[:2]]
    assert all((operand != 0).all() and operand.std() > 0.3 for operand in seen)


def test_find_without_a_result_fails_with_what_there_was(fake: FakeCudnn) -> None:
    fake.found = [(1, 0, 0.1, 10, 1, DEFAULT)]
    with pytest.raises(RuntimeError, match="IMPLICIT_PRECOMP_GEMM under DEFAULT: no algorithm that runs"):
        ALGORITHM.prepare(PROBLEM, variants()["find"])


def test_find_needs_something_that_runs(fake: FakeCudnn) -> None:
    refuse(fake, *range(8))
    assert variants()["find"].refused == "cuDNN refuses every algorithm"


def test_find_goes_when_its_function_goes(fake: FakeCudnn) -> None:
    fake.removed.add("cudnnFindConvolutionForwardAlgorithmEx")
    assert variants()["find"].refused.startswith("cudnnFindConvolutionForwardAlgorithmEx was removed")


@pytest.mark.parametrize(
    ("preference", "limit", "name"),
    [
        ("none", None, "GEMM"),
        ("limit", 899, "FFT_TILING"),
        ("limit", 900, "WINOGRAD_NONFUSED"),
        ("fastest", 5, "WINOGRAD_NONFUSED"),
    ],
)
def test_classic_preferences(fake: FakeCudnn, preference: str, limit: int | None, name: str) -> None:
    fake.advice = ADVICE
    assert cudnn.preferred(PROBLEM, preference, limit) == name


@pytest.mark.parametrize(
    ("preference", "limit", "message"),
    [
        ("none", None, "no algorithm for preference 'none'; its smallest needs 300 bytes"),
        ("limit", None, "needs a limit"),
        ("fast", None, "did you mean fastest"),
    ],
)
def test_preferences_that_cannot_be_met(
    fake: FakeCudnn, preference: str, limit: int | None, message: str
) -> None:
    fake.advice = ADVICE[:4]
    with pytest.raises(UsageError, match=message):
        cudnn.preferred(PROBLEM, preference, limit)


def test_preferences_need_advice(fake: FakeCudnn) -> None:
    with pytest.raises(UsageError, match="it has none at all"):
        cudnn.preferred(PROBLEM, "fastest")
    fake.status["cudnnGetConvolutionForwardAlgorithm_v7"] = 3000
    with pytest.raises(UsageError, match=r"cannot be asked about .*: CUDNN_STATUS_NOT_SUPPORTED"):
        cudnn.preferred(PROBLEM, "fastest")
    with pytest.raises(UsageError, match="asymmetric padding"):
        cudnn.preferred(Problem.parse("n1c2h5w4k3r3p0.1x1"), "fastest")


# ---- launches ----------------------------------------------------------------------------------------------


def test_a_launch_goes_on_the_current_stream(fake: FakeCudnn, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ALGORITHM.prepare(PROBLEM, variants()["GEMM"])
    arrays = [np.ones(shape, np.float32) for shape in PROBLEM.shapes]
    stream = sys.modules["cupy"].cuda.get_current_stream()
    for pointer in (64, 64, 128):
        stream.ptr = pointer
        plan.run(*arrays, np.empty(0, np.uint8))
    order = [name for name, _ in fake.calls if name in ("cudnnSetStream", "cudnnConvolutionForward")]
    short = {"cudnnSetStream": "set", "cudnnConvolutionForward": "run"}
    assert [short[name] for name in order] == ["set", "run", "run", "set", "run"]


def test_a_failed_launch_is_raised(fake: FakeCudnn) -> None:
    plan = ALGORITHM.prepare(PROBLEM, variants()["GEMM"])
    fake.status["cudnnConvolutionForward"], fake.says[5000] = 5000, "launch failed"
    arrays = [np.ones(shape, np.float32) for shape in PROBLEM.shapes]
    with pytest.raises(libcudnn.ExecutionError, match=r"cudnnConvolutionForward: .*: launch failed"):
        plan.run(*arrays, np.empty(0, np.uint8))
