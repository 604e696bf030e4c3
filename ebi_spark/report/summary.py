"""The first screen: for each policy what it asks, how many records are flagged, where the rate is high or low, whether it rises or
falls, and how much the count depends on the reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ebi_spark.geography.area_lists import ENGLAND
from ebi_spark.release.published_limits import limits_of
from ebi_spark.report import over_time, wording
from ebi_spark.report.between_areas import Comparison, main_comparison
from ebi_spark.report.blocks import stack
from ebi_spark.report.policy import Policy
from ebi_spark.report.rows import Row, clauses_of, is_suppressed

_SIDES = {"above": "higher", "below": "lower"}
# A sentence names at most so many areas.
NAMED = 4


@dataclass(frozen=True)
class Reading:
    """A line of the table that shows how the count depends on the reading. ``bar`` draws the count."""

    name: str
    bar: Markup
    count: str
    rate: str
    is_used: bool


@dataclass(frozen=True)
class Card:
    """The first screen's part on one policy: a figure, the readings beside it, and answers to what readers ask."""

    anchor: str
    title: str
    about: str
    aim: str
    figure: str
    unit: str
    rate: str
    marks: Markup
    readings: tuple[Reading, ...]
    answers: tuple[tuple[str, str], ...]


def card(policy: Policy, aim: str, caveats: Sequence[str]) -> Card:
    """The card of one policy. ``aim``: what it asks for, in its source's words. ``caveats``: those of this policy alone."""
    newest = policy.newest[0] if policy.newest else None
    scope = [str(clause["words"]) for clause in clauses_of(policy.current or {}) if clause.get("kind") == "scope"]
    asks = f"The policy asks: {aim}" if aim else ""
    if scope and not aim:
        asks = f"The policy asks for fewer of these: {' '.join(scope)}"
    publisher = str((policy.current or {}).get("publisher") or policy.policy_id)
    sure = _how_sure(policy)
    notes = wording.notes_of(newest) if newest else []
    answers = [
        ("How sure", sure + policy.footnotes.marks(policy.reconciled) if sure else ""),
        ("Where", _where(policy)),
        ("Which way", over_time.direction(policy.whole())),
        ("What this cannot say", " ".join(caveats)),
    ]
    return Card(
        anchor=policy.anchor,
        title=policy.title,
        about=f"Local policy of {wording.listed(policy.boards)}" if policy.boards else publisher,
        aim=asks,
        figure="no data" if newest is None else wording.count_in(newest, "activity"),
        unit=_unit(policy, newest),
        rate="" if newest is None else _rate_words(newest),
        marks=policy.footnotes.marks(notes if sure else [*policy.reconciled, *notes]),
        readings=readings_of(policy),
        answers=tuple((label, words) for label, words in answers if words),
    )


def headline(policy: Policy) -> str:
    """The newest figures in sentences, one for each revision that applies to the year."""
    named = wording.in_words(policy.reading)
    if not policy.newest:
        return f"This release has no figures for this policy under its main definition ({named})."
    sentences = []
    for row in policy.newest:
        revision = f" under revision {row['revision']}" if len(policy.newest) > 1 else ""
        if is_suppressed(row):
            sentences.append(
                f"In {policy.place} in {row['financial_year']}, the number of records flagged{revision} is suppressed."
            )
            continue
        were = "record was" if row.get("activity") == 1 else "records were"
        sentences.append(
            f"In {policy.place} in {row['financial_year']}, {wording.count_in(row, 'activity')} {were} flagged{revision}: "
            f"{_rate_words(row)}."
        )
    return " ".join(sentences)


def _unit(policy: Policy, newest: Row | None) -> str:
    if newest is None:
        return f"This release has no figures under the policy's main definition ({wording.in_words(policy.reading)})."
    where = f"in {policy.place} in {newest['financial_year']}"
    if is_suppressed(newest):
        return f"The number of flagged records {where} is suppressed."
    several = len(policy.newest)
    revision = (
        f", by revision {newest['revision']}, the newest of {several} that apply to this year" if several > 1 else ""
    )
    return f"{'record' if newest.get('activity') == 1 else 'records'} flagged {where}{revision}"


