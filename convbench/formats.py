"""Layer lists as text: CSV and one text form a line here, three foreign formats beside it.

What a format cannot express is an error that names the layer. Nothing is lost in silence.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from convbench import benchdnn, deepbench, miopen
from convbench.errors import UsageError, one_line, unknown
from convbench.layers import Layer, Suite, inexpressible, located, numbered, whole
from convbench.problem import Pair, Problem

MOST_LAYERS = 100_000
COLUMNS = ("name", *"nchwkrs", "pad_h", "pad_w", "stride_h", "stride_w", "groups", "dilation")
PADS = ("pad_top", "pad_bottom", "pad_left", "pad_right")
DILATIONS = ("dilation_h", "dilation_w")
KNOWN_COLUMNS = (*COLUMNS, *PADS, *DILATIONS, "flip", "repeat", "network")
REQUIRED = "nchkr"
_FORMULA = re.compile(r"'*[=+\-@]")
_FLAGS = {"": False, "0": False, "1": True, "false": False, "true": True}


class Format(NamedTuple):
    read: Callable[[str, str], Iterator[Layer]]
    write: Callable[[Sequence[Layer]], str]
    about: str


def read(text: str, kind: str, source: str = "input") -> tuple[Layer, ...]:
    """The layers of a text in one of `KINDS`; `source` is what its errors call it."""
    layers = tuple(islice(_format(kind).read(text, source), MOST_LAYERS + 1))
    if len(layers) > MOST_LAYERS:
        raise UsageError(f"{one_line(source)}: more than {MOST_LAYERS} layers; split it")
    if not layers:
        raise UsageError(f"{one_line(source)}: no layers when read as {kind}; give at least one")
    return layers


def write(suite: Suite, kind: str) -> str:
    """The layers of a suite as a text that `read` takes."""
    return _format(kind).write(suite.layers)


def kind_of(path: str, text: str) -> str:
    """The likely format of a file, from its suffix and content."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").split("\n")]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    content, first = "\n".join(lines), lines[0] if lines else ""
    header = {cell.strip(' "') for cell in first.split(",")}
    if path.endswith(".csv") or set(REQUIRED) <= header:
        return "csv"
    if "MIOpenDriver" in content or re.match(r"conv(fp16|bfp16)? -", first):
        return "miopen"
    if re.search(r"(?<![a-z])ic\d", content) and re.search(r"(?<![a-z])oc\d", content):
        return "benchdnn"
    row = first.replace(",", " ").split()
    if (
        "make_tuple" in content
        or row[:5] == [*"whcnk"]
        or (len(row) >= 11 and all(map(str.isdecimal, row[:11])))
    ):
        return "deepbench"
    return "text"


def _format(kind: str) -> Format:
    if kind not in KINDS:
        raise unknown("format", kind, KINDS)
    return KINDS[kind]


# ---- one text form a line ----------------------------------------------------------------------------------


def _read_lines(text: str, source: str) -> Iterator[Layer]:
    for number, line in numbered(text):
        with located(source, number):
            layer = _line_layer(re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip())
        if layer:
            yield layer


def _line_layer(line: str) -> Layer | None:
    """`TEXT`, `name TEXT` or `name: TEXT`, with an optional `*repeat` behind; None for an empty line."""
    if not line:
        return None
    body, star, tail = line.rpartition("*")
    counted = star and tail.strip().isdecimal()
    repeat = whole(tail.strip(), "repeat") if counted else 1
    *label, last = (body if counted else line).rsplit(None, 1) or [""]
    glued, colon, text = last.rpartition(":")
    label = [*label, glued + colon] if colon else label
    return Layer.labelled(" ".join(label).removesuffix(":").strip(), Problem.parse(text), repeat)


def _write_lines(layers: Sequence[Layer]) -> str:
    return "".join(_layer_line(layer) for layer in layers)


def _layer_line(layer: Layer) -> str:
    if re.search(r"(?:^|\s)#", layer.label):
        raise inexpressible(layer, "text", "'#' begins a comment")
    label = f"{layer.label}: " if layer.label else ""
    return f"{label}{layer.problem}{f' *{layer.repeat}' if layer.repeat > 1 else ''}\n"


# ---- CSV ---------------------------------------------------------------------------------------------------


def _read_csv(text: str, source: str) -> Iterator[Layer]:
    rows = _csv_rows(text, source)
    number, cells = next(rows, (1, []))
    with located(source, number):
        header = _csv_header(cells)
    for number, cells in rows:
        with located(source, number):
            layer = _csv_layer(_csv_row(header, cells))
        yield layer


