"""The report's charts, each as an SVG text without outside fonts. The same figures give the same bytes.

A function takes rows of one published table, as :func:`ebi_spark.report.rows.rows_of` returns them, and a ``key`` that
makes the chart's ids unique on the page. It returns None if there is nothing to draw.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ebi_spark.rates.control_charts import Z_95, Z_998, ControlChart, funnel_limits
from ebi_spark.report import wording
from ebi_spark.report.rows import Row, limits_of, measure_of

# Okabe and Ito's palette, which people with any kind of colour vision can distinguish. Shapes and hatches show the same
# without colour.
BLUE, VERMILLION, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#E69F00", "#8A8F98", "#1F2933"
PALE = "#D9DDE2"
# In inches. Narrow enough that the text is legible when a phone shrinks the drawing to 360 pixels.
WIDTH = 4.8


@dataclass(frozen=True)
class Chart:
    """A chart as SVG text, and what it shows in words. A notebook displays it directly."""

    svg: str
    alt: str

    def _repr_html_(self) -> str:
        return self.svg


def attrition(steps: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """A waterfall: how many records in scope each clause removes, and how many are left and flagged.

    Step 0, which finds the scope, is left out: it starts from all records of the data set and would dwarf the other steps.
    """
    ordered = sorted(steps, key=lambda step: int(step["step"]))
    scope = next((step for step in ordered if step["step"] == 0), None)
    clauses = [step for step in ordered if step["step"] != 0]
    if scope is None and not clauses:
        return None
    start = int(scope["records_left"] if scope else clauses[0]["records_in"])
    left = int(clauses[-1]["records_left"]) if clauses else start
    labels = ["in scope", *(wording.in_words(step["clause_id"]) for step in clauses)]
    with _drawing(0.34 * len(labels) + 0.9) as (figure, axes):
        axes.barh([0], [start], color=BLUE, height=0.62)
        _label(axes, start, 0, wording.count(start))
        for place, step in enumerate(clauses, start=1):
            kept = int(step["records_left"])
            failed, missing = int(step["records_failed"]), int(step["records_missing"])
            axes.barh([place], [kept], color=BLUE, height=0.62)
            axes.barh([place], [failed], left=[kept], color=PALE, height=0.62)
            axes.barh(
                [place],
                [missing],
                left=[kept + failed],
                color="white",
                edgecolor=VERMILLION,
                hatch="////",
                height=0.62,
                linewidth=0.8 if missing else 0,
            )
            removed = failed + missing
            text = f"{wording.count(kept)} left" + (f" (−{wording.count(removed)})" if removed else "")
            _label(axes, kept + removed, place, text)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlim(0, max(start, 1) * 1.36)
        axes.set_xlabel("Records in scope of the policy")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        handles = [
            mpl.patches.Patch(color=BLUE, label="left"),
            mpl.patches.Patch(color=PALE, label="removed"),
            mpl.patches.Patch(facecolor="white", edgecolor=VERMILLION, hatch="////", label="dropped: not recorded"),
        ]
        _legend(figure, handles)
        alt = f"{title}: {wording.count(start)} records in scope, {wording.count(left)} flagged after {len(clauses)} clauses."
        return _chart(figure, key, alt)


def trend(rows: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """The standardised rate by year with its 95% limits, and the crude rate."""
    ordered = sorted(rows, key=lambda row: (str(row["financial_year"]), str(row.get("revision"))))
    shown = [row for row in ordered if _has(row, "standardised_rate") or _has(row, "crude_rate")]
    if not shown:
        return None
    years = sorted({str(row["financial_year"]) for row in ordered})
    revisions = sorted({str(row.get("revision")) for row in shown})
    with _drawing(2.7) as (figure, axes):
        for number, revision in enumerate(revisions):
            own = [row for row in shown if str(row.get("revision")) == revision]
            # Two revisions of the same year are drawn side by side, so that neither hides the other.
            shift = 0.12 * (number - (len(revisions) - 1) / 2)
            places = [years.index(str(row["financial_year"])) + shift for row in own]
            revision_text = f", revision {revision}" if len(revisions) > 1 else ""
            colour = (BLUE, VERMILLION, INK, ORANGE)[number % 4]
            for name, drawn_as, mark, line, own_colour, above in (
                ("standardised_rate", "standardised, 95% limits", "o", "-", colour, 3),
                # Small crosses on top of the points: the two rates are often equal, and both must be visible.
                ("crude_rate", "crude", "x", ":", INK if colour != INK else GREY, 4),
            ):
                values = [math.nan if row.get(name) is None else row[name] for row in own]
                if all(math.isnan(value) for value in values):
                    continue
                axes.plot(
                    places, values, color=own_colour, marker=mark, linestyle=line, linewidth=1.2,
                    markersize=6 if mark == "o" else 4, markerfacecolor="white", label=drawn_as + revision_text, zorder=above,
                )  # fmt: skip
                if name == "standardised_rate":
                    _whiskers(axes, places, own, colour, upright=True)
        step = math.ceil(len(years) / 7)
        axes.set_xticks(range(0, len(years), step), years[::step])
        axes.set_xlim(-0.5, len(years) - 0.5)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.04 or 1)
        axes.set_ylabel("Per 100,000 people")
        axes.yaxis.set_major_formatter(FuncFormatter(_rate_tick))
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        _legend(figure, axes.get_legend_handles_labels()[0], 1 if len(revisions) > 1 else 2)
        first, last = shown[0], shown[-1]
        measure = measure_of(shown)
        words = f"from {wording.rate_in(first, measure)} in {first['financial_year']} to " if len(shown) > 1 else ""
        alt = (
            f"{title}: {wording.MEASURES[measure].lower()} {words}{wording.rate_in(last, measure)} "
            f"in {last['financial_year']} per 100,000."
        )
        return _chart(figure, key, alt)


def caterpillar(rows: Sequence[Row], *, national: float | None, key: str, title: str) -> Chart | None:
    """The areas ranked by their rate with 95% limits, and the national rate. Areas without a rate are left out.

    Returns None if every rate is 0.
    """
    measure = measure_of(rows)
    shown = sorted(
        (row for row in rows if row.get(measure) is not None),
        key=lambda row: (row[measure], wording.area_name(row), str(row.get("area_code"))),
    )
    # If all other rates are suppressed, a chart of zeros would make the areas look alike.
    if not shown or not any(row[measure] for row in shown):
        return None
    with _drawing(0.165 * len(shown) + 1.0) as (figure, axes):
        kinds = [_side(row, national) if measure == "standardised_rate" else "" for row in shown]
        for kind, colour, marker, label in (
            ("above", VERMILLION, "^", "above the national rate"),
            ("below", BLUE, "v", "below"),
            ("", INK, "o", "no clear difference" if any(kinds) else "area"),
        ):
            places = [place for place, own in enumerate(kinds) if own == kind]
            if not places:
                continue
            own = [shown[place] for place in places]
            if measure == "standardised_rate":
                _whiskers(axes, places, own, colour, upright=False)
            axes.plot(
                [row[measure] for row in own], places, marker, color=colour, markersize=4, label=label, zorder=3,
                clip_on=False,
            )  # fmt: skip
        if national is not None:
            axes.axvline(national, color=GREY, linewidth=1, linestyle="--", label="national rate", zorder=1)
        axes.set_yticks(range(len(shown)), [_short(wording.area_name(row)) for row in shown], fontsize=7.5)
        axes.set_ylim(-0.8, len(shown) - 0.2)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{wording.MEASURES[measure]} per 100,000 people")
        axes.xaxis.set_major_formatter(FuncFormatter(_rate_tick))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color=PALE, linewidth=0.6)
        _legend(figure, axes.get_legend_handles_labels()[0], 2)
        alt = (
            f"{title}: {len(shown)} areas from {wording.rate(shown[0][measure])} ({wording.area_name(shown[0])}) "
            f"to {wording.rate(shown[-1][measure])} ({wording.area_name(shown[-1])}) per 100,000."
        )
        return _chart(figure, key, alt)


def people_of(row: Row, national: float) -> float:
    """The number of people that sets the width of an area's limits.

    It is the number who would have the area's expected events at the national rate, which allows for age and sex. An area
    without expected events has its population, and 0 without a population.
    """
    if row.get("expected"):
        return float(row["expected"]) * 100_000 / national
    return float(row.get("population") or 0)


def funnel(rows: Sequence[Row], *, national: float | None, key: str, title: str, phi: float = 1.0) -> Chart | None:
    """A funnel plot: each area's rate by its number of people (:func:`people_of`).

    The limits are those of :func:`funnel_limits` at 95% and 99.8%, widened by the overdispersion ``phi``.
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
    outside = [row for row in shown if not _within(row, measure, national, Z_998, phi)]
    pooled = any((row.get("period_years") or 1) > 1 for row in shown)
    weighted = any(row.get("expected") for row in shown)
    with _drawing(3.2) as (figure, axes):
        largest = max(row["population"] for row in shown) * 1.05
        smallest = min(row["population"] for row in shown) * 0.8
        grid = [smallest + (largest - smallest) * step / 120 for step in range(121)]
        bands = [[funnel_limits(national, people, z, phi) for people in grid] for z in (Z_95, Z_998)]
        for band, style, label in zip(bands, ("--", "-"), ("95% limits", "99.8% limits"), strict=True):
            axes.plot(grid, [low for low, _ in band], color=GREY, linestyle=style, linewidth=1, label=label)
            axes.plot(grid, [high for _, high in band], color=GREY, linestyle=style, linewidth=1)
        axes.axhline(national, color=INK, linewidth=0.8, label="national rate")
        inside = [row for row in shown if row not in outside]
        axes.plot(
            [row["population"] for row in inside], [row[measure] for row in inside], "o", color=BLUE, markersize=4,
            label="area", clip_on=False, zorder=3,
        )  # fmt: skip
        if outside:
            axes.plot(
                [row["population"] for row in outside], [row[measure] for row in outside], "D", color=VERMILLION,
                markersize=4.5, label="area outside 99.8%", clip_on=False, zorder=3,
            )  # fmt: skip
        # Up to six outliers have their names. More names would hide the points.
        places: list[tuple[float, float]] = []
        for row in outside if len(outside) <= 6 else []:
            right = row["population"] > (largest + smallest) / 2
            at = (row["population"] / largest, row[measure] / max(other[measure] for other in shown))
            # A name close to other names is moved up, one line for each of them.
            above = sum(abs(at[0] - x) < 0.35 and abs(at[1] - y) < 0.06 for x, y in places)
            places.append(at)
            axes.annotate(
                _short(wording.area_name(row), 26), (row["population"], row[measure]), fontsize=7.5,
                xytext=(-6 if right else 6, 3 + 9 * above), textcoords="offset points", ha="right" if right else "left",
                parse_math=False,
            )  # fmt: skip
        axes.set_xlim(smallest, largest)
        # The axis need not start at 0: the limits of a common intervention would be too close together to distinguish.
        heights = [rate for band in bands for both in band for rate in both] + [row[measure] for row in shown]
        room = 0.06 * (max(heights) - min(heights)) or 1
        axes.set_ylim(max(0.0, min(heights) - room), max(heights) + room)
        named = ("Population, weighted by age and sex" if weighted else "Population") + (
            ", person-years" if pooled else ""
        )
        axes.set_xlabel(named)
        axes.set_ylabel(f"{wording.MEASURES[measure]} per 100,000")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _people(x)))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(_rate_tick))
        _legend(figure, axes.get_legend_handles_labels()[0], 3)
        alt = (
            f"{title}: funnel plot of {len(shown)} areas around the national rate of {wording.rate(national)} per "
            f"100,000; {len(outside)} outside the 99.8% limits."
        )
        return _chart(figure, key, alt)


