"""GPUs of one kind that share a sweep are one machine in the tables; a study of how they differ is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comparing import blocks, holding, measured

from convbench.fleet import as_one_machine
from convbench.record import Status
from convbench.store import Contents

LAYERS = ("n1c2h5w4k3r3p1", "n1c2h7w4k3r3p1", "n1c2h9w4k3r3p1")


def shared(*places: tuple[str, str, str], identity: str = "") -> Contents:
    """One cell for each (layer, algorithm, GPU), as two GPUs with this difference would leave them."""
    records = [
        measured(blocks(1e-3), algorithm, text=text, environment=gpu, source=gpu)
        for text, algorithm, gpu in places
    ]
    held = holding(*records)
    held.environments = {
        gpu: {
            "id": gpu,
            "identity": {"gpu": "a card" + identity * (gpu == "two")},
            "gpu": {"uuid": f"uuid-{gpu}"},
        }
        for gpu in dict.fromkeys(place[2] for place in places)
    }
    held.noise = [{"problem": LAYERS[0], "ratio": 1.001, "environment": gpu} for gpu in held.environments]
    return held


def environments(contents: Contents) -> list[str]:
    return [record.environment for record in contents.cells.values()]


def test_devices_that_shared_the_layers_are_one_machine_with_both_named() -> None:
    found = as_one_machine(shared((LAYERS[0], "direct", "one"), (LAYERS[1], "direct", "two")))
    assert environments(found) == ["one", "one"]
    assert [line["environment"] for line in found.noise] == ["one", "one"]
    assert {name: one["gpu"]["uuid"] for name, one in found.environments.items()} == {
        "one": "uuid-one, uuid-two"
    }


def test_a_cell_that_both_measured_keeps_them_apart() -> None:
    held = shared((LAYERS[0], "direct", "one"), (LAYERS[0], "direct", "two"), (LAYERS[1], "direct", "two"))
    assert as_one_machine(held) == held


def test_machines_that_differ_stay_apart() -> None:
    held = shared((LAYERS[0], "direct", "one"), (LAYERS[1], "direct", "two"), identity=" of another kind")
    assert as_one_machine(held) is held


def test_the_rest_of_a_layer_that_was_finished_elsewhere_is_not_ranked_with_it() -> None:
    held = shared(
        (LAYERS[0], "direct", "one"),
        (LAYERS[0], "fft", "one"),
        (LAYERS[0], "im2col", "two"),
        (LAYERS[1], "fft", "two"),
    )
    found = as_one_machine(held)
    assert environments(found) == ["one", "one", "two", "one"]
    assert set(found.environments) == {"one", "two"}


def test_what_was_not_timed_belongs_to_its_layer_wherever_that_was_finished() -> None:
    places = (LAYERS[0], "direct", "one"), (LAYERS[0], "fft", "one"), (LAYERS[0], "im2col", "two")
    held = shared(*places, (LAYERS[1], "fft", "two"))
    held.cells = {
        key: replace(one, status=Status.UNSUPPORTED, time=None) if one.cell.algorithm == "im2col" else one
        for key, one in held.cells.items()
    }
    assert environments(as_one_machine(held)) == ["one"] * 4


def test_environments_without_a_device_are_united_as_they_are() -> None:
    held = shared((LAYERS[0], "direct", "one"), (LAYERS[1], "direct", "two"))
    bare: dict[str, dict[str, Any]] = {
        name: {key: value for key, value in one.items() if key != "gpu"}
        for name, one in held.environments.items()
    }
    assert environments(as_one_machine(replace(held, environments=bare))) == ["one", "one"]