def _csv_rows(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with something in them, and their line numbers."""
    # strict: an unclosed quote would otherwise swallow the rest of the file as one cell
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                yield rows.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UsageError(
            f"{one_line(source)}, line {rows.line_num}: not valid CSV: {error}; correct the quotes"
        ) from None


def _csv_header(cells: list[str]) -> list[str]:
    for index, column in enumerate(cells):
        if column not in KNOWN_COLUMNS:
            raise unknown("column", column, KNOWN_COLUMNS)
        if column in cells[:index]:
            raise UsageError(f"column '{column}' is given twice; remove one")
    for column in REQUIRED:
        if column not in cells:
            raise UsageError(f"the header lacks the column '{column}'; a full one: {','.join(COLUMNS)}")
    for plain, split in (("pad_h", PADS[:2]), ("pad_w", PADS[2:]), ("dilation", DILATIONS)):
        if plain in cells and set(split) & set(cells):
            raise UsageError(f"columns '{plain}' and '{split[0]}' contradict each other; keep one of them")
    return cells


def _csv_row(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise UsageError(f"{len(cells)} cells, but the header has {len(header)} columns; give one cell each")
    return dict(zip(header, cells, strict=True))


def _csv_layer(row: dict[str, str]) -> Layer:
    problem = Problem(
        n=_cell(row, "n"),
        c=_cell(row, "c"),
        h=_cell(row, "h"),
        w=_cell(row, "w", "h"),
        k=_cell(row, "k"),
        r=_cell(row, "r"),
        s=_cell(row, "s", "r"),
        pad=(_csv_pad(row, "pad_h", PADS[:2]), _csv_pad(row, "pad_w", PADS[2:])),
        stride=(_cell(row, "stride_h", default="1"), _cell(row, "stride_w", default="1")),
        dilation=(
            _cell(row, "dilation_h", "dilation", default="1"),
            _cell(row, "dilation_w", "dilation", default="1"),
        ),
        groups=_cell(row, "groups", default="1"),
        flip=_csv_flip(row),
    )
    name, repeat = _text(row, "name") or str(problem), _cell(row, "repeat", default="1")
    return Layer(name, problem, repeat, _text(row, "network"))


def _text(row: dict[str, str], column: str) -> str:
    """A cell of text, without the quote that `_quoted` had to put before it."""
    text = row.get(column, "")
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _quoted(text: str) -> str:
    """Text that a spreadsheet would take for a formula, made text by a quote before it."""
    return f"'{text}" if _FORMULA.match(text) else text


def _cell(row: dict[str, str], *columns: str, default: str = "") -> int:
    """The first of these columns that says something."""
    column = next((column for column in columns if row.get(column)), columns[0])
    return whole(row.get(column) or default, f"column '{column}':")


def _csv_pad(row: dict[str, str], both: str, sides: Sequence[str]) -> Pair:
    before, after = (_cell(row, side, both, default="0") for side in sides)
    return before, after


def _csv_flip(row: dict[str, str]) -> bool:
    value = row.get("flip", "").lower()
    if value not in _FLAGS:
        raise UsageError(f"column 'flip': '{one_line(value)}': must be 0, 1, true or false")
    return _FLAGS[value]


def _write_csv(layers: Sequence[Layer]) -> str:
    """The shipped columns; the richer ones only where a layer needs them."""
    problems = [layer.problem for layer in layers]
    columns = list(COLUMNS)
    if any(before != after for p in problems for before, after in p.pad):
        columns[columns.index("pad_h") : columns.index("pad_w") + 1] = PADS
    if any(p.dilation[0] != p.dilation[1] for p in problems):
        columns[columns.index("dilation") :] = DILATIONS
    columns += ["flip"] if any(p.flip for p in problems) else []
    columns += ["repeat"] if any(layer.repeat > 1 for layer in layers) else []
    columns += ["network"] if any(layer.network for layer in layers) else []
    out = io.StringIO()
    table = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(_csv_cells(layer) for layer in layers)
    return out.getvalue()


def _csv_cells(layer: Layer) -> dict[str, str | int]:
    p = layer.problem
    (top, bottom), (left, right) = p.pad
    return {
        **{name: getattr(p, name) for name in "nchwkrs"},
        **{"name": _quoted(layer.name), "network": _quoted(layer.network)},
        **{"repeat": layer.repeat, "flip": int(p.flip)},
        **{"pad_h": top, "pad_top": top, "pad_bottom": bottom},
        **{"pad_w": left, "pad_left": left, "pad_right": right},
        **{"stride_h": p.stride[0], "stride_w": p.stride[1], "groups": p.groups},
        **{"dilation": p.dilation[0], "dilation_h": p.dilation[0], "dilation_w": p.dilation[1]},
    }


KINDS = {
    "csv": Format(_read_csv, _write_csv, "one row a layer, named columns"),
    "text": Format(_read_lines, _write_lines, "one text form a line, as in 'conv1: n64c3h224k64r7u2p3 *2'"),
    "benchdnn": Format(
        benchdnn.read, benchdnn.write, "problem descriptors and batch files of oneDNN's benchdnn"
    ),
    "deepbench": Format(
        deepbench.read, deepbench.write, "rows 'w h c n k f_w f_h pad_w pad_h stride_w stride_h'"
    ),
    "miopen": Format(miopen.read, miopen.write, "MIOpenDriver command lines"),
}
"""Every format by name."""
