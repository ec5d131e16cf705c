"""The layers of a result folder as a report names and groups them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convbench.errors import UsageError, one_line
from convbench.problem import LARGEST, Problem

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Layer:
    """One layer of one network; `repeat` is how often the network holds it, and totals count it so often."""

    network: str
    name: str
    repeat: int
    problem: str

    @property
    def title(self) -> str:
        """The name, or the shape where there is no other name."""
        return shape(self.problem) if self.name == self.problem else self.name


def shape(text: str) -> str:
    """The text form without what follows from the rest: w = h, s = r, no padding, stride 1 ..."""
    p = Problem.parse(text)
    sizes = f"n{p.n}c{p.c}h{p.h}" + (f"w{p.w}" if p.w != p.h else "") + f"k{p.k}r{p.r}"
    rest = f"s{p.s}" if p.s != p.r else ""
    pads = ["x".join(dict.fromkeys(_pad(pair) for pair in p.pad))]
    rest += "".join(f"p{pad}" for pad in pads if pad != "0")
    for letter, pair in (("u", p.stride), ("d", p.dilation)):
        rest += "" if pair == (1, 1) else letter + "x".join(map(str, dict.fromkeys(pair)))
    return sizes + rest + (f"g{p.groups}" if p.groups > 1 else "") + ("flip" if p.flip else "")


def layer_lines(layers: pd.DataFrame, problems: Iterable[str]) -> list[Layer]:
    """Every layer once, in the order of the suite; problems of no suite are layers of their own."""
    columns = ["network", "suite", "layer", "repeat", "problem"]
    rows = layers[columns].itertuples(index=False, name=None)
    lines = dict.fromkeys(_layer(*row) for row in rows)
    known = {line.problem for line in lines}
    lines |= dict.fromkeys(Layer("", text, 1, text) for text in problems if text not in known)
    return _by_batch(list(lines))


def _layer(network: Any, suite: Any, name: Any, repeat: Any, problem: Any) -> Layer:
    try:
        whole = int(repeat)
        if not 1 <= whole <= LARGEST or whole != repeat:
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(
            f"layer '{one_line(str(name))}' of the results has repeat '{one_line(str(repeat))}': "
            f"must be a whole number from 1; measure it again into a new folder"
        ) from None
    return Layer(str(network) or str(suite), str(name), whole, str(Problem.parse(str(problem))))


def _by_batch(lines: Sequence[Layer]) -> list[Layer]:
    """A network that was run at several batch sizes is as many networks: their totals must not mix."""
    batches: dict[tuple[str, str], set[int]] = defaultdict(set)
    for line in lines:
        batches[line.network, line.name].add(Problem.parse(line.problem).n)
    several = {network for (network, _), sizes in batches.items() if len(sizes) > 1}
    return [
        replace(line, network=f"{line.network}, N={Problem.parse(line.problem).n}")
        if line.network in several
        else line
        for line in lines
    ]


def _pad(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}.{pair[1]}"
