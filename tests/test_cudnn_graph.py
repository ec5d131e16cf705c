"""cuDNN's graph API against a frontend that plans what it is told, in both flavours of the package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from convbench.algorithms.cudnn_graph import ALGORITHMS, CudnnGraph, by_merit
from fake_frontend import TENSOR, FakePlan, Frontend, Graph, Handle, Tensor

from convbench import cuda, cudnn_graph, cudnn_plans
from convbench.api import Algorithm, Direction, Layout, Plan, Precision, Problem, Variant
from convbench.cudnn_plans import PlanFacts, parse_name
from convbench.errors import UsageError

MIB = 1 << 20
PROBLEM = Problem.parse("n2c8h6w5k16r3s1p1x0", precision="fp16")
ALGORITHM = CudnnGraph()
VERSIONS = ("1.26.0", "1.32.0")

Install = Callable[..., Frontend]

FAST = FakePlan("eng62_k2=0_k13=1_k18=0", 2 * MIB, TENSOR)
LEAN = FakePlan("eng62_k2=3_k13=1_k18=0", 131, TENSOR)
SIMPLE = FakePlan("eng1_k2=4", MIB, modes=("B",))
SLOW = FakePlan("eng0", notes=("STRICT_NAN_PROP",), modes=("FALLBACK",))
PLANS = (FAST, LEAN, SIMPLE, SLOW)


@pytest.fixture(params=VERSIONS)
def install(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a frontend of either version, and a device of no use, where the real ones would be."""
    stream = SimpleNamespace(ptr=77)
    runtime = SimpleNamespace(getDevice=lambda: 0)
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, get_current_stream=lambda: stream))

    def put(*plans: FakePlan, version: str = request.param, **settings: Any) -> Frontend:
        forget()
        frontend = Frontend(*plans, version=version, **settings)
        monkeypatch.setitem(sys.modules, "cudnn", frontend)
        return frontend

    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "missing", lambda: None)
    monkeypatch.setattr(cudnn_graph, "_mixed", lambda: None)
    monkeypatch.delenv("CONVBENCH_PLANS", raising=False)
    yield put
    forget()


def forget() -> None:
    cudnn_plans.listing.cache_clear()
    cudnn_graph._session.cache_clear()


def variants(problem: Problem = PROBLEM, limit: int | None = None) -> dict[str, Variant]:
    found = ALGORITHM.variants(problem, limit)
    assert len({variant.name for variant in found}) == len(found)
    return {variant.name: variant for variant in found}


def timed(found: dict[str, Variant]) -> list[str]:
    return [name for name, variant in found.items() if not variant.refused and name != "heuristic"]


def recipe(problem: Problem, frontend: Frontend) -> tuple[str, dict[str, Any], Graph]:
    cudnn_graph.planned(problem)
    graph = frontend.graphs[-1]
    assert graph.operation is not None
    return (*graph.operation, graph)


# ---- the graph of a problem --------------------------------------------------------------------------------

X, W, Y = (2, 8, 6, 5), (16, 8, 3, 1), (2, 16, 6, 5)
NCHW = {X: [240, 30, 5, 1], W: [24, 3, 1, 1], Y: [480, 30, 5, 1]}
NHWC = {X: [240, 1, 40, 8], W: [24, 1, 8, 8], Y: [480, 1, 80, 16]}
RECIPES = {
    Direction.FWD: ("conv_fprop", {"image": X, "weight": W}, Y),
    Direction.BWD_DATA: ("conv_dgrad", {"loss": Y, "filter": W}, X),
    Direction.BWD_FILTER: ("conv_wgrad", {"image": X, "loss": Y}, W),
}


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("direction", list(Direction))
def test_strides_carry_the_layout_and_every_size_is_told(
    install: Install, direction: Direction, layout: Layout
) -> None:
    operation, operands, out = RECIPES[direction]
    expected = NCHW if layout is Layout.NCHW else NHWC
    name, settings, graph = recipe(PROBLEM.with_(direction=direction, layout=layout), install(*PLANS))
    assert name == operation
    for uid, (operand, dims) in enumerate(operands.items(), start=1):
        told = {"name": operand, "dim": list(dims), "stride": expected[dims], "uid": uid}
        assert settings[operand].settings == told
    half = graph.frontend.data_type.HALF
    assert graph.result is not None
    described = {"output": True, "data_type": half, "uid": 3, "dim": list(out), "stride": expected[out]}
    assert graph.result.settings == described


