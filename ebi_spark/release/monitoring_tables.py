"""Published tables of monitoring: prior approval, the care around operations, what changed, and case-note audits.

All of them are national: of national policies, in each policy's default reading (an audit: in the reading of its draw). They are made
on the driver from grouped counts of gold, one query for each table, and never from records. What is withheld, and why it cannot be
worked out, is in :mod:`ebi_spark.release.one_way_suppression` and ``docs/disclosure.md``.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ebi_spark.approvals.match import MATCH_CLASSES
from ebi_spark.config.settings import RunConfig
from ebi_spark.financial_years import period_of
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.pathway.definitions import definitions as pathway_definitions
from ebi_spark.pathway.incidence import ALIVE_WITHOUT, DEATH, FURTHER_OPERATION, READMISSION, WITHIN_30_DAYS
from ebi_spark.rates.activity_change import definitions
from ebi_spark.release.kept_releases import WITHHELD, Earlier
from ebi_spark.release.measure_summary import code_use, equality, linked
from ebi_spark.release.one_way_suppression import withheld_classes
from ebi_spark.release.rounding import to_unit
from ebi_spark.release.suppression import Thresholds
from ebi_spark.statistics.decomposition import rounded
from ebi_spark.tables.gold import ACTIVITY_RATE, POLICY
from ebi_spark.tables.monitoring import (
    ACTIVITY_CHANGE,
    APPROVAL_MATCH,
    APPROVAL_SUMMARY,
    AUDIT_ESTIMATE,
    AUDIT_SAMPLE,
    CODE_USE,
    EQUALITY_RATE,
    LINKED_MEASURE,
    MEASURE_SUMMARY,
    PATHWAY,
    PATHWAY_INCIDENCE,
    PATHWAY_STEP,
    PATHWAY_SUMMARY,
    PUBLISHED_ACTIVITY_CHANGE,
    PUBLISHED_AUDIT_ESTIMATE,
    PUBLISHED_MONITORING,
)
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.table import YEAR, Table

Row = dict[str, Any]

SUB_NATIONAL = "sub_national"
# Classes of operations that are not linked. All other classes are linked: they are based on the boards with a register.
NOT_LINKED = ("cannot_link",)
LINKED = tuple(name for name in MATCH_CLASSES if name not in NOT_LINKED)
# Classes that are about the data only, so that their 0 says nothing about a patient.
UNINFORMATIVE = ("cannot_link", "regime_unknown", "cannot_be_seen")
STATES = ("seen", "not_seen", "cannot_be_seen")
CLASSES = {
    "levels": ("one", "two", "three_or_more", "not_stated", "ambiguous"),
    "approach": ("posterior", "anterior", "lateral", "combined", "not_stated"),
    "decompression": ("seen", "not_seen"),
    "algorithm_step": ("confirm", "conservative_care", "reassess", "proceed"),
}
# Windows of steps that are published by year, from the shortest to the longest: first those before the operation, then those after.
# Later events are published only as an incidence over all years: a reader who had both could subtract one from the other.
YEARLY_WINDOWS = ("3_months", "6_months", "12_months", "at_operation", "index_spell", "90_days")
COUNTED_AS_INCIDENCE = re.compile("death|died|readmission|readmitted|further|revision|removal")
# A part of a step whose id does not begin with that of the step.
PART_OF = {"imaging_then_injection": "lumbar_imaging"}
INCIDENCE_DAYS = (30, 90, 365, 730)
# The event ALIVE_WITHOUT is made of these two. It is published only if both are, because otherwise it would reveal one of them.
PARTS_OF_ALIVE = (FURTHER_OPERATION, DEATH)
FACTORS = ("people", "operations_per_person", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
TOTALS = ("total_from", "total_to")
# Shares of an audit that are published. Kappa and what follows are published too; others, such as sample sizes, are in gold only.
MISSED = "missed_cases"
SHARES = ("positive_predictive_value", MISSED, "not_codable_in_notes")
# Made of the first two shares and England's counts, so that any one of these and one share reveal the other share.
CORRECTED_SHARES, CORRECTED_COUNTS = (
    ("corrected_share", "sensitivity", "specificity", "rogan_gladen"),
    ("corrected_records",),
)
KAPPA, LEAST_DOUBLE_READINGS = "kappa", 30
CENSUS = "census"
OVERALL, CLAUSE = "overall", "clause:"


def published_monitoring(
    lake: LocalLake, config: RunConfig, rule: Mapping[str, Any], geography: str
) -> dict[Table, list[Row]]:
    """The rows of each published table of monitoring, without ``release_id``. Empty under partial coverage.

    ``geography``: the version of the areas, whose boards are all boards of England.
    """
    found: dict[Table, list[Row]] = {table: [] for table in PUBLISHED_MONITORING}
    if config.coverage == "partial":
        return found
    thresholds = Thresholds.from_rule(dict(rule))
    policies = lake.small_rows(POLICY, ["policy_id", "boards", "reading", "is_default_reading"])
    default = {(row["policy_id"], row["reading"]) for row in policies if row["is_default_reading"]}
    national = {row["policy_id"] for row in policies if row["boards"] is None}
    every_board = {row["icb_code"] for row in read_geography(geography).areas.values()}
    releases = [row["release_id"] for row in lake.small_rows(RELEASE, ["release_id"])] if lake.exists(RELEASE) else []

    def earlier(table: Table) -> Earlier:
        if not releases or not lake.exists(table):
            return Earlier()
        return Earlier(lake.small_rows(table, table.names(), {"release_id": releases}))

    def grouped(table: Table, by: Sequence[str]) -> list[Row]:
        return [row for row in lake.grouped(table, by) if row["policy_id"] in national]

    def small(table: Table) -> list[Row]:
        return [row for row in lake.small_rows(table, table.names()) if row["policy_id"] in national]

    operation = ["policy_id", "revision", "reading", YEAR]
    matched = grouped(APPROVAL_MATCH, [*operation, "board", "match_class"])
    found[APPROVAL_SUMMARY] = approval_summary(matched, earlier(APPROVAL_SUMMARY), every_board, thresholds)
    found[PATHWAY_SUMMARY] = pathway_summary(
        grouped(PATHWAY, [*operation, *CLASSES]),
        grouped(PATHWAY_STEP, ["policy_id", YEAR, "step_id", "window", "state"]),
        small(PATHWAY_INCIDENCE),
        earlier(PATHWAY_SUMMARY),
        thresholds,
    )
    changes = lake.small_rows(ACTIVITY_CHANGE, ACTIVITY_CHANGE.names(), {"area_type": ["england"]})
    found[PUBLISHED_ACTIVITY_CHANGE] = activity_change(
        [row for row in changes if row["policy_id"] in national], earlier(PUBLISHED_ACTIVITY_CHANGE), thresholds
    )
    kept = earlier(MEASURE_SUMMARY)
    of_year: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in matched:
        of_year[row["policy_id"], row[YEAR]].append(row)
    found[MEASURE_SUMMARY] = [
        *code_use(
            [row for row in small(CODE_USE) if (row["policy_id"], row[YEAR]) in of_year],
            {key: _definition(rows) for key, rows in of_year.items()},
            [*definitions()["primary_diagnosis"]["codes"]],
            kept,
            thresholds,
        ),
        *equality(small(EQUALITY_RATE), kept, thresholds),
        *linked(
            small(LINKED_MEASURE),
            kept,
            thresholds,
            sums_of_withheld_years([*found[PATHWAY_SUMMARY], *earlier(PATHWAY_SUMMARY).rows]),
        ),
    ]
    # One reading only: audits by two readings would be two tables of the same patients.
    estimates = [
        row
        for row in lake.small_rows(AUDIT_ESTIMATE, AUDIT_ESTIMATE.names())
        if row["policy_id"] in national and (row["policy_id"], row["reading"]) in default
    ]
    if estimates:
        sampled = grouped(AUDIT_SAMPLE, ["audit_id", "policy_id", YEAR, "provider_code"])
        rated = lake.grouped(
            ACTIVITY_RATE, ["policy_id", YEAR, "area_code"], where={"area_type": ["provider"], "period_years": [1]}
        )
        of_england = audits_of_england(sampled, rated)
        found[PUBLISHED_AUDIT_ESTIMATE] = audit_estimate(
            [row for row in estimates if row["audit_id"] in of_england],
            earlier(PUBLISHED_AUDIT_ESTIMATE),
            thresholds,
        )
    name = config.disclosure
    return {table: [row | {"disclosure": name} for row in rows] for table, rows in found.items()}


def sums_of_withheld_years(summary: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The policies and linked measures that add up a step over all years, if one of these years is withheld: it could be worked out
    from the sum and the other years. ``summary``: rows of ``published/pathway_summary`` of this release and of kept ones."""
    withheld = {(row["policy_id"], row["measure"], row["window"]) for row in summary if row["status"] == WITHHELD}
    found: set[tuple[str, str]] = set()
    for item in pathway_definitions()["measures"]:
        if "step" in item:
            found |= {
                (policy, item["id"])
                for policy, step, window in withheld
                if (step, window) == (item["step"], item["window"])
            }
            # What such a measure is a share of is the sum of another one.
            found |= {(policy, item["id"]) for policy, measure in found if measure == item.get("of")}
    return found


