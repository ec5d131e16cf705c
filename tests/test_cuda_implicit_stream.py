"""Streams of tiles of 16-bit nhwc tensors on the emulated GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from convbench.algorithms import cuda_implicit_stream as stream
from convbench.algorithms import cuda_implicit_stream_tiles as stream_tiles
from convbench.algorithms.cuda_implicit import Form, forms
from convbench.algorithms.cuda_implicit_stream_tiles import source, sources
from emulator import failures, slow
from implicit_forms import Chosen

from convbench.api import Direction, Problem

pytest_plugins = ("emulator.plugin",)
pytestmark = pytest.mark.usefixtures("emulated")

every = pytest.mark.parametrize
directions = every("direction", list(Direction))


@dataclass(frozen=True)
class Given(Chosen):
    """All tiles, or one; the pixels of filter gradients in so many parts."""

    parts: int = 1
    size: str = ""

    def offered(self, problem: Problem) -> list[Form]:
        whole = [one for one in stream.products(problem, problem.n) if self.size in one.name]
        return [Form(problem, replace(one, parts=self.parts)) for one in whole]


def problem(text: str, direction: Direction, precision: str = "fp16") -> Problem:
    return Problem.parse(text, direction=direction, precision=precision, layout="nhwc")


# Windows of one tap and of three, of taps that go forwards, backwards and apart.
PLAIN = "n2c64h7w9k64r3p1"
WIDER = ("n2c128h9w8k128r3s2p1x0d2x1g2flip", "n1c128h9w11k64r2s5p1x2d1x2")


@directions
@every("text", [PLAIN, *slow(*WIDER)])
def test_every_tile(text: str, direction: Direction) -> None:
    given = problem(text, direction)
    assert not [one.failure for one in failures(Given(), given)]


@every("direction", [Direction.FWD, Direction.BWD_FILTER])
def test_strides(direction: Direction) -> None:
    given = problem("n3c64h9w11k136r3s1u2x1p1x0", direction)
    assert not [one.failure for one in failures(Given(), given)]


def test_blocks_take_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_tiles, "MULTIPROCESSORS", 2)
    given = problem("n2c64h24w23k64r1", Direction.FWD)
    assert all(one.grid == 2 for one in stream.products(given, given.n))
    assert not failures(Given(), given)


@every("text", [PLAIN, "n2c64h5w6k64r1s4p0x2"])
def test_parts_of_a_sum(text: str) -> None:
    assert not failures(Given(parts=2), problem(text, Direction.BWD_FILTER))


@pytest.mark.slow
def test_long_sums_are_handed_on() -> None:
    """One part of more pixels than registers sum up."""
    given = problem("n3c64h75w74k8r1", Direction.BWD_FILTER)
    narrow = [one for one in stream.products(given, given.n) if one.tile.size == "64x256"]
    assert [one.partly for one in narrow] == [True]
    assert not failures(Given(size="64x256"), given)


@pytest.mark.slow
@directions
def test_bfloat(direction: Direction) -> None:
    assert not failures(Given(), problem("n1c64h5w6k64r2", direction, "bf16"))


# ---- what is offered ---------------------------------------------------------------------------------------


@directions
@every("text", ["n64c256h56k256r3p1", "n64c64h56k64r3p1", "n64c128h28k64r1"])
def test_streams_need_no_operands_in_the_workspace(text: str, direction: Direction) -> None:
    offered = forms(problem(text, direction), None, True).values()
    assert {form.name[:6] for form in offered} <= {"stream", "window"}
    assert all(form.workspace < 256 + form.product.partial for form in offered)


@directions
def test_few_channels_have_windows(direction: Direction) -> None:
    """Where 64 filters leave copies little time, pixels are copied once for several taps."""
    offered = forms(problem("n64c64h224k64r3p1", direction), None, True)
    assert next(iter(offered)).startswith("window")


@every("text", ["n64c64h56k64r3p1u1x2", "n64c64h56k64r3p1d1x5", "n64c64h56k64r3s1p1x0"])
def test_windows_need_neighbours(text: str) -> None:
    given = problem(text, Direction.FWD)
    assert {one.wide.taps for one in stream.products(given, given.n)} == {1}


@every("text", ["n64c60h28k64r3p1", "n64c64h28k68r3p1"])
def test_what_streams_cannot_do(text: str) -> None:
    given = problem(text, Direction.FWD)
    assert not stream.products(given, given.n)
    assert forms(given, None, True)


@every("direction", [Direction.FWD, Direction.BWD_DATA])
def test_few_tiles_leave_room_for_parts(direction: Direction) -> None:
    names = forms(problem("n1c512h14k512r3p1", direction), None, True)
    assert any("parts" in name for name in names)


def test_sources_cover_what_is_asked_for() -> None:
    listed = set(sources())
    for direction in Direction:
        for one in stream.products(given := problem(PLAIN, direction), 2):
            assert source(given, one.tile) in listed
