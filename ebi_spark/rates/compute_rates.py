"""Computes the rates of some years of a lake, for the rate stage and for a replay."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.geography.area_versions import Geography
from ebi_spark.lake.storage import Lake
from ebi_spark.rates.activity import KEY, activity_rates, prepare_flags
from ebi_spark.rates.periods import periods_of, years_around
from ebi_spark.rates.population import Population, build_population, stored_vintages
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, PROVIDER_MONTH
from ebi_spark.tables.silver import POPULATION
from ebi_spark.tables.table import YEAR


@dataclass(frozen=True)
class ComputedRates:
    """``rates``: the rows of ``gold/activity_rate`` except ``run_id``, for every period that includes a year asked for.
    ``years_read``: the years in which policies have records. ``ends``: the last years of the periods."""

    rates: DataFrame
    years_read: set[str]
    ends: set[str]
    population: Population


def compute_rates(lake: Lake, config: RunConfig, years: list[str], geography: Geography) -> ComputedRates:
    """The rates of every year in ``years`` and of every pooled period that includes one of them, from flags, attrition,
    policies, months (``gold/provider_month``) and populations of the lake."""
    small = lake.small_rows(POLICY, ["policy_id", "publish_years", "boards"])
    lengths = {1, *config.pooled_years, *(row["publish_years"] for row in small)}
    # The years that can share a pooled period with one of the years asked for.
    read = periods_read(lake, years_around(years, max(lengths) - 1))
    periods = periods_of(read, lengths, years)
    involved = sorted({year for period in periods for year in period.years})
    population = build_population(
        config, stored_vintages(lake.small_rows(POPULATION, POPULATION.names())), geography, involved or years
    )
    ready_flags = prepare_flags(lake.read(ACTIVITY_FLAG).where(F.col(YEAR).isin(involved)), geography)
    rates = activity_rates(
        ready_flags,
        periods,
        population,
        partial=config.coverage == "partial",
        boards={row["policy_id"]: row["boards"] for row in small if row["boards"] is not None},
    )
    return ComputedRates(rates, {row[YEAR] for row in read}, {period.years[-1] for period in periods}, population)


def periods_read(lake: Lake, years: Collection[str]) -> list[dict[str, Any]]:
    """One row for each policy, revision, reading and year of ``years`` with records: ``policy_fingerprint``, ``partial_year``,
    ``back_cast``.

    A year with fewer than 12 calendar months in which the data set has records is partial. The fingerprint is that of the
    flags, None where the year has no flags.

    | reading      | financial_year | records read | months with records | → policy_fingerprint | partial_year |
    |--------------|----------------|--------------|---------------------|----------------------|--------------|
    | as_published | 2020-21        | 1000         | 12                  | 3f2a…                | False        |
    | as_published | 2021-22        | 400          | 5                   | None (no flags)      | True         |
    | as_published | 2022-23        | 0            | 0                   | no row               |              |
    """
    in_years = {YEAR: sorted(years)}
    scope = lake.small_rows(POLICY_ATTRITION, [*KEY, "records_in"], in_years | {"step": [0]})
    datasets = {row["policy_id"]: row["dataset"] for row in lake.small_rows(POLICY, ["policy_id", "dataset"])}
    by_month = lake.grouped(PROVIDER_MONTH, ["dataset", YEAR, "month"], ["records"], in_years)
    months = Counter((row["dataset"], row[YEAR]) for row in by_month if row["records"])
    flags: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in lake.grouped(ACTIVITY_FLAG, [*KEY, "back_cast", "policy_fingerprint"], where=in_years):
        flags.setdefault(tuple(row[name] for name in KEY), []).append(row)
    found = []
    for row in scope:
        if row["records_in"]:
            key = tuple(row[name] for name in KEY)
            of_key = flags.get(key, [])
            months_there = months.get((datasets.get(row["policy_id"], ""), row[YEAR]))
            found.append(
                {
                    **dict(zip(KEY, key, strict=True)),
                    "policy_fingerprint": max((flag["policy_fingerprint"] for flag in of_key), default=None),
                    "partial_year": months_there is not None and months_there < 12,
                    "back_cast": any(flag["back_cast"] for flag in of_key),
                }
            )
    return found
