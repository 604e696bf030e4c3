"""How standardised rates vary between areas: percentiles, N-fold and the opportunity, as on the published EBI pages."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.rates.methods import NO_POPULATION, PER

KEY = ("policy_id", "revision", "reading", "financial_year", "period_years", "period")
SHARES = (10, 25, 50, 75, 90)
AREA_TYPES = ("region", "icb", "sub_icb")


def variation(rates: DataFrame, min_national_events: int) -> DataFrame:
    """The rows of ``gold/rate_variation`` except ``run_id``, from rows of ``gold/activity_rate``: one for each policy, revision,
    reading, period and type of area.

    | rates of areas with 1,000,000 people | → area_type | areas | p10 | p25 | p50 | p75 | p90 | n_fold | opportunity |
    |--------------------------------------|-------------|-------|-----|-----|-----|-----|-----|--------|-------------|
    | 10, 20, 30, 40, 50                   | icb         | 5     | 14  | 20  | 30  | 40  | 46  | 3.3    | 600         |
    | 10, 10, 10                           | region      | 3     | 10  | 10  | 10  | 10  | 10  | 1.0    | 0           |
    | low, from few events in all          | sub_icb     | 9     | 0.1 | 0.1 | 0.2 | 0.2 | 0.3 | 3.0    | NULL        |

    - Percentiles (per 100,000) are not weighted, over the areas of one type, with linear interpolation. ``p10`` to ``p90``
      cover areas with activity and are published; ``all_areas_p10`` to ``all_areas_p90`` cover all areas.
    - ``n_fold`` is P90 divided by P10, before rounding; NULL where P10 is 0.
    - ``opportunity`` is a number of records: Σ max(0, rate − P25) × population / 100,000 over areas. It is NULL with the
      status ``not_calculated`` where all areas together have fewer events than ``min_national_events`` (decision 16), or none.

    Percentiles, N-fold and opportunity are NULL where an area of the type has no population, because the other areas do not make
    up the whole. A type with only one area has no row.
    """
    below = rates.where(F.col("area_type").isin(*AREA_TYPES))
    has_rate = F.col("standardised_rate").isNotNull()
    active = has_rate & (F.col("activity") > 0)
    points = F.array(*[F.lit(share / 100) for share in SHARES])
    spread = below.groupBy(*KEY, "area_type").agg(
        F.count("*").alias("_all_areas"),
        F.count_if(has_rate).alias("areas"),
        F.count_if(active).alias("areas_with_activity"),
        F.max(F.col("status") == NO_POPULATION).alias("_lacking"),
        F.sum(F.when(has_rate, F.col("activity"))).alias("_events"),
        F.percentile(F.when(active, F.col("standardised_rate")), points).alias("_active"),
        F.percentile(F.col("standardised_rate"), points).alias("_all"),
        F.array_sort(F.array_distinct(F.flatten(F.collect_list("notes")))).alias("notes"),
        F.first("coverage").alias("coverage"),
        F.first("geography").alias("geography"),
    )
    spread = spread.where("_all_areas > 1")  # one board of a local policy cannot be compared with others
    areas = below.where(has_rate)
    lowest = spread.select(*KEY, "area_type", F.get("_active", F.lit(1)).alias("_p25"))
    excess = (
        areas.join(lowest, [*KEY, "area_type"])
        .groupBy(*KEY, "area_type")
        .agg(
            F.sum(F.greatest(F.lit(0.0), F.col("standardised_rate") - F.col("_p25")) * F.col("population") / PER).alias(
                "_excess"
            )
        )
    )
    frame = spread.join(excess, [*KEY, "area_type"], "left")
    whole = ~F.col("_lacking")
    # Without any event there is no P25 that other areas could exceed, even where no least number of events is asked for.
    enough = whole & (F.col("_events") >= max(min_national_events, 1)) & F.col("_excess").isNotNull()
    p10, p90 = F.get("_active", F.lit(0)), F.get("_active", F.lit(4))
    return frame.select(
        *KEY,
        "area_type",
        "areas",
        "areas_with_activity",
        *[F.when(whole, F.get("_active", F.lit(n))).alias(f"p{share}") for n, share in enumerate(SHARES)],
        F.when(whole & (p10 > 0), p90 / p10).alias("n_fold"),
        *[F.when(whole, F.get("_all", F.lit(n))).alias(f"all_areas_p{share}") for n, share in enumerate(SHARES)],
        F.when(enough, F.col("_excess")).alias("opportunity"),
        F.when(enough, F.col("_excess") / F.col("_events")).alias("opportunity_share"),
        F.when(enough, F.lit("ok")).otherwise(F.lit("not_calculated")).alias("status"),
        "notes",
        "coverage",
        "geography",
    )
