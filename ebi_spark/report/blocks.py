"""The parts of a page: headings with blocks of text, which the template lays out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from ebi_spark.report import charts
from ebi_spark.report.rows import Row


@dataclass(frozen=True)
class Block:
    """A paragraph, a list, a table or a chart. With ``fold`` a reader sees only the caption until they open it."""

    kind: str  # text, items, grid or chart
    text: str = ""
    items: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    # One letter per column: l for words, n for words on one line, w for many words, r for figures, c for a code.
    align: str = ""
    footnotes: tuple[str, ...] = ()
    svg: Markup = field(default_factory=Markup)
    fold: bool = False


@dataclass(frozen=True)
class Part:
    """A heading with its blocks. ``anchor`` is the id that links use."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]


def chart_block(chart: charts.Chart | None, caption: str) -> list[Block]:
    """A list with the chart as a block; an empty list if there is no chart."""
    # We draw the SVG ourselves and matplotlib escapes its texts, so the template need not escape it.
    return [] if chart is None else [Block("chart", text=caption, svg=Markup(chart.svg))]  # noqa: S704


def by_year(
    rows: Sequence[Row],
    *,
    label: Callable[[Row], str],
    order: Callable[[Row], tuple[Any, ...]],
    cell: Callable[[Row], str],
    caption: str,
    first: str,
) -> Block:
    """A table with a column for each year, and a line for each revision and label.

    ``label`` names a row, ``order`` sorts the lines and identifies them, ``cell`` gives the text of a cell, and ``first``
    is the heading of the first column. A year without a row has a dash.

    | financial_year | records | → Measure | 2021-22 | 2022-23 |
    |----------------|---------|-----------|---------|---------|
    | 2021-22        | 500     | Records   | 500     | 600     |
    | 2022-23        | 600     |           |         |         |
    """
    years = sorted({str(row["financial_year"]) for row in rows})
    several = len({str(row.get("revision")) for row in rows}) > 1
    lines: dict[tuple[str, tuple[Any, ...]], dict[str, str]] = {}
    labels: dict[tuple[str, tuple[Any, ...]], str] = {}
    for row in rows:
        key = (str(row.get("revision")), order(row))
        labels[key] = label(row) + (f" (revision {row['revision']})" if several else "")
        lines.setdefault(key, {})[str(row["financial_year"])] = cell(row)
    return Block(
        "grid",
        text=caption,
        head=(first, *years),
        rows=tuple((labels[key], *(lines[key].get(year, "–") for year in years)) for key in sorted(lines)),
        align="l" + "r" * len(years),
    )


def slug(text: str) -> str:
    """A text in a form that is safe in an HTML id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
