"""Flagged activity by area: one aggregation over the flags for all policies, readings, years and types of area."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.areas import OUTSIDE_ENGLAND
from ebi_spark.flags.judge import FLAGGED
from ebi_spark.rates.methods import FEW_EVENTS, crude_rate, dobson_limits, standardised_rate
from ebi_spark.rates.population import (
    DISTANT_VINTAGE,
    ENGLAND,
    Population,
    area_names,
    band_of,
    memberships,
    strata_frame,
)
from ebi_spark.rates.population_files import LAST_BAND, SEXES
from ebi_spark.small_frames import small_frame

KEY = ("policy_id", "revision", "reading", "financial_year")
AREA = ("area_type", "area_code")
METHOD = (
    "directly standardised by sex and five-year age band; Dobson limits on Byar (10 events and more) or exact Poisson"
)


def by_area(flags: DataFrame, population: Population) -> DataFrame:
    """``flags`` with a row for each area that the record counts in: England, region, ICB, sub-ICB location, provider.

    Records from outside England count nowhere; a record without a known area counts in England only (and at its
    provider).
    """
    spark = flags.sparkSession
    inside = flags.where(F.col("area_basis") != OUTSIDE_ENGLAND)
    needed = [*KEY, "flagged", "person_id", "sex", "band", "back_cast"]
    coded = inside.select(*needed, F.col("area_code").alias("known_code"))
    local = coded.join(F.broadcast(memberships(spark, population)), "known_code").drop("known_code")
    england = inside.select(*needed, F.lit("england").alias("area_type"), F.lit(ENGLAND).alias("area_code"))
    provider = inside.where("provider_code IS NOT NULL").select(
        *needed, F.lit("provider").alias("area_type"), F.col("provider_code").alias("area_code")
    )
    return england.unionByName(local).unionByName(provider)


def activity_rates(
    flags: DataFrame,
    periods: DataFrame,
    population: Population,
    *,
    partial: bool,
    boards: dict[str, list[str]] | None = None,
) -> DataFrame:
    """The rows of ``gold/activity_rate`` but ``run_id``.

    ``periods`` has a row a policy revision, reading and year that was read, with ``partial_year``: an area without
    activity has a row of 0 there. Under ``partial`` coverage nothing is called England. ``boards``: the boards of each
    local policy, which has rows of these, of their sub-ICB locations and of providers alone (decision 12).
    """
    boards = boards or {}
    spark = flags.sparkSession
    years = sorted(row["financial_year"] for row in periods.select("financial_year").distinct().collect())
    strata = strata_frame(spark, population, years)
    counted = by_area(flags, population)
    known = F.col("sex").isin(*SEXES) & F.col("band").isNotNull()
    totals = counted.groupBy(*KEY, *AREA).agg(
        F.count_if(F.col("flagged")).alias("activity"),
        F.count("*").alias("in_scope"),
        F.count_distinct(F.when(F.col("flagged"), F.col("person_id"))).alias("people_flagged"),
        F.count_if(F.col("flagged") & ~F.coalesce(known, F.lit(False))).alias("activity_unknown_age_sex"),
        F.max("back_cast").alias("back_cast"),
    )
    events = (
        counted.where(F.col("flagged"))
        .groupBy(*KEY, *AREA, "sex", "band")
        .agg(F.count("*").alias("events"))
        .join(strata, ["financial_year", *AREA, "sex", "band"])
    )
    standardised = events.groupBy(*KEY, *AREA).agg(
        F.sum("events").alias("events"),
        F.sum(F.col("weight") * F.col("events") / F.col("people")).alias("weighted_rates"),
        F.sum(F.pow("weight", F.lit(2)) * F.col("events") / F.pow("people", F.lit(2))).alias("weighted_variances"),
        F.max(F.col("people") == 0).alias("empty_stratum"),
    )
    national = (
        events.where("area_type = 'england' AND people > 0")
        .groupBy(*KEY)
        .agg(F.collect_list(F.struct(_stratum(), (F.col("events") / F.col("people")).alias("rate"))).alias("rates"))
    )
    people = strata.groupBy("financial_year", *AREA).agg(
        F.sum("people").alias("population"),
        F.first("vintage").alias("population_vintage"),
        F.max("distant").alias("distant"),
        F.array_sort(F.collect_list(F.struct(_stratum(), "people")))["people"].alias("strata"),
    )
    every_area = _of_own_boards(periods.join(people, "financial_year"), population, boards)
    providers = totals.where("area_type = 'provider'").select(*KEY, *AREA)
    every_provider = periods.join(providers, list(KEY)).withColumns(
        {
            "population": F.lit(None).cast("long"),
            "population_vintage": F.lit(None).cast("date"),
            "distant": F.lit(False),
            "strata": F.lit(None).cast("array<long>"),
        }
    )
    frame = (
        every_area.unionByName(every_provider)
        .join(totals, [*KEY, *AREA], "left")
        .join(standardised, [*KEY, *AREA], "left")
        .join(F.broadcast(area_names(spark, population)), list(AREA), "left")
        .join(F.broadcast(national), list(KEY), "left")
    )
    if partial:
        frame = frame.where("area_type <> 'england'")
    return _figures(frame, population, partial=partial, local=sorted(boards))


def _of_own_boards(areas: DataFrame, population: Population, boards: dict[str, list[str]]) -> DataFrame:
    """Rows of areas (with ``policy_id``) without those that a local policy does not have."""
    if not boards:
        return areas
    rows = {
        (policy_id, area_type, code)
        for policy_id, codes in boards.items()
        for row in population.hierarchy.values()
        if row["icb_code"] in codes
        for area_type, code in (("icb", row["icb_code"]), ("sub_icb", row["sub_icb_code"]))
    }
    own = small_frame(areas.sparkSession, sorted(rows), "policy_id string, area_type string, area_code string")
    local = F.col("policy_id").isin(*boards)
    theirs = areas.where(local).join(F.broadcast(own), ["policy_id", *AREA], "left_semi")
    return areas.where(~local).unionByName(theirs)


def _stratum() -> Column:
    """Index of a sex and band among the strata, all of which every area has."""
    return ((F.col("sex").cast("int") - 1) * (LAST_BAND + 1) + F.col("band")).cast("int").alias("stratum")


def prepared(flags: DataFrame) -> DataFrame:
    """Flags with what the aggregation asks for: ``flagged`` and the five-year ``band`` of ``age_years``."""
    return flags.withColumns({"flagged": F.col("outcome") == FLAGGED, "band": band_of(F.col("age_years"))})


def _figures(frame: DataFrame, population: Population, *, partial: bool, local: list[str]) -> DataFrame:
    all_weights = float(sum(population.weights.values()))
    counts = ["activity", "in_scope", "people_flagged", "activity_unknown_age_sex", "events"]
    filled = frame.fillna(0, counts).fillna(0.0, ["weighted_rates", "weighted_variances"])
    has_people = F.col("population").isNotNull()
    computable = has_people & ~F.coalesce(F.col("empty_stratum"), F.lit(False))
    lower, upper = dobson_limits(F.col("events"), F.col("weighted_rates"), F.col("weighted_variances"), all_weights)
    # Indirect standardisation: Σ n·(x/n of England) over sex and band; areas of one period share the rates.
    expected = F.aggregate(
        F.coalesce("rates", F.array().cast("array<struct<stratum:int,rate:double>>")),
        F.lit(0.0),
        lambda total, each: total + each["rate"] * F.get("strata", each["stratum"]),
    )
    is_local = F.col("policy_id").isin(*local) if local else F.lit(False)
    notes = F.array_compact(
        F.array(
            F.when(F.col("distant"), F.lit(DISTANT_VINTAGE)),
            F.when(F.col("back_cast_period"), F.lit("back_cast")),
            F.when(F.col("partial_year"), F.lit("partial_year")),
            F.when(F.lit(partial), F.lit("partial_coverage")),
            F.when(is_local, F.lit("local_policy")),
        )
    )
    return filled.select(
        *KEY,
        F.lit(1).alias("period_years"),
        F.col("financial_year").alias("period"),
        *AREA,
        F.coalesce("area_name", "area_code").alias("area_name"),
        "activity",
        "in_scope",
        "people_flagged",
        "activity_unknown_age_sex",
        "population",
        "population_vintage",
        F.when(has_people, F.lit(population.standard)).alias("standard_population"),
        F.when(has_people & ~F.lit(partial) & ~is_local, expected).alias("expected"),
        crude_rate(F.col("activity"), F.col("population")).alias("crude_rate"),
        F.when(computable, standardised_rate(F.col("weighted_rates"), all_weights)).alias("standardised_rate"),
        F.when(computable, lower).alias("lower"),
        F.when(computable, upper).alias("upper"),
        F.when(has_people, F.lit(METHOD)).alias("method"),
        F.when(~has_people, F.lit("no_population"))
        .when(~computable, F.lit("not_calculated"))
        .when(F.col("activity") < FEW_EVENTS, F.lit("few_events"))
        .otherwise(F.lit("ok"))
        .alias("status"),
        notes.alias("notes"),
    )


def periods_read(attrition: DataFrame, flags: DataFrame, months: DataFrame, policies: DataFrame) -> DataFrame:
    """A row a policy revision, reading and year that was read: ``partial_year``, ``back_cast_period``.

    ``months`` says of each dataset and year how many calendar months have activity (fewer than 12 is a partial year),
    ``policies`` (rows of ``gold/policy``) which dataset a policy is of.
    """
    scope = attrition.where("step = 0 AND records_in > 0").select(*KEY)
    cast = flags.groupBy(*KEY).agg(F.max("back_cast").alias("back_cast_period"))
    dataset = policies.select("policy_id", "dataset").distinct()
    return (
        scope.join(cast, list(KEY), "left")
        .join(F.broadcast(dataset), "policy_id", "left")
        .join(months, ["dataset", "financial_year"], "left")
        .select(
            *KEY,
            F.coalesce(F.col("months") < 12, F.lit(False)).alias("partial_year"),
            F.coalesce("back_cast_period", F.lit(False)).alias("back_cast_period"),
        )
    )


def months_with_activity(records: DataFrame) -> DataFrame:
    """How many calendar months of each dataset and year have a dated record: ``dataset``, ``financial_year``, ``months``."""
    month = F.expr("shiftleft(1, month(activity_date))")
    return records.groupBy("dataset", "financial_year").agg(F.bit_count(F.bit_or(month)).alias("months"))
