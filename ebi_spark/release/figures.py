"""The published tables made from gold and silver: rates under disclosure control, everything else national."""

from collections.abc import Iterable
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.areas import OUTSIDE_ENGLAND, UNKNOWN
from ebi_spark.flags.judge import FLAGGED
from ebi_spark.rates.code_forms import LIKE_A_KEY
from ebi_spark.rates.methods import count_limits, crude_rate
from ebi_spark.release.disclosure import (
    control_rates,
    counts_behind,
    expected_unit,
    flagged_share,
    published_expected,
    published_national,
    rate_unit,
)
from ebi_spark.release.protected import AREA, PERIOD, Protected, protected_variation
from ebi_spark.schemas import VARIATION
from ebi_spark.small_frames import small_frame

_REVISION_YEAR = ("policy_id", "revision", "financial_year")


def default_readings(policies: DataFrame) -> DataFrame:
    """``policy_id``, ``reading`` of each policy's default."""
    return policies.where("is_default_reading").select("policy_id", "reading").distinct()


def of_published_periods(frame: DataFrame, policies: DataFrame) -> DataFrame:
    """The rows of each policy's default reading and of the periods in which it is published below England: single years,
    or windows of ``publish_years`` years of which one begins with ``publish_first_year``. They never overlap, and never
    shift when a year is added (decision 19)."""
    names = ["policy_id", "reading", "publish_years", "publish_first_year"]
    chosen = policies.where("is_default_reading").select(*names).distinct()
    offset = F.expr("int(substr(period, 1, 4)) - int(substr(publish_first_year, 1, 4))")
    aligned = (F.col("period_years") == F.col("publish_years")) & (F.pmod(offset, F.col("publish_years")) == 0)
    return frame.join(F.broadcast(chosen), ["policy_id", "reading"]).where(aligned).select(*frame.columns)


def national_only(frame: DataFrame, policies: DataFrame) -> DataFrame:
    """``frame`` without local policies: counts of one board's patients, which no national table may show."""
    local = policies.where("boards IS NOT NULL").select("policy_id").distinct()
    return frame.join(F.broadcast(local), "policy_id", "left_anti")


def withheld_local_rates(rates: DataFrame, policies: DataFrame, rule_name: str) -> DataFrame:
    """The areas of local policies with every figure withheld: under a protected rule the same patients stand under the
    national policy already, and two tables of one area could be set against each other."""
    local = policies.where("boards IS NOT NULL")
    areas = of_published_periods(rates.where("area_type IN ('icb', 'sub_icb')"), local)
    gone = {
        "activity", "in_scope", "flagged_share", "share_lower", "share_upper", "people_flagged",
        "activity_unknown_age_sex", "expected", "crude_rate", "standardised_rate", "lower", "upper", "lower_adjusted",
        "upper_adjusted", "standard_error", "method",
    }  # fmt: skip
    columns = [F.lit(None).alias(name) if name in gone else F.col(name) for name in areas.columns if name != "status"]
    return areas.select(*columns, F.lit("withheld_secondary").alias("status"), F.lit(rule_name).alias("disclosure"))


def published_rates(rates: DataFrame, policies: DataFrame, rule_name: str, rule: dict[str, Any]) -> DataFrame:
    """Rates as they may leave: all readings and periods for England, below it :func:`of_published_periods`, so that no
    two figures of one area can be set against each other."""
    areas = of_published_periods(rates.where("area_type <> 'england'"), policies)
    return control_rates(rates.where("area_type = 'england'").unionByName(areas), rule_name, rule)


# Notes that all rows of a period have or none.
OF_PERIOD = ("back_cast", "partial_year", "partial_coverage")
# What is needed of a rate to control it and to say how areas vary.
_CONTROLLED = (
    *PERIOD, "area_type", "area_code", "activity", "in_scope", "population", "expected", "standardised_rate",
    "geography",
)  # fmt: skip
INDIRECT = (
    "indirectly standardised by sex and five-year age band to England's rates, from the published count and expected events; "
    "exact Poisson or (10 events and more) Byar limits, of all counts that rounding leaves possible"
)


