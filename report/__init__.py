"""From result folders to tables, plots and one page that needs nothing else; only reads what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["build"]


def build(folder: Path, limits: Sequence[int] | None = None) -> Path:
    """Write FOLDER/report (index.html, tables.md, plots as SVG and PNG); the path of the page.

    `limits`: the workspace limits in bytes that the tables compare; a column without limit is always there.
    """
    from .page import write

    return write(folder, limits)
