"""The page: what measured, how far to trust it, who wins at what price, and what is missing and why."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convbench import __version__
from convbench.errors import CannotRunError
from convbench.frame import cells_frame, layers_frame
from convbench.problem import Direction
from convbench.record import Status
from convbench.store import Contents, read

from .limits import DEFAULT_LIMITS
from .plots import most_varied, suite_figure, workspace_figure
from .ranking import Ranking, current, rankings, split, unranked
from .tables import Table, clean, markdown
from .theme import save
from .views import environment, makers, noise, noise_line, tally

if TYPE_CHECKING:
    import jinja2
    import pandas as pd
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
HEADINGS = {
    "winners": "Winners",
    "networks": "Networks",
    "limits": "Workspace limits",
    "layers": "Layer by layer",
    "algorithms": "Algorithm, workspace and time",
    "selection": "What the library's choice costs",
    "machine": "Limits, clocks and power",
    "accuracy": "Accuracy",
    "coverage": "Coverage",
}
FOLDED = ("layers", "algorithms", "selection", "machine", "accuracy")
OPTIONAL = ("selection", "machine")  # not every device or library has something to say


@dataclass(frozen=True)
class Plot:
    """A drawing with the words for those who cannot see it."""

    caption: str
    source: str


@dataclass(frozen=True)
class Section:
    name: str
    heading: str
    tables: list[Table]
    plots: list[Plot] = field(default_factory=list)
    folded: bool = False


def write(folder: Path, limits: Sequence[int] | None = None) -> Path:
    """Everything of the report of this result folder; the path of the page."""
    contents, target = read(folder), folder / "report"
    bounds = DEFAULT_LIMITS if limits is None else tuple(limits)
    try:
        target.mkdir(exist_ok=True)
        plots = _plots(contents, target)
        (target / "tables.md").write_text(_markdown(contents, bounds), encoding="utf-8")
        page = target / "index.html"
        page.write_text(render(contents, plots, bounds), encoding="utf-8")
    except OSError as error:
        raise CannotRunError(f"cannot write the report into '{target}': {error.strerror}") from error
    return page


def render(contents: Contents, plots: dict[str, list[Plot]], limits: Sequence[int]) -> str:
    """The page as text."""
    make = makers(contents, limits)
    sections = [
        Section(name, heading, make[name](), plots.get(name, []), name in FOLDED)
        for name, heading in HEADINGS.items()
    ]
    sections = [one for one in sections if one.name not in OPTIONAL or any(t.rows for t in one.tables)]
    cells = cells_frame(contents)
    floors = {one.environment: one.floor for one in noise(contents)}
    return _template().render(
        sections=sections,
        wins=tally(cells, layers_frame(contents), floors),
        environment=environment(contents),
        noise=noise_line(contents),
        fit=all(one.fit for one in noise(contents)) and bool(noise(contents)),
        facts=_facts(cells),
        notes=[clean(note) for note in contents.notes],
        version=__version__,
    )


def _template() -> jinja2.Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    loader.filters |= {"clean": clean, "parts": _parts}
    return loader.get_template("page.html")


def _parts(cell: str) -> tuple[str, str]:
    """A cell's figure, and what only explains it."""
    figure, _, detail = clean(cell).partition(" · ")
    return figure, detail


def _markdown(contents: Contents, limits: Sequence[int]) -> str:
    tables = [environment(contents)]
    for make in makers(contents, limits).values():
        tables += make()
    return f"# Convolution benchmark\n\n{noise_line(contents)}\n\n" + "\n".join(map(markdown, tables))


def _facts(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """The sweep in a few numbers."""
    rows = current(cells)
    ranked = sum(unranked(row) is None for row in rows)
    failed = sum(row.status not in (Status.OK, Status.UNSUPPORTED) for row in rows)
    return [
        ("layer shapes", str(cells["problem"].nunique())),
        ("algorithms", str(cells["algorithm"].nunique())),
        ("cells ranked", f"{ranked} of {len(rows)}"),
        ("failed or over limit", str(failed)),
    ]


# ---- plots ------------------------------------------------------------------------------------------------


def _plots(contents: Contents, target: Path) -> dict[str, list[Plot]]:
    """Draw every scope on its own, save the drawings, and hand them to the sections they belong to."""
    cells, layers = cells_frame(contents), layers_frame(contents)
    found: dict[str, list[Plot]] = {"winners": [], "limits": []}
    for number, part in enumerate(split(cells, layers), start=1):
        suffix = f"-{number}" if number > 1 else ""
        for ranking in rankings(part, layers):
            for section, stem, caption, figure in _drawn(part, layers, ranking):
                found[section].append(_plot(figure, target / f"{stem}{suffix}", caption))
    return found


def _drawn(
    cells: pd.DataFrame, layers: pd.DataFrame, ranking: Ranking
) -> Iterator[tuple[str, str, str, Figure]]:
    """Section, file, words and drawing."""
    for direction in (d.value for d in Direction if d in ranking.directions):
        caption = (
            f"Time per layer and algorithm, {direction}, {ranking.label}; the tables hold the same figures"
        )
        yield "winners", f"time_{direction}", caption, suite_figure(cells, layers, direction)
    problem, direction = most_varied(ranking)
    caption = f"Time against workspace of {problem}, {direction}, {ranking.label}"
    yield "limits", "workspace", caption, workspace_figure(cells, layers, problem, direction)


def _plot(figure: Figure, stem: Path, caption: str) -> Plot:
    drawing = save(figure, stem).read_bytes()
    return Plot(caption, "data:image/svg+xml;base64," + base64.b64encode(drawing).decode("ascii"))