def test_planning_takes_the_steps_in_order_on_a_graph_of_its_own(install: Install) -> None:
    frontend = install(*PLANS)
    for _ in range(2):
        cudnn_graph.planned(PROBLEM)
    assert [graph.steps for graph in frontend.graphs] == [["validate", "build_operation_graph", "plan"]] * 2


@pytest.mark.parametrize(
    ("precision", "io", "compute"),
    [
        (Precision.FP64, "DOUBLE", "DOUBLE"),
        (Precision.FP32, "FLOAT", "FLOAT"),
        (Precision.TF32, "FLOAT", "FLOAT"),
        (Precision.FP16, "HALF", "FLOAT"),
        (Precision.BF16, "BFLOAT16", "FLOAT"),
    ],
)
def test_sixteen_bits_are_summed_in_thirty_two(
    install: Install, precision: Precision, io: str, compute: str
) -> None:
    _, _, graph = recipe(PROBLEM.with_(precision=precision), install(*PLANS))
    types = {name: graph.settings[f"{name}_data_type"].name for name in ("io", "intermediate", "compute")}
    assert types == {"io": io, "intermediate": compute, "compute": compute}


def test_padding_may_differ_at_the_two_ends(install: Install) -> None:
    problem = Problem.parse("n1c4h9w8k4r3p0.1x2.3u2x1d1x2")
    _, settings, _ = recipe(problem, install(*PLANS))
    geometry = {name: settings[name] for name in ("pre_padding", "post_padding", "stride", "dilation")}
    assert geometry == {
        "pre_padding": [0, 2],
        "post_padding": [1, 3],
        "stride": [2, 1],
        "dilation": [1, 2],
    }


@pytest.mark.parametrize(("flip", "mode"), [("", "CROSS_CORRELATION"), ("flip", "CONVOLUTION")])
def test_the_flip_is_cudnns_convolution_mode(install: Install, flip: str, mode: str) -> None:
    _, settings, _ = recipe(Problem.parse(f"n1c1h4k1r3{flip}"), install(*PLANS))
    assert settings["convolution_mode"].name == mode


@pytest.mark.parametrize("layout", list(Layout))
def test_groups_follow_from_the_channels_of_the_filter(install: Install, layout: Layout) -> None:
    problem = Problem.parse("n1c6h4k12r3g3", layout=layout)
    _, settings, _ = recipe(problem, install(*PLANS))
    weight: Tensor = settings["weight"]
    assert weight.settings["dim"] == [12, 2, 3, 3]
    assert weight.settings["stride"] == ([18, 9, 3, 1] if layout is Layout.NCHW else [18, 1, 6, 2])


# ---- what cannot be used -----------------------------------------------------------------------------------