def to_protect(rates: DataFrame, policies: DataFrame) -> DataFrame:
    """The rows of gold that may be published below England (:func:`of_published_periods`), with England's of the same
    periods, so that no two tables of one area can be set against each other."""
    rows = of_published_periods(national_only(rates, policies), policies)
    england = F.col("area_type") == "england"
    published = {
        "expected": F.when(england, F.col("expected")).otherwise(published_expected(F.col("expected"))),
        "standardised_rate": F.when(england, published_national(F.col("population"))["standardised_rate"]).otherwise(
            F.col("standardised_rate")
        ),
    }
    return rows.withColumns(published).select(*_CONTROLLED)


def protected_rates(rates: DataFrame, controlled: Protected, rule_name: str, rule: dict[str, Any]) -> DataFrame:
    """Rates as they may leave under a protected rule: England's, and below it everything made from the published count.

    A directly standardised rate is a sum over strata and would give its events back. Below England the rate published is
    the indirectly standardised one, published count / published expected × England's published standardised rate, with limits
    that hold for every count, and every expected and national rate, that is published so.
    """
    rates = _with_rows_of(rates, controlled)
    given = ("activity", "in_scope", "status", "expected")
    counts = controlled.counts[[*PERIOD, *AREA, *given]].rename(columns={name: f"_{name}" for name in given})
    whole = {"period_years": "int", "_activity": "long", "_in_scope": "long"}
    kinds = whole | {"_expected": "double"}
    rows = counts.astype(object).where(counts.notna(), None).to_dict("records")
    schema = ", ".join(f"{name} {kinds.get(name, 'string')}" for name in counts.columns)
    allowed = F.broadcast(small_frame(rates.sparkSession, [_whole(row, whole) for row in rows], schema))
    england = rates.where("area_type = 'england'").withColumns(published_national(F.col("population")))
    national = F.broadcast(
        england.select(
            *PERIOD, F.col("standardised_rate").alias("_national"), rate_unit(F.col("population")).alias("_unit")
        )
    )
    areas = rates.join(allowed, [*PERIOD, "area_type", "area_code"]).join(national, PERIOD, "left")
    count, expected = F.col("_activity"), F.col("_expected")
    known = expected > 0
    least, most = counts_behind(count, rule)
    half, half_unit = F.col("_unit") / 2, expected_unit(expected) / 2
    lower = count_limits(least)[0] * F.greatest(F.col("_national") - half, F.lit(0.0)) / (expected + half_unit)
    upper = count_limits(most)[1] * (F.col("_national") + half) / (expected - half_unit)
    # Where nothing is expected none was flagged either: a rate of 0 if there are people, none for a provider.
    nobody_expected = F.col("population").isNotNull() & (count == 0)
    rate = F.when(known, count * F.col("_national") / expected).when(nobody_expected, F.col("_national") * 0)
    replaced = {
        "activity": count,
        "in_scope": F.col("_in_scope"),
        "people_flagged": F.lit(None),
        "activity_unknown_age_sex": F.lit(None),
        "crude_rate": crude_rate(count, F.col("population")),
        "standardised_rate": rate,
        "expected": expected,
        "lower": F.when(known & count.isNotNull(), lower),
        "upper": F.when(known & count.isNotNull(), upper),
        # Made of strata and persons, not of the published count.
        **dict.fromkeys(("lower_adjusted", "upper_adjusted", "standard_error"), F.lit(None)),
        **flagged_share(count, F.col("_in_scope"), rule),
        "method": F.when(F.col("population").isNotNull(), F.lit(INDIRECT)),
        "status": F.col("_status"),
    }
    columns = [replaced[name].alias(name) if name in replaced else F.col(name) for name in rates.columns]
    return england.unionByName(areas.select(*columns)).withColumn("disclosure", F.lit(rule_name))


