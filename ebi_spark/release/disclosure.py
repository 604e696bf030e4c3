"""Disclosure control as a rule of ``conf/disclosure.yml`` applied to every sub-national figure.

A withheld value is NULL with a status, never 0 and never a magic number.
"""

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.rates.methods import crude_rate, wilson_limits

WITHHELD_SMALL = "withheld_small"


def is_small(count: Column, rule: dict[str, Any]) -> Column:
    """Whether the rule withholds a sub-national count."""
    return count.between(rule["withhold"]["from"], rule["withhold"]["to"])


def controlled_count(count: Column, rule: dict[str, Any]) -> Column:
    """A sub-national count as it may be published: NULL when small, zero as it is, else to the nearest multiple."""
    step = rule["round_to"]
    rounded = (F.floor((count + F.lit(step) / 2) / step) * step).cast("long")
    return F.when(~is_small(count, rule), rounded)


def flagged_share(activity: Column, in_scope: Column) -> dict[str, Column]:
    """``flagged_share`` and its limits, made of counts as they are published."""
    lower, upper = wilson_limits(activity, in_scope)
    return {"flagged_share": F.try_divide(activity, in_scope), "share_lower": lower, "share_upper": upper}


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
    of_rates = ("standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "standard_error")
    replaced = {
        **{name: count(name) for name in ("activity", "in_scope", "people_flagged", "activity_unknown_age_sex")},
        "crude_rate": F.when(national, F.col("crude_rate")).otherwise(again),
        **{name: F.when(national, F.col(name)).otherwise(share) for name, share in flagged_share(*controlled).items()},
        **{name: F.when(~unreliable, F.col(name)) for name in of_rates},
        "status": F.when(small, F.lit(WITHHELD_SMALL)).otherwise(F.col("status")),
    }
    # One select, so that every condition sees the figures of gold and none that is already controlled.
    columns = [replaced[name].alias(name) if name in replaced else F.col(name) for name in rates.columns]
    return rates.select(*columns, F.lit(rule_name).alias("disclosure"))