def test_without_the_package_the_reason_says_how_to_get_it(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(*PLANS)
    monkeypatch.setitem(sys.modules, "cudnn", None)
    assert "pip install 'nvidia-cudnn-frontend>=1.26,<1.27'" in str(ALGORITHM.reject(PROBLEM))


@pytest.mark.parametrize("version", ["1.23.0", "0.9", "unknown"])
def test_an_older_package_is_named_with_what_will_do(install: Install, version: str) -> None:
    install(*PLANS, version=version)
    reason = str(ALGORITHM.reject(PROBLEM))
    assert version in reason and "1.26 is the oldest" in reason


def test_a_package_that_asserts_while_it_is_imported_is_a_reason(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise AssertionError("Found 2 libcudnn.so.x in nvidia-cudnn-cuXX.\nmore")

    monkeypatch.setattr(cudnn_graph, "import_module", fail)
    assert ALGORITHM.reject(PROBLEM) == (
        "cuDNN's frontend cannot be loaded: Found 2 libcudnn.so.x in nvidia-cudnn-cuXX."
    )


def test_a_package_without_a_library_is_a_reason(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    monkeypatch.setattr(install(*PLANS), "backend_version", fail, raising=False)
    assert "pip install nvidia-cudnn-cu13" in str(ALGORITHM.reject(PROBLEM))


@pytest.mark.parametrize(
    ("loaded", "reason"),
    [
        ({"/a/libcudnn.so.9": 91900, "/b/libcudnn.so.9.2": 92000}, "91900 and 92000"),
        ({"/a/libcudnn.so.9": 91900, "/b/libcudnn.so.9": 91900}, None),
        ({}, None),
    ],
)
def test_two_versions_of_cudnn_in_one_process_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, loaded: dict[str, int], reason: str | None
) -> None:
    maps = tmp_path / "maps"
    lines = [f"7f00-7f01 r-xp 00000000 08:01 42   {path}" for path in loaded for _ in range(3)]
    maps.write_text("\n".join(["7f02-7f03 rw-p 0 0:0 0", *lines, "7f04-7f05 r--p 0 0:0 0 /x/libc.so.6"]))
    monkeypatch.setattr(cudnn_graph, "MAPS", maps)
    monkeypatch.setattr(cudnn_graph, "version_of", loaded.__getitem__)
    found = cudnn_graph._mixed()
    assert found is None if reason is None else reason in str(found)


def test_no_reason_where_everything_is_there(install: Install) -> None:
    install(*PLANS)
    assert ALGORITHM.reject(PROBLEM) is None
    assert isinstance(ALGORITHM, Algorithm)
    assert ALGORITHMS == (ALGORITHM,)


def test_what_cudnn_has_no_engine_for_is_rejected_in_one_line(install: Install) -> None:
    install(declines="No valid engine configs for _\nWarning: CUDNN_STATUS_NOT_SUPPORTED")
    assert ALGORITHM.reject(PROBLEM) == "cuDNN proposes no plan: No valid engine configs for _"


def test_a_failing_device_is_no_refusal(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Graph) -> None:
        raise RuntimeError("CUDNN_STATUS_INTERNAL_ERROR")

    install(*PLANS)
    monkeypatch.setattr(Graph, "build_operation_graph", fail)
    with pytest.raises(RuntimeError, match="INTERNAL_ERROR"):
        ALGORITHM.reject(PROBLEM)


# ---- the list of plans -------------------------------------------------------------------------------------


def test_every_plan_is_listed_once_with_what_is_known_of_it(install: Install) -> None:
    install(*(replace(plan, behavior=("RUNTIME_COMPILATION",)) if plan is LEAN else plan for plan in PLANS))
    found = variants()
    assert list(found) == ["heuristic", *(plan.name for plan in PLANS)]
    assert [found[plan.name].workspace_bytes for plan in PLANS] == [2 * MIB, 131, MIB, 0]
    details = found[LEAN.name].details
    assert details == details | {
        "backend": "cuDNN",
        "cudnn": "9.19.0",
        "rank": 2,
        "plans": "4 of 4",
        "engine": 62,
        "knobs": {"TILE_SIZE": 3, "TILEK": 1, "IDX_MODE": 0},
        "family": "other",
        "math": "tensor_op",
        "notes": ["TENSOR_CORE"],
        "behavior": ["RUNTIME_COMPILATION"],
        "deterministic": True,
        "flops": PROBLEM.flops,
    }
    assert found[SLOW.name].details["math"] == "fma"
    assert found[SLOW.name].details["behavior"] == []
    assert {variant.library_bytes for variant in found.values()} == {0}


@pytest.mark.parametrize(
    ("notes", "family"),
    [(("FFT",), "fft"), (("WINOGRAD", "WINOGRAD_TILE_4x4", "TENSOR_CORE"), "winograd"), ((), "other")],
)
def test_transforms_are_known_by_their_notes(install: Install, notes: tuple[str, ...], family: str) -> None:
    install(FakePlan("eng3", notes=notes))
    variant = variants()["eng3"]
    assert variant.details["family"] == family
    assert not variant.exact and variant.details["flops"] is None


def test_an_engine_that_is_not_deterministic_says_so(install: Install) -> None:
    install(FAST, FakePlan("eng25_k2=1", notes=("NONDETERMINISTIC",)))
    found = variants()
    assert found["eng25_k2=1"].details["deterministic"] is False
    assert found[FAST.name].details["deterministic"] is True


def test_one_plan_speaks_for_its_engine_even_if_its_first_does_not_build(install: Install) -> None:
    install(replace(FAST, error="CUDNN_STATUS_NOT_SUPPORTED"), LEAN)
    assert variants()[LEAN.name].details["notes"] == ["TENSOR_CORE"]


def unknown_notes(install: Install, fault: str) -> Frontend:
    frontend = install(*PLANS)
    frontend.lost_filters = fault == "lost"
    frontend.filter_error = "out of memory" if fault == "fails" else ""
    return frontend


@pytest.mark.parametrize("fault", ["lost", "fails"])
def test_notes_that_cannot_be_believed_are_not_told(install: Install, fault: str) -> None:
    unknown_notes(install, fault)
    variant = variants()[FAST.name]
    assert variant.details["family"] == "unknown"
    assert variant.details["flops"] is None
    assert not {"notes", "math", "deterministic"} & variant.details.keys()


@pytest.mark.parametrize("fault", ["lost", "fails"])
def test_without_notes_nothing_counts_as_fp32(install: Install, fault: str) -> None:
    unknown_notes(install, fault)
    found = variants(PROBLEM.with_(precision=Precision.FP32))
    assert timed(found) == []
    assert "unknown notes (eng0 eng1 eng62)" in found["rounding"].refused
    assert found["heuristic"].refused


def test_what_does_not_build_is_listed_with_its_reason_and_the_others_go_on(install: Install) -> None:
    install(FAST, replace(LEAN, error="CUDNN_STATUS_NOT_SUPPORTED\nin some file"), SLOW)
    found = variants()
    assert found[LEAN.name].refused == "does not build: CUDNN_STATUS_NOT_SUPPORTED"
    assert timed(found) == [FAST.name, SLOW.name]


def test_an_engine_of_the_frontend_itself_is_not_taken_for_cudnns(install: Install) -> None:
    install(FakePlan("python_conv_20001[TILE_M=128]"), FAST)
    found = variants()
    assert "of the frontend" in found["python_conv_20001[TILE_M=128]"].refused
    assert timed(found) == [FAST.name]


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("eng0", (0, {})),
        ("eng10_k2=5_k12=-1_k23=0", (10, {"TILE_SIZE": 5, "SPLIT_K_BUF": -1, "SPECFILT": 0})),
        ("eng28_k3=0", (28, {"USE_TEX": 0})),
        ("eng99_k43=1_k77=2", (99, {"SWAP_AB": 1, "k77": 2})),
        ("backend_heuristics", (None, {})),
        ("INVALID_ENGINE_NAME_KNOB", (None, {})),
        ("eng5_k2=", (None, {})),
    ],
)
def test_names_are_read_in_full_or_not_at_all(name: str, parsed: tuple[int | None, dict[str, int]]) -> None:
    assert parse_name(name) == parsed


