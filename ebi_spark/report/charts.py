"""The report's charts with axes, each as an SVG text without outside fonts. The same figures give the same bytes.

A function takes rows of one published table, as :func:`ebi_spark.report.rows.rows_of` returns them, and a ``key`` that
makes the chart's ids unique on the page. It returns None if there is nothing to draw. Colours are variables of the page, so
that they follow its light or dark theme; a notebook uses their light values. As in NHS charts, grey is common cause, orange
is a concern and blue an improvement; shapes say the same.
"""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from textwrap import fill

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from ebi_spark.rates.control_charts import ControlChart, funnel_limits
from ebi_spark.release.published_limits import limits_of
from ebi_spark.report import wording
from ebi_spark.report.rows import Row, measure_of, years_of
from ebi_spark.statistics.levels import Z_95, Z_998

INK, GREY, LINE, CONCERN, IMPROVEMENT, PAPER = "#1d2a35", "#66737f", "#d3d9df", "#b35000", "#005eb8", "#fefefe"
_VARIABLES = {
    INK: "ink", GREY: "usual", LINE: "line", CONCERN: "concern", IMPROVEMENT: "improvement", PAPER: "paper",
}  # fmt: skip
# In inches of 72 units. About as wide as a phone, so that texts keep their size there.
WIDTH, LEFT = 5.2, 0.55
# A point: its name, marker and colour. Higher is a concern, because policies ask for fewer.
MARKS = {"": ("o", GREY), "above": ("^", CONCERN), "below": ("v", IMPROVEMENT)}
# At most so many outlying areas have their names in a funnel plot. More names would hide the points.
NAMED = 6


@dataclass(frozen=True)
class Chart:
    """A chart as SVG text, and what it shows in words. A notebook displays it directly."""

    svg: str
    alt: str

    def _repr_html_(self) -> str:
        return self.svg


def trend(
    rows: Sequence[Row], *, key: str, title: str, others: Mapping[str, Sequence[Row]] | None = None
) -> Chart | None:
    """The rate by year with its 95% limits. ``others``: the rows of other readings by name, drawn in grey."""
    ordered = sorted(rows, key=lambda row: (str(row["financial_year"]), str(row.get("revision"))))
    measure = measure_of(ordered)
    shown = [row for row in ordered if row.get(measure) is not None]
    if not shown:
        return None
    years = sorted({str(row["financial_year"]) for row in ordered})
    revisions = sorted({str(row.get("revision")) for row in shown})
    # Room for the names at the ends of the lines.
    right = 1.95 if len(revisions) > 1 else 1.6 if others else 0.6
    with _drawing(2.9, "Per 100,000 people", right=right) as (figure, axes):
        ends = _other_readings(axes, others or {}, years, measure)
        for number, revision in enumerate(revisions):
            own = [row for row in shown if str(row.get("revision")) == revision]
            # Two revisions of the same year are drawn side by side, so that neither hides the other.
            shift = 0.1 * (number - (len(revisions) - 1) / 2)
            places = [years.index(str(row["financial_year"])) + shift for row in own]
            colour = INK if number == len(revisions) - 1 else GREY
            axes.plot(places, [row[measure] for row in own], "o-", color=colour, linewidth=2, markersize=6, zorder=3)
            for place, row in zip(places, own, strict=True):
                both = limits_of(row)
                if both is not None and measure == "standardised_rate":
                    axes.vlines(place, *both, color=colour, linewidth=1.4)
            said = f"revision {revision} " if len(revisions) > 1 else ""
            ends.append((own[-1][measure], said + wording.rate(own[-1][measure]), colour))
        _years(axes, years)
        axes.set_xlim(-0.3, len(years) - 0.8)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.06 or 1)
        _labels(axes, ends)
        first, last = shown[0], shown[-1]
        words = f"from {wording.rate_in(first, measure)} in {first['financial_year']} to " if len(shown) > 1 else ""
        alt = (
            f"{title}: {wording.MEASURES[measure].lower()} {words}{wording.rate_in(last, measure)} "
            f"in {last['financial_year']} per 100,000."
        )
        return _chart(figure, key, alt)


