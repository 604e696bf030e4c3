"""Computes the rates of some years of a lake, for the rate stage and for a replay."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.geography.area_versions import Geography
from ebi_spark.lake.storage import Lake
from ebi_spark.rates.activity import activity_rates, periods_read, prepare_flags
from ebi_spark.rates.completeness import months_with_activity
from ebi_spark.rates.periods import periods_of, years_around
from ebi_spark.rates.population import Population, build_population, stored_vintages
from ebi_spark.tables.schemas import ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POPULATION, PROVIDER_MONTH, YEAR


@dataclass(frozen=True)
class ComputedRates:
    """``rates``: the rows of ``gold/activity_rate`` except ``run_id``, for every period that includes a year asked for.
    ``years_read``: the years in which policies have records."""

    rates: DataFrame
    years_read: set[str]
    population: Population


def compute_rates(lake: Lake, config: RunConfig, years: list[str], geography: Geography) -> ComputedRates:
    """The rates of every year in ``years`` and of every pooled period that includes one of them, from flags, attrition,
    policies, months (``gold/provider_month``) and populations of the lake."""
    policies, months = lake.read_small(POLICY), lake.read_small(PROVIDER_MONTH)
    small = lake.small_rows(POLICY, ["policy_id", "publish_years", "boards"])
    lengths = {1, *config.pooled_years, *(row["publish_years"] for row in small)}
    # The years that can share a pooled period with one of the years asked for.
    near = F.col(YEAR).isin(years_around(years, max(lengths) - 1))
    flags, attrition = lake.read(ACTIVITY_FLAG).where(near), lake.read_small(POLICY_ATTRITION).where(near)
    read = periods_read(attrition, flags, months_with_activity(months), policies).collect()
    periods = periods_of([row.asDict() for row in read], lengths, years)
    involved = sorted({year for period in periods for year in period.years})
    population = build_population(
        config, stored_vintages(lake.small_rows(POPULATION, POPULATION.names())), geography, involved or years
    )
    ready_flags = prepare_flags(flags.where(F.col(YEAR).isin(involved)), geography)
    rates = activity_rates(
        ready_flags,
        periods,
        population,
        partial=config.coverage == "partial",
        boards={row["policy_id"]: row["boards"] for row in small if row["boards"] is not None},
    )
    return ComputedRates(rates, {row[YEAR] for row in read}, population)