# Prior approval


def approval_summary(
    counted: Sequence[Row], earlier: Earlier, every_board: Collection[str], rule: Thresholds
) -> list[Row]:
    """The operations of each policy and year by match class.

    ``counted``: the number of ``rows`` of ``gold/approval_match`` by policy, revision, reading, year, ``board`` and
    ``match_class``. The linked classes are based on the boards with a register. They are published only if there are two or more of
    these boards and they are all boards of England or at least two fewer; if they are the same in all kept releases; and if no other
    policy's boards of that year differ from them by one. Otherwise the status is ``sub_national``. A policy and year without a
    linked operation has no rows.
    """
    years: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in counted:
        years[row["policy_id"], row[YEAR]].append(row)
    boards = {key: _boards(rows) for key, rows in years.items()}
    found: list[Row] = []
    for (policy, year), rows in sorted(years.items()):
        own = boards[policy, year]
        counts = Counter(dict.fromkeys(MATCH_CLASSES, 0))
        for row in rows:
            counts[row["match_class"]] += row["rows"]
        if not any(counts[name] for name in LINKED):
            continue
        known = earlier.boards(year)
        others = {boards[key] for key in boards if key[1] == year and key[0] != policy}
        others |= {seen for other, sets in known.items() if other != policy for seen in sets}
        national = (
            len(own) > 1
            and len(set(every_board) - own) != 1
            and known.get(policy, {own}) == {own}
            and not any(len(own ^ other) == 1 for other in others)
        )
        key = {"policy_id": policy, YEAR: year}
        labels = _definition(rows) | key
        if not national:
            nothing = {"boards": None, "operations": None, "of_operations": None, "share": None}
            found += [labels | nothing | {"match_class": name, "status": SUB_NATIONAL} for name in MATCH_CLASSES]
            continue
        hidden = _hidden(counts, labels, "match_class", earlier, key, rule, totals=[LINKED])
        labels["boards"] = ",".join(sorted(own))
        found += _class_rows(counts, hidden, labels, "match_class", rule)
    return found


