"""The report's part on monitoring: prior approval, the care around operations, what changed, and case-note audits."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from ebi_spark.pathway.code_lists import steps
from ebi_spark.pathway.definitions import definitions_after
from ebi_spark.policies.code_books import code_books
from ebi_spark.report import wording
from ebi_spark.report.blocks import LONG, Block, by_year_shown, hidden_names, split_hidden, stack, text
from ebi_spark.report.rows import Row, latest_year, position

TABLES = ("approval_summary", "pathway_summary", "activity_change", "measure_summary", "audit_estimate")

APPROVAL_CLASSES = {
    "approved_in_time": "Approved in time",
    "criteria_confirmed": "Criteria confirmed in time",
    "approved_expired": "Approval had expired",
    "approved_late": "Approved after the operation",
    "declined": "Declined",
    "pending": "Requested but not yet decided",
    "withdrawn": "Request withdrawn",
    "none_on_record": "No request on record",
    "ambiguous": "Several approvals, or one approval for several operations",
    "not_required": "Not required on the day",
    "regime_unknown": "Not known what the board asked for",
    "cannot_link": "Cannot be linked to a register",
}
MEASURES = {
    "levels": "Levels fused (proxy)",
    "approach": "Approach",
    "decompression": "Decompression in the same spell (proxy)",
}
WINDOWS = {
    "3_months": "3 months before",
    "6_months": "6 months before",
    "12_months": "12 months before",
    "at_operation": "At the operation",
    "index_spell": "In the spell",
    "90_days": "Within 90 days",
}
# The states of a step, each with the colour of its bar.
STATES = {"seen": "left", "not_seen": "removed", "cannot_be_seen": "dropped"}
EVENTS = {
    "readmission_within_30_days": "Emergency readmission, as a simple share of live discharges with 30 days of data",
    "readmission": "Emergency readmission",
    "further_operation": "Further fusion, revision or removal",
    "death_in_hospital": "Death in hospital",
    "alive_without_further_operation": "Alive without further operation",
}
ESTIMATES = {
    "positive_predictive_value": "Flagged records that the notes confirm, as a share",
    "missed_cases": "Records not flagged that the notes show to be missed cases, as a share",
    "not_codable_in_notes": "Flagged records whose notes show what no code can show, as a share",
    "corrected_share": "Records in scope that the notes confirm, as a share",
    "corrected_records": "Records in scope that the notes confirm",
    "rogan_gladen": "A check on this share, by Rogan and Gladen's formula from sensitivity and specificity",
    "sensitivity": "Confirmed records that are flagged, as a share (sensitivity)",
    "specificity": "Records not confirmed that are not flagged, as a share (specificity)",
    "kappa": "Agreement of two readers (kappa)",
}

USES = {
    "operation_outside_scope": "Lumbar fusions with a code outside the policy's scope",
    "non_dominant": "Lumbar fusions with a code of the scope that is not dominant",
    "unspecified": "Fusions whose code does not name the part of the spine",
}
DIMENSIONS = {"sex": "Sex", "age_group": "Age", "deprivation_fifth": "Deprivation fifth"}
GROUPS = {
    ("sex", "1"): "Male", ("sex", "2"): "Female", ("deprivation_fifth", "1"): "1 (most deprived)",
    ("deprivation_fifth", "5"): "5 (least deprived)", ("deprivation_fifth", "slope_index"): "Slope index of inequality",
}  # fmt: skip
LINKED = {
    "imaging_before_fusion": "Fusions with a scan of the lumbar spine in the 12 months before",
    "flagged_imaging_before_fusion": "Fusions with such a scan that the imaging policy flags",
    "repeat_imaging": "Scans of a person who had one in the 365 days before",
}

ARTICLE = (
    "The steps follow an article on fusion as first-line treatment. It is pending human review and is not NHS policy."
)
# Every figure of the pathway says so.
PENDING = "Article pending human review."
# The order in which classes are listed.
LEVELS = ("one", "two", "three_or_more", "not_stated", "ambiguous")
UNSEEN = (
    "“Cannot be seen” does not mean “no”: the data do not cover the whole window, or never record such care. "
    "Community physiotherapy, exercise, talking therapy outside outpatients and medicines can never be seen."
)
TRENDS = (
    "A rise or fall of one code alone is not a trend in care: from 2018-19 to 2023-24 the use of V54.4 (facet joint injection) fell while "
    "that of A73.5 (block of a nerve) rose. The use of T84.7 (infection of an implant) is not a trend either."
)
TRANSFERS = {"admission_source": "an admission source", "discharge_destination": "a discharge destination"}
DEATHS = "Deaths outside hospital are not in the data, so the share that died is too low."


def monitoring(
    own: dict[str, list[Row]], reading: str, newest: Sequence[Row], rule: Mapping[str, Any]
) -> tuple[Block, ...]:
    """The blocks of a policy's part. ``own`` has the policy's rows of :data:`TABLES`, ``newest`` England's rates of the last year,
    the newest revision first. ``rule`` is the disclosure rule; empty for one that this version does not know."""
    blocks = [
        *_approvals(own["approval_summary"]),
        *_pathway(own["pathway_summary"]),
        *_incidence(own["pathway_summary"]),
        *_changes(own["activity_change"]),
        *_measures(own.get("measure_summary", ())),
        *_audits(own["audit_estimate"], newest),
    ]
    if not blocks:
        return (text("This release has no monitoring figures for this policy."),)
    used = f"All figures are England's, using the policy's main definition ({wording.in_words(reading)}). {_suppressed(rule)}"
    return (text(used), *blocks)


def _suppressed(rule: Mapping[str, Any]) -> str:
    rounded = "Counts are rounded. " if rule.get("round_to", 1) > 1 else ""
    small = f"below {rule['withhold']['to'] + 1}" if rule else "small"
    return f"{rounded}In this part [c] means that a count is {small}, or that it would reveal such a count."


def _approvals(rows: Sequence[Row]) -> Iterable[Block]:
    if not rows:
        return
    yield from _by_year(
        rows,
        label=lambda row: APPROVAL_CLASSES.get(row["match_class"], wording.in_words(row["match_class"])),
        order=lambda row: (position(row["match_class"], APPROVAL_CLASSES),),
        cell=_count,
        caption="Prior approval: operations in scope by the result of looking them up in the registers of approvals, by year.",
        first="On the day of the operation",
    )
    latest = max(rows, key=lambda row: str(row["financial_year"]))
    boards = [wording.board(code) for code in str(latest.get("boards") or "").split(",") if code]
    if boards:
        yield text(
            f"For {latest['financial_year']} the registers of {len(boards)} boards are known: {wording.listed(boards)}. Operations "
            "of other boards cannot be linked. An operation without an approval on record is a question for the board, not proof "
            "that none was given."
        )
    if any(row["status"] == "sub_national" for row in rows):
        yield text(
            "“Too few boards” means that the figures would be those of one board, or that one board could be worked out from them.",
        )


def _by_year(rows: Sequence[Row], **given: Any) -> list[Block]:
    """A table by year of all revisions together; what is suppressed in every year is named below it."""
    rows = [row | {"revision": None} for row in rows]
    return by_year_shown(rows, is_hidden=_is_hidden, words="Suppressed in every year", **given)


def _share(share: float | None) -> str:
    return wording.HIDDEN if share is None else f"{wording.rate(100 * share)}%"


def _is_hidden(row: Row) -> bool:
    return row.get("status") == "withheld"


def _count(row: Row) -> str:
    words = {"withheld": wording.HIDDEN, "sub_national": "too few boards"}
    return words.get(str(row.get("status")), wording.count(row.get("operations")))


ALGORITHM = {
    "confirm": "1. Confirm the diagnosis",
    "conservative_care": "2. Conservative care for 3 to 6 months",
    "reassess": "3. Reassess",
    "proceed": "4. Proceed to fusion",
}


def _pathway(rows: Sequence[Row]) -> Iterable[Block]:
    by_period = [row for row in rows if row["kind"] != "incidence"]
    if not by_period:
        return
    last, latest = latest_year(by_period)
    yield text(f"The care around the operation. {ARTICLE}")
    yield from _algorithm(latest, last)
    yield from _steps([row for row in latest if row["kind"] == "step"], last)
    yield text(UNSEEN)
    classes = [row for row in by_period if row["measure"] in MEASURES]
    if classes:
        yield from _by_year(
            classes,
            label=lambda row: f"{MEASURES[row['measure']]}: {wording.in_words(row['class'])}",
            order=lambda row: (
                position(row["measure"], MEASURES),
                position(row["class"], LEVELS),
                str(row["class"]),
            ),
            cell=_count,
            caption=f"Levels, approach and decompression, by year. {PENDING}",
            first="Fusions",
        )
    yield text(TRENDS)


def _algorithm(latest: Sequence[Row], last: str) -> Iterable[Block]:
    """The last step of the algorithm that was seen, in the latest year."""
    reached = {row["class"]: row.get("share") for row in latest if row["measure"] == "algorithm_step"}
    if any(share is not None for share in reached.values()):
        yield Block(
            "grid",
            text=f"How far the data show that fusions followed the article's algorithm: the last step seen, {last}. {PENDING}",
            head=("Last step seen", "", "Share of fusions"),
            rows=tuple(
                (words, stack([("left", reached.get(name) or 0)], 1), _share(reached.get(name)))
                for name, words in ALGORITHM.items()
            ),
            align="lbr",
        )


def _steps(rows: Sequence[Row], last: str) -> Iterable[Block]:
    """Each step of the care in the latest year, and what is suppressed."""
    listed = _ordered(rows)
    never = {row["measure"] for row in listed if row["class"] == "cannot_be_seen" and row.get("share") == 1}
    if never:
        yield text(
            "The algorithm cannot be decided in full for any fusion, because these data never show: "
            f"{'; '.join(sorted(title[:1].lower() + title[1:] for title in map(_title, never)))}."
        )
    listed, hidden = split_hidden(listed, _step, _is_hidden)
    if listed:
        yield Block(
            "grid",
            text=f"Each step of the care before, at and after the operation, {last}: fusions for which it is seen (dark), not seen "
            f"(pale) or cannot be seen (hatched). {PENDING}",
            head=("Step", "", *(wording.in_words(name).capitalize() for name in STATES), "Of fusions"),
            rows=tuple(
                (
                    _step(states[0]),
                    stack([(STATES[row["class"]], row.get("share") or 0) for row in states], 1),
                    *(next((_count(row) for row in states if row["class"] == name), "–") for name in STATES),
                    wording.count(states[0].get("of_operations")),
                )
                for states in _grouped(listed)
            ),
            align="lbrrrr",
            long=len(_grouped(listed)) > LONG,
        )
    yield from hidden_names("Suppressed", hidden)


def _ordered(steps: Sequence[Row]) -> list[Row]:
    return sorted(
        steps,
        key=lambda row: (position(row["window"], WINDOWS), _title(row["measure"]), position(row["class"], STATES)),
    )


def _grouped(steps: Sequence[Row]) -> list[list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in steps:
        found.setdefault((str(row["window"]), str(row["measure"])), []).append(row)
    return list(found.values())


@cache
def _titles() -> dict[str, str]:
    """What each step is called, from the definitions of the steps."""
    return {step["id"]: step["title"] for step in (*steps(), *definitions_after()["steps"])}


def _title(measure: Any) -> str:
    return _titles().get(str(measure), wording.in_words(measure).capitalize())


def _step(row: Row) -> str:
    window = WINDOWS.get(str(row["window"]), wording.in_words(row["window"]))
    return f"{_title(row['measure'])} ({window[0].lower()}{window[1:]})"


def _incidence(rows: Sequence[Row]) -> Iterable[Block]:
    given = [row for row in rows if row["kind"] == "incidence"]
    if not given:
        return
    days = sorted({int(row["day"]) for row in given})
    events = [name for name in EVENTS if any(row["measure"] == name for row in given)]
    events += sorted({str(row["measure"]) for row in given} - set(events))

    def cell(event: str, day: int) -> str:
        row = next((row for row in given if row["measure"] == event and int(row["day"]) == day), None)
        if row is None or row.get("share") is None:
            return "–" if row is None else wording.HIDDEN
        share, lower, upper = (wording.rate(100 * row[name]) for name in ("share", "share_lower", "share_upper"))
        return f"{share}% ({lower} to {upper})"

    period = wording.period(given[0])
    yield Block(
        "grid",
        text=f"What happened later, {period}: the share with the event by each day, with 95% limits. Readmissions are counted "
        "from discharge, among patients who left hospital alive; other events from the operation, among all fusions. The estimate "
        "allows for fusions that the data follow for fewer days. "
        f"{PENDING}",
        head=("Event", *(f"{day} days" for day in days)),
        rows=tuple(
            (EVENTS.get(event, wording.in_words(event)), *(cell(event, day) for day in days)) for event in events
        ),
        align="l" + "r" * len(days),
    )
    yield text(DEATHS)
    yield from _transfers(given)


def _transfers(rows: Sequence[Row]) -> Iterable[Block]:
    """What the data lack to find every transfer, if anything."""
    deciding = next((str(row["transfers_by"]).split(",") for row in rows if row.get("transfers_by")), list(TRANSFERS))
    missing = [words for name, words in TRANSFERS.items() if name not in deciding]
    if missing:
        alone = "alone decides" if len(missing) == len(TRANSFERS) else "and the other of the two decide"
        yield text(
            f"No spell in the data has {' or '.join(missing)}, so the admission method {alone} what a transfer between hospitals is. "
            "A transfer that it does not show ends a stay too early, and can count as a readmission."
        )


# From the widest count to the flagged records.
FACTORS = ("people", "operations_per_person", "in_scope", "primary_diagnosis", "no_exclusion", "flagged", "revision")


def _changes(rows: Sequence[Row]) -> Iterable[Block]:
    if not rows:
        return
    # The latest year, and the year before it where there is one.
    last = max((str(row["period_to"]), str(row["period_from"]), str(row["revision"])) for row in rows)
    chosen = [row for row in rows if (str(row["period_to"]), str(row["period_from"]), str(row["revision"])) == last]
    caption = f"Why the number of flagged records changed from {last[1]} to {last[0]}, with revision {last[2]} applied to both years"
    records: dict[str, Any] = {row["component"]: row.get("records") for row in chosen}
    totals = ("total_from", "total_to")
    parts = sorted(
        (name for name in records if name not in totals),
        key=lambda name: (position(name, FACTORS), name),
    )
    if not parts or any(records.get(name) is None for name in (*totals, *parts)):
        yield text(f"{caption}: the parts are suppressed, because one of the counts that they are made from is small.")
        return
    level = float(records["total_from"])
    most = level + sum(max(0.0, float(records[name])) for name in parts) or 1.0
    lines = [(f"Flagged in {last[1]}", stack([("left", level)], most), wording.count(level))]
    for name in parts:
        added = float(records[name])
        # Fewer flagged records are an improvement, more are a concern.
        bar = stack(
            [("concern" if added > 0 else "improvement", abs(added))], most, max(0.0, min(level, level + added))
        )
        lines.append((wording.in_words(name).capitalize(), bar, f"{added:+,.0f}".replace("-", "−")))
        level += added
    end = float(records["total_to"])
    lines.append((f"Flagged in {last[0]}", stack([("left", end)], most), wording.count(end)))
    yield Block(
        "grid",
        text=f"{caption}. The parts add up to the change, whatever their order.",
        head=("Part", "", "Records"),
        rows=tuple(lines),
        align="lbr",
    )
    if any(row.get("notes") for row in chosen):
        yield text("A factor that is 0 divided by 0 in one of the years has the value of the other year.")


def _diagnosis(code: str) -> str:
    """A code of ICD-10 with its title."""
    title = code_books()["icd10"].title(code)
    return f"{code} ({title})" if title else code


def _group(row: Row) -> tuple[int, float, str]:
    """The place of a group of people in a table: ages and fifths by their numbers."""
    number = re.match(r"\d+", str(row["class"]))
    return position(row["measure"], DIMENSIONS), float(number[0]) if number else math.inf, str(row["class"])


def _measures(rows: Sequence[Row]) -> Iterable[Block]:
    """Codes recorded instead, groups of people, and measures over records that are linked by person."""
    yield from _code_uses([row for row in rows if row["kind"] == "code_use"])
    if groups := [row for row in rows if row["kind"] == "equality"]:
        yield _groups(groups)
    if linked := [row for row in rows if row["kind"] == "linked"]:
        yield _linked(linked)


def _code_uses(rows: Sequence[Row]) -> Iterable[Block]:
    other = [row for row in rows if row["measure"] in USES]
    if other:
        yield from _by_year(
            other,
            label=lambda row: USES[row["measure"]],
            order=lambda row: (position(row["measure"], USES),),
            cell=_records,
            caption="Other codes that may be recorded instead of the policy's, by year.",
            first="Records",
        )
    diagnoses = [row for row in rows if row["measure"] == "primary_diagnosis"]
    if diagnoses:
        words = {"other": "any other", "required": "one that the policy requires"}
        yield from _by_year(
            diagnoses,
            label=lambda row: words.get(str(row["class"])) or _diagnosis(str(row["class"])),
            order=lambda row: (row["class"] == "other", row["class"]),
            cell=_records,
            caption="The primary diagnosis of operations in scope, by year. A rare code is among “any other”.",
            first="Primary diagnosis",
        )


def _groups(rows: Sequence[Row]) -> Block:
    ordered = sorted(rows, key=_group)
    return Block(
        "grid",
        text=f"Flagged records by groups of people, {wording.period(ordered[0])}, per 100,000 a year, with 95% limits. Rates by sex "
        "are standardised for age, rates by deprivation for age and sex; rates by age are not. A difference between groups is a question.",
        head=("Group", "Records", "Rate"),
        rows=tuple(
            (
                f"{DIMENSIONS[row['measure']]}: {GROUPS.get((row['measure'], row['class']), row['class'])}",
                _records(row),
                _with_limits(row, 1, ""),
            )
            for row in ordered
        ),
        align="lrr",
    )


def _linked(rows: Sequence[Row]) -> Block:
    ordered = sorted(rows, key=lambda row: (position(row["measure"], LINKED), row["class"]))
    return Block(
        "grid",
        text=f"Imaging, from records that are linked by person, {wording.period(ordered[0])}, with 95% limits. No code says why a scan "
        "was done. A record is included only if the data cover the whole time before it.",
        head=("Measure", "Of", "Records", "Of records", "Share"),
        rows=tuple(
            (
                LINKED.get(row["measure"], wording.in_words(row["measure"])),
                f"{row['class']} records",
                _records(row),
                _records(row, "of_records"),
                _with_limits(row, 100, "%"),
            )
            for row in ordered
        ),
        align="llrrr",
    )


def _records(row: Row, name: str = "records") -> str:
    return wording.count(row.get(name)) if row["status"] == "ok" else wording.HIDDEN


def _with_limits(row: Row, times: float, unit: str) -> str:
    """A figure with its limits, if it has any, multiplied by a number."""
    if row["status"] != "ok":
        return wording.HIDDEN
    if row.get("value") is None:
        return "–"
    shown, lower, upper = (
        None if row.get(name) is None else wording.rate(times * row[name]) for name in ("value", "lower", "upper")
    )
    return f"{shown}{unit}" + (f" ({lower} to {upper})" if lower is not None else "")


def _audits(rows: Sequence[Row], newest: Sequence[Row]) -> Iterable[Block]:
    if not rows:
        return

    def figure(row: Row, name: str) -> str:
        value = row.get(name)
        if value is None:
            return {"withheld": wording.HIDDEN, "ok": "–"}.get(row["status"], str(row["status"]))
        return wording.count(value) if abs(value) > 1 else f"{value:.2f}"

    yield Block(
        "grid",
        text="Case-note audits: what the readers of the notes found, with 95% limits. In the worst case every record without an "
        "answer counts as no, in the best case as yes.",
        head=("Estimate", "Of", "Estimate", "95% limits", "Worst to best", "Forms", "Method"),
        rows=tuple(
            (
                ESTIMATES.get(str(row["measure"]), wording.in_words(row["measure"])),
                wording.in_words(row["part"]).replace("clause:", "clause "),
                figure(row, "estimate"),
                f"{figure(row, 'lower')} to {figure(row, 'upper')}" if row.get("lower") is not None else "–",
                f"{figure(row, 'worst')} to {figure(row, 'best')}" if row.get("worst") is not None else "–",
                wording.count(row.get("forms")),
                wording.in_words(row.get("method") or "–"),
            )
            for row in sorted(
                rows,
                key=lambda row: (
                    str(row["audit_id"]),
                    position(row["measure"], ESTIMATES),
                    row["part"] != "overall",
                    str(row["part"]),
                ),
            )
        ),
        align="wlrrrrl",
    )
    words = (
        "An audit's estimate is about records in the policy's scope at the audited providers, in the audited years. It does not "
        "replace the published rate."
    )
    for row in newest[:1]:
        words += (
            f" The published figure for {row['financial_year']} is {wording.count_in(row, 'activity')} flagged records"
            f" ({wording.rate_in(row, 'standardised_rate')} per 100,000)."
        )
    yield text(words)
