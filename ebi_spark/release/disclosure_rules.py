"""Disclosure control: applies a rule of ``conf/disclosure.yml`` to every figure below England.

A suppressed value is NULL and has a status. It is never 0 or a special number.

Functions take a ``rule`` as in ``conf/disclosure.yml``: counts from ``withhold.from`` to ``withhold.to`` are suppressed, and
other counts are rounded to the nearest multiple of ``round_to``.
"""

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.rates.methods import PER, count_limits, crude_rate, wilson_limits

WITHHELD_SMALL = "withheld_small"
# Confidence limits of a share that are farther apart than this say almost nothing.
WIDEST_SHARE = 0.5


def is_small(count: Column, rule: dict[str, Any]) -> Column:
    """Whether the rule suppresses a count below England."""
    return count.between(rule["withhold"]["from"], rule["withhold"]["to"])


def controlled_count(count: Column, rule: dict[str, Any]) -> Column:
    """A count below England as published: NULL if small, 0 if it is zero, otherwise the nearest multiple."""
    step = rule["round_to"]
    rounded = (F.floor((count + F.lit(step) / 2) / step) * step).cast("long")
    return F.when(~is_small(count, rule), rounded)


def possible_counts(published: Column, rule: dict[str, Any]) -> tuple[Column, Column]:
    """The smallest and largest true count that is published as this value (for 10 under the HES rule: 8 and 12)."""
    step, low, high = rule["round_to"], rule["withhold"]["from"], rule["withhold"]["to"]
    least = F.greatest(F.ceil(published - F.lit(step / 2)), F.lit(0))
    most = F.ceil(published + F.lit(step / 2)) - 1
    least = F.when(is_small(least, rule), F.least(F.lit(high + 1), most)).otherwise(least)
    most = F.when(is_small(most, rule) & (least < low), F.lit(low - 1)).otherwise(most)
    known = published.isNotNull()
    return F.when(known, least).cast("long"), F.when(known, most).cast("long")


def flagged_share(activity: Column, in_scope: Column, rule: dict[str, Any]) -> dict[str, Column]:
    """``flagged_share``, ``share_lower`` and ``share_upper`` from two published counts.

    The limits hold for every pair of true counts that could be published as these two. Wilson's limits rise with the
    flagged records and fall with the records in scope. All three are NULL where a count is suppressed, where nothing is in
    scope, or where the limits are more than ``WIDEST_SHARE`` apart, because they then say almost nothing.
    """
    (least, most), (fewest, greatest) = possible_counts(activity, rule), possible_counts(in_scope, rule)
    lower = wilson_limits(least, greatest)[0]
    upper = wilson_limits(most, F.greatest(fewest, most))[1]
    informative = (in_scope > 0) & activity.isNotNull() & (upper - lower <= WIDEST_SHARE)
    # The two counts are rounded separately, so the rounded flagged count can exceed the rounded count in scope.
    share = F.least(F.try_divide(activity, in_scope), F.lit(1.0))
    figures = {"flagged_share": share, "share_lower": lower, "share_upper": upper}
    return {name: F.when(informative, figure) for name, figure in figures.items()}


def crude_limits(least: Column, most: Column, population: Column) -> dict[str, Column]:
    """``crude_lower`` and ``crude_upper``: 95% limits of a crude rate whose count is from ``least`` to ``most``.

    For a published count these are its :func:`possible_counts`, and for England's exact count both are that count. The population
    of an area is public and exact.
    """
    return {
        "crude_lower": crude_rate(count_limits(least)[0], population),
        "crude_upper": crude_rate(count_limits(most)[1], population),
    }


def expected_unit(expected: Column) -> Column:
    """Published expected events are multiples of this unit: 0.5 below 10 expected events, 1 from 10.

    They are rounded because the population of each area is public: from exact expected events of a hundred areas,
    England's events by sex and age band could be calculated.
    """
    return F.when(expected < 10, F.lit(0.5)).otherwise(F.lit(1.0))


def published_expected(expected: Column) -> Column:
    """Expected events of an area below England as published: rounded to :func:`expected_unit`."""
    return F.when(expected < 10, F.round(expected * 2) / 2).otherwise(F.round(expected))