def _boards(rows: Iterable[Row]) -> frozenset[str]:
    """The boards of linked operations."""
    return frozenset(str(row["board"]) for row in rows if row["match_class"] in LINKED and row["board"] is not None)


# The care around the operation


def pathway_summary(
    fusions: Sequence[Row], steps: Sequence[Row], incidence: Sequence[Row], earlier: Earlier, rule: Thresholds
) -> list[Row]:
    """Fusions by step and window, by level, approach and so on, and the incidence of later events.

    ``fusions``: the number of ``rows`` of ``gold/pathway`` by policy, revision, reading, year and the columns of
    :data:`CLASSES`. ``steps``: the number of ``rows`` of ``gold/pathway_step`` by policy, year, ``step_id``, ``window`` and
    ``state``. ``incidence``: rows of ``gold/pathway_incidence``.
    """
    years: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in fusions:
        years[row["policy_id"], row[YEAR]].append(row)
    tables: dict[tuple[str, str], dict[_Step, Counter[str]]] = defaultdict(dict)
    for key, rows in years.items():
        for measure, classes in CLASSES.items():
            counts = tables[key].setdefault(("class", measure, None), Counter(dict.fromkeys(classes, 0)))
            for row in rows:
                counts[_class_of(measure, row[measure])] += row["rows"]
    for row in steps:
        key, step = (row["policy_id"], row[YEAR]), row["step_id"]
        if key in years and row["window"] in YEARLY_WINDOWS and not COUNTED_AS_INCIDENCE.search(step):
            counts = tables[key].setdefault(("step", step, row["window"]), Counter(dict.fromkeys(STATES, 0)))
            counts[row["state"]] += row["rows"]
    found: list[Row] = []
    for key in sorted(tables):
        labels = _definition(years[key]) | dict.fromkeys(
            ("day", "share_lower", "share_upper", "at_risk", "transfers_by")
        )
        identities = {
            of: {
                "policy_id": key[0],
                YEAR: key[1],
                "period": key[1],
                **dict(zip(("kind", "measure", "window"), of, strict=True)),
            }
            for of in sorted(tables[key], key=str)
        }
        hidden = {
            of: _hidden(tables[key][of], labels, "class", earlier, identity, rule)
            for of, identity in identities.items()
        }
        _withhold_related(tables[key], hidden, rule)
        for group in _related(identities):
            if any(
                (hidden[of] - earlier.withheld(identities[of], "class")) & earlier.shown(identities[of], "class")
                for of in group
            ):
                hidden |= {of: frozenset(tables[key][of]) for of in group}
        for of, identity in identities.items():
            found += _class_rows(tables[key][of], hidden[of], labels | identity, "class", rule)
    for policy in sorted({row["policy_id"] for row in fusions}):
        own = [row for row in fusions if row["policy_id"] == policy]
        covered = sorted({row[YEAR] for row in own})
        labels = _definition(own) | {
            "policy_id": policy,
            YEAR: covered[-1],
            "period": period_of(covered),
        }
        of_policy = [row for row in incidence if row["policy_id"] == policy and row["group"] == "all"]
        found += _incidence(of_policy, labels, earlier, rule)
    return found


