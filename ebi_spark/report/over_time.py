"""A policy over time: its rates by year with limits, the change in the rate, and control charts by month."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from ebi_spark.financial_years import label, starts_in
from ebi_spark.policies.model import READINGS
from ebi_spark.rates.change import FEWEST, Change, change, error_of_count
from ebi_spark.rates.control_charts import LEAST_MONTHLY, ControlChart, Form, t_chart, xmr
from ebi_spark.report import charts, wording
from ebi_spark.report.blocks import Block, by_year, chart_block, text
from ebi_spark.report.rows import Row, measure_of, position, years_of
from ebi_spark.report.wording import Footnotes

# With fewer points than these, control limits are too uncertain to draw.
FEWEST_MONTHS, FEWEST_GROUPS = 12, 8
# How a chart describes its form.
_FORMS = {
    "plot_the_dots": "Limits and rules are those of NHSRplotthedots: outlying moving ranges are left out once.",
    "unscreened": "Every moving range counts. For the rule of two of three points near a limit, the third point may be anywhere.",
}


def trend(
    whole: Sequence[Row],
    place: str,
    anchor: str,
    title: str,
    footnotes: Footnotes,
    others: Mapping[str, Sequence[Row]] | None = None,
) -> tuple[Block, ...]:
    """Rates by year and for pooled years, with limits, and the change in the rate.

    ``whole`` are the rows of England, of the whole extract, or of the one ICB of a local policy. ``place`` is its name.
    ``others`` has the rows of the policy's other readings by name, for the chart.
    """
    rows = sorted(
        (row for row in whole if years_of(row) == 1),
        key=lambda row: (str(row["financial_year"]), str(row["revision"])),
    )
    pooled = sorted(
        (row for row in whole if years_of(row) > 1),
        key=lambda row: (row["period_years"], str(row["financial_year"]), str(row["revision"])),
    )
    if not rows and not pooled:
        return (text("No overall rates are published for this policy's main definition."),)
    changes = _changes(whole, place)
    blocks = chart_block(
        charts.trend(rows, key=f"{anchor}-trend", title=title, others=others),
        f"Flagged records per 100,000 people in {place}, {_MEASURE_WORDS[measure_of(rows)]}."
        + (" Dashed: the other readings of the policy." if others else ""),
        changes,
    )
    if not blocks:
        blocks = [text("No rate is published for a single year, so there is no chart."), *changes]
    if len({str(row["financial_year"]) for row in rows}) == 1:
        blocks.append(text("There is only one year, so there is no trend yet."))
    several = len({str(row["revision"]) for row in whole}) > 1
    if rows:
        repeats = any(row.get("lower_adjusted") is not None for row in rows)
        caption = f"Flagged records and rates per 100,000 people in {place}."
        caption += " Limits allow for people who have several records." if repeats else ""
        blocks.append(_rates(rows, caption, several, footnotes))
    if others:
        blocks.append(
            by_year(
                [*rows, *(row for own in others.values() for row in own)],
                label=lambda row: wording.in_words(row["reading"]),
                order=lambda row: (position(row["reading"], READINGS),),
                cell=lambda row: wording.rate_in(row, measure_of(rows)),
                caption=f"Rates per 100,000 people in {place} by every reading",
                first="Reading",
                fold=True,
            )
        )
    if pooled:
        blocks.append(
            _rates(
                pooled,
                f"Pooled years in {place}, in windows that each start a year later: records and rates per 100,000 person-years",
                several,
                footnotes,
                fold=bool(rows),
            )
        )
    return tuple(blocks)


_MEASURE_WORDS = {
    "standardised_rate": "standardised by age and sex, with 95% limits",
    "crude_rate": "not standardised by age and sex",
}


def _rates(rows: Sequence[Row], caption: str, several: bool, footnotes: Footnotes, *, fold: bool = False) -> Block:
    common, own = wording.shared_notes(rows, footnotes)
    counts = ("activity", "in_scope", "people_flagged", "population")
    return Block(
        "grid",
        text=caption, marks=common,
        head=("Period", "Standardised", "95% limits", "Crude", "Flagged", "In scope", "People flagged", "Population",
              "Share flagged (95% limits)"),
        rows=tuple(
            (
                wording.period(row) + (f" ({row['revision']})" if several else "") + marks,
                wording.rate_in(row, "standardised_rate"),
                wording.limits(row) if row.get("standardised_rate") is not None else wording.reason_missing(row),
                wording.rate_in(row, "crude_rate"),
                *(wording.count_in(row, name) for name in counts),
                wording.flagged_share(row),
            )
            for row, marks in zip(rows, own, strict=True)
        ),
        align="nrrrrrrrr",
        fold=fold,
    )  # fmt: skip


def _changes(whole: Sequence[Row], place: str) -> list[Block]:
    """The change in the rate: each period against the one before, and the last against the first.

    The periods do not overlap. They are the shortest that have enough events.
    """
    revisions = sorted({str(row.get("revision")) for row in whole})
    lines = []
    for revision in revisions:
        named = f" ({revision})" if len(revisions) > 1 else ""
        for one, other in _pairs([row for row in whole if str(row.get("revision")) == revision]):
            found = _change(one, other)
            lines.append(
                (
                    f"{wording.period(one)} to {wording.period(other)}{named}",
                    f"{found.ratio:.2f}",
                    f"{found.ratio_lower:.2f} to {found.ratio_upper:.2f}",
                    _signed(found.difference),
                    f"{_signed(found.difference_lower)} to {_signed(found.difference_upper)}",
                )
            )
    if not lines:
        return []
    return [
        Block(
            "grid",
            text=f"Change of the rate in {place}: ratio and difference per 100,000, with 95% intervals. If the interval of the "
            "ratio includes 1, chance alone may explain the change.",
            head=("From … to …", "Ratio", "95% interval", "Difference", "95% interval"),
            rows=tuple(lines),
            align="nrrrr",
        )
    ]


def direction(whole: Sequence[Row]) -> str:
    """Whether the rate rises or falls from the first period to the last, in a sentence."""
    newest = max((str(row.get("revision")) for row in whole), default="")
    pairs = _pairs([row for row in whole if str(row.get("revision")) == newest])
    if not pairs:
        return "There are too few periods or records to say whether the rate rises or falls."
    one, other = pairs[-1]
    found = _change(one, other)
    interval = f"ratio {found.ratio:.2f}, 95% interval {found.ratio_lower:.2f} to {found.ratio_upper:.2f}"
    between = f"from {wording.period(one)} to {wording.period(other)}"
    if found.ratio_lower <= 1 <= found.ratio_upper:
        return f"No clear change {between}: chance alone may explain the difference ({interval})."
    word, wanted = (
        ("fell", "the direction the policy asks for") if found.ratio < 1 else ("rose", "not what the policy asks for")
    )
    return f"The rate {word} {between}: {wanted} ({interval})."


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The pairs of periods to compare, of the shortest length in which every period with a rate has enough events."""
    for length in sorted({years_of(row) for row in rows}):
        with_rate = {
            int(str(row["financial_year"])[:4]): row
            for row in rows
            if years_of(row) == length and row.get("standardised_rate")
        }
        enough = {last: row for last, row in with_rate.items() if (row.get("activity") or 0) >= FEWEST}
        if len(enough) < 2 or len(enough) < len(with_rate):
            continue
        newest = max(enough)
        separate = [last for last in sorted(enough) if (newest - last) % length == 0]
        pairs = [
            (enough[one], enough[other])
            for one, other in zip(separate, separate[1:], strict=False)
            if other - one == length
        ]
        if len(separate) > 2:
            pairs.append((enough[separate[0]], enough[newest]))
        if pairs:
            return pairs
    return []


