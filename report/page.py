"""The page: one file with data, script and charts, that opens from a disk; plots and tables beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convbench import __version__
from convbench.errors import CannotRunError
from convbench.fleet import as_one_machine
from convbench.frame import cells_frame, layers_frame
from convbench.problem import Direction
from convbench.record import Status
from convbench.store import Contents, read

from .limits import DEFAULT_LIMITS
from .page_data import block, page_data
from .plots import most_varied, suite_figure, workspace_figure
from .ranking import Ranking, current, rankings, split, unranked
from .tables import Table, clean, markdown
from .theme import save, settings
from .views import environment, makers, noise, noise_line

if TYPE_CHECKING:
    import jinja2
    import pandas as pd
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
SCRIPTS = tuple(
    f"page{part}.js"
    for part in (
        *("_model", "_dom", "_axes", "_charts", "_card", "_state", "_answer", "_sheets"),
        *("_winners", "_cells", "_controls", "_views", ""),  # the last one starts it
    )
)
HEADINGS = {
    "limits": "Workspace limits side by side",
    "layerwise": "The layer-wise benchmark",
    "costs": "What the library's choice costs, summed up",
    "selection": "What the library's choice costs, layer by layer",
    "machine": "Limits, clocks and power",
    "rivals": "Who beats whom",
    "accuracy": "Accuracy",
    "deepbench": "DeepBench's rows",
    "published": "Beside published figures",
    "coverage": "Coverage: what is not ranked, and why",
}
LIVE = frozenset({"winners", "networks", "layers", "algorithms"})  # the page makes these itself
STATIC = ("winners", "networks", "limits", "coverage")  # for readers without scripts
MOST_STATIC, MOST_FINISHED = 20_000, 60_000  # cells of tables in one page
MOST_SCOPES = 6  # that are drawn

Made = Mapping[str, Sequence[Table]]  # the tables of each view


def write(folder: Path, limits: Sequence[int] | None = None) -> Path:
    """Everything of the report of this result folder; the path of the page."""
    contents, target = as_one_machine(read(folder)), folder / "report"
    bounds = DEFAULT_LIMITS if limits is None else tuple(limits)
    made = {name: make() for name, make in makers(contents, bounds).items()}
    cells, layers = cells_frame(contents), layers_frame(contents)
    try:
        target.mkdir(exist_ok=True)
        _plots(cells, layers, target)
        (target / "tables.md").write_text(_markdown(contents, made), encoding="utf-8")
        page = target / "index.html"
        page.write_text(render(contents, cells, layers, made), encoding="utf-8")
    except OSError as error:
        raise CannotRunError(f"cannot write the report into '{target}': {error.strerror}") from error
    return page


def render(contents: Contents, cells: pd.DataFrame, layers: pd.DataFrame, made: Made) -> str:
    """The page as text."""
    from markupsafe import Markup

    data = page_data(contents, cells, layers, _finished(made))
    style, scripts = _text("page.css"), [_text("chart.min.js"), "".join(map(_text, SCRIPTS))]
    static = list(_within([table for name in STATIC for table in made[name]], MOST_STATIC))
    environments: Mapping[str, Sequence[tuple[str, str]]] = data["environments"]
    facts = [fact for rows in environments.values() for fact in rows] if len(environments) == 1 else []
    return _template().render(
        title=_title(environments),
        machine=[f"{name} {value}" for name, value in facts[:6]] or list(environments),
        environment=environment(contents),
        noise=noise_line(contents),
        fit=all(one.fit for one in noise(contents)) and bool(noise(contents)),
        facts=_facts(cells),
        scopes=data["scopes"],
        static=static,
        cut=len(static) < sum(len(made[name]) for name in STATIC),
        notes=[clean(note) for note in contents.notes],
        version=__version__,
        style=Markup(style),
        style_hash=Markup(_hash(style)),
        data=Markup(block(data)),
        scripts=[Markup(script) for script in scripts],
        hashes=[Markup(_hash(script)) for script in scripts],
    )


def _template() -> jinja2.Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    loader.filters["clean"] = clean
    return loader.get_template("page.html")


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What lets this script or style in, and no other."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _title(environments: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Named after the processors."""
    facts = [dict(rows) for rows in environments.values()]
    names = dict.fromkeys(name for one in facts if (name := one.get("gpu", one.get("cpu"))))
    return f"Convolutions on {', '.join(names)}" if 0 < len(names) < 4 else "Convolution benchmark"


def _finished(made: Made) -> dict[str, list[Table]]:
    """Tables that the page shows as they are, by heading."""
    found = {
        HEADINGS.get(name, name.capitalize()): [one for one in tables if one.rows]
        for name, tables in made.items()
        if name not in LIVE
    }
    room = MOST_FINISHED // max(1, len(found))
    return {heading: list(_within(tables, room)) for heading, tables in found.items() if tables}


def _within(tables: Sequence[Table], cells: int) -> Iterator[Table]:
    """The first tables of together so many cells; what does not fit any more stays in tables.md."""
    for table in tables:
        cells -= len(table.rows) * len(table.columns)
        if cells >= 0:
            yield table


def _markdown(contents: Contents, made: Made) -> str:
    tables = [environment(contents), *(table for some in made.values() for table in some)]
    return f"# Convolution benchmark\n\n{noise_line(contents)}\n\n" + "\n".join(map(markdown, tables))


def _facts(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """The sweep in a few numbers."""
    rows = current(cells)
    ranked = sum(unranked(row) is None for row in rows)
    failed = sum(row.status not in (Status.OK, Status.UNSUPPORTED) for row in rows)
    return [
        ("layer shapes", f"{cells['problem'].nunique():,}"),
        ("algorithms", f"{cells['algorithm'].nunique():,}"),
        ("cells ranked", f"{ranked:,} of {len(rows):,}"),
        ("failed or over limit", f"{failed:,}"),
    ]


# ---- plots beside the page --------------------------------------------------------------------------------


def _plots(cells: pd.DataFrame, layers: pd.DataFrame, target: Path) -> None:
    """Draw every scope on its own and save the drawings."""
    for number, part in enumerate(split(cells, layers)[:MOST_SCOPES], start=1):
        suffix = f"-{number}" if number > 1 else ""
        for ranking in rankings(part, layers):
            for stem, figure in _drawn(part, layers, ranking):
                _lay_out(figure)
                save(figure, target / f"{stem}{suffix}")


def _lay_out(figure: Figure) -> None:
    """Once and for all: an engine of its own would lay the figure out again for each format."""
    with settings():
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        figure.set_layout_engine(None)


def _drawn(cells: pd.DataFrame, layers: pd.DataFrame, ranking: Ranking) -> Iterator[tuple[str, Figure]]:
    """Name of the file and drawing."""
    for direction in (d.value for d in Direction if d in ranking.directions):
        yield f"time_{direction}", suite_figure(cells, layers, direction)
    problem, direction = most_varied(ranking)
    yield "workspace", workspace_figure(cells, layers, problem, direction)
