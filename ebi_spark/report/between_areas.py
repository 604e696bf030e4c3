"""A policy between areas: ranked rates, funnel plots, and how much areas differ."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ebi_spark.rates.control_charts import over_dispersion as dispersion_of
from ebi_spark.report import charts, wording
from ebi_spark.report.blocks import Block, drawn, slug
from ebi_spark.report.rows import WITHHELD, Row, limits_of, measure_of

# Which type of area to compare: boards commission; an extract of one board has only its smaller areas.
AREA_ORDER = ("icb", "sub_icb", "region")


def areas(
    rates: Sequence[Row], whole: Sequence[Row], anchor: str, title: str, *, policy: Row | None, over_dispersion: bool
) -> tuple[Block, ...]:
    """The newest period's areas, ranked and as a funnel: of every length of period that is published. ``policy`` (its row)
    says in which periods that is."""
    kind = next(
        (kind for kind in AREA_ORDER if len({row["area_code"] for row in rates if row["area_type"] == kind}) > 1), None
    )
    window = _window(policy)
    if kind is None:
        return (
            *window,
            Block("text", text="No rates of several areas are published for this policy in its default reading."),
        )
    blocks: list[Block] = window
    of_kind = [row for row in rates if row["area_type"] == kind]
    for length in sorted({row.get("period_years") or 1 for row in of_kind}):
        of_length = [row for row in of_kind if (row.get("period_years") or 1) == length]
        last = max(str(row["financial_year"]) for row in of_length)
        latest = [row for row in of_length if str(row["financial_year"]) == last]
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
            text=f"Below England this policy is published in windows of {years} years that do not overlap, one of which begins "
            f"with {policy['publish_first_year']}. A window is there once all of its years are.",
        )
    ]


def _area_blocks(
    rows: Sequence[Row], nation: Row | None, kind: str, key: str, title: str, period: str, adjust: bool
) -> list[Block]:
    measure = measure_of(rows)
    with_rate = [row for row in rows if row.get(measure) is not None]
    statuses = Counter(str(row.get("status")) for row in rows if row.get(measure) is None)
    withheld = sum(statuses[name] for name in WITHHELD)
    sentence = f"{period}: of {len(rows)} {wording.areas(kind)}, {len(with_rate)} have a published rate"
    if withheld:
        reasons = zip(WITHHELD, ("for small numbers", "to protect another cell"), strict=True)
        why = ", ".join(f"{statuses[name]} {reason}" for name, reason in reasons if statuses[name])
        sentence += f"; {withheld} {'is' if withheld == 1 else 'are'} withheld ({why})"
    others = {name: number for name, number in sorted(statuses.items()) if name not in WITHHELD}
    for name, number in others.items():
        reason = "no rate given" if name == "ok" else wording.STATUSES.get(name, wording.spoken(name))
        sentence += f"; {number} without a rate ({reason})"
    sentence += "."
    # Where all rates given are 0, the others being withheld, a chart would show areas alike that are not.
    drawable = any(row[measure] for row in with_rate)
    if not drawable:
        sentence += (
            " All of these rates are 0. There is nothing to draw." if with_rate else " There is nothing to draw."
        )
        if withheld:
            sentence += " That is a right answer for a rare intervention: withheld does not mean none."
    blocks = [Block("text", text=sentence)]
    national = None if nation is None else nation.get(measure)
    if drawable:
        named = f"{title}, {period}"
        left_out = f" {withheld} withheld, not drawn." if withheld else ""
        blocks += drawn(
            charts.caterpillar(rows, national=national, key=f"{key}-ranked", title=named),
            f"{wording.areas(kind)} ranked by {wording.MEASURES[measure].lower()} per 100,000, "
            f"{'with 95% limits, ' if any(limits_of(row) for row in with_rate) else ''}{period}.{left_out}",
        )
        if national is None:
            blocks.append(Block("text", text="No funnel plot: there is no national rate to draw limits around."))
        else:
            # Areas whose small counts are withheld are not there by chance: without them φ would be too large.
            phi = None if withheld else _dispersion(with_rate, measure, national)
            wider = adjust and phi is not None and phi > 1
            blocks += drawn(
                charts.funnel(
                    rows, national=national, key=f"{key}-funnel", title=named, phi=phi if wider and phi else 1.0
                ),
                f"{wording.areas(kind)} by population, {period}: between the limits a difference from the national rate "
                f"may be chance alone ({'Poisson limits widened by √φ' if wider else 'Poisson limits'}).{left_out}",
            )
            blocks.append(Block("text", text=_dispersion_words(phi)))
    blocks.append(
        Block(
            "grid",
            text=f"All {len(rows)} {wording.areas(kind)}, {period}. Limits hold for every count that rounding can have turned into the "
            "one shown, so they are wider than 95% limits of an exact count.",
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
                    wording.counted(row, "activity"),
                    wording.flagged_share(row),
                    wording.counted(row, "population"),
                    wording.rated(row, "crude_rate"),
                    wording.rated(row, "standardised_rate"),
                    wording.limits(row),
                    wording.status(row),
                )
                for row in rows
            ),
            align="lrrrrrrw",
            fold=True,
        )
    )
    return blocks


def _dispersion(rows: Sequence[Row], measure: str, national: float) -> float:
    """How much more than by chance the drawn areas differ, of those with people."""
    there = [(row, charts.people_of(row, national)) for row in rows if charts.people_of(row, national)]
    observed = [row[measure] * people / 100_000 for row, people in there]
    return dispersion_of(observed, [national * people / 100_000 for _, people in there])


def _dispersion_words(phi: float | None) -> str:
    if phi is None:
        return "How much more than by chance the areas differ (φ) cannot be said while some are withheld."
    words = f"φ is {wording.rate(phi)}, where chance alone gives about 1: areas differ by "
    return words + ("more than chance." if phi > 1 else "no more than chance.")


def spread(variation: Sequence[Row], reading: str) -> tuple[Block, ...]:
    """Percentiles, N-fold and opportunity: the newest period of each length, and earlier ones folded away."""
    rows = [row for row in variation if row.get("reading") == reading]
    if not rows:
        return (Block("text", text="No variation is published for this policy in its default reading."),)
    order = list(wording.AREA_TYPES)

    def place(row: Row) -> tuple[Any, ...]:
        kind = str(row["area_type"])
        return (
            order.index(kind) if kind in order else len(order), kind, row.get("period_years") or 1,
            str(row["financial_year"]), str(row["revision"]),
        )  # fmt: skip

    ends: dict[tuple[str, int], str] = {}
    for row in rows:
        kind = (str(row["area_type"]), row.get("period_years") or 1)
        ends[kind] = max(ends.get(kind, ""), str(row["financial_year"]))
    newest = [
        row for row in rows if str(row["financial_year"]) == ends[(str(row["area_type"]), row.get("period_years") or 1)]
    ]
    earlier = [row for row in rows if row not in newest]
    explanation = (
        "Percentiles of the standardised rate per 100,000, over areas with activity and unweighted. N-fold is the 90th "
        "over the 10th percentile. Opportunity is the number of records above the 25th percentile's rate, summed over "
        "areas: a sum, not a target. A dash stands where a figure would tell what is withheld, or has no areas to rest on."
    )
    blocks = [_variation_grid(sorted(newest, key=place), explanation)]
    if earlier:
        blocks.append(_variation_grid(sorted(earlier, key=place), "Variation in earlier periods", fold=True))
    return tuple(blocks)


def _variation_grid(rows: Sequence[Row], caption: str, *, fold: bool = False) -> Block:
    several = len({str(row["revision"]) for row in rows}) > 1
    return Block(
        "grid",
        text=caption,
        head=(
            "Areas",
            "Period",
            "Number",
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
                wording.counted(row, "areas"),
                wording.counted(row, "areas_with_activity"),
                *(
                    wording.rate(row.get(name), "withheld" if row.get("status") in WITHHELD else "–")
                    for name in ("p10", "p25", "p50", "p75", "p90", "n_fold")
                ),
                _opportunity(row),
                _variation_status(row),
            )
            for row in rows
        ),
        align="lnrrrrrrrrrl",
        fold=fold,
    )


def _variation_status(row: Row) -> str:
    # The percentiles of a rare intervention stand although its opportunity does not.
    if row.get("status") == "not_calculated" and row.get("p50") is not None:
        row = {**row, "status": "opportunity_not_calculated"}
    return wording.status(row, ok="calculated")


def _opportunity(row: Row) -> str:
    if row.get("opportunity") is None:
        return wording.absent_of(row)
    of_activity = row.get("opportunity_share")
    return wording.count(row["opportunity"]) + (
        f" ({wording.share(of_activity, 1)})" if of_activity is not None else ""
    )