_Step = tuple[str, str, str | None]


def _withhold_related(
    tables: Mapping[_Step, Counter[str]], hidden: dict[_Step, frozenset[str]], rule: Thresholds
) -> None:
    """Withhold more steps, as a whole, because the possible values of a withheld step could be narrowed by them.

    What is seen in 3 months is seen in 6 and 12. So where a window of a step has withheld classes, only the longest window is
    shown. The id of a part of a step begins with that of the step: ``stenosis_with_instability`` and
    ``stenosis_without_instability`` are parts of ``stenosis``. If one part is withheld, or the number in no part is small, a second
    part is withheld too, so that it is not the difference. If the step itself is withheld, so are all its parts.
    """
    before = None
    while before != hidden:
        before = dict(hidden)
        for kind, step, window in [of for of in tables if of[0] == "step"]:
            windows = [name for name in YEARLY_WINDOWS if (kind, step, name) in tables]
            if window != windows[-1] and any(hidden[kind, step, name] for name in windows):
                hidden[kind, step, window] = frozenset(STATES)
            parts = [of for of in tables if _is_part(of[1], step) and (of[0], of[2]) == (kind, window)]
            if hidden[kind, step, window]:
                hidden |= {of: frozenset(STATES) for of in parts}
            elif parts:
                seen = {of[1]: tables[of]["seen"] for of in parts}
                rest = tables[kind, step, window]["seen"] - sum(seen.values())
                chosen = withheld_classes(
                    seen | ({"": rest} if rest > 0 else {}), rule, earlier=[of[1] for of in parts if hidden[of]]
                )
                hidden |= {of: frozenset(STATES) for of in parts if of[1] in chosen}


