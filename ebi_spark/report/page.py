"""The report of a release: one HTML page, made from the release's published rows.

This module turns every figure into text. ``page.html.j2`` lays the texts out and escapes them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ebi_spark.config.settings import caveats, disclosure_rules
from ebi_spark.own_files import REPORT_VERSION
from ebi_spark.policies.reminders import reminders, sources_of
from ebi_spark.rates.baselines import SPREAD, baselines, compare, nearest_period
from ebi_spark.rates.control_charts import Form
from ebi_spark.report import between_areas, charts, data_quality, monitoring, over_time, wording
from ebi_spark.report.blocks import Block, Part, by_year, chart_block, slug
from ebi_spark.report.rows import (
    Row,
    clauses_of,
    day,
    is_suppressed,
    limits_of,
    listing,
    mapping,
    plain,
    rows_of,
)

TABLES = (
    "rate", "variation", "attrition", "reading_effect", "sensitivity", "activity_month", "days_between", "policy", "quality",
    "completeness", *monitoring.TABLES,
)  # fmt: skip
WITHOUT_POLICY = ("quality", "completeness")


@dataclass(frozen=True)
class PolicyView:
    """The texts of a policy's section and its row of the summary."""

    anchor: str
    title: str
    facts: tuple[tuple[str, str], ...]
    headline: str
    caveats: tuple[str, ...]
    parts: tuple[Part, ...]
    summary: tuple[str, ...]


