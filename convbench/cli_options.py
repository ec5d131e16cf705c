"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, TypeVar

import click

from convbench import threads
from convbench.errors import UsageError, one_line
from convbench.problem import member

Kind = TypeVar("Kind", bound=StrEnum)

device_option = click.option("--device", metavar="cpu|cuda", help="Default: cuda where it works, else cpu.")
threads_option = click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all.")
batch_option = click.option("--batch", type=click.IntRange(1), help="Override N of every layer.")
directions_option = click.option(
    "--directions", multiple=True, default=["all"], metavar="fwd,bwd-data,bwd-filter|all"
)
precision_option = click.option(
    "--precision", "precisions", multiple=True, default=["fp32"], metavar="fp64,fp32,tf32,fp16,bf16|all"
)
layout_option = click.option("--layout", "layouts", multiple=True, default=["nchw"], metavar="nchw,nhwc|all")


def _plans(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Algorithms are objects without options, so this one travels in the environment."""
    if value is None:
        return
    if value != "all" and not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise UsageError(f"--plans '{one_line(value)}': a whole number from 1, or all")
    os.environ["CONVBENCH_PLANS"] = value


plans_option = click.option(
    "--plans",
    metavar="N|all",
    callback=_plans,
    expose_value=False,
    help="Plans of cudnn-graph to time for each problem, best-ranked first; default: 16.",
)
cache_option = click.option(
    "--cache",
    type=click.Choice(["cold", "hot", "cold-weights"]),
    default="cold",
    help="What a timed call finds in the GPU's cache; default: nothing.",
)
among_option = click.option(
    "--algorithms", multiple=True, metavar="A,B", help="As if only these had been measured; default: all."
)
format_option = click.option(
    "--format", "form", type=click.Choice(["terminal", "markdown", "csv"]), default="terminal"
)


def members(kind: type[Kind], values: Sequence[str]) -> tuple[Kind, ...]:
    """Values of a repeated, comma-separated option; `all` stands for every one."""
    found = words(values) or []
    if "all" in found:
        return tuple(kind)
    if not found:
        raise UsageError(f"no {kind.__name__.lower()} given; choose from {', '.join(kind)} or all")
    return tuple(dict.fromkeys(member(kind, name) for name in found))


def words(values: Sequence[str]) -> list[str] | None:
    """The words of a repeated, comma-separated option; None if there are none."""
    return [word.strip() for value in values for word in value.split(",") if word.strip()] or None


def open_device(name: str | None, count: int | None, cache: str = "cold") -> Any:
    """The device; threads are fixed before NumPy is imported, because BLAS reads their number only then."""
    from convbench import devices

    threads.fix(count)
    return devices.open_device(devices.choose(name, cache), cache)


def why(name: str | None) -> str:
    """What to say about a device that was not asked for."""
    from convbench import devices

    return devices.why(name)


def parse_limits(values: Sequence[str]) -> tuple[int | None, ...]:
    """Workspace limits in bytes; None for no limit."""
    from convbench.environment import total_memory
    from convbench.sizes import parse_size

    texts = [text.strip() for value in values for text in value.split(",")]
    return tuple(None if text == "none" else parse_size(text, total_memory()) for text in texts) or (None,)
