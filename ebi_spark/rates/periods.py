"""The periods that rates are of: single financial years, and pooled years that roll forward by a year.

Periods are few (policies × years × lengths), so they are made on the driver; what belongs to them is aggregated in Spark.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.financial_years import label, start_of
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.schemas import YEAR

# No longer period can be configured: which rows a rerun replaces must not depend on the configuration of earlier runs.
LONGEST = 10


@dataclass(frozen=True)
class Period:
    """One policy revision and reading over ``years``, which follow one another; a note holds if it holds of any year."""

    policy_id: str
    revision: str
    reading: str
    years: tuple[str, ...]
    partial_year: bool = False
    back_cast: bool = False

    @property
    def name(self) -> str:
        """``2021-22``, or ``2019-20..2021-22``."""
        return self.years[0] if len(self.years) == 1 else f"{self.years[0]}..{self.years[-1]}"


def years_before(year: str, length: int) -> tuple[str, ...]:
    """The ``length`` years that end with ``year``."""
    last = start_of(year).year
    return tuple(label(start) for start in range(last - length + 1, last + 1))


def years_around(years: Collection[str], reach: int) -> list[str]:
    """All years that are no more than ``reach`` years from one of ``years``, these included."""
    starts = {start_of(year).year + step for year in years for step in range(-reach, reach + 1)}
    return [label(start) for start in sorted(starts)]


def periods_of(read: Iterable[Mapping[str, Any]], lengths: Iterable[int], touched: Collection[str]) -> list[Period]:
    """Every period of a length (single years always) that holds one of the years ``touched``.

    ``read`` has a row a policy revision, reading and year that was read, as :func:`ebi_spark.rates.activity.periods_read`
    gives them. A pooled period is there only where all of its years are, judged by one definition of the policy.
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
    """A row a period: its key, ``period``, ``partial_year``, ``back_cast``."""
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
    """A row a period and year of it: the policy's key, ``member`` (the year), ``financial_year``, ``period_years``."""
    rows = [
        (p.policy_id, p.revision, p.reading, member, p.years[-1], len(p.years)) for p in periods for member in p.years
    ]
    return small_frame(
        spark,
        rows,
        "policy_id string, revision string, reading string, member string, financial_year string, period_years int",
    )


def rows_to_replace(years: Collection[str], held: Iterable[str]) -> list[dict[str, list[Any]]]:
    """Which rows of a table by period belong to a period that holds one of ``years``: what a rerun of these years replaces.

    ``held`` are the years that the table has or will have. Each mapping stands for the rows that have one of its values
    in each of its columns, as :meth:`ebi_spark.lake.storage.Lake.replace` takes them. Single years beside ``years`` are never
    among them.
    """
    where: list[dict[str, list[Any]]] = [{YEAR: sorted(years)}]
    starts = [start_of(year).year for year in years]
    for later in sorted(set(held) - set(years)):
        last = start_of(later).year
        distance = min((last - start for start in starts if start < last), default=LONGEST)
        if distance < LONGEST:
            where.append({YEAR: [later], "period_years": list(range(distance + 1, LONGEST + 1))})
    return where


def split_into_files(frame: DataFrame, years: Collection[str]) -> DataFrame:
    """``frame`` (rows by period that end in ``years``) so that a year's single rates and its pooled ones are written to a
    file each: a pooled period that is made anew then leaves the file of the year's single rates as it is."""
    if not years:
        return frame.coalesce(1)
    ordered = F.array(*[F.lit(year) for year in sorted(years)])
    task = (F.array_position(ordered, F.col(YEAR)) - 1) * 2 + F.when(F.col("period_years") > 1, 1).otherwise(0)
    return frame.repartitionById(2 * len(years), task.cast("int"))