@pytest.mark.parametrize("wrong", [(61, 0), (62, 9)])
def test_a_name_that_cudnn_contradicts_is_an_error(
    install: Install, monkeypatch: pytest.MonkeyPatch, wrong: tuple[int, int]
) -> None:
    def other(graph: Graph, index: int) -> tuple[int, dict[Any, int]]:
        return wrong[0], {graph.frontend.knob_type.TILE_SIZE: wrong[1]}

    install(FAST)
    monkeypatch.setattr(Graph, "get_engine_and_knobs_at_index", other)
    with pytest.raises(RuntimeError, match=f"reads as engine 62 .*, cuDNN says {wrong[0]}"):
        variants()


def test_knobs_without_a_name_do_not_count_as_a_contradiction(install: Install) -> None:
    install(FakePlan("eng48_k0=5_k2=4_k5=2_k14=3"))
    knobs = variants()["eng48_k0=5_k2=4_k5=2_k14=3"].details["knobs"]
    assert knobs == {"SPLIT_K": 5, "TILE_SIZE": 4, "KBLOCK": 2, "STAGES": 3}


def test_a_problem_is_listed_once(install: Install) -> None:
    frontend = install(*PLANS)
    ALGORITHM.reject(PROBLEM)
    graphs = len(frontend.graphs)
    assert variants() == variants()
    assert len(frontend.graphs) == graphs


