"""The confidence limits of published rates: which to show, how they compare with England's rate, and the limits at 99.8%."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ebi_spark.geography.area_lists import ENGLAND
from ebi_spark.release.suppression import Thresholds
from ebi_spark.statistics.counts import count_limits

Row = Mapping[str, Any]
Limits = tuple[float, float]

NOT_COMPARED = "not_compared"


def compared(limits: Limits | None, england: float | None) -> str:
    """``lower``, ``similar`` or ``higher`` than England's rate by the limits; ``not_compared`` where one is missing."""
    if limits is None or england is None:
        return NOT_COMPARED
    lower, upper = limits
    return "lower" if upper < england else "higher" if lower > england else "similar"


def limits_of(row: Row) -> Limits | None:
    """The 95% limits of a rate, or None unless both are published.

    The limits that allow for several events of one person come first; the simple ones are used if those are missing.
    """
    for names in (("lower_adjusted", "upper_adjusted"), ("lower", "upper")):
        lower, upper = (row.get(name) for name in names)
        if lower is not None and upper is not None:
            return float(lower), float(upper)
    return None


def limits_998_of(row: Row, rule: Mapping[str, Any]) -> Limits | None:
    """The 99.8% limits of a published rate of an area below England. None for England, and where the 95% limits or the count are
    not published."""
    limits = limits_of(row)
    if limits is None or row["area_type"] == ENGLAND or row["activity"] is None:
        return None
    return wider_limits(limits, row["standardised_rate"], row["activity"], rule)


def wider_limits(limits: Limits, rate: float, published: int, rule: Mapping[str, Any]) -> Limits:
    """The 99.8% limits of the rate of an area below England, from its 95% limits and its published count.

    ``rule`` is the disclosure rule. Under secondary suppression, the lower limit of the rate is a factor times that of the smallest
    count that would be published as this one, and the upper limit a factor times that of the largest. So the ratio of a limit at
    the two levels is the same for the count and the rate. Under another rule the rate is direct, and a limit is the rate plus a
    spread times (limit of the count − count) (Dobson). So the distance from the rate grows by the ratio of these differences. The
    largest ratio of all possible counts is used.
    """
    possible = Thresholds.from_rule(dict(rule)).possible_counts(np.array(float(published)))
    least, most = (int(count) for count in possible)
    if rule.get("protected"):
        lower, upper = (
            count_limits(n, 0.998)[side] / (count_limits(n)[side] or 1) for side, n in ((0, least), (1, most))
        )
        return limits[0] * lower, limits[1] * upper
    below, above = (
        max(
            (count_limits(n, 0.998)[side] - n) / (count_limits(n)[side] - n)
            for n in range(max(1, least), max(1, most) + 1)
        )
        for side in (0, 1)
    )
    return max(0.0, rate - (rate - limits[0]) * below), rate + (limits[1] - rate) * above
