"""The published table ``measure_summary``: codes that are recorded instead of a policy's, rates of groups of people, and measures
over records that are linked by person.

All rows are England's, made on the driver from small tables of gold. ``docs/disclosure.md`` says what is withheld, and why.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ebi_spark.financial_years import period_of
from ebi_spark.pathway.definitions import definitions as pathway_definitions
from ebi_spark.rates.activity_change import ANY, PRIMARY_DIAGNOSIS, UNSPECIFIED
from ebi_spark.rates.equality import DEPRIVATION, UNKNOWN
from ebi_spark.release.kept_releases import OK, WITHHELD, Earlier
from ebi_spark.release.one_way_suppression import withheld_classes
from ebi_spark.release.rounding import to_unit
from ebi_spark.release.suppression import Thresholds
from ebi_spark.statistics.proportions import wilson
from ebi_spark.tables.table import POLICY_KEY, YEAR

Row = dict[str, Any]

CODE_USE, EQUALITY, LINKED = "code_use", "equality", "linked"
OTHER, REQUIRED = "other", "required"
FEW_EVENTS = "few_events"
SLOPE = "slope_index"
_NOTHING = dict.fromkeys(("records", "of_records", "value", "lower", "upper"))
_DIGITS = 9


# Codes recorded instead


def code_use(
    counted: Sequence[Row],
    definitions: Mapping[tuple[str, str], Row],
    required: Collection[str],
    earlier: Earlier,
    rule: Thresholds,
) -> list[Row]:
    """The rows of ``gold/code_use`` that may be shown.

    ``definitions``: ``revision`` and ``reading`` by policy and year. ``required``: the codes that the policy requires as primary
    diagnosis. The other kinds are shown as `any` only, because a record with two codes counts for both. Each primary diagnosis is
    shown if it has enough records. The rest of the ``required`` codes are shown together as `required`, and the rest of all others
    as `other`. So no row says that a rare code was recorded. Under a rule that suppresses 1 to 7 and rounds to 5, with M545 required:

    | kind              | code | records | of_records | → class | records | of_records | status |
    |-------------------|------|---------|------------|---------|---------|------------|--------|
    | non_dominant      | any  | 23      | 400        | any     | 25      | 400        | ok     |
    | primary_diagnosis | M545 | 90      | 113        | M545    | 90      | 115        | ok     |
    | primary_diagnosis | M511 | 20      | 113        | other   | 25      | 115        | ok     |
    | primary_diagnosis | M543 | 3       | 113        |         |         |            |        |
    """
    groups: dict[tuple[str, str, str], dict[str, Row]] = defaultdict(dict)
    for row in counted:
        groups[row["policy_id"], row[YEAR], row["kind"]][row["code"]] = row
    found: list[Row] = []
    for (policy, year, kind), by_code in sorted(groups.items()):
        key = {"policy_id": policy, "period": year, "kind": CODE_USE, "measure": kind}
        labels = key | {YEAR: year, **definitions[policy, year]}
        whole = max(int(row["of_records"]) for row in by_code.values())
        if kind == PRIMARY_DIAGNOSIS:
            counts = {code: int(row["records"]) for code, row in by_code.items()}
            classes = _diagnoses(counts, required, _shown_by_release(earlier.of(key)), rule)
        else:
            count, scope = int(by_code[ANY]["records"]), groups.get((policy, year, PRIMARY_DIAGNOSIS), {})
            # The records in scope are published elsewhere, so a reader can subtract them from the whole.
            outside = whole - max((int(row["of_records"]) for row in scope.values()), default=0)
            cells = [count] if kind == UNSPECIFIED else [count, whole - count, outside]
            classes = {ANY: None if min(cells) <= rule.high or earlier.withheld(key, "class") else count}
        if classes and any(row[name] != labels[name] for row in earlier.of(key) for name in ("revision", "reading")):
            classes = dict.fromkeys(classes)
        for name, number in classes.items():
            found.append(labels | {"class": name} | _NOTHING | {"status": WITHHELD})
            if number is not None:
                share = (
                    min(1.0, rule.rounded_count(number) / rule.rounded_count(whole)) if kind != UNSPECIFIED else None
                )
                found[-1] |= {"records": rule.rounded_count(number), "value": share, "status": OK}
                found[-1]["of_records"] = rule.rounded_count(whole) if kind != UNSPECIFIED else None
    return found


def _shown_by_release(rows: Iterable[Mapping[str, Any]]) -> list[set[str]]:
    """The classes with a number, a set for each kept release that has ``rows``."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row["release_id"]] |= {row["class"]} if row["status"] == OK else set()
    return list(found.values())


