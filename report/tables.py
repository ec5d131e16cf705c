"""A table of text cells as Markdown, CSV and on the terminal; cells are foreign text, so each escapes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import rich.table
    import rich.text

MISSING = "–"
LONGEST = 240
NO_INTERVAL = "n/a"
_NUMERIC = re.compile(r"[≈≥]? ?[0-9][0-9,.]*(e[-+][0-9]+)?( .*)?")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns.

    best    (row, column) of the cells that won something
    totals  how many rows at the end sum up the others
    quiet   columns that qualify the others and may be set in a lighter colour
    detail  columns that a terminal has no room for; page, Markdown and CSV show them
    whole   columns of names that a terminal folds where it would cut others
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""
    best: frozenset[tuple[int, int]] = frozenset()
    totals: int = 0
    quiet: frozenset[str] = frozenset()
    detail: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column whether it holds numbers, which are set flush right; names come first."""
        return tuple(i > 0 and self._is_numeric(i) for i in range(len(self.columns)))

    def _is_numeric(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] not in ("", MISSING, NO_INTERVAL)]
        return bool(cells) and all(map(_NUMERIC.fullmatch, cells))


def clean(text: str) -> str:
    """Foreign text on one line: no control or direction characters, and no endless reasons."""
    line = " ".join(text.split())
    shown = line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def trimmed(table: Table) -> Table:
    """The table without columns in which nothing stands."""
    kept = [j for j in range(len(table.columns)) if any(row[j] not in ("", MISSING) for row in table.rows)]
    return replace(
        table,
        columns=tuple(table.columns[j] for j in kept),
        rows=[tuple(row[j] for j in kept) for row in table.rows],
        best=frozenset((i, kept.index(j)) for i, j in table.best),
    )


def significant(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits and never an exponent: 0.00123, 1.20, 12.3, 1,234."""
    if value is None or not isfinite(value):
        return MISSING
    decimals = digits - 1 - floor(log10(abs(value))) if value else 0
    return f"{value:,.{max(0, decimals)}f}"


def markdown(table: Table) -> str:
    """GitHub's table syntax under a heading; winners in bold."""
    rule = ("---:" if number else "---" for number in table.numeric)
    lines = [f"### {_plain(table.title)}", ""]
    if table.rows:
        lines += [_line(map(_plain, table.columns)), _line(rule)]
        lines += [_line(_marked(table, i)) for i in range(len(table.rows))] + [""]
    if table.note:
        lines += [_plain(table.note), ""]
    return "\n".join(lines)


def csv_text(table: Table) -> str:
    """CSV that a spreadsheet opens without running anything: cells that look like formulas are quoted."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in (table.columns, *table.rows):
        shown = map(clean, row)
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in shown])
    return stream.getvalue()


def rich_table(table: Table) -> rich.table.Table:
    """The table for a terminal; no cell is read as markup or as an escape sequence."""
    from rich.table import Table as Rich
    from rich.text import Text

    shown = Rich(title=Text(clean(table.title)), caption=Text(clean_note(table.note)), title_justify="left")
    shown.caption_justify = "left"
    columns = [j for j, name in enumerate(table.columns) if name not in table.detail]
    numeric = table.numeric
    for j in columns:
        style = "dim" if table.columns[j] in table.quiet else None
        side: Literal["left", "right"] = "right" if numeric[j] else "left"
        overflow: Literal["fold", "ellipsis"] = "fold" if table.columns[j] in table.whole else "ellipsis"
        head = Text(clean(table.columns[j]))
        shown.add_column(head, justify=side, style=style, no_wrap=numeric[j], overflow=overflow)
    for i, row in enumerate(table.rows):
        if i == len(table.rows) - table.totals:
            shown.add_section()
        shown.add_row(*(_styled(table, i, j, row[j]) for j in columns))
    return shown


def clean_note(note: str) -> str:
    """As `clean`, for a note, which is ours to make as long as it needs."""
    return " ".join(clean(word) for word in note.split())


def _styled(table: Table, i: int, j: int, cell: str) -> rich.text.Text:
    from rich.text import Text

    return Text(clean(cell), style="bold green" if (i, j) in table.best else "")


def _marked(table: Table, i: int) -> list[str]:
    cells = map(_plain, table.rows[i])
    return [f"**{cell}**" if (i, j) in table.best and cell else cell for j, cell in enumerate(cells)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    entities = clean_note(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", entities)