def _related(steps: Iterable[_Step]) -> list[list[_Step]]:
    """The steps in groups: all windows of a step and of its parts. Anything else is a group of its own."""
    groups: dict[tuple[str, str], list[_Step]] = defaultdict(list)
    listed = list(steps)
    for of in listed:
        wholes = [other[1] for other in listed if other[0] == of[0] and _is_part(of[1], other[1])]
        groups[of[0], min(wholes, key=len, default=of[1])].append(of)
    return list(groups.values())


def _is_part(step: str, whole: str) -> bool:
    return step.startswith(f"{whole}_") or PART_OF.get(step) == whole


def _class_of(measure: str, value: Any) -> str:
    if measure == "decompression":
        return "seen" if value else "not_seen"
    return "not_stated" if value is None else str(value)


def _incidence(rows: Sequence[Row], labels: Row, earlier: Earlier, rule: Thresholds) -> list[Row]:
    """The incidence of each event on the days of :data:`INCIDENCE_DAYS`.

    A day is withheld if fewer than 8 fusions have the event by then, are still at risk, or do not have the event; if fewer
    than 8 had it since the last published day; if a kept release withholds it; or if a kept release gives a number for other
    years that is too near. Readmission within 30 days is withheld too if its difference from the curve on that day is about few
    discharges. The estimate is rounded to the share of 5 fusions, and its limits outwards.
    """
    found: dict[tuple[str, int], Row] = {}
    for event in sorted({row["event"] for row in rows}, key=lambda name: (name == ALIVE_WITHOUT, name)):
        curve = sorted((row for row in rows if row["event"] == event), key=lambda row: row["day"])
        start, last = int(curve[0]["at_risk"]), 0
        for day in INCIDENCE_DAYS[:1] if event == WITHIN_30_DAYS else INCIDENCE_DAYS:
            until = [row for row in curve if row["day"] <= day]
            events = sum(int(row["events"]) for row in until)
            at_risk = next((int(row["at_risk"]) for row in curve if row["day"] >= day), 0)
            small = min(events - last, at_risk, start - events) <= rule.high
            if event == ALIVE_WITHOUT:
                small |= any(found.get((part, day), {}).get("status") != "ok" for part in PARTS_OF_ALIVE)
            if event == WITHIN_30_DAYS:
                small |= _few_without_data(start, events, [row for row in rows if row["event"] == READMISSION], rule)
            key = {"policy_id": labels["policy_id"], "kind": "incidence", "measure": event, "day": day}
            hidden = (
                small or bool(earlier.withheld(key, "class")) or too_near(start, events, labels, earlier, key, rule)
            )
            row = labels | key | {"window": None, "class": "event", "transfers_by": curve[0].get("transfers_by")}
            row |= dict.fromkeys(("operations", "of_operations", "share", "share_lower", "share_upper", "at_risk"))
            if hidden:
                found[event, day] = row | {"status": WITHHELD}
                continue
            last, whole = events, rule.rounded_count(start)
            unit = rule.step / whole
            estimate, lower, upper = (until[-1][name] for name in ("estimate", "lower", "upper"))
            found[event, day] = row | {
                "operations": rule.rounded_count(events),
                "of_operations": whole,
                "at_risk": rule.rounded_count(at_risk),
                "share": to_unit(estimate, unit, 0),
                "share_lower": to_unit(lower, unit, -1),
                "share_upper": to_unit(upper, unit, 1),
                "status": "ok",
            }
    return list(found.values())


