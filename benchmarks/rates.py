"""Only the aggregation of the rate stage: from made-up flags of many policies and years to rates of every area and period.

Spark draws the flags (no policy is applied) and writes them once as Parquet. Then all rates, single and pooled, and their variation
are computed from them ``--repeat`` times in one session, without a lake. The first pass is not counted.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.financial_years import label
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.rates.activity import activity_rates, prepare_flags
from ebi_spark.rates.periods import periods_of
from ebi_spark.rates.population import read_population
from ebi_spark.rates.variation import variation
from ebi_spark.spark.session import spark_session

LAST_YEAR = 2023
LENGTHS = (2, 3, 5)


def main(argv: list[str] | None = None) -> int:
    """Aggregate ``--records`` flags ``--repeat`` times and print seconds and rows as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.rates", description=__doc__)
    parser.add_argument("--policies", type=int, default=100)
    parser.add_argument("--years", type=int, default=12)
    parser.add_argument("--records", type=int, default=3_000_000, help="records in scope over all policies and years")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(argv)
    years = [label(LAST_YEAR - back) for back in reversed(range(given.years))]
    policies = [f"P{number:03d}" for number in range(given.policies)]
    read = [
        {"policy_id": policy, "revision": "1", "reading": "as_published", "financial_year": year,
         "policy_fingerprint": "f", "partial_year": False, "back_cast": False} for policy in policies for year in years
    ]  # fmt: skip
    periods = periods_of(read, LENGTHS, years)
    with tempfile.TemporaryDirectory() as folder, spark_session(Path(folder) / "scratch") as spark:
        # As with lookups that hold for all days: every year has areas.
        population = replace(read_population(RunConfig(LakeLocation(Path(folder))), years), undated_lookups=True)
        geography = read_geography()
        locations = sorted(geography.areas)
        made_up(spark, given.records, policies, years, locations).write.parquet(f"{folder}/flags")
        seconds: list[float] = []
        for _ in range(given.repeat + 1):
            flags = prepare_flags(spark.read.parquet(f"{folder}/flags"), geography)
            started = time.monotonic()
            activity_rates(flags, periods, population, partial=False).write.mode("overwrite").parquet(f"{folder}/rates")
            variation(spark.read.parquet(f"{folder}/rates"), 100).write.mode("overwrite").parquet(f"{folder}/spread")
            seconds.append(round(time.monotonic() - started, 1))
        rates = spark.read.parquet(f"{folder}/rates")
        england = rates.where("area_type = 'england' AND period_years = 1").agg(F.sum("in_scope")).first()
        answer = {
            "records": england[0] if england else None,
            "policies": given.policies,
            "years": given.years,
            "periods": len(periods),
            "rows": rates.count(),
            "variation": spark.read.parquet(f"{folder}/spread").count(),
            "seconds": seconds[1:],
        }
    print(json.dumps(answer))
    return 0


def made_up(
    spark: SparkSession, records: int, policies: list[str], years: list[str], locations: list[str]
) -> DataFrame:
    """Random flags: one person in five has several, and a sixth of the records has no known area or person."""

    def one_of(values: list[str], salt: int) -> Column:
        place = F.pmod(F.xxhash64("id", F.lit(salt)), F.lit(len(values))).cast("int")
        return F.get(F.array(*[F.lit(value) for value in values]), place)

    def below(number: int, salt: int) -> Column:
        return F.pmod(F.xxhash64("id", F.lit(salt)), F.lit(number)).cast("int")

    known = below(6, 1) > 0
    return spark.range(records).select(
        one_of(policies, 2).alias("policy_id"),
        F.lit("1").alias("revision"),
        F.lit("as_published").alias("reading"),
        one_of(years, 3).alias("financial_year"),
        F.when(known, F.concat(F.lit("p"), below(records * 2, 4))).alias("person_id"),
        one_of(["1", "2"], 5).alias("sex"),
        below(95, 6).alias("age_years"),
        F.when(below(2, 7) == 0, "flagged").otherwise("not_flagged").alias("outcome"),
        F.when(known, one_of(locations, 8)).alias("area_code"),
        F.when(known, "gp_practice").otherwise("unknown").alias("area_basis"),
        one_of([f"R{number:02d}" for number in range(130)], 9).alias("provider_code"),
        F.lit("hes").alias("source_system"),
        F.lit("apc").alias("dataset"),
        F.col("id").cast("string").alias("record_id"),
        # Read on one day: the records' areas are those of today, whatever their year.
        F.lit(date(LAST_YEAR + 3, 4, 1)).alias("area_date"),
        F.lit(None).cast("string").alias("latest_area_code"),
    )


if __name__ == "__main__":
    sys.exit(main())
