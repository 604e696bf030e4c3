"""The parts of a page: headings with blocks of text, tables and charts, which the template lays out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ebi_spark.report.charts import Chart
from ebi_spark.report.rows import Row


@dataclass(frozen=True)
class Block:
    """A paragraph, a list, a table or a chart. With ``fold`` a reader sees only the caption until they open it.

    A cell is a text, or :class:`Markup` that this package made: a bar or a mark of a footnote.
    """

    kind: str  # text, items, grid, chart or finder
    text: str = ""
    items: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    # One letter per column: l for words, n for words on one line, w for many words, r for figures, c for a code, b for bars.
    align: str = ""
    # Links to the notes that hold for the whole table.
    marks: str = ""
    # The area of each row, for the area finder.
    keys: tuple[str, ...] = ()
    svg: str = ""
    # What is beside a chart where there is room.
    beside: tuple["Block", ...] = ()
    fold: bool = False
    # A long table scrolls in a box of its own.
    long: bool = False


@dataclass(frozen=True)
class Part:
    """A heading with its blocks, then ``views``: a part for the areas of each kind in one period, which a reader can open.
    ``anchor`` is the id that links use."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]
    views: tuple["Part", ...] = ()
    is_open: bool = False


def text(words: str) -> Block:
    """A paragraph."""
    return Block("text", text=words)


def chart_block(chart: Chart | None, caption: str, beside: Sequence[Block] = ()) -> list[Block]:
    """A list with the chart as a block; an empty list if there is no chart. ``beside``: what explains it."""
    # We draw the SVG ourselves and matplotlib escapes its texts, so the template need not escape it.
    return [] if chart is None else [Block("chart", text=caption, svg=Markup(chart.svg), beside=tuple(beside))]  # noqa: S704


def by_year(
    rows: Sequence[Row],
    *,
    label: Callable[[Row], str],
    order: Callable[[Row], tuple[Any, ...]],
    cell: Callable[[Row], str],
    caption: str,
    first: str,
    column: Callable[[Row], str] = lambda row: str(row["financial_year"]),
    fold: bool = False,
) -> Block:
    """A table with a column for each year, and a line for each revision and label.

    ``label`` names a row, ``order`` sorts the lines and identifies them, ``cell`` gives the text of a cell, and ``first``
    is the heading of the first column. A year without a row has a dash.

    | financial_year | records | → Measure | 2021-22 | 2022-23 |
    |----------------|---------|-----------|---------|---------|
    | 2021-22        | 500     | Records   | 500     | 600     |
    | 2022-23        | 600     |           |         |         |
    """
    years = sorted({column(row) for row in rows})
    several = len({str(row.get("revision")) for row in rows}) > 1
    lines: dict[tuple[str, tuple[Any, ...]], dict[str, str]] = {}
    labels: dict[tuple[str, tuple[Any, ...]], str] = {}
    for row in rows:
        key = (str(row.get("revision")), order(row))
        labels[key] = label(row) + (f" (revision {row['revision']})" if several else "")
        lines.setdefault(key, {})[column(row)] = cell(row)
    return Block(
        "grid",
        text=caption,
        head=(first, *years),
        rows=tuple((labels[key], *(lines[key].get(year, "–") for year in years)) for key in sorted(lines)),
        align="l" + "r" * len(years),
        fold=fold,
        long=len(lines) > LONG,
    )


def split_hidden(
    rows: Sequence[Row], label: Callable[[Row], str], is_hidden: Callable[[Row], bool]
) -> tuple[list[Row], list[str]]:
    """The rows of labels with something to show, and the labels all of whose rows are hidden. One sentence can name the latter."""
    shown = {label(row) for row in rows if not is_hidden(row)}
    hidden = dict.fromkeys(label(row) for row in rows if label(row) not in shown)
    return [row for row in rows if label(row) in shown], list(hidden)


def by_year_shown(
    rows: Sequence[Row], *, label: Callable[[Row], str], is_hidden: Callable[[Row], bool], words: str, **given: Any
) -> list[Block]:
    """:func:`by_year` for the labels with something to show in any year. A sentence that begins with ``words`` names the others."""
    shown, hidden = split_hidden(sorted(rows, key=given["order"]), label, is_hidden)
    blocks = [by_year(shown, label=label, **given)] if shown else []
    return [*blocks, *hidden_names(words, hidden)]


def hidden_names(words: str, names: Sequence[str]) -> list[Block]:
    """Names of what has nothing to show: in one sentence or, if they are many, in a list that a reader can open."""
    if len(names) > _FEW:
        return [Block("items", text=f"{words} ({len(names)})", items=tuple(names), fold=True)]
    return [text(f"{words}: {'; '.join(names)}.")] if names else []


# At most so many names are in a sentence.
_FEW = 8


# A table with more rows than these scrolls in a box of its own.
LONG = 14


def slug(name: str) -> str:
    """A text in a form that is safe in an HTML id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"


# --- bars in the cells of tables. The numbers are in the cells beside them, so screen readers skip the bars. -----------------


def _svg(shapes: str) -> Markup:
    # Every shape is made of numbers and of class names of this module.
    return Markup(f'<svg class="bar" aria-hidden="true" focusable="false">{shapes}</svg>')  # noqa: S704


def stack(parts: Sequence[tuple[str, float]], whole: float, start: float = 0) -> Markup:
    """A bar of several parts, each with the name of its colour and its length, on a scale from 0 to ``whole``."""
    shapes, at = [], start
    for colour, length in parts:
        if length and whole:
            shapes.append(
                f'<rect class="{colour}" x="{100 * at / whole:.2f}%" width="{100 * length / whole:.2f}%" y="15%" height="70%"/>'
            )
        at += length
    return _svg("".join(shapes))


def interval(
    value: float, limits: tuple[float, float] | None, most: float, side: str = "", line: float | None = None
) -> Markup:
    """A point with its limits, on a scale from 0 to ``most``, beside a line for England. ``side``: ``above``, ``below`` or
    empty; its shape differs as well as its colour."""
    if not most:
        return Markup()

    def place(number: float) -> str:
        return f"{2 + 96 * min(number, most) / most:.2f}%"

    shapes = "" if line is None else f'<line class="england" x1="{place(line)}" x2="{place(line)}" y1="0" y2="100%"/>'
    if limits is not None:
        low, high = map(place, limits)
        shapes += f'<line class="limits {side}" x1="{low}" x2="{high}" y1="50%" y2="50%"/>'
    x = place(value)
    if side:
        points = "-5,4 0,-5 5,4" if side == "above" else "-5,-4 0,5 5,-4"
        shapes += f'<svg x="{x}" y="50%" overflow="visible"><polygon class="{side}" points="{points}"/></svg>'
    else:
        shapes += f'<circle class="usual" cx="{x}" cy="50%" r="4"/>'
    return _svg(shapes)