def _with_rows_of(rates: DataFrame, controlled: Protected) -> DataFrame:
    """The rates of gold, and rows of 0 of listed providers that gold has none of in a period."""
    listed = controlled.counts.loc[controlled.counts["area_type"] == "provider", [*PERIOD, *AREA]]
    if listed.empty:
        return rates
    kinds = ", ".join(f"{name} {'int' if name == 'period_years' else 'string'}" for name in listed.columns)
    rows = [_whole(row, ["period_years"]) for row in listed.to_dict("records")]
    absent = small_frame(rates.sparkSession, rows, kinds).join(rates, [*PERIOD, *AREA], "left_anti")
    of_period = rates.groupBy(*PERIOD).agg(
        F.first("period").alias("period"),
        F.first("coverage").alias("coverage"),
        F.first("geography").alias("geography"),
        # What is noted of the period as a whole.
        F.array_intersect(F.first("notes"), F.array(*map(F.lit, OF_PERIOD))).alias("notes"),
    )
    zero = {name: F.lit(0).cast("long") for name in ("activity", "in_scope")}
    rest = {"area_name": F.col("area_code"), "status": F.lit("no_population")}
    made = absent.join(F.broadcast(of_period), PERIOD).withColumns(zero | rest)
    return rates.unionByName(made, allowMissingColumns=True)


def protected_spread(
    variation: DataFrame, controlled: Protected, rule_name: str, rule: dict[str, Any], min_national_events: int
) -> DataFrame:
    """Variation between areas of each policy's default reading, made from published figures alone."""
    measured = protected_variation(controlled.counts, rule, min_national_events)
    names = [name for name in VARIATION.names() if name in measured.columns]
    whole = dict.fromkeys(("areas", "areas_with_activity", "period_years"), "long")
    rows = measured.astype(object).where(measured.notna(), None).to_dict("records")
    kinds = {item.name: item.dataType.simpleString() for item in VARIATION.schema.fields}
    schema = ", ".join(f"{name} {kinds[name]}" for name in names)
    made = small_frame(variation.sparkSession, [_whole(row, whole) for row in rows], schema)
    labels = variation.select(*PERIOD, "area_type", "period", "notes", "coverage", "geography")
    return made.join(labels, [*PERIOD, "area_type"]).withColumn("disclosure", F.lit(rule_name))


def _whole(row: dict[Any, Any], names: Iterable[str]) -> dict[str, Any]:
    """A row of pandas with its counts as whole numbers."""
    return {name: int(value) if name in names and value is not None else value for name, value in row.items()}


def published_variation(variation: DataFrame, policies: DataFrame, rule_name: str) -> DataFrame:
    """Variation between areas of the default reading, in the periods of the rates."""
    return of_published_periods(variation, policies).withColumn("disclosure", F.lit(rule_name))


def published_attrition(attrition: DataFrame, flags: DataFrame) -> DataFrame:
    """The waterfalls, with the records that failed each clause alone."""
    key = [*_REVISION_YEAR, "reading", "clause_id"]
    near = (
        flags.where("near_miss")
        .withColumn("clause_id", F.get("failed_clauses", F.lit(0)))
        .groupBy(*key)
        .agg(F.count("*").alias("near_miss"))
    )
    return attrition.join(near, key, "left").fillna(0, ["near_miss"])


def reading_effects(flags: DataFrame, policies: DataFrame) -> DataFrame:
    """A row a revision, reading and year: what the reading flags, and what it adds to and takes from the policy as
    published."""
    record = [*_REVISION_YEAR, "source_system", "dataset", "record_id"]
    flagged = F.col("outcome") == FLAGGED
    as_published = F.when(F.col("reading") == "as_published", flagged)
    # All readings of a record at once: one pass over the flags where a join would take two.
    of_record = flags.groupBy(*record).agg(
        F.max(as_published).alias("_published"),
        F.collect_list(F.struct("reading", flagged.alias("_flagged"))).alias("_each"),
    )
    joined = of_record.select(*_REVISION_YEAR, "_published", F.inline("_each"))
    counts = joined.groupBy(*_REVISION_YEAR, "reading").agg(
        F.count("*").alias("in_scope"),
        F.count_if("_flagged").alias("flagged"),
        F.count_if("_published").alias("flagged_as_published"),
        F.count_if(F.col("_flagged") & ~F.col("_published")).alias("added"),
        F.count_if(~F.col("_flagged") & F.col("_published")).alias("removed"),
    )
    default = F.broadcast(default_readings(policies).withColumn("is_default_reading", F.lit(True)))
    return counts.join(default, ["policy_id", "reading"], "left").fillna(False, ["is_default_reading"])


