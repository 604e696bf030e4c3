"""The published table ``pathway_summary``: the care before and after fusions, and the incidence of later events.

All rows are England's, made on the driver from grouped counts of gold. ``docs/disclosure.md`` says what is withheld, and why.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ebi_spark.financial_years import period_of
from ebi_spark.pathway.definitions import STATES
from ebi_spark.pathway.incidence import ALIVE_WITHOUT, DEATH, FURTHER_OPERATION, READMISSION, WITHIN_30_DAYS
from ebi_spark.release.kept_releases import OK, WITHHELD, Earlier
from ebi_spark.release.one_way_suppression import class_rows, definition_of, hidden_classes, withheld_classes
from ebi_spark.release.rounding import to_unit
from ebi_spark.release.suppression import Thresholds
from ebi_spark.tables.table import YEAR

Row = dict[str, Any]
# Kind, measure and window of what is counted.
_Step = tuple[str, str, str | None]

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
        labels = definition_of(years[key]) | dict.fromkeys(
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
            of: hidden_classes(tables[key][of], labels, "class", earlier, identity, rule)
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
            found += class_rows(tables[key][of], hidden[of], labels | identity, "class", rule)
    for policy in sorted({row["policy_id"] for row in fusions}):
        own = [row for row in fusions if row["policy_id"] == policy]
        covered = sorted({row[YEAR] for row in own})
        labels = definition_of(own) | {
            "policy_id": policy,
            YEAR: covered[-1],
            "period": period_of(covered),
        }
        of_policy = [row for row in incidence if row["policy_id"] == policy and row["group"] == "all"]
        found += _incidence(of_policy, labels, earlier, rule)
    return found


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
                small |= any(found.get((part, day), {}).get("status") != OK for part in PARTS_OF_ALIVE)
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
                "status": OK,
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