def _other_readings(
    axes: Axes, others: Mapping[str, Sequence[Row]], years: Sequence[str], measure: str
) -> list[tuple[float, str, str]]:
    """Dashed lines of other readings, each by its newest revision. Returns what :func:`_labels` writes at their ends."""
    ends: list[tuple[float, str, str]] = []
    for name, own in others.items():
        newest = max((str(row.get("revision")) for row in own), default="")
        points = [row for row in own if str(row.get("revision")) == newest and row.get(measure) is not None]
        if points:
            points.sort(key=lambda row: str(row["financial_year"]))
            at = [years.index(str(row["financial_year"])) for row in points]
            axes.plot(at, [row[measure] for row in points], color=GREY, linewidth=1.4, linestyle="--")
            ends.append((points[-1][measure], f"{name} {wording.rate(points[-1][measure])}", GREY))
    return ends


def people_of(row: Row, national: float) -> float:
    """How many people an area counts as in a funnel plot: its population, or for an indirectly standardised rate the people
    of England's ages and sexes who would have its expected records."""
    expected = row.get("expected")
    if expected and national:
        return float(expected) / national * 100_000
    return float(row.get("population") or 0)


def funnel(
    rows: Sequence[Row],
    *,
    national: float | None,
    key: str,
    title: str,
    phi: float = 1.0,
    sides: Mapping[str, str] | None = None,
) -> Chart | None:
    """A funnel plot: each area's rate by its number of people (:func:`people_of`).

    The limits are those of :func:`funnel_limits` at 95% and 99.8%, widened by the overdispersion ``phi``. ``sides`` says by
    area code which areas are ``above`` or ``below`` the 99.8% limits; the most distant have their names.
    """
    measure = measure_of(rows)
    if not national or not any(row.get(measure) for row in rows):
        return None
    shown = [
        {**row, "population": people_of(row, national)}
        for row in rows
        if row.get(measure) is not None and people_of(row, national)
    ]
    if not any(row[measure] for row in shown):
        return None
    shown.sort(key=lambda row: (row["population"], str(row.get("area_code"))))
    sides = outlying(shown, national, phi) if sides is None else sides
    pooled = any(years_of(row) > 1 for row in shown)
    with _drawing(
        3.9,
        f"{wording.MEASURES[measure]} per 100,000",
        right=1.1,
        bottom=0.55,
        top=0.65 if any(sides.values()) else 0.42,
    ) as (figure, axes):
        largest = max(row["population"] for row in shown) * 1.05
        smallest = min(row["population"] for row in shown) * 0.8
        limits = _draw_limits(axes, national, phi, smallest, largest)
        axes.axhline(national, color=INK, linewidth=1.2)
        marked = _draw_areas(axes, shown, sides, measure)
        heights = limits + [row[measure] for row in shown]
        room = 0.04 * (max(heights) - min(heights)) or 1
        # The axis need not start at 0: the limits of a common intervention would be too close together to distinguish.
        # Limits of very small areas may go beyond the chart.
        highest = min(max(heights), 1.4 * max(row[measure] for row in shown))
        axes.set_ylim(max(0.0, min(heights) - room), highest + room)
        axes.set_xlim(smallest, largest)
        _labels(axes, [(national, f"England {wording.rate(national)}", INK)])
        _name_outliers(axes, [row for row in marked if sides.get(str(row["area_code"]))], national, measure, largest)
        _legend(figure, {sides.get(str(row["area_code"]), "") for row in shown}, "usual", "higher", "lower")
        axes.set_xlabel(
            "People" + (" (weighted by age and sex)" if any(row.get("expected") for row in shown) else "")
            + (" × years" if pooled else "")
        )  # fmt: skip
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _people(x)))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        count = sum(1 for row in shown if sides.get(str(row["area_code"])))
        alt = (
            f"{title}: funnel plot of {len(shown)} areas around the national rate of {wording.rate(national)} per "
            f"100,000; {count} outside the 99.8% limits."
        )
        return _chart(figure, key, alt, marked, measure)


def _draw_limits(axes: Axes, national: float, phi: float, smallest: float, largest: float) -> list[float]:
    """The limits of a funnel at 95% (dotted) and 99.8%, and their rates."""
    grid = [smallest + (largest - smallest) * step / 60 for step in range(61)]
    rates: list[float] = []
    for z, style in ((Z_95, ":"), (Z_998, "-")):
        band = [funnel_limits(national, people, z, phi) for people in grid]
        for end in zip(*band, strict=True):
            axes.plot(grid, end, color=GREY, linestyle=style, linewidth=1.1)
            rates += end
    return rates


