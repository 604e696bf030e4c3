"""Flags aggregated to rates by area and how areas vary."""

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.table import Table as RichTable

from ebi_spark.rates.activity import activity_rates, months_with_activity, periods_read, prepared
from ebi_spark.rates.population import read_population
from ebi_spark.rates.variation import variation
from ebi_spark.recompute import Due
from ebi_spark.schemas import (
    ACTIVITY_FLAG,
    ACTIVITY_RATE,
    APC_SPELL,
    OP_ATTENDANCE,
    POLICY,
    POLICY_ATTRITION,
    RATE_VARIATION,
    YEAR,
)
from ebi_spark.settings import RunConfig
from ebi_spark.storage import Lake
from jobs.harness import Context, run_stages
from jobs.years import silver_years


def stage(context: Context, due: Due | None = None) -> None:
    """Aggregate the flags of the years asked for, or of those that are ``due``, and replace these years' rates."""
    config, lake = context.config, context.lake
    with context.stage("rate") as report:
        years = report.years = due.years if due else silver_years(context)
        in_years = F.col(YEAR).isin(years)
        rates = rates_of(lake, config, years)
        context.tell("aggregating flags to rates")
        run_id = F.lit(context.run_id)
        lake.replace(ACTIVITY_RATE, rates.withColumn("run_id", run_id).repartition(YEAR), {YEAR: years}, stage="rate")
        written = lake.read(ACTIVITY_RATE).where(in_years)
        context.tell("measuring how areas vary")
        spread = variation(written, config.min_national_events).withColumn("run_id", run_id)
        lake.replace(RATE_VARIATION, spread.repartition(YEAR), {YEAR: years}, stage="rate")
        report.rows = written.count()
        default = lake.read(POLICY).where("is_default_reading").select("policy_id", "revision", "reading").distinct()
        national = written.where("area_type = 'england'").join(
            default, ["policy_id", "revision", "reading"], "left_semi"
        )
        shown_rows = national.orderBy("policy_id", YEAR).collect()
    shown = RichTable(title="England, default readings, per 100,000", title_justify="left")
    for name in ("policy", "reading", "year"):
        shown.add_column(name)
    for name in ("flagged", "crude", "standardised", "95% limits"):
        shown.add_column(name, justify="right")
    shown.add_column("status and notes")
    for row in shown_rows:
        limits = f"{row['lower']:.2f} to {row['upper']:.2f}" if row["upper"] is not None else ""
        standardised = f"{row['standardised_rate']:.2f}" if row["standardised_rate"] is not None else ""
        shown.add_row(
            row["policy_id"], row["reading"], row[YEAR], f"{row['activity']:,}", f"{row['crude_rate']:.2f}",
            standardised, limits, ", ".join([row["status"], *row["notes"]]),
        )  # fmt: skip
    context.summary.append(shown)


def rates_of(lake: Lake, config: RunConfig, years: list[str]) -> DataFrame:
    """The rows of ``gold/activity_rate`` but ``run_id``."""
    population = read_population(config, years)
    in_years = F.col(YEAR).isin(years)
    flags = prepared(lake.read(ACTIVITY_FLAG).where(in_years))
    months = months_with_activity(
        lake.read(APC_SPELL).where(in_years).select("dataset", YEAR, "activity_date").unionByName(
            lake.read(OP_ATTENDANCE).where(in_years).select("dataset", YEAR, "activity_date")
        )
    )  # fmt: skip
    periods = periods_read(lake.read(POLICY_ATTRITION).where(in_years), flags, months, lake.read(POLICY))
    return activity_rates(flags, periods, population, partial=config.coverage == "partial")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark rate``."""
    return run_stages("rate", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
