"""How plots look and how they are written: one palette for light and dark, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, GRID, BAND = "#1b1f24", "#5f6875", "#dfe3e8", "#f3f5f7"
DARK = {INK: "#e6e9ed", SOFT: "#9aa4b1", GRID: "#343b45", BAND: "#1c2128", "#0072b2": "#3f93d2"}
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h")
DASHES = (  # one more than colours, so that no two of forty lines are alike
    *("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5))),
    *((0, (8, 2, 2, 2, 2, 2)), (0, (3, 4)), (0, (2, 1))),
)
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "+++")
LONGEST_LABEL = 34
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

SETTINGS: Any = {
    "text.parse_math": False,  # names are foreign text: a $ is a $
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "convbench",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Look:
    """Colour, marker, line and hatch of one algorithm, so that it reads in grey. Later ones are hollow."""

    color: str
    marker: str
    hollow: bool
    dash: Any = "-"
    hatch: str = ""

    @property
    def face(self) -> str:
        return "none" if self.hollow else self.color


def looks(algorithms: Sequence[str]) -> dict[str, Look]:
    """The same look for an algorithm in every plot that knows the same algorithms."""
    return {name: _look(i) for i, name in enumerate(sorted(set(algorithms)))}


def _look(i: int) -> Look:
    cycles: Any = (OKABE_ITO, MARKERS, DASHES, HATCHES)
    color, marker, dash, hatch = (kinds[i % len(kinds)] for kinds in cycles)
    return Look(color, marker, i >= len(OKABE_ITO), dash, hatch)


def settings() -> AbstractContextManager[None]:
    """Plots are drawn and saved inside this."""
    import matplotlib as mpl

    return mpl.rc_context(SETTINGS)


def label(text: str) -> str:
    """Foreign text as a plot can show it: one line, characters of the font, not too long."""
    line = " ".join(text.split())
    shown = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in line)
    shown = f" {shown}" if shown.startswith("_") else shown  # matplotlib drops legend entries that begin so
    return shown if len(shown) <= LONGEST_LABEL else shown[: LONGEST_LABEL - 1] + "…"


def save(figure: Figure, stem: Path) -> Path:
    """Write stem.svg and stem.png, free of dates; the path of the first."""
    svg, png = stem.with_name(stem.name + ".svg"), stem.with_name(stem.name + ".png")
    with settings():
        figure.savefig(svg, facecolor="none", metadata={"Date": None, "Creator": "convbench"})
        figure.savefig(png, facecolor="white", dpi=160, metadata={"Software": "convbench"})
    svg.write_text(_themed(svg.read_text(encoding="utf-8")), encoding="utf-8")
    return svg


def _themed(svg: str) -> str:
    """The drawing with a style sheet that follows the reader's colour scheme and font."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = (
        f"<style>text{{font-family:{FONT}!important}}@media (prefers-color-scheme:dark){{{rules}}}</style>"
    )
    return re.sub(r"(<svg [^>]*>)", lambda match: match[1] + style, svg, count=1)