def _draw_areas(axes: Axes, rows: Sequence[Row], sides: Mapping[str, str], measure: str) -> list[Row]:
    """A point for each area, by the side on which it is outside the limits. Returns the areas in the order of their points."""
    drawn: list[Row] = []
    for side, (marker, colour) in MARKS.items():
        own = [row for row in rows if sides.get(str(row["area_code"]), "") == side]
        if own:
            axes.scatter(
                [row["population"] for row in own], [row[measure] for row in own], s=34 if side else 20, marker=marker,
                color=colour, clip_on=False, zorder=3, gid=f"marks{len(drawn)}",
            )  # fmt: skip
            drawn += own
    return drawn


def outlying(rows: Sequence[Row], national: float, phi: float = 1.0, round_to: int = 1) -> dict[str, str]:
    """By area code, ``above`` or ``below`` for the areas outside the 99.8% limits, whatever the exact count of a rounded one.

    A count that is rounded to the nearest ``round_to`` can be up to half of that lower or higher, and its rate with it.
    """
    measure, found = measure_of(rows), {}
    for row in rows:
        people = people_of(row, national)
        if row.get(measure) is None or not people:
            continue
        low, high = funnel_limits(national, people, Z_998, phi)
        count = row.get("activity") or 0
        reach = row[measure] / count * (round_to // 2) if count else 0.0
        if row[measure] - reach > high:
            found[str(row["area_code"])] = "above"
        elif row[measure] + reach < low:
            found[str(row["area_code"])] = "below"
    return found


def _name_outliers(axes: Axes, rows: Sequence[Row], national: float, measure: str, largest: float) -> None:
    """Names beside outliers, the most distant first, as far as there is room: no name covers another one or an outlier."""
    distant = sorted(
        rows, key=lambda row: -abs(math.sqrt(row[measure]) - math.sqrt(national)) * row["population"] ** 0.5
    )
    points = axes.transData.transform([(row["population"], row[measure]) for row in rows])
    plot, taken = axes.get_window_extent(), [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    # It draws nothing; it measures texts. (Without it, the chart would be drawn once for each name.)
    measured, named = RendererAgg(1, 1, 72), 0
    for row in distant:
        # On the left of the point (-1) or on its right, at its height or a line of text above or below it.
        near = -1 if row["population"] > largest * 0.55 else 1
        name = axes.annotate(
            fill(wording.short_name(row), 27), (row["population"], row[measure]), fontsize=9.5, va="center",
            xytext=(0, 0), textcoords="offset points", parse_math=False, linespacing=1.0,
        )  # fmt: skip
        for side, height in ((near, 0), (-near, 0), (near, 9), (near, -9), (-near, 9), (-near, -9)):
            name.set(position=(7 * side, height), ha="left" if side > 0 else "right")
            box = name.get_window_extent(measured)
            inside = box.x0 >= plot.x0 and box.x1 <= plot.x1 and box.y0 >= plot.y0
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                named += 1
                break
        else:
            name.remove()
        if named == NAMED:
            return


def by_month(rows: Sequence[Row], limits: ControlChart, *, key: str, title: str) -> Chart | None:
    """An XmR chart of flagged records by month. Provisional months and months of the pandemic are hollow."""
    values = [row["activity"] for row in rows]
    ends = [f"{row['month']:%b %Y}" for row in (rows[0], rows[-1])]
    alt = f"{title}: XmR chart by month, {ends[0]} to {ends[1]}, mean {wording.rate(limits.centre)}"
    return _control(values, limits, _to_read_with_care(rows), _januaries(rows), "Records in a month", key, alt, "mean")


def days_between(rows: Sequence[Row], limits: ControlChart, *, key: str, title: str) -> Chart | None:
    """A chart of the days between records: a point for each group of records, in the order of their dates. Longer is rarer."""
    values = [row["days"] for row in rows]
    size = int(rows[0]["events"])
    alt = f"{title}: days in which {size} records occurred, {len(rows)} groups, centre {wording.rate(limits.centre)}"
    step = math.ceil(len(rows) / 4)
    ticks = {place: f"{row['month']:%b %Y}" for place, row in enumerate(rows) if place % step == 0}
    return _control(
        values, limits, [False] * len(rows), ticks, f"Days for {size} records", key, alt, "centre", fewer_is_higher=True
    )


def records_by_month(rows: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """National records of a data set by month. Provisional months and months of the pandemic are hollow."""
    if len(rows) < 2:
        return None
    values = [row["records"] for row in rows]
    alt = f"{title}: records by month, from {wording.count(values[0])} to {wording.count(values[-1])}."
    return _control(values, None, _to_read_with_care(rows), _januaries(rows), "Records in a month", key, alt, "")


def _to_read_with_care(rows: Sequence[Row]) -> list[bool]:
    """Which months are provisional or of the pandemic."""
    return [bool(row["provisional"] or row["pandemic"]) for row in rows]


def _januaries(rows: Sequence[Row]) -> dict[int, str]:
    return {place: f"{row['month']:%Y}" for place, row in enumerate(rows) if row["month"].month == 1}


def _control(
    values: Sequence[float],
    limits: ControlChart | None,
    hollow: Sequence[bool],
    ticks: dict[int, str],
    label: str,
    key: str,
    alt: str,
    centre: str,
    *,
    fewer_is_higher: bool = False,
) -> Chart:
    found = limits.signals if limits else [()] * len(values)
    kinds: list[str] = []
    for value, rules, empty in zip(values, found, hollow, strict=True):
        worse = limits is not None and (value > limits.centre) != fewer_is_higher
        kinds.append("above" if rules and worse else "below" if rules else "hollow" if empty else "")
    with _drawing(2.9, label, right=1.0 if limits else 0.1, top=0.65 if len(set(kinds)) > 1 else 0.42) as (
        figure,
        axes,
    ):
        axes.plot(range(len(values)), values, color=GREY, linewidth=1, zorder=1)
        # Above the centre is a concern, below it an improvement; for days between records it is the other way round.
        shapes = {**MARKS, "hollow": ("o", GREY)}
        if fewer_is_higher:
            shapes |= {"above": ("v", CONCERN), "below": ("^", IMPROVEMENT)}
        for kind, (marker, colour) in shapes.items():
            places = [place for place, own in enumerate(kinds) if own == kind]
            if places:
                axes.plot(
                    places, [values[place] for place in places], marker, color=colour, zorder=3,
                    markersize=7 if kind in ("above", "below") else 4.5,
                    markerfacecolor=PAPER if kind == "hollow" else colour,
                )  # fmt: skip
        top = max(values)
        ends = []
        if limits is not None:
            top = max(top, limits.upper)
            ends = [(limits.centre, f"{centre} {_short(limits.centre)}", INK)]
            axes.axhline(limits.centre, color=INK, linewidth=1.1)
            for end in (limits.lower, limits.upper):
                if end > 0:
                    axes.axhline(end, color=GREY, linestyle=":", linewidth=1.3)
                    ends.append((end, f"limit {_short(end)}", GREY))
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlim(-0.8, len(values) - 0.2)
        axes.set_ylim(0, 1.08 * top or 1)
        _labels(axes, ends)
        words = ("usual", "fewer days", "more days") if fewer_is_higher else ("usual", "higher", "lower")
        _legend(figure, set(kinds), *words, shapes=shapes)
        signals = sum(1 for rules in found if rules)
        return _chart(figure, key, f"{alt}; {signals} of {len(values)} points meet a rule." if limits else alt)


@contextmanager
def _drawing(
    height: float, label: str, *, right: float = 0.1, bottom: float = 0.32, top: float = 0.42
) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the report's style, made without pyplot, whose global state another drawing could change.

    ``label`` names the vertical axis, above it. ``right``, ``bottom`` and ``top``: the margins.
    """
    style = {
        "svg.hashsalt": "ebi-spark",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        # matplotlib uses DejaVu to place labels. It is wider than the fonts that a browser then uses, so labels fit.
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10.5,
        "text.parse_math": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.8,
        "ytick.left": False,
        "xtick.color": GREY,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "text.color": INK,
        "axes.formatter.useoffset": False,
    }
    with mpl.rc_context():
        # A user's matplotlibrc must not change the report.
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        # As many dots an inch as SVG has units, so that texts can be measured.
        figure = Figure(figsize=(WIDTH, height), dpi=72)
        FigureCanvasSVG(figure)
        box = (LEFT / WIDTH, bottom / height, 1 - (LEFT + right) / WIDTH, 1 - (bottom + top) / height)
        axes = figure.add_axes(box)
        figure.text(0.02, 1 - 0.08 / height, label, va="top", color=INK)
        axes.yaxis.set_major_formatter(FuncFormatter(_rate_tick))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        yield figure, axes


def _chart(figure: Figure, key: str, alt: str, marked: Sequence[Row] = (), measure: str = "") -> Chart:
    """The figure as SVG that can be part of a page: no prolog, ids that are unique on the page, ``alt`` as its label.

    ``marked``: the areas of the points, in the order in which they were drawn. The area finder finds them by their key.
    """
    out = io.BytesIO()
    # Metadata would give the day and the library's version, which change the bytes.
    figure.savefig(
        out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    drawn = out.getvalue().decode()
    drawn = drawn[drawn.index("<svg") :]
    for unwanted in (
        r"<metadata>.*?</metadata>\s*",
        r"<!--.*?-->\s*",
        r'<defs>\s*<style type="text/css">.*?</defs>\s*',
    ):
        drawn = re.sub(unwanted, "", drawn, flags=re.DOTALL)
    areas = iter(marked)
    drawn = re.sub(
        r'(<g id="marks\d+">)(.*?)(?=\n  </g>|\n   </g>)',
        lambda group: group[1] + re.sub(r"<use ([^>]*)/>", lambda use: _mark(use[1], next(areas), measure), group[2]),
        drawn,
        flags=re.DOTALL,
    )
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', drawn)
    drawn = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", drawn)
    for colour, name in _VARIABLES.items():
        drawn = drawn.replace(colour, f"var(--{name}, {colour})")
    drawn = drawn.replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, Arial")
    for size in ("width", "height"):
        drawn = re.sub(rf'(<svg [^>]*?) {size}="[^"]*"', r"\1", drawn, count=1)
    label = escape(alt, quote=True)
    return Chart(drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1).strip() + "\n", alt)


def _mark(attributes: str, row: Row, measure: str) -> str:
    """The point of an area, with its name and rate for who points at it."""
    title = escape(f"{wording.area_name(row)}: {wording.rate(row[measure])}")
    return f'<use data-area="{escape(wording.area_key(row))}" {attributes}><title>{title}</title></use>'


def _years(axes: Axes, years: Sequence[str]) -> None:
    """Labels of as many years as fit beside each other."""
    step = math.ceil(len(years) * 48 / axes.get_window_extent().width)
    axes.set_xticks(range(0, len(years), step), years[::step])


def _labels(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Texts at the right ends of lines, at least one line of text apart."""
    low, high = axes.get_ylim()
    apart = 0.08 * (high - low)
    at = low - apart
    for y, words, colour in sorted(ends):
        at = max(y, at + apart)
        axes.annotate(
            words, (axes.get_xlim()[1], at), xytext=(3, 0), textcoords="offset points", color=colour, va="center",
            annotation_clip=False, parse_math=False,
        )  # fmt: skip


def _legend(
    figure: Figure,
    kinds: set[str],
    usual: str,
    above: str,
    below: str,
    shapes: Mapping[str, tuple[str, str]] = MARKS,
) -> None:
    """One line above the chart with what each shape means, if there are several."""
    words = {"": usual, "above": above, "below": below, "hollow": "provisional or pandemic"}
    handles = [
        mpl.lines.Line2D([], [], linestyle="", marker=marker, color=colour, label=words[kind],
                         markerfacecolor=PAPER if kind == "hollow" else colour)
        for kind, (marker, colour) in shapes.items()
        if kind in kinds
    ]  # fmt: skip
    if len(handles) > 1:
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.0, 1 - 0.22 / figure.get_figheight()), ncols=len(handles),
            frameon=False, handletextpad=0.1, columnspacing=1.0, borderpad=0.2, fontsize=9.5,
        )  # fmt: skip


def _short(value: float) -> str:
    """A number at the end of a line; a large one without decimals, so that it fits."""
    return wording.count(value) if value >= 1_000 else wording.rate(value)


def _rate_tick(value: float, _: int) -> str:
    if value >= 10_000:  # written out, it would not fit
        return _people(value)
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.4g}"


def _people(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:.4g}m"
    return f"{value / 1_000:.4g}k" if value >= 1_000 else f"{value:.0f}"
