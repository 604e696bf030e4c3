"""The periods of rates: single financial years, and pooled years that roll forward by a year.

There are few periods (policies × years × lengths), so they are built on the driver. Records are aggregated in Spark.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.financial_years import label, period_of, start_of
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import YEAR

# The longest period that can be configured. A fixed limit is needed because the rows that a rerun replaces must not depend on
# the configuration of earlier runs.
LONGEST = 10


@dataclass(frozen=True)
class Period:
    """One policy, revision and reading over consecutive ``years``. ``partial_year`` and ``back_cast`` are true if they are true
    for any of the years."""

    policy_id: str
    revision: str
    reading: str
    years: tuple[str, ...]
    partial_year: bool = False
    back_cast: bool = False

    @property
    def name(self) -> str:
        """``2021-22``, or ``2019-20..2021-22``."""
        return period_of(self.years)


def years_before(year: str, length: int) -> tuple[str, ...]:
    """The ``length`` years that end with ``year``."""
    last = start_of(year).year
    return tuple(label(start) for start in range(last - length + 1, last + 1))


def years_around(years: Collection[str], distance: int) -> list[str]:
    """All years at most ``distance`` years from one of ``years``, which are included."""
    starts = {start_of(year).year + step for year in years for step in range(-distance, distance + 1)}
    return [label(start) for start in sorted(starts)]


def periods_of(read: Iterable[Mapping[str, Any]], lengths: Iterable[int], touched: Collection[str]) -> list[Period]:
    """Every period of one of ``lengths`` (and every single year) that includes a year of ``touched``.

    ``read`` has one row for each policy, revision, reading and year with records, as
    :func:`ebi_spark.rates.compute_rates.periods_read` returns them. A pooled period exists only if all its years have records and
    were flagged by one and the same definition of the policy. Here ``lengths`` is 2, and ``touched`` has 2020-21 and 2022-23:

    | financial_year | partial_year | → period         | partial_year |
    |----------------|--------------|------------------|--------------|
    | 2019-20        | False        | 2020-21          | False        |
    | 2020-21        | False        | 2022-23          | True         |
    | 2022-23        | True         | 2019-20..2020-21 | False        |
    """
    years: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in read:
        years.setdefault((row["policy_id"], row["revision"], row["reading"]), {})[row[YEAR]] = row
    periods = []
    for key, known in sorted(years.items()):
        for length in sorted({1, *lengths}):
            for last in sorted(known):
                members = years_before(last, length)
                if not set(members) <= known.keys() or not set(members) & set(touched):
                    continue
                rows = [known[year] for year in members]
                if len({row["policy_fingerprint"] for row in rows if row["policy_fingerprint"]}) > 1:
                    continue
                periods.append(
                    Period(*key, members, any(r["partial_year"] for r in rows), any(r["back_cast"] for r in rows))
                )
    return periods


def period_rows(spark: SparkSession, periods: Sequence[Period]) -> DataFrame:
    """One row for each period: its key, its name ``period``, ``partial_year`` and ``back_cast``.

    | policy_id | revision | reading      | financial_year | period_years | period           | partial_year | back_cast |
    |-----------|----------|--------------|----------------|--------------|------------------|--------------|-----------|
    | P         | 2021-04  | as_published | 2020-21        | 1            | 2020-21          | false        | true      |
    | P         | 2021-04  | as_published | 2021-22        | 1            | 2021-22          | false        | false     |
    | P         | 2021-04  | as_published | 2021-22        | 2            | 2020-21..2021-22 | false        | true      |
    """
    rows = [
        (p.policy_id, p.revision, p.reading, p.years[-1], len(p.years), p.name, p.partial_year, p.back_cast)
        for p in periods
    ]
    return small_frame(
        spark,
        rows,
        "policy_id string, revision string, reading string, financial_year string, period_years int, period string, "
        "partial_year boolean, back_cast boolean",
    )


def years_of_periods(spark: SparkSession, periods: Sequence[Period]) -> DataFrame:
    """One row for each period and year in it: the key of the policy, ``member`` (the year), ``financial_year`` (the last year
    of the period) and ``period_years`` (how many years it has).

    | period           | → member | financial_year | period_years |
    |------------------|----------|----------------|--------------|
    | 2021-22          | 2021-22  | 2021-22        | 1            |
    | 2020-21..2021-22 | 2020-21  | 2021-22        | 2            |
    |                  | 2021-22  | 2021-22        | 2            |
    """
    rows = [
        (p.policy_id, p.revision, p.reading, member, p.years[-1], len(p.years)) for p in periods for member in p.years
    ]
    return small_frame(
        spark,
        rows,
        "policy_id string, revision string, reading string, member string, financial_year string, period_years int",
    )


def rows_to_replace(years: Collection[str], existing: Iterable[str]) -> list[dict[str, list[Any]]]:
    """The rows that a rerun of ``years`` replaces in a table by period: those of every period that includes one of ``years``.

    ``existing`` are the years that the table has or will have. Each mapping selects the rows that have one of the listed
    values in each of its columns, as :meth:`ebi_spark.lake.storage.Lake.replace` expects. Rows of other single years are
    never selected.

    >>> rows_to_replace(["2020-21"], ["2020-21", "2022-23"])
    [{'financial_year': ['2020-21']}, {'financial_year': ['2022-23'], 'period_years': [3, 4, 5, 6, 7, 8, 9, 10]}]
    """
    where: list[dict[str, list[Any]]] = [{YEAR: sorted(years)}]
    starts = [start_of(year).year for year in years]
    for later in sorted(set(existing) - set(years)):
        last = start_of(later).year
        distance = min((last - start for start in starts if start < last), default=LONGEST)
        if distance < LONGEST:
            where.append({YEAR: [later], "period_years": list(range(distance + 1, LONGEST + 1))})
    return where


def split_into_files(frame: DataFrame, years: Collection[str]) -> DataFrame:
    """``frame`` repartitioned so that the single-year rates and the pooled rates of each year are written to separate files.

    Rewriting a pooled period then leaves the file of the single-year rates untouched. ``frame`` has rows of periods that end
    in one of ``years``.
    """
    if not years:
        return frame.coalesce(1)
    ordered = F.array(*[F.lit(year) for year in sorted(years)])
    task = (F.array_position(ordered, F.col(YEAR)) - 1) * 2 + F.when(F.col("period_years") > 1, 1).otherwise(0)
    if hasattr(DataFrame, "repartitionById"):
        return frame.repartitionById(2 * len(years), task.cast("int"))
    # Spark 4.0 can only choose partitions by a hash. Two can be the same, and then a rerun writes more rows again than it has to.
    return frame.repartition(2 * len(years), task)