def build_report(
    tables: dict[str, pd.DataFrame],
    *,
    release: dict[str, Any],
    over_dispersion: bool = False,
    control_charts: Form = "plot_the_dots",
) -> str:
    """The report of a release as one HTML page that loads nothing from elsewhere.

    ``tables`` maps the names in :data:`TABLES` to the release's rows of those published tables. ``release`` is its row of
    the manifest. Where a table is missing or empty, the page says so. ``over_dispersion`` widens the limits of funnel plots
    where areas differ more than chance would explain. ``control_charts`` is the form of the charts by month. The same rows
    give the same bytes, whatever their order.
    """
    manifest = {str(key): plain(value) for key, value in release.items()}
    rows = {name: rows_of(tables.get(name)) for name in TABLES}
    all_caveats = report_caveats(mapping(manifest.get("caveats")))
    partial = manifest.get("coverage") == "partial"
    ids = sorted({str(row["policy_id"]) for name in rows if name not in WITHOUT_POLICY for row in rows[name]})
    policies = []
    footnotes = wording.Footnotes()
    released = manifest.get("released_at")
    due = sources_to_check(rows["policy"], released) if isinstance(released, date) else {}
    for number, policy_id in enumerate(ids, start=1):
        own = {name: [row for row in table if row.get("policy_id") == policy_id] for name, table in rows.items()}
        # Rates can name caveats themselves, for example those of a policy that conf/caveats.yml does not list.
        named = {str(key) for row in own["rate"] for key in listing(row.get("caveats"))}
        own_caveats = tuple(
            caveat["text"]
            for caveat in all_caveats
            if caveat["applies_to"] != "all" and (policy_id in caveat["applies_to"] or caveat["key"] in named)
        )
        policies.append(
            _policy(
                number,
                policy_id,
                own,
                own_caveats,
                partial,
                over_dispersion,
                control_charts,
                footnotes,
                due.get(policy_id, ""),
            )
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    years = sorted(str(year) for year in listing(manifest.get("years")))
    return environment.get_template("page.html.j2").render(
        report_version=REPORT_VERSION,
        release_id=str(manifest.get("release_id", "unknown")),
        released=wording.moment(manifest["released_at"]) if manifest.get("released_at") else "unknown",
        years=(years[0] if len(years) == 1 else f"{years[0]} to {years[-1]}") if years else "no year",
        coverage=_coverage(manifest.get("coverage")),
        disclosure=_disclosure(manifest.get("disclosure")),
        policies=policies,
        summary=_summary(policies, partial, footnotes),
        quality=data_quality.quality(rows["quality"]) + data_quality.completeness(rows["completeness"]),
        caveats=tuple(caveat["text"] for caveat in all_caveats if caveat["applies_to"] == "all"),
        provenance=_provenance(manifest),
    )


def report_caveats(released: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The caveats of ``conf/caveats.yml``. Each has ``key``, ``text`` and ``applies_to``: a list of policies, or ``all``.

    ``released`` has a release's own texts by key. They replace the texts in ``conf/caveats.yml``. A key that is not in
    that file applies to all policies.
    """
    released = released or {}
    known = [{**caveat, "text": str(released.get(caveat["key"], caveat["text"]))} for caveat in caveats()]
    keys = {caveat["key"] for caveat in known}
    others = [
        {"key": key, "text": str(text), "applies_to": "all"}
        for key, text in sorted(released.items())
        if key not in keys
    ]
    return known + others


# --- one policy -------------------------------------------------------------------------------------------------------


def _policy(
    number: int,
    policy_id: str,
    own: dict[str, list[Row]],
    caveats: tuple[str, ...],
    partial: bool,
    over_dispersion: bool,
    control_charts: Form,
    footnotes: wording.Footnotes,
    reminder: str,
) -> PolicyView:
    anchor = f"policy-{number}-{slug(policy_id)}"
    reading = _default_reading(own)
    revisions = sorted(
        (row for row in own["policy"] if row.get("reading") == reading),
        key=lambda row: (str(row.get("in_force_from") or ""), str(row["revision"])),
    )
    current = revisions[-1] if revisions else None
    title = str((current or {}).get("title") or policy_id)
    rates = [row for row in own["rate"] if row.get("reading") == reading]
    whole = _whole(rates)
    place = _place_name(whole, partial)
    newest = _newest(whole)
    chart_title = f"{title} ({wording.reading(reading)})"
    parts = (
        Part(f"{anchor}-says", "What the policy says", _clauses(own["policy"], current, reading)),
        Part(f"{anchor}-waterfall", "From records in scope to flagged", _waterfall(own, reading, anchor, chart_title)),
        Part(f"{anchor}-trend", "Trend", over_time.trend(whole, place, anchor, chart_title)),
        Part(f"{anchor}-months", "Month by month", over_time.months(own, reading, anchor, chart_title, control_charts)),
        Part(
            f"{anchor}-areas",
            "Variation between areas",
            between_areas.areas(rates, whole, anchor, chart_title, policy=current, over_dispersion=over_dispersion),
        ),
        Part(f"{anchor}-spread", "How much areas differ", between_areas.spread(own["variation"], reading)),
        Part(f"{anchor}-near", "Near misses", _near_misses(own["attrition"], reading)),
        Part(
            f"{anchor}-readings",
            "What each reading changes",
            _readings(own, anchor, title)
            + (
                ()
                if partial
                else _baseline(policy_id, own["reading_effect"]) + _baseline_spread(policy_id, own, reading)
            ),
        ),
        Part(f"{anchor}-decides", "What each coding decision changes", _sensitivity(own["sensitivity"])),
        *_monitoring(own, current, reading, whole, anchor, title),
    )
    return PolicyView(
        anchor=anchor,
        title=title,
        facts=_facts(policy_id, current, reading, reminder),
        headline=_headline(newest, place, reading),
        caveats=caveats,
        parts=parts,
        summary=_summary_row(title, newest, reading, footnotes),
    )


def _monitoring(
    own: dict[str, list[Row]], current: Row | None, reading: str, whole: Sequence[Row], anchor: str, title: str
) -> tuple[Part, ...]:
    """The part on monitoring. A local policy has none, because its figures would be those of one board."""
    if current and current.get("boards"):
        return ()
    return (Part(f"{anchor}-monitoring", "Monitoring", monitoring.monitoring(own, reading, whole, anchor, title)),)


def _default_reading(own: dict[str, list[Row]]) -> str:
    """The policy's default reading: that of its newest revision; without one, that of the effects of readings."""
    for name in ("policy", "reading_effect"):
        marked = [row for row in own[name] if row.get("is_default_reading")]
        if marked:
            return str(
                max(marked, key=lambda row: (str(row.get("in_force_from") or ""), str(row["revision"])))["reading"]
            )
    return "as_published"


def sources_to_check(policies: Iterable[Row], released: date) -> dict[str, str]:
    """By policy: why its source had to be looked at again on the day of the release. ``policies``: rows of
    ``published/policy``."""
    today = date(released.year, released.month, released.day)
    found: dict[str, list[str]] = {}
    for name, reason in reminders(sources_of(policies), today):
        found.setdefault(name, []).append(reason)
    return {name: "; ".join(reasons) for name, reasons in found.items()}


def _facts(policy_id: str, current: Row | None, reading: str, reminder: str) -> tuple[tuple[str, str], ...]:
    meaning = wording.READING_MEANINGS.get(reading)
    facts = [("Policy", policy_id)]
    if current:
        dataset = str(current.get("dataset"))
        source = ", ".join(str(current[key]) for key in ("publisher", "source") if current.get(key))
        facts += [
            ("Source", source or "not given"),
            ("Data", wording.DATASETS.get(dataset, dataset)),
            ("Revision", f"{current['revision']}, {_in_force(current)}"),
        ]
        if '"coding_seen": false' in str(current.get("definition")):
            facts.append(("Coding", "not seen for this revision; that of the revision before it is used"))
    if reminder:
        facts.append(("Check the source", reminder[0].upper() + reminder[1:]))
    facts.append(("Main definition (reading)", wording.reading(reading) + (f": {meaning}" if meaning else "")))
    return tuple(facts)


def _in_force(policy: Row) -> str:
    start, end = policy.get("in_force_from"), policy.get("in_force_to")
    words = f"in force from {day(start)}" if start else "no start date given"
    return f"{words}, until the day before {day(end)}" if end else words


def _whole(rates: Sequence[Row]) -> list[Row]:
    """The rows of England. A local policy has none: the rows of the one ICB that it applies to."""
    national = [row for row in rates if row["area_type"] == wording.NATIONAL]
    if national:
        return national
    boards = [row for row in rates if row["area_type"] == "icb"]
    return boards if len({row["area_code"] for row in boards}) == 1 else []


def _place_name(whole: Sequence[Row], partial: bool) -> str:
    if whole and whole[0]["area_type"] != wording.NATIONAL:
        return wording.area_name(whole[0])
    # With partial coverage the total is not England's, although its row says so.
    return "the whole extract" if partial else "England"


def _newest(whole: Iterable[Row]) -> list[Row]:
    """The single-year rows of the last year: a row for each revision, the newest revision first."""
    single = [row for row in whole if (row.get("period_years") or 1) == 1]
    last = max((str(row["financial_year"]) for row in single), default="")
    return sorted(
        (row for row in single if str(row["financial_year"]) == last),
        key=lambda row: str(row["revision"]),
        reverse=True,
    )


def _headline(newest: Sequence[Row], place: str, reading: str) -> str:
    if not newest:
        return f"This release has no figures for this policy under its main definition ({wording.reading(reading)})."
    sentences = []
    for row in newest:
        revision_text = f" under revision {row['revision']}" if len(newest) > 1 else ""
        if is_suppressed(row):
            sentences.append(
                f"In {place} in {row['financial_year']}, the number of records flagged{revision_text} is suppressed."
            )
            continue
        sentences.append(
            f"In {place} in {row['financial_year']}, {wording.count_in(row, 'activity')} "
            f"{'record was' if row.get('activity') == 1 else 'records were'} flagged{revision_text}: {_rate_words(row)}."
        )
    return " ".join(sentences)


def _rate_words(row: Row) -> str:
    if row.get("standardised_rate") is None:
        reason = wording.STATUSES.get(str(row.get("status")), "not calculated")
        words = f"no standardised rate ({reason})" if row.get("status") != "ok" else "no standardised rate"
        crude = row.get("crude_rate")
        return words if crude is None else f"{words}, a crude rate of {wording.rate(crude)} per 100,000 people"
    words = f"{wording.rate(row['standardised_rate'])} per 100,000 people, standardised by age and sex"
    return words if limits_of(row) is None else f"{words} (95% limits {wording.limits(row)})"


def _summary_row(title: str, newest: Sequence[Row], reading: str, footnotes: wording.Footnotes) -> tuple[str, ...]:
    if not newest:
        return (title, "–", "no data", "no data", "no data", wording.reading(reading), "no figures in this release")
    row = newest[0]
    status = wording.status(row, footnotes)
    if len(newest) > 1:
        status += f"; revision {row['revision']}, the newest of {len(newest)} that apply to this year"
    return (
        title,
        str(row["financial_year"]),
        wording.count_in(row, "activity"),
        wording.rate_in(row, "standardised_rate"),
        wording.limits(row) if row.get("standardised_rate") is not None else wording.reason_missing(row),
        wording.reading(reading),
        status,
    )


def _summary(policies: Sequence[PolicyView], partial: bool, footnotes: wording.Footnotes) -> Block:
    place = "the whole extract" if partial else "England"
    local = "" if partial else "; local policies cover their own ICB only"
    return Block(
        "grid",
        text=f"Flagged records in the latest year in {place}, using each policy's main definition{local}. "
        "Rates are standardised by age and sex, per 100,000 people.",
        head=("Policy", "Year", "Flagged", "Rate", "95% limits", "Reading", "Status"),
        rows=tuple(policy.summary for policy in policies),
        align="llrrrll",
        footnotes=tuple(footnotes.texts),
    )


def _clauses(policies: Sequence[Row], current: Row | None, reading: str) -> tuple[Block, ...]:
    if current is None:
        return (Block("text", text="This release does not have the policy's clauses."),)
    rows = []
    for clause in clauses_of(current):
        name = wording.in_words(clause.get("clause_id"))
        if clause.get("kind") == "scope":
            name += " (decides the scope)"
        coding = str(clause.get("coding") or "coded")
        undecided = "–"
        if clause.get("kind") not in ("scope", "note"):
            undecided = wording.MISSING.get(str(clause.get("missing")), "–")
        rows.append(
            (
                name,
                str(clause.get("words") or "–"),
                str(clause.get("test") or "cannot be coded"),
                undecided,
                wording.CODINGS.get(coding, coding),
                str(clause.get("because") or "–"),
            )
        )
    blocks = []
    if rows:
        blocks.append(
            Block(
                "grid",
                text=f"The clauses of revision {current['revision']}, {wording.reading(reading)}. A record in scope is "
                "flagged if it passes every clause.",
                head=("Clause", "The page's words", "Test", "If not recorded", "Coding", "Why it is coded this way"),
                rows=tuple(rows),
                align="lwcllw",
            )
        )
    else:
        blocks.append(Block("text", text="This release does not have the policy's clauses."))
    others = sorted(
        {(_start(row), str(row["revision"])) for row in policies} - {(_start(current), str(current["revision"]))}
    )
    if others:
        named = {str(row["revision"]): _in_force(row) for row in policies}
        blocks.append(
            Block("items", text="Other revisions:", items=tuple(f"{name}: {named[name]}" for _, name in others))
        )
    return tuple(blocks)


def _start(policy: Row) -> str:
    return str(policy.get("in_force_from") or "")


def _waterfall(own: dict[str, list[Row]], reading: str, anchor: str, title: str) -> tuple[Block, ...]:
    steps = [row for row in own["attrition"] if row.get("reading") == reading]
    if not steps:
        return (
            Block(
                "text",
                text="The release does not show how many records each clause removes for this policy's main definition.",
            ),
        )
    last = max(str(row["financial_year"]) for row in steps)
    latest = [row for row in steps if str(row["financial_year"]) == last]
    revisions = sorted({str(row["revision"]) for row in latest})
    blocks: list[Block] = []
    for revision in revisions:
        chosen = sorted((row for row in latest if str(row["revision"]) == revision), key=lambda row: int(row["step"]))
        revision_text = f", revision {revision}" if len(revisions) > 1 else ""
        blocks += chart_block(
            charts.attrition(
                chosen, key=f"{anchor}-waterfall-{slug(revision)}", title=f"{title}, {last}{revision_text}"
            ),
            f"How many records in scope each clause removes, and how many are left, {last}{revision_text}.",
        )
        blocks.append(
            Block(
                "grid",
                text=f"Every step, {last}{revision_text}. Records in = failed + not recorded (dropped because the record lacks the "
                "value that the clause needs) + left.",
                head=("Step", "Clause", "Records in", "Failed", "Not recorded", "Left"),
                rows=tuple(
                    (
                        str(row["step"]),
                        wording.in_words(row["clause_id"]) + (" (scope, from all records)" if row["step"] == 0 else ""),
                        *(
                            wording.count(row.get(name))
                            for name in ("records_in", "records_failed", "records_missing", "records_left")
                        ),
                    )
                    for row in chosen
                ),
                align="rlrrrr",
            )
        )
    if len({str(row["financial_year"]) for row in steps}) > 1:
        blocks.append(
            by_year(
                steps,
                label=lambda row: f"{row['step']}. {wording.in_words(row['clause_id'])}",
                order=lambda row: (int(row["step"]), str(row["clause_id"])),
                cell=lambda row: wording.count(row.get("records_left")),
                caption="Records left after each step, by year.",
                first="Step",
            )
        )
    return tuple(blocks)


def _near_misses(attrition: Sequence[Row], reading: str) -> tuple[Block, ...]:
    # Step 0 finds the records in scope. A record outside the scope cannot be a near miss.
    rows = [
        row
        for row in attrition
        if row.get("reading") == reading and row["step"] != 0 and row.get("near_miss") is not None
    ]
    if not rows:
        return (Block("text", text="No near misses are published for this policy's main definition."),)
    last = max(str(row["financial_year"]) for row in rows)
    total = sum(row["near_miss"] for row in rows if str(row["financial_year"]) == last)
    return (
        Block(
            "text",
            text=f"A near miss is a record in scope that failed exactly one clause, so it was not flagged. There were "
            f"{wording.count(total)} in {last}.",
        ),
        by_year(
            rows,
            label=lambda row: wording.in_words(row["clause_id"]),
            order=lambda row: (int(row["step"]), str(row["clause_id"])),
            cell=lambda row: wording.count(row.get("near_miss")),
            caption="Records that failed this clause and no other, by year.",
            first="Clause",
        ),
    )


def _readings(own: dict[str, list[Row]], anchor: str, title: str) -> tuple[Block, ...]:
    effects = own["reading_effect"]
    blocks: list[Block] = []
    if effects:
        known = list(wording.READINGS)

        def place(row: Row) -> tuple[Any, ...]:
            name = str(row["reading"])
            return (known.index(name) if name in known else len(known), name)

        last = max(str(row["financial_year"]) for row in effects)
        latest = [row for row in effects if str(row["financial_year"]) == last]
        revisions = sorted({str(row["revision"]) for row in latest})
        for revision in revisions:
            chosen = sorted((row for row in latest if str(row["revision"]) == revision), key=place)
            revision_text = f", revision {revision}" if len(revisions) > 1 else ""
            blocks += chart_block(
                charts.readings(
                    chosen, key=f"{anchor}-readings-{slug(revision)}", title=f"{title}, {last}{revision_text}"
                ),
                f"How many records each reading adds to and removes from those flagged as published, {last}{revision_text}.",
            )
            blocks.append(
                Block(
                    "grid",
                    text=f"The readings compared with the policy as published, {last}{revision_text}.",
                    head=("Reading", "What it means", "In scope", "Flagged", "As published", "Added", "Removed"),
                    rows=tuple(
                        (
                            wording.reading(row["reading"]) + (" (default)" if row.get("is_default_reading") else ""),
                            wording.READING_MEANINGS.get(str(row["reading"]), "–"),
                            *(
                                wording.count(row.get(name))
                                for name in ("in_scope", "flagged", "flagged_as_published", "added", "removed")
                            ),
                        )
                        for row in chosen
                    ),
                    align="lwrrrrr",
                )
            )
        if len({str(row["financial_year"]) for row in effects}) > 1:
            blocks.append(
                by_year(
                    effects,
                    label=lambda row: wording.reading(row["reading"]),
                    order=place,
                    cell=lambda row: wording.count(row.get("flagged")),
                    caption="Records flagged under each reading, by year.",
                    first="Reading",
                )
            )
    else:
        blocks.append(Block("text", text="No effects of the readings are published for this policy."))
    decisions = _decisions(own["policy"])
    if decisions:
        blocks.append(
            Block(
                "grid",
                text="The decisions that the other readings are based on",
                head=("Reading", "Decision", "Clause", "Test", "Coding", "Why"),
                rows=tuple(decisions),
                align="lllclw",
                fold=True,
            )
        )
    return tuple(blocks)


def _baseline(policy_id: str, effects: Sequence[Row]) -> tuple[Block, ...]:
    """Our count of each reading beside the activity that the source publishes, where the release has that year."""
    given = baselines().get(policy_id)
    if given is None:
        return ()
    counts: dict[str, int] = {}
    for reading in wording.READINGS:
        own = [
            row["flagged"]
            for row in effects
            if row["reading"] == reading
            and row["financial_year"] == given["financial_year"]
            and row.get("flagged") is not None
        ]
        if own:
            counts[reading] = sum(map(int, own))
    if not counts:
        return ()
    rate = f", {given['standardised_rate']} per 100,000" if "standardised_rate" in given else ""
    rows = [("Published by the source", f"{wording.count(given['records'])} {given['unit']}{rate}", "")]
    for found in compare(given, counts):
        ratio = "–" if found.ratio is None else f"{found.ratio:.2f}"
        nearest = " (nearest)" if found.nearest else ""
        rows.append((f"Ours, {wording.reading(found.reading)}{nearest}", wording.count(found.records), ratio))
    return (
        Block(
            "grid",
            text=f"Published activity beside ours, England, {given['financial_year']}. Source: {given['source']}.",
            head=("Count", "Records", "Ours ÷ published"),
            rows=tuple(rows),
            align="lrr",
        ),
    )


def _baseline_spread(policy_id: str, own: dict[str, list[Row]], reading: str) -> tuple[Block, ...]:
    """How areas differ as the source publishes it, beside ours: the shortest published period that has the source's year."""
    given = baselines().get(policy_id, {})
    areas = [row for row in own["variation"] if row.get("reading") == reading and row["area_type"] == "sub_icb"]
    period = nearest_period(given, areas) if set(SPREAD) <= set(given) else None
    if period is None:
        return ()
    england = [row for row in _whole(own["rate"]) if row.get("reading") == reading and row["period"] == period]
    rate = wording.rate_in(england[0], "standardised_rate") if england else "–"
    rows = [(f"Published by the source: CCGs, {given['financial_year']}", str(given["standardised_rate"]),
             *(str(given[name]) for name in SPREAD))]  # fmt: skip
    rows += [
        (f"Ours: sub-ICB locations, {period}, revision {row['revision']}", rate,
         *(wording.rate(row.get(name), "–") for name in SPREAD))
        for row in areas
        if row["period"] == period
    ]  # fmt: skip
    return (
        Block(
            "grid",
            text="How areas differed, as published and as here: England's standardised rate, N-fold (P90 divided by P10) and "
            "percentiles of the areas' rates, per 100,000. The areas, the standard population and the unit (episodes, spells) differ.",
            head=("Figures", "Rate", "N-fold", "P10", "P25", "P50", "P90"),
            rows=tuple(rows),
            align="lrrrrrr",
        ),
    )


def _sensitivity(rows: Sequence[Row]) -> tuple[Block, ...]:
    """A table for each revision and base reading of the latest year. The decision that changes most records is first."""
    if not rows:
        return (Block("text", text="No effects of single decisions are published for this policy."),)
    last = max(str(row["financial_year"]) for row in rows)
    latest = [row for row in rows if str(row["financial_year"]) == last]
    blocks = [
        Block(
            "text",
            text=f"What happens to the count if one coding decision at a time is changed, {last}. A decision that the reading "
            "does not make is made; a decision that it makes is undone. The effects of several decisions need not add up.",
        )
    ]
    several = len({str(row["revision"]) for row in latest}) > 1
    for revision, base in sorted(
        {(str(row["revision"]), str(row["base_reading"])) for row in latest},
        key=lambda item: (item[0], list(wording.READINGS).index(item[1])),
    ):
        chosen = [row for row in latest if (str(row["revision"]), str(row["base_reading"])) == (revision, base)]
        with_effect = [row for row in chosen if row["added"] or row["removed"]]
        without_effect = sorted(
            wording.in_words(row["decision"]) for row in chosen if not (row["added"] or row["removed"])
        )
        revision_text = f", revision {revision}" if several else ""
        start = f"From {wording.reading(base)}{revision_text}, {wording.count(chosen[0]['flagged'])} records flagged"
        if with_effect:
            with_effect.sort(key=lambda row: (-(row["added"] + row["removed"]), str(row["decision"])))
            blocks.append(
                Block(
                    "grid",
                    text=f"{start}.",
                    head=("Decision", "Change", "The source's words", "Why", "Adds", "Removes", "Then flagged"),
                    rows=tuple(
                        (
                            wording.in_words(row["decision"]),
                            str(row["direction"]),
                            str(row.get("words") or "–"),
                            str(row.get("because") or "–"),
                            *(wording.count(row.get(name)) for name in ("added", "removed", "flagged_flipped")),
                        )
                        for row in with_effect
                    ),
                    align="llwwrrr",
                )
            )
        else:
            blocks.append(Block("text", text=f"{start}: no single decision changes that."))
        if with_effect and without_effect:
            blocks.append(
                Block("text", text=f"Decisions that change nothing by themselves: {', '.join(without_effect)}.")
            )
    return tuple(blocks)


def _decisions(policies: Sequence[Row]) -> list[tuple[str, ...]]:
    """The clauses that a decision added or changed. Each is listed once, under the first reading that has it."""
    newest: dict[str, Row] = {}
    for row in policies:
        name = str(row["reading"])
        if name not in newest or (_start(row), str(row["revision"])) > (
            _start(newest[name]),
            str(newest[name]["revision"]),
        ):
            newest[name] = row
    known = list(wording.READINGS)
    ordered = sorted(newest, key=lambda name: (known.index(name) if name in known else len(known), name))
    seen: set[tuple[str, str]] = set()
    found: list[tuple[str, ...]] = []
    for name in ordered:
        for clause in clauses_of(newest[name]):
            decision = str(clause.get("decision") or "")
            key = (decision, str(clause.get("clause_id")))
            if not decision or key in seen:
                continue
            seen.add(key)
            coding = str(clause.get("coding") or "coded")
            found.append(
                (
                    wording.reading(name),
                    wording.in_words(decision),
                    wording.in_words(clause.get("clause_id")),
                    str(clause.get("test") or "cannot be coded"),
                    wording.CODINGS.get(coding, coding),
                    str(clause.get("because") or "–"),
                )
            )
    return found


# --- the release ------------------------------------------------------------------------------------------------------


def _provenance(manifest: Row) -> tuple[Block, ...]:
    """From the manifest's row: the code, configuration and table versions needed to reproduce the figures."""
    years = ", ".join(sorted(str(year) for year in listing(manifest.get("years"))))
    facts = [
        ("Release", str(manifest.get("release_id", "unknown"))),
        ("Published", wording.moment(manifest["released_at"]) if manifest.get("released_at") else "unknown"),
        ("Run", str(manifest.get("run_id") or "unknown")),
        ("Code version", str(manifest.get("code_version") or "unknown")),
        ("Configuration (fingerprint)", str(manifest.get("configuration") or "unknown")),
        ("Years", years or "none"),
        ("Coverage", _coverage(manifest.get("coverage"))),
        ("Areas", str(manifest.get("geography") or "unknown")),
        ("Disclosure control", _disclosure(manifest.get("disclosure"))),
    ]
    blocks = [Block("grid", text="The release.", head=("What", "Value"), rows=tuple(facts), align="ll")]
    fingerprints = mapping(manifest.get("policy_fingerprints"))
    if fingerprints:
        blocks.append(
            Block(
                "grid",
                text="Fingerprints of the policies. A fingerprint changes when a rule changes, not when only the layout of its file does.",
                head=("Policy, revision, reading", "Fingerprint"),
                rows=tuple((name.replace("/", ", "), str(value)) for name, value in sorted(fingerprints.items())),
                align="lc",
                fold=True,
            )
        )
    sources = mapping(manifest.get("sources"))
    if sources:
        blocks.append(
            Block(
                "grid",
                text="Delta versions of the gold tables that the release was made from.",
                head=("Table", "Version"),
                rows=tuple((name, str(value)) for name, value in sorted(sources.items())),
                align="lr",
            )
        )
    versions, sizes = mapping(manifest.get("versions")), mapping(manifest.get("tables"))
    if versions or sizes:
        blocks.append(
            Block(
                "grid",
                text="The published tables of the release.",
                head=("Table", "Rows", "Delta version"),
                rows=tuple(
                    (name, wording.count(sizes.get(name)), str(versions.get(name, "–")))
                    for name in sorted({*versions, *sizes})
                ),
                align="lrr",
            )
        )
    return tuple(blocks)


def _coverage(coverage: Any) -> str:
    return {
        "national": "national: the whole of England",
        "partial": "partial: an extract, so no figure here is for the whole of England",
    }.get(str(coverage), str(coverage or "unknown"))


def _disclosure(name: Any) -> str:
    """A disclosure rule and what it means. For a rule that this version does not know, only its name."""
    rule = disclosure_rules().get(str(name))
    if rule is None:
        return str(name or "unknown")
    words = [f"{name} ({rule['title']})"]
    if "withhold" in rule:
        words.append(
            f"counts of areas from {rule['withhold']['from']} to {rule['withhold']['to']} are suppressed"
            + (f", others are rounded to the nearest {rule['round_to']}" if rule.get("round_to", 1) > 1 else "")
            + ("; national figures are shown unchanged" if rule.get("national") == "stands" else "")
        )
    # Further texts of the rule.
    words += [str(rule[key]) for key in ("meaning", "protects", "notes") if isinstance(rule.get(key), str)]
    return ": ".join(words[:2]) + "".join(f". {more}" for more in words[2:])