def _rate_words(row: Row) -> str:
    if is_suppressed(row):
        return ""
    if row.get("standardised_rate") is None:
        reason = wording.STATUSES.get(str(row.get("status")), "not calculated")
        words = f"no standardised rate ({reason})" if row.get("status") != "ok" else "no standardised rate"
        crude = row.get("crude_rate")
        return words if crude is None else f"{words}, a crude rate of {wording.rate(crude)} per 100,000 people"
    words = f"{wording.rate(row['standardised_rate'])} per 100,000 people, standardised by age and sex"
    return words if limits_of(row) is None else f"{words} (95% limits {wording.limits(row)})"


def readings_of(policy: Policy) -> tuple[Reading, ...]:
    """The newest figure of every reading, on one scale. Empty if only one is published."""
    found = policy.newest_by_reading
    if len(found) < 2:
        return ()
    most = max(row.get("activity") or 0 for row in found.values())
    made = []
    for name, row in found.items():
        used = name == policy.reading
        bar = stack([("left" if used else "usual", row.get("activity") or 0)], most)
        rate = f"{wording.rate_in(row, 'standardised_rate')} ({wording.limits(row)})" if limits_of(row) else "–"
        made.append(Reading(wording.in_words(name), bar, wording.count_in(row, "activity"), rate, used))
    return tuple(made)


def _how_sure(policy: Policy) -> str:
    """How the count depends on the reading, and on one coding decision alone. The limits allow for chance only."""
    sentences = []
    counts = {
        name: int(row["activity"]) for name, row in policy.newest_by_reading.items() if row.get("activity") is not None
    }
    if len(counts) > 1 and policy.reading in counts:
        low, high = min(counts.values()), max(counts.values())
        if low == high:
            sentences.append("All readings of the policy give the same count.")
        else:
            sentences.append(
                f"Depending on the reading, {wording.count(low)} to {wording.count(high)} of the same records are flagged. "
                f"The large number is for the reading “{wording.in_words(policy.reading)}”; its limits allow for chance only."
            )
    decided = largest_decision(policy)
    if decided is not None:
        words = "With" if decided["direction"] == "made" else "Without"
        sentences.append(
            f"{words} the coding decision “{wording.in_words(decided['decision'])}”, the count would be "
            f"{wording.count(decided['flagged_flipped'])} instead of {wording.count(decided['flagged'])}."
        )
    return " ".join(sentences)


def largest_decision(policy: Policy) -> Row | None:
    """The single coding decision that changes the newest count most, in the default reading."""
    rows = [row for row in policy.own["sensitivity"] if row.get("base_reading") == policy.reading]
    last = max(((str(row["financial_year"]), str(row["revision"])) for row in rows), default=None)
    latest = [row for row in rows if (str(row["financial_year"]), str(row["revision"])) == last]
    changed = [row for row in latest if row["flagged_flipped"] != row["flagged"]]
    return max(
        changed, key=lambda row: (abs(row["flagged_flipped"] - row["flagged"]), str(row["decision"])), default=None
    )


def _where(policy: Policy) -> str:
    sentences = []
    main = main_comparison(policy.comparisons)
    if main is not None and main.kind != "region":
        sentences.append(_outlying(main))
    regions = [each for each in policy.comparisons if each.kind == "region" and each.is_drawn and len(each.shown) > 1]
    if regions:
        first, *_, last = regions[-1].shown
        measure = regions[-1].measure
        sentences.append(
            f"Of the regions, {wording.short_name(first)} has the highest rate ({wording.rate(first[measure])}) and "
            f"{wording.short_name(last)} the lowest ({wording.rate(last[measure])}), {regions[-1].period}."
        )
    if not sentences and policy.comparisons:
        sentences.append("No area has a published rate: small numbers are suppressed.")
    return " ".join(sentences)


