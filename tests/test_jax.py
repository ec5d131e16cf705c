"""JAX beside the others: when it is refused, how exact it is, and that every geometry arrives as meant."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from convbench.algorithms import jax as adapter

from convbench import conformance
from convbench.accuracy import grade
from convbench.api import Direction, Layout, Precision, Problem
from convbench.dtypes import storage_dtype

CPU, CUDA = adapter.ALGORITHMS
PROBLEM = Problem.parse("n2c6h9w7k4r3p1")
EARNED = {Precision.FP64: "D", Precision.FP32: "S", Precision.FP16: "H", Precision.BF16: "B"}
GEOMETRY = (
    "n2c4h9w8k6r3g2",
    "n2c4h9w8k4r3g4p1",
    "n2c3h9w8k5r3d2x1p2",
    "n2c3h9w8k5r3s2u2x3p0.1x2.0",
    "n2c3h9w8k5r3s2p1flip",
    "n2c4h9w11k6r3s2u2x1d1x2g2p0.1x2.1flip",
)


CONFIG = 'backend_config={"cudnn_conv_backend_config":{"algorithm":{"algo_id":"62"}}}'


# ---- without JAX -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [CPU, CUDA])
def test_without_jax_the_extra_is_named(algorithm: adapter.Jax, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    assert algorithm.reject(PROBLEM) == "JAX is not installed; pip install 'convbench[jax]'"


def test_the_adapter_alone_loads_no_jax() -> None:
    code = "import sys, convbench.algorithms.jax; assert not {'jax', 'jaxlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cpu_has_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "find_spec", lambda name: "found")
    assert str(CPU.reject(PROBLEM.with_(precision=Precision.TF32))).startswith("tf32")


def test_the_calls_that_xla_chose_are_told() -> None:
    class Compiled:
        def as_text(self) -> str:
            call = f'c = (f32[2], u8[0]) custom-call(a, b), custom_call_target="__cudnn$conv", {CONFIG}'
            return f"ENTRY main {{\n  {call}\n  ROOT y = f32[2] get-tuple-element(c), index=0\n}}"

        def memory_analysis(self) -> Compiled:
            return self

        temp_size_in_bytes = 64

    facts = adapter._facts(Compiled())
    assert facts == {"calls": ["__cudnn$conv"], "engines": ["62"], "scratch_bytes": 64}


# ---- with JAX on the CPU -----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("precision", list(EARNED))
def test_the_accuracy_class(precision: Precision, direction: Direction) -> None:
    pytest.importorskip("jax")
    problem = Problem.parse("n2c16h14w12k24r3p1", direction=direction, precision=precision)
    question = conformance.questions(problem).dense
    [variant] = CPU.variants(problem, None)
    result = conformance.solve(CPU, problem, variant, *question.operands)
    error = np.linalg.norm(result.astype(np.float64) - question.answer) / np.linalg.norm(question.answer)
    assert grade(precision, float(error)).accuracy == EARNED[precision]


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("text", GEOMETRY)
def test_geometry(text: str, direction: Direction, layout: Layout) -> None:
    pytest.importorskip("jax")
    problem = Problem.parse(text, direction=direction, layout=layout, precision="fp64")
    findings = list(conformance.check_case(CPU, problem))
    assert [finding.outcome for finding in findings] == ["passed"], findings


def test_a_variant_names_the_library_and_promises_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    monkeypatch.setenv("XLA_FLAGS", "--xla_some=1")
    [variant] = CPU.variants(PROBLEM, None)
    assert variant.details["library"] == f"jax {jax.__version__}"
    assert variant.details["xla_flags"] == "--xla_some=1"
    assert variant.library_bytes is None and not variant.exact


def test_the_memory_of_the_gpu_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    for before, after in ((None, "false"), ("true", "true")):
        monkeypatch.setenv(name, str(before))
        if before is None:
            monkeypatch.delenv(name)
        CPU.prepare(PROBLEM, CPU.variants(PROBLEM, None)[0]).close()
        assert os.environ[name] == after


def test_jax_without_cuda_is_told_in_one_line() -> None:
    jax = pytest.importorskip("jax")
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("this JAX has CUDA")
    reason = CUDA.reject(PROBLEM)
    assert reason is not None and "jax[cuda13]" in reason and "\n" not in reason


@pytest.mark.parametrize("direction", list(Direction))
def test_bfloat16_as_bits_is_bfloat16(direction: Direction) -> None:
    """On CUDA the operands and the result travel as int16."""
    jax = pytest.importorskip("jax")
    problem = PROBLEM.with_(precision=Precision.BF16, direction=direction)
    plan, bits = CPU.prepare(problem, CPU.variants(problem, None)[0]), np.dtype(np.int16)
    function = jax.jit(adapter._of_bits(jax, adapter._function(jax, problem)))
    compiled = adapter._compile(jax, function, problem.shapes[:2], bits, jax.devices("cpu")[0])
    a, b = conformance.questions(problem).dense.operands
    out = np.empty(problem.shapes[2], storage_dtype(problem.precision))
    plan.run(a, b, out, np.empty(0, np.uint8))
    assert np.array_equal(np.asarray(compiled(a.view(bits), b.view(bits))), out.view(bits))


def test_the_memory_of_the_result_is_donated() -> None:
    """On CUDA XLA writes into the harness' array, whatever that holds."""
    jax = pytest.importorskip("jax")
    jitted, dtype = adapter._into(jax, adapter._function(jax, PROBLEM)), np.dtype(np.float32)
    compiled = adapter._compile(jax, jitted, PROBLEM.shapes, dtype, jax.devices("cpu")[0])
    question = conformance.questions(PROBLEM).dense
    out = jax.numpy.full(PROBLEM.shapes[2], np.nan, dtype)
    result = compiled(*question.operands, out)
    assert out.is_deleted()
    assert np.allclose(result, question.answer, atol=1e-4)
