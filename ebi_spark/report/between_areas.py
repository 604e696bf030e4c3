"""How a policy's rates vary between areas: ranked rates, funnel plots, percentiles and opportunity."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ebi_spark.rates.control_charts import over_dispersion as dispersion_of
from ebi_spark.report import charts, wording
from ebi_spark.report.blocks import Block, chart_block, slug
from ebi_spark.report.rows import SUPPRESSED, Row, limits_of, measure_of

# The first of these types with several areas is compared. ICBs come first because they commission care; an extract of one
# ICB has only its sub-ICB locations.
AREA_ORDER = ("icb", "sub_icb", "region")


def areas(
    rates: Sequence[Row], whole: Sequence[Row], anchor: str, title: str, *, policy: Row | None, over_dispersion: bool
) -> tuple[Block, ...]:
    """The areas of the newest period, ranked and as a funnel plot, for every length of period that is published.

    ``policy`` is the row of the policy's newest revision. It says in which periods the policy is published.
    """
    kind = next(
        (kind for kind in AREA_ORDER if len({row["area_code"] for row in rates if row["area_type"] == kind}) > 1), None
    )
    window = _window(policy)
    if kind is None:
        return (
            *window,
            Block("text", text="No rates of several areas are published for this policy's main definition."),
        )
    blocks: list[Block] = window
    rows_of_kind = [row for row in rates if row["area_type"] == kind]
    for length in sorted({row.get("period_years") or 1 for row in rows_of_kind}):
        rows_of_length = [row for row in rows_of_kind if (row.get("period_years") or 1) == length]
        last = max(str(row["financial_year"]) for row in rows_of_length)
        latest = [row for row in rows_of_length if str(row["financial_year"]) == last]
        for revision in sorted({str(row["revision"]) for row in latest}):
            shown = sorted(
                (row for row in latest if str(row["revision"]) == revision),
                key=lambda row: (wording.area_name(row), str(row["area_code"])),
            )
            nation = next(
                (
                    row
                    for row in whole
                    if row["area_type"] == wording.NATIONAL
                    and (row.get("period_years") or 1) == length
                    and str(row["financial_year"]) == last
                    and str(row["revision"]) == revision
                ),
                None,
            )
            several = len({str(row["revision"]) for row in latest}) > 1
            blocks += _area_blocks(
                shown,
                nation,
                kind,
                f"{anchor}-areas-{length}-{slug(revision)}",
                title,
                wording.period(shown[0]) + (f" (revision {revision})" if several else ""),
                over_dispersion,
            )
    return tuple(blocks)


def _window(policy: Row | None) -> list[Block]:
    years = int((policy or {}).get("publish_years") or 1)
    if policy is None or years == 1:
        return []
    return [
        Block(
            "text",
            text=f"Below England this policy is published for windows of {years} years that do not overlap. One window begins "
            f"with {policy['publish_first_year']}. A window is published once data for all of its years are available.",
        )
    ]


def _area_blocks(
    rows: Sequence[Row], nation: Row | None, kind: str, key: str, title: str, period: str, adjust: bool
) -> list[Block]:
    measure = measure_of(rows)
    with_rate = [row for row in rows if row.get(measure) is not None]
    statuses = Counter(str(row.get("status")) for row in rows if row.get(measure) is None)
    suppressed = sum(statuses[name] for name in SUPPRESSED)
    sentence = f"{period}: of {len(rows)} {wording.areas(kind)}, {len(with_rate)} have a published rate"
    if suppressed:
        reasons = zip(
            SUPPRESSED, ("for a small number", "so that a small number elsewhere cannot be worked out"), strict=True
        )
        why = ", ".join(f"{statuses[name]} {reason}" for name, reason in reasons if statuses[name])
        sentence += f"; {suppressed} {'is' if suppressed == 1 else 'are'} suppressed ({why})"
    others = {name: number for name, number in sorted(statuses.items()) if name not in SUPPRESSED}
    for name, number in others.items():
        reason = "no rate given" if name == "ok" else wording.STATUSES.get(name, wording.in_words(name))
        sentence += f"; {number} without a rate ({reason})"
    sentence += "."
    # If every published rate is 0 and the others are suppressed, a chart would make areas look alike that are not.
    drawable = any(row[measure] for row in with_rate)
    if not drawable:
        sentence += " All of these rates are 0. There is no chart." if with_rate else " There is no chart."
        if suppressed:
            sentence += " This is expected for a rare intervention: suppressed does not mean none."
    blocks = [Block("text", text=sentence)]
    national = None if nation is None else nation.get(measure)
    if drawable:
        named = f"{title}, {period}"
        left_out = f" {suppressed} suppressed, not shown." if suppressed else ""
        blocks += chart_block(
            charts.caterpillar(rows, national=national, key=f"{key}-ranked", title=named),
            f"{_capital(wording.areas(kind))} ranked by {wording.MEASURES[measure].lower()} per 100,000, "
            f"{'with 95% limits, ' if any(limits_of(row) for row in with_rate) else ''}{period}.{left_out}",
        )
        if national is None:
            blocks.append(
                Block("text", text="There is no funnel plot, because there is no national rate to draw limits around.")
            )
        else:
            # Suppressed areas have small counts. Overdispersion without them would be too large.
            phi = None if suppressed else _dispersion(with_rate, measure, national)
            wider = adjust and phi is not None and phi > 1
            blocks += chart_block(
                charts.funnel(
                    rows, national=national, key=f"{key}-funnel", title=named, phi=phi if wider and phi else 1.0
                ),
                f"{_capital(wording.areas(kind))} by population, {period}. Chance alone may explain why an area between the "
                "limits differs from the national rate "
                f"({'Poisson limits, widened for overdispersion' if wider else 'Poisson limits'}).{left_out}",
            )
            blocks.append(Block("text", text=_dispersion_words(phi, kind)))
    footnotes = wording.Footnotes()
    blocks.append(
        Block(
            "grid",
            text=f"All {len(rows)} {wording.areas(kind)}, {period}. A rounded count can stand for several exact counts. The limits "
            "cover all of them, so they are wider than 95% limits of an exact count.",
            head=(
                "Area",
                "Flagged",
                "Share flagged (95% limits)",
                "Population",
                "Crude",
                "Standardised",
                "95% limits",
                "Status",
            ),
            rows=tuple(
                (
                    wording.area_name(row),
                    wording.count_in(row, "activity"),
                    wording.flagged_share(row),
                    wording.count_in(row, "population"),
                    wording.rate_in(row, "crude_rate"),
                    wording.rate_in(row, "standardised_rate"),
                    wording.limits(row),
                    wording.status(row, footnotes),
                )
                for row in rows
            ),
            align="lrrrrrrw",
            footnotes=tuple(footnotes.texts),
            fold=True,
        )
    )
    return blocks


def _dispersion(rows: Sequence[Row], measure: str, national: float) -> float:
    """The overdispersion of the areas that have people: about 1 if they differ by chance alone."""
    with_people = [(row, charts.people_of(row, national)) for row in rows if charts.people_of(row, national)]
    observed = [row[measure] * people / 100_000 for row, people in with_people]
    return dispersion_of(observed, [national * people / 100_000 for _, people in with_people])


# Overdispersion above this is "far more than chance".
_FAR_MORE = 2


def _dispersion_words(phi: float | None, kind: str) -> str:
    if phi is None:
        return (
            "Overdispersion (whether areas differ more than chance would explain) is not calculated, because some areas "
            "are suppressed."
        )
    given = f"(overdispersion {wording.rate(phi)}; chance alone gives about 1)"
    names = _capital(wording.areas(kind))
    if phi <= 1:
        return f"{names} differ no more than chance would explain {given}."
    more = "far more" if phi > _FAR_MORE else "more"
    return f"{names} differ {more} than chance would explain; recording may be one reason {given}."


def _capital(text: str) -> str:
    """The text with a capital first letter; the others keep theirs."""
    return text[:1].upper() + text[1:]


def spread(variation: Sequence[Row], reading: str) -> tuple[Block, ...]:
    """Percentiles, N-fold and opportunity of the newest period of each length. Earlier periods are folded."""
    rows = [row for row in variation if row.get("reading") == reading]
    if not rows:
        return (Block("text", text="No variation is published for this policy's main definition."),)
    order = list(wording.AREA_TYPES)

    def place(row: Row) -> tuple[Any, ...]:
        kind = str(row["area_type"])
        return (
            order.index(kind) if kind in order else len(order), kind, row.get("period_years") or 1,
            str(row["financial_year"]), str(row["revision"]),
        )  # fmt: skip

    last_years: dict[tuple[str, int], str] = {}
    for row in rows:
        kind = (str(row["area_type"]), row.get("period_years") or 1)
        last_years[kind] = max(last_years.get(kind, ""), str(row["financial_year"]))
    newest = [
        row
        for row in rows
        if str(row["financial_year"]) == last_years[(str(row["area_type"]), row.get("period_years") or 1)]
    ]
    earlier = [row for row in rows if row not in newest]
    explanation = (
        "Percentiles (P10 to P90) of the standardised rate per 100,000. Areas without activity are left out; every other "
        "area counts the same, whatever its size. N-fold is P90 divided by P10. Opportunity: how many fewer records there "
        "would be if every area were at the rate of the lowest quarter. It is not a target. Only areas with a rate above "
        "P25 add to it. A dash means that the figure would reveal a suppressed number, or that there are no areas to "
        "calculate it from."
    )
    blocks = [_variation_grid(sorted(newest, key=place), explanation)]
    if earlier:
        blocks.append(_variation_grid(sorted(earlier, key=place), "Variation in earlier periods", fold=True))
    return tuple(blocks)


def _variation_grid(rows: Sequence[Row], caption: str, *, fold: bool = False) -> Block:
    several = len({str(row["revision"]) for row in rows}) > 1
    footnotes = wording.Footnotes()
    return Block(
        "grid",
        text=caption,
        head=(
            "Areas",
            "Period",
            "Areas in total",
            "With activity",
            "P10",
            "P25",
            "P50",
            "P75",
            "P90",
            "N-fold",
            "Opportunity",
            "Status",
        ),
        rows=tuple(
            (
                wording.areas(row["area_type"]),
                wording.period(row) + (f" ({row['revision']})" if several else ""),
                wording.count_in(row, "areas"),
                wording.count_in(row, "areas_with_activity"),
                *(
                    wording.rate(row.get(name), "suppressed" if row.get("status") in SUPPRESSED else "–")
                    for name in ("p10", "p25", "p50", "p75", "p90", "n_fold")
                ),
                _opportunity(row),
                _variation_status(row, footnotes),
            )
            for row in rows
        ),
        align="lnrrrrrrrrrl",
        footnotes=tuple(footnotes.texts),
        fold=fold,
    )


def _variation_status(row: Row, footnotes: wording.Footnotes) -> str:
    # A rare intervention can have percentiles but no opportunity.
    if row.get("status") == "not_calculated" and row.get("p50") is not None:
        row = {**row, "status": "opportunity_not_calculated"}
    return wording.status(row, footnotes, ok="calculated")


def _opportunity(row: Row) -> str:
    if row.get("opportunity") is None:
        return wording.reason_missing(row)
    part = row.get("opportunity_share")
    return wording.count(row["opportunity"]) + (f" ({wording.share(part, 1)})" if part is not None else "")