def quality(measured: DataFrame, quarantine: DataFrame, flags: DataFrame, placed: DataFrame) -> DataFrame:
    """National measures of each dataset and year: ``measure``, ``records``, ``of_records``, ``status``.

    ``measured`` are rows of ``gold/record_quality``, ``placed`` of ``gold/unmapped_area``. Of each policy's records in scope:
    those that are in no area shown, and those from outside England. All but the totals (``records``) is :func:`coarse`.
    """
    # Whether a column looks like a key decides whether anything is published; it is no measure of what is.
    shown = measured.where(~F.col("measure").isin(*LIKE_A_KEY.values()))
    of_year = shown.select("financial_year", "dataset", "measure", "records", "of_records")
    totals = of_year.where("measure = 'records'").select("financial_year", "dataset", "of_records")
    quarantined = (
        quarantine.select("financial_year", "dataset", F.explode("reasons").alias("reason"))
        .groupBy("financial_year", "dataset", F.concat(F.lit("quarantined:"), "reason").alias("measure"))
        .agg(F.count("*").alias("records"))
        .join(totals, ["financial_year", "dataset"], "left")
    )
    whole = of_year.unionByName(quarantined).withColumn("policy_id", F.lit(None).cast("string"))
    of_all = F.col("measure") == "records"
    return coarse(whole.unionByName(area_quality(flags, placed)), of_all)


def area_quality(flags: DataFrame, unmapped: DataFrame) -> DataFrame:
    """Where records in scope belong, before control: ``area_unknown`` and ``outside_england`` of each policy and year, and of each
    dataset and year ``area_unmapped``, whose code is no area of the version shown or was none on the record's date.

    By which code, and by which basis, is in gold alone: one area can be all of a code's or a basis's records, and parts that
    add up to a national figure would give the last one away.
    """
    scoped = flags.where("reading = 'as_published'")
    key = ["financial_year", "dataset", "policy_id"]
    measures = {"area_unknown": UNKNOWN, OUTSIDE_ENGLAND: OUTSIDE_ENGLAND}
    of_policy = scoped.groupBy(*key).agg(
        F.count("*").alias("of_records"),
        *[F.count_if(F.col("area_basis") == basis).alias(name) for name, basis in measures.items()],
    )
    listed = F.array(*[F.struct(F.lit(name).alias("measure"), F.col(name).alias("records")) for name in measures])
    of_dataset = scoped.groupBy("financial_year", "dataset").agg(
        F.count_distinct("source_system", "record_id").alias("of_records")
    )
    nowhere = unmapped.groupBy("financial_year", "dataset").agg(F.sum("records").alias("records"))
    of_codes = of_dataset.join(nowhere, ["financial_year", "dataset"], "left").select(
        *key[:2],
        F.lit(None).cast("string").alias("policy_id"),
        F.lit("area_unmapped").alias("measure"),
        F.coalesce("records", F.lit(0)).alias("records"),
        "of_records",
    )
    return of_policy.select(*key, "of_records", F.inline(listed)).unionByName(of_codes)


# A national measure can be of one area's, provider's or board's records: it is given to the nearest hundred.
COARSE = 100


def coarse(measures: DataFrame, whole: Column) -> DataFrame:
    """``records`` (of ``of_records``) as they may be published, with their ``status``; where ``whole`` holds they stand.

    A measure of fewer than half of :data:`COARSE`, or of all records but so few, is withheld; others go to the nearest multiple.
    So no release, nor the difference of two, tells a count that a disclosure rule withholds: a value that changes says of a
    count near 50, 150, … that it is that.
    """
    part, half = F.col("records"), COARSE // 2
    few = (part < half) | F.coalesce(F.col("of_records") - part < half, F.lit(False)) & ~F.startswith(
        F.col("measure"), F.lit("quarantined:")
    )
    rounded = (F.floor((part + half) / COARSE) * COARSE).cast("long")
    return measures.withColumns(
        {
            "records": F.when(whole, part).when(~few, rounded),
            "status": F.when(whole | ~few, F.lit("ok")).when(part < half, F.lit("withheld_small")).otherwise(
                F.lit("withheld_secondary")
            ),
        }
    )  # fmt: skip