# ---- precisions --------------------------------------------------------------------------------------------

ROUNDS_INPUT = FakePlan("eng7", notes=("DOWN_CONVERT_INPUTS",))
ROUNDS_SUM = FakePlan("eng8", notes=("REDUCED_PRECISION_REDUCTION", "TENSOR_CORE"))


@pytest.mark.parametrize(
    ("precision", "names"),
    [
        (Precision.FP32, [SIMPLE.name, SLOW.name]),
        (Precision.TF32, [FAST.name, LEAN.name, SIMPLE.name, SLOW.name]),
        (Precision.FP16, [FAST.name, LEAN.name, "eng7", "eng8", SIMPLE.name, SLOW.name]),
        (Precision.BF16, [FAST.name, LEAN.name, "eng7", "eng8", SIMPLE.name, SLOW.name]),
    ],
)
def test_a_precision_bars_arithmetic_below_it(
    install: Install, precision: Precision, names: list[str]
) -> None:
    install(FAST, LEAN, ROUNDS_INPUT, ROUNDS_SUM, SIMPLE, SLOW)
    assert timed(variants(PROBLEM.with_(precision=precision))) == names


def test_what_fp32_bars_is_summed_up_with_the_way_out(install: Install) -> None:
    install(FAST, LEAN, ROUNDS_INPUT, ROUNDS_SUM, SIMPLE, SLOW)
    barred = variants(PROBLEM.with_(precision=Precision.FP32))["rounding"]
    assert barred.refused == (
        "4 of 6 plans may round below fp32: DOWN_CONVERT_INPUTS (eng7); REDUCED_PRECISION_REDUCTION, "
        "TENSOR_CORE (eng8); TENSOR_CORE (eng62); tf32 allows TENSOR_CORE"
    )
    assert barred.details["left_out"] == [FAST.name, LEAN.name, "eng7", "eng8"]
    assert "rounding" not in variants(PROBLEM)


def test_tensor_cores_on_tf32_are_called_tf32(install: Install) -> None:
    install(*PLANS)
    assert variants(PROBLEM.with_(precision=Precision.TF32))[FAST.name].details["math"] == "tf32"


# ---- how many and which ------------------------------------------------------------------------------------

MANY = tuple(FakePlan(f"eng62_k2={tile}", 10, TENSOR) for tile in range(30))
OTHERS = tuple(FakePlan(f"eng{engine}", 20, modes=("B",)) for engine in (22, 45, 1, 0))


def facts(name: str, rank: int, workspace: int = 0) -> PlanFacts:
    engine, _ = parse_name(name)
    assert engine is not None
    return PlanFacts(name, rank, engine, workspace=workspace)


def test_engines_take_turns() -> None:
    names = ["eng5_k2=0", "eng5_k2=1", "eng5_k2=2", "eng9_k2=0", "eng9_k2=1", "eng0"]
    plans = [facts(name, rank) for rank, name in enumerate(names, 1)]
    merit = [plan.name for plan in by_merit(plans, [])]
    assert merit == ["eng5_k2=0", "eng9_k2=0", "eng0", "eng5_k2=1", "eng9_k2=1", "eng5_k2=2"]


def test_what_mode_a_would_pick_under_some_limit_comes_first() -> None:
    sizes = {"eng5_k2=0": 900, "eng5_k2=1": 900, "eng5_k2=2": 100, "eng5_k2=3": 500, "eng9": 0, "eng0": 0}
    plans = [facts(name, rank, size) for rank, (name, size) in enumerate(sizes.items(), 1)]
    merit = [plan.name for plan in by_merit(plans, ["eng5_k2=0", "eng5_k2=1", "eng5_k2=2", "eng5_k2=3"])]
    assert merit == ["eng5_k2=0", "eng5_k2=2", "eng9", "eng0", "eng5_k2=1", "eng5_k2=3"]


def test_sixteen_plans_are_timed_and_the_rest_is_accounted_for(install: Install) -> None:
    install(*MANY, *OTHERS)
    found = variants()
    names = timed(found)
    assert names == [*(plan.name for plan in MANY[:12]), *(plan.name for plan in OTHERS)]
    assert {found[name].details["plans"] for name in [*names, "heuristic", "more"]} == {"16 of 34"}
    assert found["more"].refused == (
        "18 of 34 plans are not timed; --plans all or CONVBENCH_PLANS=all times them"
    )
    assert found["more"].details["left_out"] == [plan.name for plan in MANY[12:]]