def _change(one: Row, other: Row) -> Change:
    return change(one["standardised_rate"], _error(one), other["standardised_rate"], _error(other))


def _signed(value: float) -> str:
    return ("−" if value < 0 else "+" if value > 0 else "") + wording.rate(abs(value))


def _error(row: Row) -> float:
    given = row.get("standard_error")
    return float(given) if given is not None else error_of_count(row["standardised_rate"], row["activity"])


def months(
    own: dict[str, list[Row]], reading: str, anchor: str, title: str, form: Form = "plot_the_dots"
) -> tuple[Block, ...]:
    """A control chart of flagged records by month; for a rare policy, of the days between groups of records.

    ``own`` has the policy's rows of ``activity_month`` and ``days_between``. ``form`` is that of
    :func:`ebi_spark.rates.control_charts.xmr`.
    """
    counts = _by_month([row for row in own["activity_month"] if row.get("reading") == reading])
    if not counts:
        return (text("No activity by month is published for this policy's main definition."),)
    average = sum(row["activity"] for row in counts) / len(counts)
    if average < LEAST_MONTHLY:
        return (
            text(
                f"There are {wording.rate(average)} records a month on average, which is too few for a chart of counts by month.",
            ),
            *_days_between([row for row in own["days_between"] if row.get("reading") == reading], anchor, title, form),
        )
    plain = [not row["provisional"] and not row["pandemic"] for row in counts]
    if sum(plain) < FEWEST_MONTHS or not any(map(all, zip(plain, plain[1:], strict=False))):
        return (
            text(
                f"{sum(plain)} months are neither provisional nor in the pandemic. Control limits need at least "
                f"{FEWEST_MONTHS} such months, with two of them in a row.",
            ),
            _month_grid(counts, None),
        )
    # Provisional months will gain records. The chart shows them, but no rule applies to them.
    final = sum(not row["provisional"] for row in counts)
    chart = xmr([row["activity"] for row in counts[:final]], plain[:final], form)
    chart = replace(chart, signals=(*chart.signals, *[()] * (len(counts) - final)))
    caption = (
        f"Flagged records by month, {wording.month(counts[0]['month'])} to {wording.month(counts[-1]['month'])}: XmR chart. "
        "Limits are the mean ± 2.66 × the average moving range of the months that are neither provisional nor in the "
        f"pandemic. Higher than usual is orange, lower is blue. {_FORMS[form]}"
    )
    return (
        *chart_block(
            charts.by_month(counts, chart, key=f"{anchor}-months", title=title),
            caption,
            _signals(counts, chart, "activity", ("Month", "Records")),
        ),
        _month_grid(counts, chart),
    )


