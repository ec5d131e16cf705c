"""Which device a run gets when none is named."""

from __future__ import annotations

import pytest

from convbench import cuda, devices
from convbench.errors import UsageError
from convbench.registry import Entry


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose CUDA works."""
    monkeypatch.setattr(devices, "missing", lambda name: None)


def offering(monkeypatch: pytest.MonkeyPatch, reason: str | None) -> None:
    """One CUDA algorithm with this answer to every problem."""

    class Algorithm:
        name, device = "one", "cuda"

        def reject(self, problem: object) -> str | None:
            return reason

    entry = Entry(Algorithm(), "built in", "source")  # type: ignore[arg-type]
    monkeypatch.setattr("convbench.registry.select", lambda device, names=None: [entry])


def test_cuda_is_taken_where_something_runs_on_it(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    offering(monkeypatch, None)
    assert devices.choose(None) == "cuda"


def test_a_gpu_without_algorithms_leaves_the_cpu_and_a_reason(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    offering(monkeypatch, "PyTorch is not installed")
    assert devices.idle("cuda") == "no algorithm can run on cuda: PyTorch is not installed"
    monkeypatch.undo()
    assert devices.choose(None) == "cpu"


def test_a_device_that_is_missing_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "missing", lambda name: "no NVIDIA driver")
    with pytest.raises(UsageError, match="'cuda' cannot be used: no NVIDIA driver; --device cpu works"):
        devices.choose("cuda")


def test_without_cupy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    assert cuda.missing() == "CuPy is not installed; pip install 'convbench[cuda13]' (or cuda12)"
