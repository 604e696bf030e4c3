"""How many operations were followed by an event, by day: cumulative incidence with censoring at the end of the data.

Spark counts events by day, in one query. The curves are made from these counts, so no record leaves Spark.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from ebi_spark.pathway.definitions import definitions_after
from ebi_spark.statistics.proportions import wilson
from ebi_spark.statistics.survival import Day, Point, aalen_johansen, at_day, at_risk_after, kaplan_meier

READMISSION, FURTHER_OPERATION, DEATH = "readmission", "further_operation", "death_in_hospital"
ALIVE_WITHOUT = "alive_without_further_operation"
WITHIN_30_DAYS = "readmission_within_30_days"
ALL, FLAGGED = "all", "flagged"
AALEN_JOHANSEN, KAPLAN_MEIER, WILSON = "aalen_johansen", "kaplan_meier", "wilson"
CENSORED = "censored"

# What is estimated: the event, the history that it is taken from, and the method.
_ESTIMATES = (
    (READMISSION, READMISSION, AALEN_JOHANSEN),
    (FURTHER_OPERATION, FURTHER_OPERATION, AALEN_JOHANSEN),
    (DEATH, DEATH, KAPLAN_MEIER),
    (ALIVE_WITHOUT, FURTHER_OPERATION, KAPLAN_MEIER),
)

Key = tuple[str, str]


def counts_by_day(pathways: DataFrame) -> DataFrame:
    """How many operations have their first event, or are last seen, on each day after the start.

    ``pathways`` has columns of ``gold/pathway``: ``policy_id``, ``flagged``, ``operation_date``, ``spell_end``,
    ``died_in_hospital``, ``follow_up_days``, ``readmitted_after``, ``further_fusion_after``, ``revision_after``,
    ``removal_after`` and ``death_after``. Operations that cannot be followed are left out, because the person or the end of
    the data is not known.

    There are three histories, each for ``all`` operations and for the ``flagged`` ones: ``readmission`` after a live discharge,
    from the discharge, with death in hospital as the competing event; ``further_operation`` (fusion, revision or removal) from the
    operation, likewise; ``death_in_hospital`` from the operation. An event comes before a death on the same day, and both
    before the end of the data. The largest of ``incidence_days`` ends every history. A fourth one, ``readmission_within_30_days``, has
    only live discharges with 30 days of data after them, all on day 30.

    | policy_id           | group | history     | day | kind              | records |
    |---------------------|-------|-------------|-----|-------------------|---------|
    | 2Y_back_pain_fusion | all   | readmission | 5   | readmission       | 12      |
    | 2Y_back_pain_fusion | all   | readmission | 5   | death_in_hospital | 1       |
    | 2Y_back_pain_fusion | all   | readmission | 730 | censored          | 1900    |
    """
    stay = F.date_diff("spell_end", "operation_date")
    observed = F.col("follow_up_days") + stay
    further = F.least("further_fusion_after", "revision_after", "removal_after")
    death, alive = F.col("death_after"), F.col("follow_up_days").isNotNull()
    days = F.lit(definitions_after()["windows"]["30_days"])
    readmitted = F.coalesce(F.col("readmitted_after") <= days, F.lit(False))
    within = F.struct(
        F.lit(WITHIN_30_DAYS).alias("history"),
        days.alias("day"),
        F.when(readmitted, F.lit(WITHIN_30_DAYS)).otherwise(F.lit(CENSORED)).alias("kind"),
    )
    histories = F.array(
        F.when(F.col("follow_up_days") >= days, within),
        F.when(alive, _history(READMISSION, F.col("readmitted_after"), death - stay, F.col("follow_up_days"))),
        _history(FURTHER_OPERATION, further, death, observed),
        _history(DEATH, F.lit(None).cast("int"), death, observed),
    )
    groups = F.when(F.col("flagged"), F.array(F.lit(ALL), F.lit(FLAGGED))).otherwise(F.array(F.lit(ALL)))
    each = pathways.where("spell_end IS NOT NULL AND (died_in_hospital OR follow_up_days IS NOT NULL)").select(
        "policy_id", groups.alias("groups"), F.explode(histories).alias("one")
    )
    return (
        each.where("one IS NOT NULL")
        .select("policy_id", F.explode("groups").alias("group"), "one.history", "one.day", "one.kind")
        .groupBy("policy_id", "group", "history", "day", "kind")
        .agg(F.count(F.lit(1)).alias("records"))
    )


def incidence_rows(counts: Iterable[Row | Mapping[str, Any]], transfers_by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of ``gold/pathway_incidence`` (without the run), from rows of :func:`counts_by_day`. ``transfers_by``: the columns
    that decided which spells are one stay.

    There is a row for day 0, when everybody is at risk, for each day with an event, and for each of ``incidence_days``. ``at_risk``
    is the number still observed on that day, and the estimate (a share from 0 to 1) is NULL if it is 0. Limits are NULL where the
    estimate is 0 or 1. Every operation counts, so a person with two operations counts twice. ``readmission_within_30_days`` is a
    simple share with one row: ``at_risk`` are the live discharges with 30 days of data.

    | counts: day | kind        | records | → day | at_risk | events | estimate |
    |-------------|-------------|---------|-------|---------|--------|----------|
    | 5           | readmission | 1       | 0     | 10      | 0      | 0.0      |
    | 730         | censored    | 9       | 5     | 10      | 1      | 0.1      |
    |             |             |         | 30    | 9       | 0      | 0.1      |
    """
    histories: dict[Key, dict[str, dict[int, dict[str, int]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for row in counts:
        day = histories[row["policy_id"], row["group"]][row["history"]][row["day"]]
        day[row["kind"]] = row["records"]
    rows, deciding = [], ",".join(transfers_by) or None
    for (policy, group), found in sorted(histories.items()):
        curves = [(event, method, _curve(event, method, _days(found.get(of, {})))) for event, of, method in _ESTIMATES]
        shares = [_share(day, kinds) for day, kinds in found.get(WITHIN_30_DAYS, {}).items()]
        rows += [
            {"policy_id": policy, "group": group, "event": event, "method": method, **row, "transfers_by": deciding}
            for event, method, listed in [*curves, (WITHIN_30_DAYS, WILSON, shares)]
            for row in listed
        ]
    return rows


def _share(day: int, kinds: Mapping[str, int]) -> dict[str, Any]:
    """The row of a simple share."""
    whole, events = sum(kinds.values()), kinds.get(WITHIN_30_DAYS, 0)
    limits = wilson(events / whole, whole)
    return {"day": day, "at_risk": whole, "events": events, "estimate": events / whole, **limits._asdict()}


def _history(name: str, event: Column, death: Column, observed: Column) -> Column:
    """The first day on which something happened, and what happened: the event, a death, or the end of the history."""
    event, death, observed = (F.when(days < 0, 0).otherwise(days) for days in (event, death, observed))
    last = F.least(event, death, observed, F.lit(max(definitions_after()["incidence_days"])))
    kind = F.when(event == last, F.lit(name)).when(death == last, F.lit(DEATH)).otherwise(F.lit(CENSORED))
    return F.struct(F.lit(name).alias("history"), last.alias("day"), kind.alias("kind"))


def _days(counts: Mapping[int, Mapping[str, int]]) -> list[Day]:
    return [
        Day(day, {kind: number for kind, number in kinds.items() if kind != CENSORED}, kinds.get(CENSORED, 0))
        for day, kinds in counts.items()
    ]


def _curve(event: str, method: str, days: list[Day]) -> list[dict[str, Any]]:
    """The rows of one curve, in the order of days; none if nobody was followed."""
    if not days:
        return []
    events = {item.day: _events_on(item, event) for item in days}
    points = aalen_johansen(days, event) if method == AALEN_JOHANSEN else kaplan_meier(days)
    wanted = {day for day, number in events.items() if number} | {0, *definitions_after()["incidence_days"]}
    return [
        _row(event, at_day(points, day), day, at_risk_after(days, day - 1), events.get(day, 0))
        for day in sorted(wanted)
    ]


def _events_on(item: Day, event: str) -> int:
    return sum(item.events.values()) if event == ALIVE_WITHOUT else item.events.get(event, 0)


def _row(event: str, point: Point | None, day: int, at_risk: int, events: int) -> dict[str, Any]:
    survival = event in (DEATH, ALIVE_WITHOUT)
    value, lower, upper = (point.value, point.lower, point.upper) if point else (1.0 if survival else 0.0, 0.0, 0.0)
    if event == DEATH:
        # For death, the share that died is given.
        value, lower, upper = 1 - value, 1 - upper, 1 - lower
    value = min(1.0, max(0.0, value))  # a sum of many parts can be a rounding error outside
    row: dict[str, Any] = {"day": day, "at_risk": at_risk, "events": events, "estimate": value}
    if at_risk == 0:
        row["estimate"] = None
    limits = (lower, upper) if row["estimate"] not in (None, 0.0, 1.0) else (None, None)
    return {**row, "lower": limits[0], "upper": limits[1]}