def _few_without_data(discharges: int, events: int, curve: Sequence[Row], rule: Thresholds) -> bool:
    """Whether there are live discharges without 30 days of data, and few of these have a readmission or few have none. A reader can
    work out both numbers from the curve on day 30."""
    others = max((int(row["at_risk"]) for row in curve if row["day"] == 0), default=0) - discharges
    readmitted = sum(int(row["events"]) for row in curve if row["day"] <= INCIDENCE_DAYS[0]) - events
    return others > 0 and min(readmitted, others - readmitted) <= rule.high


def too_near(start: int, events: int, labels: Row, earlier: Earlier, key: Row, rule: Thresholds) -> bool:
    """Whether a kept release gives numbers for other years, and the difference, of those with the event or of those without it, could
    be a small count."""
    others = [row for row in earlier.of(key) if row["operations"] is not None and row["period"] != labels["period"]]
    return any(
        rule.too_near(events, row["operations"])
        or rule.differs_little(start - events, row["of_operations"] - row["operations"], 2)
        for row in others
    )


# What changed


def activity_change(changes: Sequence[Row], earlier: Earlier, rule: Thresholds) -> list[Row]:
    """The parts of each change of England's flagged records, in whole records that add up to the change.

    ``changes``: England's rows of ``gold/activity_change``. The factors are ratios of England's counts. If one of these counts, or
    the difference between one and the next, is from 1 to 7, only the totals are given. So are they if a kept release gives
    only the totals.
    """
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    names = ("policy_id", "revision", "reading", "period_from", "period_to")
    for row in changes:
        groups[tuple(row[name] for name in names)].append(row)
    found: list[Row] = []
    for key, rows in sorted(groups.items()):
        by_component = {row["component"]: row for row in rows}
        parts = {name: float(row["records"]) for name, row in by_component.items() if name not in TOTALS}
        small = any(_small_counts(by_component, side, rule) for side in ("value_from", "value_to"))
        small |= bool(earlier.withheld({name: key[names.index(name)] for name in _CHANGE_KEY}, "component"))
        whole = rounded(parts, sum(parts.values())) if parts else {}
        order = [*TOTALS, *FACTORS, "revision"]
        for name in sorted(by_component, key=lambda one: order.index(one) if one in order else len(order)):
            row, total = by_component[name], name in TOTALS
            shown = total or not small
            found.append(
                dict(zip(names, key, strict=True))
                | {
                    "component": name,
                    "value_from": _significant(row["value_from"]) if shown else None,
                    "value_to": _significant(row["value_to"]) if shown else None,
                    "records": round(row["records"] if total else whole[name]) if shown else None,
                    "notes": ", ".join(row["notes"] or ()) or None,
                    "status": "ok" if shown else WITHHELD,
                }
            )
    return found


# What names a change in every release, whatever the revision.
_CHANGE_KEY = ("policy_id", "period_from", "period_to")


def _small_counts(by_component: Mapping[str, Row], side: str, rule: Thresholds) -> bool:
    """Whether a count of the chain, or the difference between one count and the next, is small."""
    factors = [by_component[name][side] for name in FACTORS if name in by_component]
    if any(value is None for value in factors):
        return True
    counts = [round(math.prod(factors[: place + 1])) for place in range(len(factors))]
    if "people" in by_component:
        counts = counts[1:]
    left_out = [wider - narrower for wider, narrower in zip(counts, counts[1:], strict=False)]
    return any(rule.low <= count <= rule.high for count in [*counts, *left_out])