def _diagnoses(
    counts: Mapping[str, int], required: Collection[str], shown_before: Sequence[set[str]], rule: Thresholds
) -> dict[str, int | None]:
    """The classes of primary diagnoses with their counts. Empty if the required codes, or all others, have few records.

    The number of records with a required code can be read from the attrition, so the required codes and the others are two
    separate totals. A code that a kept release did not show is not shown, because the difference of the two releases would reveal
    its earlier count. If a kept release shows a code that is too rare now, nothing is shown.
    """
    classes: dict[str, int | None] = {}
    for rest, listed in (
        (REQUIRED, {code: counts.get(code, 0) for code in required}),
        (OTHER, {code: number for code, number in counts.items() if code not in required}),
    ):
        total = sum(listed.values())
        if total <= rule.high:
            return {}
        alone = {code for code, number in listed.items() if number > rule.high}
        for before in shown_before:
            alone &= before
        # The rest must not be small, nor 0: a reader of two releases would see a 0 that becomes 1.
        for code in sorted(alone, key=lambda code: (listed[code], code)):
            if rest == REQUIRED and len(alone) == len(listed):
                break
            if sum(number for name, number in listed.items() if name not in alone) > rule.high:
                break
            alone.discard(code)
        classes |= {code: listed[code] for code in sorted(alone, key=lambda code: (-listed[code], code))}
        if len(alone) < len(listed) or rest == OTHER:
            classes[rest] = total - sum(listed[code] for code in alone)
    if any(before - classes.keys() for before in shown_before):
        return dict.fromkeys(classes)
    return classes


# Groups of people


def equality(rated: Sequence[Row], earlier: Earlier, rule: Thresholds) -> list[Row]:
    """The rows of ``gold/equality_rate`` that may be shown. Each dimension is a split of the flagged records of the pooled years.

    A rate is rounded to a multiple of at least the rate of 5 records, and its limits outwards. A group of fewer than 10 records has
    no rate. The slope index (class ``slope_index``) is shown if no fifth is withheld and each has a rate. Nothing is shown if a kept
    release has a period of another length that overlaps with this one. Under a rule that suppresses 1 to 7 and rounds to 5:

    | group   | activity | rate  | → class | records | of_records | value | status   |
    |---------|----------|-------|---------|---------|------------|-------|----------|
    | 1       | 112      | 12.34 | 1       | 110     | 210        | 12.0  | ok       |
    | 2       | 95       | 9.87  | 2       | None    | None       | None  | withheld |
    | unknown | 3        | None  | unknown | None    | None       | None  | withheld |
    """
    tables: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rated:
        tables[row["policy_id"], row["dimension"]].append(row)
    found: list[Row] = []
    for (policy, dimension), rows in sorted(tables.items()):
        period = str(rows[0]["period"])
        key = {"policy_id": policy, "kind": EQUALITY, "measure": dimension}
        labels = key | {"period": period, YEAR: period[-7:], "reading": rows[0]["reading"]}
        labels["revision"] = rows[0]["revision"] or "several"
        counts = {str(row["group"]): int(row["activity"]) for row in rows}
        # Also of other periods with a year in common: what they do not share may be few records.
        before = [row for row in earlier.of(key) if _shares_a_year(period, str(row["period"]))]
        hidden = withheld_classes(
            counts,
            rule,
            uninformative=[UNKNOWN],
            earlier={row["class"] for row in before if row["status"] == WITHHELD} & counts.keys(),
            earlier_shown={row["class"] for row in before if row["status"] == OK},
        )
        other_definition = any(
            row[name] != labels[name] for row in before if row["period"] == period for name in ("revision", "reading")
        )
        if other_definition or any(_overlaps(period, str(row["period"])) for row in earlier.of(key)):
            hidden = frozenset(counts)
        whole = sum(counts.values())
        for row in rows:
            shown = labels | {"class": str(row["group"])} | _NOTHING | {"status": WITHHELD}
            if row["group"] not in hidden and whole > rule.high:
                shown |= {
                    "records": rule.rounded_count(counts[str(row["group"])]),
                    "of_records": rule.rounded_count(whole),
                    "status": OK,
                }
                if row["status"] != FEW_EVENTS:
                    unit = _unit(row["rate"], counts[str(row["group"])], rule)
                    sides = (("value", "rate", 0), ("lower", "lower", -1), ("upper", "upper", 1))
                    shown |= {name: to_unit(row[of], unit, side, _DIGITS) for name, of, side in sides}
            found.append(shown)
        index = rows[0] if dimension == DEPRIVATION else None
        if index is not None and index.get("slope_index") is not None:
            shown = labels | {"class": SLOPE} | _NOTHING | {"status": WITHHELD}
            if not hidden and not any(row["status"] == FEW_EVENTS for row in rows):
                unit = max(_unit(row["rate"], counts[str(row["group"])], rule) for row in rows if row["rate"])
                sides = (("value", "slope_index", 0), ("lower", "slope_lower", -1), ("upper", "slope_upper", 1))
                shown |= {name: to_unit(index[of], unit, side, _DIGITS) for name, of, side in sides} | {"status": OK}
            found.append(shown)
    return found


