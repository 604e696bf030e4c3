"""The pieces of a page: blocks under headings, as texts that the template lays out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from ebi_spark.report import charts
from ebi_spark.report.rows import Row


@dataclass(frozen=True)
class Block:
    """One thing under a heading: a paragraph, a list, a table or a chart. ``fold`` hides it behind its caption."""

    kind: str  # text, items, grid or chart
    text: str = ""
    items: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    # One letter a column: l for words, n for words on one line, w for many words, r for figures, c for a code.
    align: str = ""
    svg: Markup = field(default_factory=Markup)
    fold: bool = False


@dataclass(frozen=True)
class Part:
    """A heading with its blocks; ``anchor`` is the id that links go to."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]


def drawn(chart: charts.Chart | None, caption: str) -> list[Block]:
    """A chart as a block, or none where there is nothing to draw."""
    # The SVG is ours, and matplotlib escapes the texts in it: the one thing that the template takes as it is.
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
    """A table with a column a year; revisions that share one table have lines of their own."""
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
    """A text as part of an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