def _significant(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


# Case-note audits


def audits_of_england(sampled: Sequence[Row], rated: Sequence[Row]) -> set[str]:
    """The audits that drew from every provider with a record in scope in the years of the sample.

    ``sampled``: rows of ``gold/audit_sample`` by audit, policy, year and provider. ``rated``: policy, year and provider (as
    ``area_code``) of the single years of ``gold/activity_rate``.
    """
    providers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rated:
        providers[row["policy_id"], row[YEAR]].add(row["area_code"])
    found = set()
    for audit in {row["audit_id"] for row in sampled}:
        own = [row for row in sampled if row["audit_id"] == audit]
        wanted = set().union(*(providers[row["policy_id"], row[YEAR]] for row in own))
        if wanted and wanted <= {row["provider_code"] for row in own}:
            found.add(audit)
    return found


def audit_estimate(estimates: Sequence[Row], earlier: Earlier, rule: Thresholds) -> list[Row]:
    """The estimates of audits, overall and by clause; none of a stratum or provider.

    A share is withheld unless 8 forms or more count for it and 8 or more against it; a count below 8 is withheld; kappa needs 30
    double readings, with 8 or more in each of its cells. Figures made from the predictive value and the missed cases are
    withheld unless both are given. Shares are rounded to the effect of one form, counts to the rule's multiple, limits outwards.

    Few records without an answer, or few that nobody read, must not be found either. So the worst and best cases of an audit are
    given all or not at all; if a kept release gives them and they can no longer be given, all of the audit is withheld. The shares
    of the flagged, or of the others, are withheld if all their records but 7 or fewer were read for one of these shares.
    """
    audits: dict[str, list[Row]] = defaultdict(list)
    for row in estimates:
        if row["measure"] in (*SHARES, *_CORRECTED, KAPPA) and (
            row["part"] == OVERALL or row["part"].startswith(CLAUSE)
        ):
            audits[row["audit_id"]].append(row)
    return [row for _, rows in sorted(audits.items()) for row in _of_audit(rows, earlier, rule)]


_CORRECTED = (*CORRECTED_SHARES, *CORRECTED_COUNTS)
_AUDIT_KEY = ("audit_id", "policy_id", "reading", "measure", "part")


def _of_audit(estimates: Sequence[Row], earlier: Earlier, rule: Thresholds) -> list[Row]:
    # Figures that others are made of come first.
    rows = sorted(estimates, key=lambda row: (row["measure"] in _CORRECTED, row["measure"], row["part"]))
    # Of which records nearly all were read: those that are not flagged (True), and the flagged ones (False).
    all_read = {
        row["measure"] == MISSED
        for row in rows
        if row["measure"] in SHARES
        and (row["method"] == CENSUS or (row.get("records") or math.inf) - int(row["forms"] or 0) <= rule.high)
    }
    given: set[str] = set()
    statuses = []
    for row in rows:
        status, measure = row["status"], row["measure"]
        # An undefined kappa would say that all forms read twice have the same answer.
        if (measure, status) == (KAPPA, "undefined") or (
            status == "ok"
            and (
                row["estimate"] is None
                or _few_forms(measure, row["estimate"], int(row["forms"] or 0), row.get("counted"), rule)
                or (measure in SHARES and (measure == MISSED) in all_read)
                or (measure in _CORRECTED and not {*SHARES[:2]} <= given)
                or earlier.withheld({name: row[name] for name in _AUDIT_KEY}, "part")
            )
        ):
            status = WITHHELD
        if status == "ok" and row["part"] == OVERALL:
            given.add(measure)
        statuses.append(status)
    shares = [row for row, status in zip(rows, statuses, strict=True) if status == "ok" and row["measure"] in SHARES]
    kept = [row for row in earlier.of({"audit_id": rows[0]["audit_id"], "status": "ok"}) if row["measure"] in SHARES]
    extremes = all(_without_answer(row) > rule.high for row in shares)
    if not extremes and any(row["worst"] is not None for row in kept):
        statuses = [WITHHELD] * len(rows)
    extremes &= all(row["worst"] is not None for row in kept)
    found = []
    for row, status in zip(rows, statuses, strict=True):
        shown = {name: row[name] for name in _AUDIT_KEY} | {"status": status}
        shown |= dict.fromkeys(("estimate", "lower", "upper", "worst", "best", "method", "forms"))
        if status == "ok":
            # The method of a withheld share would say whether 5 or more count for it.
            shown["method"] = row["method"]
            shown["forms"] = _rounded_forms(row["forms"], rule)
            sides = {"estimate": 0, "lower": -1, "upper": 1} | ({"worst": -1, "best": 1} if extremes else {})
            for name, side in sides.items():
                unit = _unit_of_forms(shown["forms"], 1 if side == 0 else rule.step)
                shown[name] = to_unit(row[name], float(rule.step) if row["measure"] in CORRECTED_COUNTS else unit, side)
        found.append(shown)
    return found


def _without_answer(row: Row) -> int:
    """How many drawn records have no answer."""
    return sum(int(row.get(name) or 0) for name in ("not_returned", "notes_not_found", "cannot_tell"))


def _few_forms(measure: str, estimate: float, forms: int, counted: int | None, rule: Thresholds) -> bool:
    """Whether too few forms count for or against an estimate. Forms have different weights, so their numbers are not those
    that the estimate suggests. Both are looked at; an estimate of an earlier version has only the second, and no kappa without the
    fewest double readings of a cell."""
    if measure == KAPPA:
        return forms < LEAST_DOUBLE_READINGS or (counted or 0) <= rule.high
    if measure in CORRECTED_COUNTS:
        return forms <= rule.high or estimate <= rule.high
    if measure in CORRECTED_SHARES:
        return forms <= rule.high
    suggested = round(min(estimate, 1 - estimate) * forms, 6)
    return (suggested if counted is None else min(suggested, counted, forms - counted)) <= rule.high


def _rounded_forms(forms: int, rule: Thresholds) -> int:
    """The nearest multiple of the rule's step that is above the small counts (10 by default). Two numbers of forms of the same sample
    then differ by 1 or more, which says nothing about how few have no answer."""
    unit = rule.step * math.ceil((rule.high + 1) / rule.step)
    return int((forms + unit / 2) // unit) * int(unit)


def _unit_of_forms(forms: int, effect_of: int) -> float:
    """The smallest of 0.01, 0.02, 0.05, 0.1 and 0.2 that is at least the effect of so many forms."""
    return next(unit for unit in (0.01, 0.02, 0.05, 0.1, 0.2) if unit * forms >= effect_of or unit == 0.2)


# Shared by these tables


def _hidden(
    counts: Mapping[str, int],
    labels: Row,
    column: str,
    earlier: Earlier,
    key: Row,
    rule: Thresholds,
    *,
    totals: Sequence[Collection[str]] = (),
) -> frozenset[str]:
    """The classes of a one-way table to withhold: all where a kept release shows counts of the same operations by another
    revision or reading, because the two would overlap."""
    if earlier.definitions(key) - {(labels["revision"], labels["reading"])}:
        return frozenset(counts)
    return withheld_classes(
        counts,
        rule,
        totals=totals,
        uninformative=UNINFORMATIVE,
        earlier=earlier.withheld(key, column),
        earlier_shown=earlier.shown(key, column),
    )


def _class_rows(
    counts: Mapping[str, int], hidden: Collection[str], labels: Row, column: str, rule: Thresholds
) -> list[Row]:
    """A row for each class, with the class in ``column``."""
    whole = rule.rounded_count(sum(counts.values())) if sum(counts.values()) > rule.high else None
    found = []
    for name, count in counts.items():
        shown = None if name in hidden or whole is None else rule.rounded_count(count)
        found.append(
            labels
            | {
                column: name,
                "operations": shown,
                "of_operations": whole,
                "share": None if shown is None or not whole else round(min(shown / whole, 1.0), 6),
                "status": "ok" if shown is not None else WITHHELD,
            }
        )
    return found


def _definition(rows: Iterable[Row]) -> Row:
    rows = list(rows)
    return {name: ", ".join(sorted({str(row[name]) for row in rows})) for name in ("revision", "reading")}