def _by_month(rows: Sequence[Row]) -> list[Row]:
    """Records by month, added up over all revisions. Only the months after the last gap are kept, in order.

    | month   | revision | activity | → month | activity |
    |---------|----------|----------|---------|----------|
    | 2022-07 | 2018-11  | 50       | 2022-07 | 50       |
    | 2022-08 | 2018-11  | 20       | 2022-08 | 60       |
    | 2022-08 | 2022-08  | 40       |         |          |
    """
    sums: dict[date, Row] = {}
    for row in rows:
        month = row.get("month")
        if not isinstance(month, date):
            continue
        total = sums.setdefault(
            month, {"month": month, "activity": 0, "in_scope": 0, "provisional": False, "pandemic": False}
        )
        total["activity"] += row["activity"]
        total["in_scope"] += row["in_scope"]
        for mark in wording.MONTH_MARKS:
            total[mark] = total[mark] or bool(row.get(mark))
    unbroken: list[Row] = []
    for month in sorted(sums):
        before = unbroken[-1]["month"] if unbroken else month
        if unbroken and (month.year - before.year) * 12 + month.month - before.month != 1:
            unbroken = []
        unbroken.append(sums[month])
    return unbroken


def _month_grid(counts: Sequence[Row], chart: ControlChart | None) -> Block:
    limits = (
        ""
        if chart is None
        else (
            f"; mean {wording.rate(chart.centre)}, limits {wording.rate(max(0.0, chart.lower))} to {wording.rate(chart.upper)}"
        )
    )
    years: dict[str, dict[str, Any]] = {}
    for row in counts:
        year = label(starts_in(row["month"]))
        years.setdefault(year, {})[f"{row['month']:%b}"] = row
    names = ("Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb", "Mar")
    return Block(
        "grid",
        text=f"Flagged records by month (p = provisional, c = pandemic){limits}",
        head=("Year", *names),
        rows=tuple((year, *(_month_cell(cells.get(name)) for name in names)) for year, cells in sorted(years.items())),
        align="l" + "r" * 12,
        fold=True,
    )


def _month_cell(row: Row | None) -> str:
    if row is None:
        return "–"
    return wording.count(row["activity"]) + (" p" if row["provisional"] else "") + (" c" if row["pandemic"] else "")


def _days_between(rows: Sequence[Row], anchor: str, title: str, form: Form) -> list[Block]:
    newest = max((str(row["revision"]) for row in rows), default="")
    groups = sorted((row for row in rows if str(row["revision"]) == newest), key=lambda row: int(row["number"]))
    if len(groups) < FEWEST_GROUPS:
        return [
            text(
                f"There are {len(groups)} groups of months with enough records. A chart of the days between records needs "
                f"at least {FEWEST_GROUPS}.",
            )
        ]
    # A group is whole months, so groups differ in size. Scale the days of each to the size of the smallest group.
    size = min(int(row["events"]) for row in groups)
    groups = [{**row, "days": row["days"] * size / row["events"], "events": size} for row in groups]
    chart = t_chart([row["days"] for row in groups], form)
    caption = (
        f"Days in which {size} records occurred, from consecutive groups of whole months: higher means rarer. Limits are "
        f"those of an XmR chart of the cube roots of the days. {_FORMS[form]} No date of a record is published, to protect "
        "patients."
    )
    return [
        *chart_block(
            charts.days_between(groups, chart, key=f"{anchor}-days", title=title),
            caption,
            _signals(groups, chart, "days", ("Last month of the group", "Days")),
        ),
        Block(
            "grid",
            text=f"Days for {size} records, by group of months",
            head=("Last month of the group", "Days"),
            rows=tuple((wording.month(row["month"]), wording.count(row["days"])) for row in groups),
            align="lr",
            fold=True,
        ),
    ]


def _signals(points: Sequence[Row], chart: ControlChart, name: str, head: tuple[str, str]) -> list[Block]:
    """The points of a chart that meet a rule. ``name``: the column with their values, ``head``: the headings of month and value."""
    found = [(point, rules) for point, rules in zip(points, chart.signals, strict=True) if rules]
    if not found:
        return [text("No point meets a rule of Making Data Count: chance alone may explain the differences.")]
    return [
        Block(
            "grid",
            text=f"{len(found)} of {len(points)} points meet a rule of Making Data Count: find out why",
            head=(*head, "Rule"),
            rows=tuple(
                (
                    wording.month(point["month"]),
                    wording.count(point[name]),
                    "; ".join(wording.SIGNALS[rule] for rule in rules),
                )
                for point, rules in found
            ),
            align="lrl",
            fold=len(found) > 6,
        )
    ]