def _outlying(each: Comparison) -> str:
    names = {side: [wording.area_name(row) for row in each.side(side)] for side in ("above", "below")}
    kinds = wording.areas(each.kind)
    words = f"Of {len(each.rows)} {kinds}, {each.period}, "
    if each.suppressed:
        words = f"{each.suppressed} of {len(each.rows)} {kinds} are suppressed, {each.period}. Of the others, "
    if not each.national:
        return words + "none can be compared with England."
    first, last = each.shown[0], each.shown[-1]
    spread = (
        f" Their rates go from {wording.rate(last[each.measure])} ({wording.area_name(last)}) to "
        f"{wording.rate(first[each.measure])} ({wording.area_name(first)})."
    )
    if not names["above"] and not names["below"]:
        why = ": chance alone may explain how they differ."
        if each.widened > 1:
            why = (
                f". They differ by more than chance would explain (overdispersion {wording.rate(each.phi)}), and the limits allow "
                "for that."
            )
        elif each.uncertain:
            why = f" with certainty: counts are rounded, so {len(each.uncertain)} may be inside or outside."
        return f"{words}none is outside the limits of the funnel plot{why}{spread}"
    parts = [
        f"{len(found)} {'is' if len(found) == 1 else 'are'} {word}"
        + (f" ({wording.listed(found)})" if len(found) <= NAMED else "")
        for word, found in (("higher than the limits of the funnel plot", names["above"]), ("lower", names["below"]))
        if found
    ]
    return words + " and ".join(parts) + "." + spread


def area_data(policies: Sequence[Policy]) -> dict[str, Any]:
    """What the area finder shows: published figures only.

    ``areas``: key → name and kind. ``policies``: anchor → ``england`` and ``rows``. ``england`` has England's (period, rate) for each
    period that areas have. ``rows`` has for each area a sentence on its newest period, and a (period, rate, lower, upper) for each
    period with a rate.
    """
    areas: dict[str, tuple[str, str]] = {}
    found: dict[str, Any] = {}
    for policy in policies:
        rows: dict[str, Any] = {}
        england: dict[str, float] = {}
        for each in policy.comparisons:
            periods = {row["period"] for row in (*each.earlier, *each.rows)}
            if not each.by_share:
                england |= {
                    wording.period(row): row[each.measure]
                    for row in policy.whole()
                    if row["area_type"] == ENGLAND and row.get(each.measure) is not None and row["period"] in periods
                }
            for row in each.rows:
                key = wording.area_key(row)
                areas[key] = (wording.area_name(row), wording.areas(each.kind, 1))
                rows[key] = {"words": _area_words(row, each), "line": []}
            for row in sorted((*each.earlier, *each.rows), key=lambda row: str(row["financial_year"])):
                if row.get(each.measure) is not None and not each.by_share and wording.area_key(row) in rows:
                    rows[wording.area_key(row)]["line"].append(
                        (wording.period(row), row[each.measure], *(limits_of(row) or (None, None)))
                    )
        if rows:
            found[policy.anchor] = {"title": policy.title, "england": sorted(england.items()), "rows": rows}
    return {"areas": dict(sorted(areas.items(), key=lambda item: item[1])), "policies": found}


def _area_words(row: Row, each: Comparison) -> str:
    """An area's newest figures in a sentence."""
    count, scope = wording.count_in(row, "activity"), wording.count_in(row, "in_scope")
    counts = f"{count} flagged of {scope} in scope".replace(wording.HIDDEN, "a suppressed number")
    if row.get(each.measure) is None:
        reason = "suppressed" if is_suppressed(row) else wording.reason_missing(row)
        return f"{each.period}: no rate ({reason}); {counts}."
    if each.by_share:
        return f"{each.period}: {counts}, a share of {wording.flagged_share(row)}."
    place = 1 + sum(1 for other in each.shown if other[each.measure] > row[each.measure])
    words = f"{each.period}: {wording.rate(row[each.measure])} per 100,000"
    words += ", indirectly standardised" if each.is_indirect else ""
    words += f" (95% limits {wording.limits(row)})" if limits_of(row) else ""
    if each.national:
        code, england = str(row["area_code"]), f"England's {wording.rate(each.national)}"
        side, own = (_SIDES.get(sides.get(code, ""), "") for sides in (each.sides, each.by_own_limits))
        if own and not side:
            words += f"; {own} than {england} by its own 99.8% limits, but within the limits of the funnel plot"
        else:
            words += f"; {f'{side} than' if side else 'within'} the limits of the funnel plot around {england}"
    return f"{words}. It is number {place} of {len(each.shown)}, counted from the highest. {counts[:1].upper()}{counts[1:]}."