def _years(period: str) -> tuple[int, int]:
    return int(period[:4]), int(period[-7:-3])


def _shares_a_year(period: str, other: str) -> bool:
    (first, last), (begins, ends) = _years(period), _years(other)
    return first <= ends and begins <= last


def _overlaps(period: str, other: str) -> bool:
    """Whether two periods have a year in common and are not equally long."""
    (first, last), (begins, ends) = _years(period), _years(other)
    return _shares_a_year(period, other) and last - first != ends - begins


def _unit(rate: float | None, events: int, rule: Thresholds) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least the rate of as many records as counts are rounded to."""
    least = (rate or 1.0) * rule.step / max(events, 1)
    power = 10.0 ** math.floor(math.log10(least))
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= least * (1 - 1e-9))


# Measures over linked records


def linked(
    measured: Sequence[Row], earlier: Earlier, rule: Thresholds, withheld: Collection[tuple[str, str]] = ()
) -> list[Row]:
    """The rows of ``gold/linked_measure`` over all years, for flagged and for all records.

    Both are withheld in four cases. Few of the flagged records, or of the others, have what is counted, or few do not have it. A kept
    release withholds them. A kept release has other years, and one of these four numbers differs too little from this one. Or the
    policy and measure are in ``withheld``, because they are sums of yearly figures that are withheld.

    | year    | group   | records | counted | → class | period           | records | of_records | value |
    |---------|---------|---------|---------|---------|------------------|---------|------------|-------|
    | 2021-22 | all     | 40      | 25      | all     | 2021-22..2022-23 | 60      | 90         | 0.667 |
    | 2021-22 | flagged | 15      | 9       | flagged | 2021-22..2022-23 | 20      | 30         | 0.667 |
    | 2022-23 | all     | 50      | 35      |         |                  |         |            |       |
    | 2022-23 | flagged | 15      | 11      |         |                  |         |            |       |
    """
    tables: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in measured:
        tables[row["policy_id"], row["measure"]].append(row)
    found: list[Row] = []
    for (policy, measure), rows in sorted(tables.items()):
        years = sorted({row[YEAR] for row in rows})
        period = period_of(years)
        key = {"policy_id": policy, "kind": LINKED, "measure": measure}
        labels = key | {"period": period, YEAR: years[-1]}
        labels |= {name: ", ".join(sorted({str(row[name]) for row in rows})) for name in POLICY_KEY[1:]}
        sums = {
            group: {
                name: sum(int(row[name]) for row in rows if row["group"] == group) for name in ("records", "counted")
            }
            for group in ("all", "flagged")
        }
        every, flagged = sums["all"], sums["flagged"]
        cells = _cells(every["records"], every["counted"], flagged["records"], flagged["counted"])
        hidden = min(cells) <= rule.high or bool(earlier.withheld(key, "class")) or (policy, measure) in withheld
        definition = tuple(labels[name] for name in ("period", *POLICY_KEY[1:]))
        kept: dict[str | None, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for before in earlier.of(key):
            kept[before.get("release_id")][before["class"]] = before
        for shown_before in () if hidden else kept.values():
            before = shown_before["all"]
            if tuple(before[name] for name in ("period", *POLICY_KEY[1:])) == definition:
                continue
            numbers = (shown_before[group][name] for group in ("all", "flagged") for name in ("of_records", "records"))
            # How many published numbers each of the four is made of.
            for count, other, terms in zip(cells, _cells(*numbers), (1, 2, 2, 4), strict=True):
                hidden |= before["period"] == period or rule.differs_little(count, other, terms)
        for group, number in sums.items():
            shown = labels | {"class": group} | _NOTHING | {"status": WITHHELD}
            if not hidden:
                whole = rule.rounded_count(number["records"])
                share = number["counted"] / number["records"]
                limits, unit = wilson(share, number["records"]), rule.step / whole
                shown |= {
                    "records": rule.rounded_count(number["counted"]),
                    "of_records": whole,
                    "value": to_unit(share, unit, 0, _DIGITS),
                    "lower": to_unit(limits.lower, unit, -1, _DIGITS),
                    "upper": to_unit(limits.upper, unit, 1, _DIGITS),
                    "status": OK,
                }
            found.append(shown)
    return found


def _cells(records: int, counted: int, flagged: int, flagged_counted: int) -> tuple[int, int, int, int]:
    """Of flagged records and of the others, those with and those without what is counted."""
    return (
        flagged_counted,
        flagged - flagged_counted,
        counted - flagged_counted,
        (records - counted) - (flagged - flagged_counted),
    )


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
            # A measure whose denominator is the number that such a measure counts: it shows the same sum.
            found |= {(policy, item["id"]) for policy, measure in found if measure == item.get("of")}
    return found
