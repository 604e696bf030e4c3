"""The published table ``audit_estimate``: the estimates of case-note audits that drew from all providers of England.

All rows are made on the driver from small tables of gold. ``docs/disclosure.md`` says what is withheld, and why.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ebi_spark.release.kept_releases import OK, WITHHELD, Earlier
from ebi_spark.release.rounding import to_unit
from ebi_spark.release.suppression import Thresholds
from ebi_spark.tables.table import YEAR

Row = dict[str, Any]

# Shares of an audit that are published. So are the corrected estimates and kappa. Others, such as sample sizes, are in gold only.
MISSED = "missed_cases"
SHARES = ("positive_predictive_value", MISSED, "not_codable_in_notes")
# Corrected estimates, made of the first two shares and England's counts. So any of them and one share reveal the other share.
CORRECTED_SHARES, CORRECTED_COUNTS = (
    ("corrected_share", "sensitivity", "specificity", "rogan_gladen"),
    ("corrected_records",),
)
KAPPA, LEAST_DOUBLE_READINGS = "kappa", 30
CENSUS = "census"
OVERALL, CLAUSE = "overall", "clause:"


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
    of the flagged records, or of the others, are withheld if 7 or fewer of these records were not read for one of the shares.
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
            status == OK
            and (
                row["estimate"] is None
                or _few_forms(measure, row["estimate"], int(row["forms"] or 0), row.get("counted"), rule)
                or (measure in SHARES and (measure == MISSED) in all_read)
                or (measure in _CORRECTED and not {*SHARES[:2]} <= given)
                or earlier.withheld({name: row[name] for name in _AUDIT_KEY}, "part")
            )
        ):
            status = WITHHELD
        if status == OK and row["part"] == OVERALL:
            given.add(measure)
        statuses.append(status)
    shares = [row for row, status in zip(rows, statuses, strict=True) if status == OK and row["measure"] in SHARES]
    kept = [row for row in earlier.of({"audit_id": rows[0]["audit_id"], "status": OK}) if row["measure"] in SHARES]
    extremes = all(_without_answer(row) > rule.high for row in shares)
    if not extremes and any(row["worst"] is not None for row in kept):
        statuses = [WITHHELD] * len(rows)
    extremes &= all(row["worst"] is not None for row in kept)
    found = []
    for row, status in zip(rows, statuses, strict=True):
        shown = {name: row[name] for name in _AUDIT_KEY} | {"status": status}
        shown |= dict.fromkeys(("estimate", "lower", "upper", "worst", "best", "method", "forms"))
        if status == OK:
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
