"""The published table ``activity_change``: the factors by which England's flagged records changed from one year to another.

All rows are made on the driver from small tables of gold. ``docs/disclosure.md`` says what is withheld, and why.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ebi_spark.release.kept_releases import OK, WITHHELD, Earlier
from ebi_spark.release.suppression import Thresholds
from ebi_spark.statistics.decomposition import rounded

Row = dict[str, Any]

FACTORS = ("people", "operations_per_person", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
TOTALS = ("total_from", "total_to")


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
                    "status": OK if shown else WITHHELD,
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
