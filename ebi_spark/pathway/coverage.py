"""Which days the data cover, so that what is not found can be distinguished from what cannot be seen."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.financial_years import starts_in

# As for the completeness of providers: where a typical month has fewer records, an empty month can be chance.
LEAST_TYPICAL = 20


@dataclass(frozen=True)
class Covered:
    """Days that one data set (apc or op) of one source system covers without a gap, both ends included."""

    source_system: str
    dataset: str
    first: date
    last: date


class Month(NamedTuple):
    """One month of one data set of one source system that has records: its first day, their number, and the day of the last."""

    source_system: str
    dataset: str
    first: date
    records: int
    last: date


class Coverage(NamedTuple):
    """``stretches``: the days that silver covers. ``sources`` and ``destinations``: the number of spells with an admission source
    and with a discharge destination."""

    stretches: list[Covered]
    sources: int
    destinations: int


def coverage(spells: DataFrame, attendances: DataFrame) -> Coverage:
    """The days that silver covers, in one query over a few narrow columns of each table. Spells count by their discharge,
    attendances by the appointment; those without a date cover no day (:func:`stretches` has an example)."""
    names = ("source_system", "dataset", "activity_date")
    ways = ("admission_source", "discharge_destination")
    dated = spells.select(*names, *ways).unionByName(attendances.select(*names), allowMissingColumns=True)
    found = dated.groupBy("source_system", "dataset", F.trunc("activity_date", "month").alias("month")).agg(
        F.count("*").alias("records"),
        F.max("activity_date").alias("last"),
        *[F.count(way).alias(way) for way in ways],
    )
    rows = found.collect()
    months = [
        Month(row["source_system"], row["dataset"], row["month"], row["records"], row["last"])
        for row in rows
        if row["month"] is not None
    ]
    return Coverage(stretches(months), *[sum(row[way] for row in rows) for way in ways])


def stretches(months: Iterable[Month]) -> list[Covered]:
    """Stretches of months that follow each other, from the first day of the first month to the last record of the last.

    A month without any record is a gap if a typical month of the data set has :data:`LEAST_TYPICAL` records or more. With fewer,
    a month can be empty by chance, and only a financial year without any record is a gap.

    | system   | dataset | month      | records | last       | → first    | last       |
    |----------|---------|------------|---------|------------|------------|------------|
    | sus_plus | op      | 2021-06-01 | 900     | 2021-06-30 | 2021-06-01 | 2021-07-29 |
    | sus_plus | op      | 2021-07-01 | 950     | 2021-07-29 |            |            |
    | sus_plus | op      | 2021-09-01 | 910     | 2021-09-27 | 2021-09-01 | 2021-09-27 |
    """
    by_data_set: dict[tuple[str, str], list[Month]] = defaultdict(list)
    for month in months:
        by_data_set[month.source_system, month.dataset].append(month)
    found: list[Covered] = []
    for (system, dataset), listed in sorted(by_data_set.items()):
        listed.sort(key=lambda month: month.first)
        every_month_counts = median(month.records for month in listed) >= LEAST_TYPICAL
        previous: Month | None = None
        for month in listed:
            if previous is not None and _follows(previous.first, month.first, every_month_counts):
                found[-1] = Covered(system, dataset, found[-1].first, month.last)
            else:
                found.append(Covered(system, dataset, month.first, month.last))
            previous = month
    return found


def _follows(before: date, month: date, every_month_counts: bool) -> bool:
    """Whether nothing is missing between two months, given by their first days."""
    between = 12 * (month.year - before.year) + month.month - before.month
    return between == 1 if every_month_counts else starts_in(month) - starts_in(before) <= 1


def is_covered(stretches: Iterable[Covered], dataset: str, first: Column, last: Column) -> Column:
    """Whether a data set of the row's ``source_system`` covers all days from ``first`` to ``last``; false if unknown."""
    covered = F.lit(False)
    for item in stretches:
        if item.dataset == dataset:
            within = (first >= F.lit(item.first)) & (last <= F.lit(item.last))
            covered = covered | ((F.col("source_system") == item.source_system) & within)
    return F.coalesce(covered, F.lit(False))


def last_day(stretches: Iterable[Covered], dataset: str, day: Column) -> Column:
    """The last day of the stretch in which ``day`` is, of the row's ``source_system``; NULL if the data do not cover it."""
    found = F.lit(None).cast("date")
    for item in stretches:
        if item.dataset == dataset:
            inside = (F.col("source_system") == item.source_system) & day.between(F.lit(item.first), F.lit(item.last))
            found = F.when(inside, F.lit(item.last)).otherwise(found)
    return found