def rate_unit(population: Column) -> Column:
    """England's published rates are multiples of this unit.

    It is the smallest of 1, 2 or 5 times a power of ten that is at least the crude rate of one record. A standardised rate
    is a sum over sex and age bands, and the exact amount that one record adds to it would reveal that record's stratum.
    """
    record = F.lit(float(PER)) / population
    power = F.pow(F.lit(10.0), F.floor(F.log10(record)))
    times = record / power
    return power * F.when(times <= 1, 1.0).when(times <= 2, 2.0).when(times <= 5, 5.0).otherwise(10.0)


def published_national(population: Column) -> dict[str, Column]:
    """England's standardised rate, limits and standard error, rounded to :func:`rate_unit`.

    The rate is rounded to the nearest multiple, limits are rounded outwards and errors up.
    """
    unit = rate_unit(population)

    def to_unit(name: str, side: int) -> Column:
        parts = F.col(name) / unit
        # The tolerance keeps floating point noise from moving an exact multiple to the next one.
        whole = F.round(parts) if side == 0 else F.ceil(parts - 1e-9) if side > 0 else F.floor(parts + 1e-9)
        return F.round(whole * unit, 12)

    sides = {
        "standardised_rate": 0,
        "lower": -1,
        "upper": 1,
        "lower_adjusted": -1,
        "upper_adjusted": 1,
        "standard_error": 1,
    }
    return {name: to_unit(name, side) for name, side in sides.items()}


def control_rates(rates: DataFrame, rule_name: str, rule: dict[str, Any]) -> DataFrame:
    """Rows of ``gold/activity_rate`` as published under a rule without secondary suppression, with the column ``disclosure``.

    England's figures are published unchanged. Below England each count is suppressed or rounded separately, and the crude
    rate and flagged share are calculated again from these counts. Standardised rates, their limits and errors are left out where
    there is at least 1 event but fewer than the rule's ``few_events``. The limits of the crude rate are added.

    | area_type | activity | standardised_rate | → activity | standardised_rate | status         |
    |-----------|----------|-------------------|------------|-------------------|----------------|
    | england   | 1,003    | 1.8               | 1,003      | 1.8               | ok             |
    | icb       | 23       | 2.1               | 25         | 2.1               | ok             |
    | icb       | 4        | 0.7               | NULL       | NULL              | withheld_small |
    """
    national = F.col("area_type") == "england"

    def count(name: str) -> Column:
        return F.when(national, F.col(name)).otherwise(controlled_count(F.col(name), rule)).alias(name)

    small = ~national & is_small(F.col("activity"), rule)
    unreliable = ~national & (F.col("activity") < rule["few_events"]) & (F.col("activity") > 0)
    controlled = [controlled_count(F.col(name), rule) for name in ("activity", "in_scope")]
    rate_of_published_count = crude_rate(controlled[0], F.col("population"))
    shares = flagged_share(controlled[0], controlled[1], rule)
    least, most = (F.when(national, F.col("activity")).otherwise(n) for n in possible_counts(controlled[0], rule))
    added = crude_limits(least, most, F.col("population")) | {"disclosure": F.lit(rule_name)}
    rate_columns = ("standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "standard_error")
    replaced = {
        **{name: count(name) for name in ("activity", "in_scope", "people_flagged", "activity_unknown_age_sex")},
        "crude_rate": F.when(national, F.col("crude_rate")).otherwise(rate_of_published_count),
        **{name: F.when(national, F.col(name)).otherwise(share) for name, share in shares.items()},
        "expected": F.when(national, F.col("expected")).otherwise(published_expected(F.col("expected"))),
        **{name: F.when(~unreliable, F.col(name)) for name in rate_columns},
        "status": F.when(small, F.lit(WITHHELD_SMALL)).otherwise(F.col("status")),
    }
    # One select, so that every condition uses the figures of gold and not figures that have already been replaced.
    columns = [replaced[name].alias(name) if name in replaced else F.col(name) for name in rates.columns]
    return rates.select(*columns, *[figure.alias(name) for name, figure in added.items()])