def readings(rows: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """How each reading differs from the policy as published: records added to the right, records removed to the left."""
    shown = [row for row in rows if row.get("added") is not None and row.get("removed") is not None]
    shown = [row for row in shown if row["reading"] != "as_published"]
    if not shown:
        return None
    with _drawing(0.42 * len(shown) + 0.95) as (figure, axes):
        longest = max(max(row["added"], row["removed"]) for row in shown) or 1
        for place, row in enumerate(shown):
            axes.barh([place], [row["added"]], color=BLUE, height=0.55)
            axes.barh([place], [-row["removed"]], color=ORANGE, hatch="////", edgecolor="white", height=0.55)
            _label(axes, row["added"], place, f"+{wording.count(row['added'])}")
            _label(axes, -row["removed"], place, f"−{wording.count(row['removed'])}", before=True)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [_short(wording.reading(row["reading"])) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        # Leave room for the numbers on both sides, and for bars only where there are any.
        removed = max(row["removed"] for row in shown)
        added = max(row["added"] for row in shown)
        axes.set_xlim(-removed - 0.24 * longest, added + 0.24 * longest)
        axes.set_xlabel("Records, compared with the published policy")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{abs(x):,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        handles = [
            mpl.patches.Patch(color=BLUE, label="added"),
            mpl.patches.Patch(facecolor=ORANGE, edgecolor="white", hatch="////", label="removed"),
        ]
        _legend(figure, handles)
        alt = f"{title}: " + "; ".join(
            f"{wording.reading(row['reading'])} adds {wording.count(row['added'])} and removes "
            f"{wording.count(row['removed'])} records"
            for row in shown
        )
        return _chart(figure, key, alt + ".")


def by_month(rows: Sequence[Row], limits: ControlChart, *, key: str, title: str) -> Chart | None:
    """An XmR chart of flagged records by month. Provisional months and months of the pandemic are hollow."""
    values = [row["activity"] for row in rows]
    ends = [f"{row['month']:%b %Y}" for row in (rows[0], rows[-1])]
    alt = f"{title}: XmR chart by month, {ends[0]} to {ends[1]}, mean {wording.rate(limits.centre)}"
    hollow = [bool(row["provisional"] or row["pandemic"]) for row in rows]
    ticks = {place: f"{row['month']:%Y}" for place, row in enumerate(rows) if row["month"].month == 1}
    return _control(values, limits, hollow, ticks, "Records in a month", key, alt, "mean")


def days_between(rows: Sequence[Row], limits: ControlChart, *, key: str, title: str) -> Chart | None:
    """A chart of the days between records: a point for each group of records, in the order of their dates."""
    values = [row["days"] for row in rows]
    size = int(rows[0]["events"])
    alt = f"{title}: days in which {size} records occurred, {len(rows)} groups, centre {wording.rate(limits.centre)}"
    step = math.ceil(len(rows) / 5)
    ticks = {place: f"{row['month']:%b %Y}" for place, row in enumerate(rows) if place % step == 0}
    return _control(values, limits, [False] * len(rows), ticks, f"Days for {size} records", key, alt, "centre")


def _control(
    values: Sequence[float],
    limits: ControlChart,
    hollow: Sequence[bool],
    ticks: dict[int, str],
    label: str,
    key: str,
    alt: str,
    centre: str,
) -> Chart:
    with _drawing(2.9) as (figure, axes):
        axes.plot(range(len(values)), values, color=GREY, linewidth=0.9, zorder=1)
        axes.axhline(limits.centre, color=INK, linewidth=0.9, label=centre)
        for number, end in enumerate((limits.lower, limits.upper)):
            if end > 0:
                axes.axhline(
                    end,
                    color=GREY,
                    linestyle="--",
                    linewidth=1,
                    label="limits" if number or limits.upper <= 0 else None,
                )
        kinds = [
            "outside" if "astronomical" in found else "run" if found else "hollow" if empty else "plain"
            for found, empty in zip(limits.signals, hollow, strict=True)
        ]
        for kind, marker, colour, named in (
            ("plain", "o", BLUE, "no signal"),
            ("run", "s", ORANGE, "shift, trend or two of three"),
            ("outside", "D", VERMILLION, "outside the limits"),
            ("hollow", "o", GREY, "provisional or pandemic"),
        ):
            places = [place for place, own in enumerate(kinds) if own == kind]
            if places:
                axes.plot(
                    places, [values[place] for place in places], marker, color=colour, markersize=4, label=named, zorder=3,
                    markerfacecolor="white" if kind == "hollow" else colour,
                )  # fmt: skip
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlim(-0.8, len(values) - 0.2)
        axes.set_ylim(0, 1.06 * max(*values, limits.upper))
        axes.set_ylabel(label)
        axes.yaxis.set_major_formatter(FuncFormatter(_rate_tick))
        _legend(figure, axes.get_legend_handles_labels()[0], 3)
        signals = sum(1 for found in limits.signals if found)
        return _chart(figure, key, f"{alt}; {signals} of {len(values)} points meet a rule.")


def records_by_month(rows: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """National records of a data set by month. Provisional months and months of the pandemic are hollow."""
    if len(rows) < 2:
        return None
    values = [row["records"] for row in rows]
    with _drawing(2.2) as (figure, axes):
        axes.plot(range(len(rows)), values, color=GREY, linewidth=0.9, zorder=1)
        for marked, face, label in ((False, BLUE, "month"), (True, "white", "provisional or pandemic")):
            places = [place for place, row in enumerate(rows) if bool(row["provisional"] or row["pandemic"]) == marked]
            if places:
                axes.plot(
                    places, [values[place] for place in places], "o", color=GREY if marked else BLUE, markersize=4,
                    markerfacecolor=face, label=label, zorder=3,
                )  # fmt: skip
        january = [place for place, row in enumerate(rows) if row["month"].month == 1]
        axes.set_xticks(january, [f"{rows[place]['month']:%Y}" for place in january])
        axes.set_xlim(-0.8, len(rows) - 0.2)
        axes.set_ylim(0, 1.08 * max(values))
        axes.set_ylabel("Records in a month")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        _legend(figure, axes.get_legend_handles_labels()[0], 3)
        alt = f"{title}: records by month, from {wording.count(values[0])} to {wording.count(values[-1])}."
        return _chart(figure, key, alt)


ALGORITHM = {
    "confirm": "1. Confirm the diagnosis",
    "conservative_care": "2. Conservative care for 3 to 6 months",
    "reassess": "3. Reassess",
    "proceed": "4. Proceed to fusion",
}


def algorithm(reached: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """A flow of the article's four steps, each with the share of fusions for which it is the last step that the data show."""
    shares: dict[str, Any] = {row["class"]: row.get("share") for row in reached}
    if not any(value is not None for value in shares.values()):
        return None
    with _drawing(2.6) as (figure, axes):
        axes.set_axis_off()
        axes.set_xlim(0, 10)
        axes.set_ylim(len(ALGORITHM) - 0.4, -0.6)
        for place, (name, words) in enumerate(ALGORITHM.items()):
            share = shares.get(name)
            text = "withheld" if share is None else f"{wording.rate(100 * share)}%"
            axes.add_patch(
                mpl.patches.FancyBboxPatch(
                    (0.1, place - 0.27), 5.3, 0.54, boxstyle="round,pad=0.04", facecolor="white", edgecolor=BLUE,
                    linewidth=1.2,
                )
            )  # fmt: skip
            axes.text(0.35, place, words, va="center", fontsize=8.5)
            axes.barh([place], [3 * (share or 0)], left=[5.8], height=0.4, color=BLUE)
            _label(axes, 5.8 + 3 * (share or 0), place, text)
            if place:
                axes.annotate(
                    "", (2.75, place - 0.31), (2.75, place - 0.69),
                    arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.2},
                )  # fmt: skip
        alt = f"{title}: " + ", ".join(
            f"{words[3:].lower()} {'withheld' if shares.get(name) is None else f'{wording.rate(100 * shares[name])}%'}"
            for name, words in ALGORITHM.items()
        )
        return _chart(figure, key, alt + ".")


def pathway_steps(rows: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """Bars of the shares of fusions for which each step is seen, not seen or cannot be seen. ``label`` names the step.

    A step without a published share has no bar.
    """
    steps: dict[str, dict[str, float | None]] = {}
    for row in rows:
        steps.setdefault(str(row["label"]), {})[row["class"]] = row.get("share")
    if not any(share is not None for states in steps.values() for share in states.values()):
        return None
    looks: dict[str, dict[str, Any]] = {
        "seen": {"color": BLUE},
        "not_seen": {"color": PALE},
        "cannot_be_seen": {"facecolor": "white", "edgecolor": VERMILLION, "hatch": "////", "linewidth": 0.8},
    }
    with _drawing(0.24 * len(steps) + 0.9) as (figure, axes):
        for place, states in enumerate(steps.values()):
            left = 0.0
            for name, look in looks.items():
                share = states.get(name)
                if share:
                    axes.barh([place], [100 * share], left=[left], height=0.62, **look)
                    left += 100 * share
            if any(states.get(name) is None for name in states):
                _label(axes, left, place, "rest withheld" if left else "withheld")
        axes.set_yticks(range(len(steps)), [_short(name, 44) for name in steps], fontsize=7.5)
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of fusions")
        handles = [
            mpl.patches.Patch(label=wording.in_words(name), **{"linewidth": 0, **look}) for name, look in looks.items()
        ]
        _legend(figure, handles)
        return _chart(figure, key, f"{title}: {len(steps)} steps of care, each as a share of fusions.")


# From the widest count to the flagged records.
FACTORS = ("people", "operations_per_person", "in_scope", "primary_diagnosis", "no_exclusion", "flagged", "revision")


def change(rows: Sequence[Row], *, key: str, title: str) -> Chart | None:
    """A waterfall from the flagged records of one year to those of another, with a bar for each factor."""
    records: dict[str, Any] = {row["component"]: row.get("records") for row in rows}
    parts = sorted(
        (name for name in records if name not in ("total_from", "total_to")),
        key=lambda name: (FACTORS.index(name) if name in FACTORS else len(FACTORS), name),
    )
    if any(records.get(name) is None for name in ("total_from", "total_to", *parts)) or not parts:
        return None
    years = (rows[0]["period_from"], rows[0]["period_to"])
    level, most = float(records["total_from"]), float(max(records["total_from"], records["total_to"]))
    labels = [f"flagged in {years[0]}", *(wording.in_words(name) for name in parts), f"flagged in {years[1]}"]
    with _drawing(0.34 * len(labels) + 0.9) as (figure, axes):
        axes.barh([0], [level], color=BLUE, height=0.62)
        _label(axes, level, 0, wording.count(level))
        for place, name in enumerate(parts, start=1):
            added = float(records[name])
            axes.barh(
                [place], [abs(added)], left=[min(level, level + added)], color=ORANGE if added > 0 else PALE, height=0.62,
                hatch="////" if added > 0 else None, edgecolor=VERMILLION if added > 0 else None,
            )  # fmt: skip
            _label(axes, max(level, level + added), place, f"{added:+,.0f}".replace("-", "−"))
            level += added
            most = max(most, level)
        axes.barh([len(labels) - 1], [records["total_to"]], color=BLUE, height=0.62)
        _label(axes, float(records["total_to"]), len(labels) - 1, wording.count(records["total_to"]))
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlim(0, max(most, 1) * 1.2)
        axes.set_xlabel("Flagged records in England")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        alt = (
            f"{title}: {wording.count(records['total_from'])} to {wording.count(records['total_to'])} flagged records; "
            + (", ".join(f"{wording.in_words(name)} {records[name]:+,.0f}" for name in parts))
        )
        return _chart(figure, key, alt + ".")


@contextmanager
def _drawing(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the report's style, made without pyplot, whose global state another drawing could change."""
    style = {
        "svg.hashsalt": "ebi-spark",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        # matplotlib uses DejaVu to place labels. It is wider than the fonts that a browser then uses, so labels fit.
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "text.parse_math": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "hatch.linewidth": 0.8,
        "patch.linewidth": 0,
        "axes.formatter.useoffset": False,
    }
    with mpl.rc_context():
        # A user's matplotlibrc must not change the report.
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        figure = Figure(figsize=(WIDTH, max(height, 1.2)), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def _chart(figure: Figure, key: str, alt: str) -> Chart:
    """The figure as SVG that can be part of a page: no prolog, ids that are unique on the page, ``alt`` as its label."""
    out = io.BytesIO()
    # Metadata would give the day and the library's version, which change the bytes.
    figure.savefig(
        out,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    text = out.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)
    text = text.replace("'DejaVu Sans'", "'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans'")
    label = escape(alt, quote=True)
    return Chart(text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1).strip() + "\n", alt)


def _whiskers(axes: Axes, places: Sequence[float], rows: Sequence[Row], colour: str, *, upright: bool) -> None:
    for place, row in zip(places, rows, strict=True):
        both = limits_of(row)
        if both is not None:
            draw = axes.vlines if upright else axes.hlines
            draw(place, *both, color=colour, linewidth=1.2, zorder=2)


def _label(axes: Axes, at: float, place: float, text: str, *, before: bool = False) -> None:
    axes.annotate(
        text,
        (at, place),
        xytext=(-4 if before else 4, 0),
        textcoords="offset points",
        va="center",
        ha="right" if before else "left",
        fontsize=8.5,
        parse_math=False,
    )


def _legend(figure: Figure, handles: Sequence[Any], columns: int = 3) -> None:
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=8)


def _has(row: Row, name: str) -> bool:
    return row.get(name) is not None


def _side(row: Row, national: float | None) -> str:
    """``above`` or ``below`` if both limits of an area are on that side of the national rate; otherwise empty."""
    both = limits_of(row)
    if both is None or national is None:
        return ""
    return "above" if both[0] > national else "below" if both[1] < national else ""


def _within(row: Row, measure: str, national: float, z: float, phi: float) -> bool:
    low, high = funnel_limits(national, row["population"], z, phi)
    return bool(low <= row[measure] <= high)


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def _rate_tick(value: float, _: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == 0 else f"{value:.4g}"


def _people(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:.4g}m"
    return f"{value / 1_000:,.0f}k" if value >= 1_000 else f"{value:.0f}"
