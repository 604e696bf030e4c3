"""Disclosure control as a rule of ``conf/disclosure.yml`` applied to every sub-national figure.

A withheld value is NULL with a status, never 0 and never a magic number.
"""

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.rates.methods import PER, crude_rate, wilson_limits

WITHHELD_SMALL = "withheld_small"
# Limits of a share that lie farther apart than this say next to nothing.
WIDEST_SHARE = 0.5


def is_small(count: Column, rule: dict[str, Any]) -> Column:
    """Whether the rule withholds a sub-national count."""
    return count.between(rule["withhold"]["from"], rule["withhold"]["to"])


def controlled_count(count: Column, rule: dict[str, Any]) -> Column:
    """A sub-national count as it may be published: NULL when small, zero as it is, else to the nearest multiple."""
    step = rule["round_to"]
    rounded = (F.floor((count + F.lit(step) / 2) / step) * step).cast("long")
    return F.when(~is_small(count, rule), rounded)


def counts_behind(published: Column, rule: dict[str, Any]) -> tuple[Column, Column]:
    """The least and the greatest count that is published as a value (10 under HES: 8 and 12)."""
    step, low, high = rule["round_to"], rule["withhold"]["from"], rule["withhold"]["to"]
    least = F.greatest(F.ceil(published - F.lit(step / 2)), F.lit(0))
    most = F.ceil(published + F.lit(step / 2)) - 1
    least = F.when(is_small(least, rule), F.least(F.lit(high + 1), most)).otherwise(least)
    most = F.when(is_small(most, rule) & (least < low), F.lit(low - 1)).otherwise(most)
    known = published.isNotNull()
    return F.when(known, least).cast("long"), F.when(known, most).cast("long")


def flagged_share(activity: Column, in_scope: Column, rule: dict[str, Any]) -> dict[str, Column]:
    """``flagged_share`` of two published counts, with limits that hold for every pair of counts that may be behind them.

    Wilson's limits rise with the flagged and fall with those in scope. Where they are farther apart than ``WIDEST_SHARE`` they
    say next to nothing, and no figure is given.
    """
    (least, most), (fewest, greatest) = counts_behind(activity, rule), counts_behind(in_scope, rule)
    lower = wilson_limits(least, greatest)[0]
    upper = wilson_limits(most, F.greatest(fewest, most))[1]
    told = (in_scope > 0) & activity.isNotNull() & (upper - lower <= WIDEST_SHARE)
    # Rounded apart, nearly all can come out as more than all.
    share = F.least(F.try_divide(activity, in_scope), F.lit(1.0))
    figures = {"flagged_share": share, "share_lower": lower, "share_upper": upper}
    return {name: F.when(told, figure) for name, figure in figures.items()}


def expected_unit(expected: Column) -> Column:
    """What published expected events are a multiple of: 0.5 below 10, 1 from there on.

    Exact ones of a hundred areas, whose people are public, can be solved for England's events by sex and age band.
    """
    return F.when(expected < 10, F.lit(0.5)).otherwise(F.lit(1.0))


def published_expected(expected: Column) -> Column:
    """Expected events below England as they may be published."""
    return F.when(expected < 10, F.round(expected * 2) / 2).otherwise(F.round(expected))


def rate_unit(population: Column) -> Column:
    """What England's published rates are a multiple of: the least of 1, 2, 5 times a power of ten that is a record or more.

    A standardised rate is a sum over sex and age; the digits that one record adds to it would say of which stratum it is.
    """
    record = F.lit(float(PER)) / population
    power = F.pow(F.lit(10.0), F.floor(F.log10(record)))
    times = record / power
    return power * F.when(times <= 1, 1.0).when(times <= 2, 2.0).when(times <= 5, 5.0).otherwise(10.0)


def published_national(population: Column) -> dict[str, Column]:
    """England's standardised rate, its limits and its error to :func:`rate_unit`: the limits outwards, the error up."""
    unit = rate_unit(population)

    def to_unit(name: str, side: int) -> Column:
        parts = F.col(name) / unit
        # A trace beside a multiple is not a part of the next one.
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
    """Rows of ``gold/activity_rate`` as they may be published.

    England's figures stand. Below it each count is controlled on its own, the crude rate and the flagged share are made
    again from the controlled counts, and no standardised rate is given where events are fewer than the rule's ``few_events`` (none at
    all is a count of zero, which stands).
    """
    national = F.col("area_type") == "england"

    def count(name: str) -> Column:
        return F.when(national, F.col(name)).otherwise(controlled_count(F.col(name), rule)).alias(name)

    small = ~national & is_small(F.col("activity"), rule)
    unreliable = ~national & (F.col("activity") < rule["few_events"]) & (F.col("activity") > 0)
    controlled = [controlled_count(F.col(name), rule) for name in ("activity", "in_scope")]
    again = crude_rate(controlled[0], F.col("population"))
    shares = flagged_share(controlled[0], controlled[1], rule)
    of_rates = ("standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "standard_error")
    replaced = {
        **{name: count(name) for name in ("activity", "in_scope", "people_flagged", "activity_unknown_age_sex")},
        "crude_rate": F.when(national, F.col("crude_rate")).otherwise(again),
        **{name: F.when(national, F.col(name)).otherwise(share) for name, share in shares.items()},
        "expected": F.when(national, F.col("expected")).otherwise(published_expected(F.col("expected"))),
        **{name: F.when(~unreliable, F.col(name)) for name in of_rates},
        "status": F.when(small, F.lit(WITHHELD_SMALL)).otherwise(F.col("status")),
    }
    # One select, so that every condition sees the figures of gold and none that is already controlled.
    columns = [replaced[name].alias(name) if name in replaced else F.col(name) for name in rates.columns]
    return rates.select(*columns, F.lit(rule_name).alias("disclosure"))