@pytest.mark.parametrize(("wish", "count"), [("all", 34), ("1", 1), ("5", 5), ("34", 34), ("999", 34)])
def test_the_number_of_plans_is_the_users(
    install: Install, monkeypatch: pytest.MonkeyPatch, wish: str, count: int
) -> None:
    install(*MANY, *OTHERS)
    monkeypatch.setenv("CONVBENCH_PLANS", wish)
    found = variants()
    assert len(timed(found)) == count
    assert ("more" in found) == (count < 34)
    assert found["heuristic"].details["plans"] == f"{count} of 34"


@pytest.mark.parametrize("wish", ["", "0", "-3", "many", "1.5", "١"])
def test_a_number_of_plans_that_is_none_is_named(
    install: Install, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    install(*PLANS)
    monkeypatch.setenv("CONVBENCH_PLANS", wish)
    with pytest.raises(UsageError, match=r"CONVBENCH_PLANS = .*: must be a number from 1, or 'all'"):
        variants()


def test_a_limit_adds_plans_that_fit_and_changes_none(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(*MANY, *OTHERS, FakePlan("eng3", MIB, modes=("B",)))
    monkeypatch.setenv("CONVBENCH_PLANS", "6")
    free, limited = variants(), variants(limit=10)
    assert timed(limited) == [*(plan.name for plan in MANY[:6]), *(plan.name for plan in OTHERS), "eng3"]
    del free["heuristic"]
    assert all(limited[name] == variant for name, variant in free.items())


# ---- what the library picks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "picked"),
    [(None, FAST), (2 * MIB, FAST), (2 * MIB - 1, LEAN), (131, LEAN), (130, LEAN)],
)
def test_the_heuristic_is_the_first_of_mode_a_within_the_limit(
    install: Install, limit: int | None, picked: FakePlan
) -> None:
    install(*PLANS)
    variant = variants(limit=limit)["heuristic"]
    assert (variant.details["selection"], variant.details["picked"]) == ("heuristic", picked.name)
    assert variant.details["order"] == [[FAST.name, 2 * MIB], [LEAN.name, 131]]
    assert variant.workspace_bytes == picked.workspace  # above 130 as well: the harness records what it lacks
    assert variant.details["rank"] == PLANS.index(picked) + 1


def test_its_order_is_that_of_mode_a_alone(install: Install) -> None:
    only_a, both = replace(LEAN, modes=("A",)), replace(FAST, modes=("B", "A"))
    install(replace(SIMPLE, modes=("B",)), only_a, both)
    order = variants()["heuristic"].details["order"]
    assert [name for name, _ in order] == [only_a.name, both.name]


def test_it_picks_within_the_precision(install: Install) -> None:
    install(FAST, LEAN, replace(SIMPLE, modes=("A",)), SLOW)
    variant = variants(PROBLEM.with_(precision=Precision.FP32))["heuristic"]
    assert variant.details["picked"] == SIMPLE.name
    assert variant.details["order"] == [[SIMPLE.name, MIB]]


def test_where_mode_a_proposes_nothing_there_is_no_pick(install: Install) -> None:
    install(SIMPLE, SLOW)
    found = variants()
    assert found["heuristic"].refused == "heuristic mode A proposes no plan for fp16"
    assert timed(found) == [SIMPLE.name, SLOW.name]


def test_no_plan_promises_plain_sums(install: Install) -> None:
    install(FAST, FakePlan("eng17"))
    assert not any(variant.exact for variant in variants().values() if not variant.refused)


def test_tensor_core_products_do_the_arithmetic_of_the_problem(install: Install) -> None:
    install(FAST, FakePlan("eng17"))
    found = variants()
    assert found[FAST.name].details["flops"] == PROBLEM.flops
    assert found["eng17"].details["flops"] is None


def test_double_precision_is_rejected_for_its_scales(install: Install) -> None:
    install(*PLANS)
    reason = CudnnGraph().reject(PROBLEM.with_(precision=Precision.FP64))
    assert reason is not None and "1.0f" in reason


# ---- plans that run ----------------------------------------------------------------------------------------


def array(pointer: int) -> Any:
    return SimpleNamespace(data=SimpleNamespace(ptr=pointer))


def prepared(name: str) -> tuple[Plan, Graph]:
    plan = ALGORITHM.prepare(PROBLEM, variants()[name])
    graph: Graph = plan._graph  # type: ignore[attr-defined]
    return plan, graph


def test_a_plan_is_built_alone_and_found_by_name(install: Install) -> None:
    frontend = install(*PLANS)
    variant = variants()[LEAN.name]
    frontend.plans = (SLOW, replace(LEAN, modes=("FALLBACK",)), FAST)  # the heuristics changed their mind
    plan = ALGORITHM.prepare(PROBLEM, variant)
    graph = frontend.graphs[-1]
    assert [graph.plans[index].name for index in graph.built] == [LEAN.name]
    plan.run(array(10), array(20), array(30), array(40))
    assert graph.executed == [(LEAN.name, {1: 10, 2: 20, 3: 30}, 40)]


def test_every_plan_has_a_graph_of_its_own_and_lets_it_go(install: Install) -> None:
    frontend = install(*PLANS)
    found = variants()
    listed = len(frontend.graphs)
    plans = [ALGORITHM.prepare(PROBLEM, found[name]) for name in (FAST.name, LEAN.name)]
    assert len(frontend.graphs) == listed + 2
    plans[0].close()
    assert plans[0]._graph is None  # type: ignore[attr-defined]
    plans[1].run(array(1), array(2), array(3), array(4))
    assert [name for name, _, _ in frontend.graphs[-1].executed] == [LEAN.name]


def test_the_heuristic_runs_what_it_picked(install: Install) -> None:
    install(*PLANS)
    plan, graph = prepared("heuristic")
    plan.run(array(1), array(2), array(3), array(4))
    assert graph.executed[0][0] == FAST.name


def test_the_parts_of_preparing_are_timed(install: Install) -> None:
    install(*PLANS)
    plan, _ = prepared(FAST.name)
    setup = plan.setup  # type: ignore[attr-defined]
    assert setup.keys() == {"graph", "build"}
    assert min(setup.values()) > 0


def test_the_stream_is_set_when_it_changes_and_on_one_handle(install: Install) -> None:
    frontend = install(*PLANS)
    stream = import_module("cupy").cuda.get_current_stream()
    plans = [prepared(name)[0] for name in (FAST.name, LEAN.name)]
    for pointer in (77, 77, 88, 0):
        stream.ptr = pointer
        for plan in plans:
            plan.run(array(1), array(2), array(3), array(4))
    assert frontend.streams == [77, 88, 0]
    assert frontend.handles == 1


def test_a_plan_that_is_proposed_no_more_is_an_error(install: Install) -> None:
    frontend = install(*PLANS)
    variant = variants()[LEAN.name]
    frontend.plans = (FAST,)
    with pytest.raises(RuntimeError, match=f"no longer proposes plan {LEAN.name}"):
        ALGORITHM.prepare(PROBLEM, variant)


def test_a_plan_that_needs_more_than_it_promised_is_an_error(install: Install) -> None:
    frontend = install(*PLANS)
    variant = variants()[LEAN.name]
    frontend.plans = (replace(LEAN, workspace=132),)
    with pytest.raises(RuntimeError, match="needs 132 bytes of workspace, 131 were promised"):
        ALGORITHM.prepare(PROBLEM, variant)


# ---- the stand-in itself -----------------------------------------------------------------------------------


def test_the_flavours_differ_where_the_package_does(install: Install) -> None:
    frontend = install(FAST, replace(SIMPLE, modes=("A", "B", "FALLBACK")))
    graph = cudnn_graph.planned(PROBLEM)
    old = frontend.__version__ == "1.26.0"
    assert graph.get_execution_plan_count() == (5 if old else 2)
    if not old:
        with pytest.raises(RuntimeError, match="one-shot"):
            graph.create_execution_plans([frontend.heur_mode.A])
    with pytest.raises(TypeError):
        frontend.own(Handle() if old else 1)
