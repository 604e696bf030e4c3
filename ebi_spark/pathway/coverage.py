"""Which days the data cover, so that what is not found can be distinguished from what cannot be seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.financial_years import end_of, start_of
from ebi_spark.tables.table import YEAR


@dataclass(frozen=True)
class Covered:
    """Days that one data set (apc or op) of one source system covers without a gap, both ends included."""

    source_system: str
    dataset: str
    first: date
    last: date


class Coverage(NamedTuple):
    """``stretches``: the days that silver covers. ``sources`` and ``destinations``: the number of spells with an admission source
    and with a discharge destination."""

    stretches: list[Covered]
    sources: int
    destinations: int


def coverage(spells: DataFrame, attendances: DataFrame) -> Coverage:
    """The days that silver covers, in one query over a few narrow columns of each table.

    Financial years that follow each other are one stretch. It begins with the month of the first record of its first year and
    ends with the last record of its last year: spells count by their discharge, attendances by the appointment.
    """
    names = ("source_system", "dataset", YEAR, "activity_date")
    ways = ("admission_source", "discharge_destination")
    dated = spells.select(*names, *ways).unionByName(attendances.select(*names), allowMissingColumns=True)
    found = dated.groupBy("source_system", "dataset", YEAR).agg(
        F.min("activity_date").alias("first"),
        F.max("activity_date").alias("last"),
        *[F.count(way).alias(way) for way in ways],
    )
    rows = found.collect()
    years = [(row["source_system"], row["dataset"], row[YEAR], row["first"], row["last"]) for row in rows]
    return Coverage(stretches(years), *[sum(row[way] for row in rows) for way in ways])


def stretches(years: Iterable[tuple[str, str, str, date | None, date | None]]) -> list[Covered]:
    """Stretches of (source system, data set, financial year, first and last day of a record).

    | system   | dataset | year    | first      | last       | → first    | last       |
    |----------|---------|---------|------------|------------|------------|------------|
    | sus_plus | op      | 2021-22 | 2021-06-14 | 2022-03-20 | 2021-06-01 | 2023-02-27 |
    | sus_plus | op      | 2022-23 | 2022-04-11 | 2023-02-27 |            |            |
    | sus_plus | op      | 2024-25 | 2024-04-09 | 2025-03-30 | 2024-04-01 | 2025-03-30 |
    """
    found: list[Covered] = []
    for system, dataset, year, first, last in sorted(years, key=lambda row: row[:3]):
        begins = max(start_of(year), (first or start_of(year)).replace(day=1))
        ends = min(end_of(year), last or end_of(year))
        before = found[-1] if found and (found[-1].source_system, found[-1].dataset) == (system, dataset) else None
        if before and before.last >= start_of(year).replace(year=start_of(year).year - 1):
            found[-1] = Covered(system, dataset, before.first, ends)
        else:
            found.append(Covered(system, dataset, begins, ends))
    return found


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
