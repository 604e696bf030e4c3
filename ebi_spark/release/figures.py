"""The published tables made from gold and silver: rates under disclosure control, everything else national."""

from collections.abc import Iterable
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.areas import OUTSIDE_ENGLAND, UNKNOWN
from ebi_spark.flags.judge import FLAGGED
from ebi_spark.rates.code_forms import LIKE_A_KEY
from ebi_spark.rates.methods import count_limits, crude_rate
from ebi_spark.release.disclosure import control_rates, flagged_share
from ebi_spark.release.protected import PERIOD, Protected, protected_variation
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


# What is needed of a rate to control it and to say how areas vary.
_CONTROLLED = (
    *PERIOD, "area_type", "area_code", "activity", "in_scope", "population", "expected", "standardised_rate",
    "geography",
)  # fmt: skip
INDIRECT = (
    "indirectly standardised by sex and five-year age band to England's rates, from the published count; exact Poisson "
    "or (10 events and more) Byar limits"
)


def to_protect(rates: DataFrame, policies: DataFrame) -> DataFrame:
    """The rows of gold that may be published below England (:func:`of_published_periods`), with England's of the same
    periods, so that no two tables of one area can be set against each other."""
    return of_published_periods(national_only(rates, policies), policies).select(*_CONTROLLED)


def protected_rates(rates: DataFrame, controlled: Protected, rule_name: str) -> DataFrame:
    """Rates as they may leave under a protected rule: England's as they stand, below it everything made from the
    published count.

    A directly standardised rate is a sum over strata and would give its events back. Below England the rate published is
    the indirectly standardised one, published count / expected × England's standardised rate: but for the count it holds
    only populations and England's own rates.
    """
    kept = [*PERIOD, "area_type", "area_code", "activity", "in_scope", "status"]
    counts = controlled.counts[kept].rename(columns={name: f"_{name}" for name in ("activity", "in_scope", "status")})
    kinds = {"period_years": "int", "_activity": "long", "_in_scope": "long"}
    rows = counts.astype(object).where(counts.notna(), None).to_dict("records")
    schema = ", ".join(f"{name} {kinds.get(name, 'string')}" for name in counts.columns)
    allowed = F.broadcast(small_frame(rates.sparkSession, [_whole(row, kinds) for row in rows], schema))
    england = rates.where("area_type = 'england'")
    national = F.broadcast(england.select(*PERIOD, F.col("standardised_rate").alias("_national")))
    areas = rates.join(allowed, [*PERIOD, "area_type", "area_code"]).join(national, PERIOD, "left")
    count, per_event = F.col("_activity"), F.col("_national") / F.col("expected")
    known = F.col("expected") > 0
    lower, upper = count_limits(count)
    # Where nothing is expected none was flagged either: a rate of 0 if there are people, none for a provider.
    nobody_expected = F.col("population").isNotNull() & (count == 0)
    rate = F.when(known, count * per_event).when(nobody_expected, F.col("_national") * 0)
    replaced = {
        "activity": count,
        "in_scope": F.col("_in_scope"),
        "people_flagged": F.lit(None),
        "activity_unknown_age_sex": F.lit(None),
        "crude_rate": crude_rate(count, F.col("population")),
        "standardised_rate": rate,
        "lower": F.when(known, lower * per_event),
        "upper": F.when(known, upper * per_event),
        # Made of strata and persons, not of the published count.
        **dict.fromkeys(("lower_adjusted", "upper_adjusted", "standard_error"), F.lit(None)),
        **flagged_share(count, F.col("_in_scope")),
        "method": F.when(F.col("population").isNotNull(), F.lit(INDIRECT)),
        "status": F.col("_status"),
    }
    columns = [replaced[name].alias(name) if name in replaced else F.col(name) for name in rates.columns]
    return england.unionByName(areas.select(*columns)).withColumn("disclosure", F.lit(rule_name))


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


def quality(measured: DataFrame, quarantine: DataFrame, flags: DataFrame) -> DataFrame:
    """National measures of each dataset and year: ``measure``, ``records``, ``of_records``.

    ``measured`` are rows of ``gold/record_quality``. Measures on areas are of records in scope of any policy.
    """
    # Whether a column looks like a key decides whether anything is published; it is no measure of what is.
    shown = measured.where(~F.col("measure").isin(*LIKE_A_KEY.values()))
    of_year = shown.select("financial_year", "dataset", "of_records", "measure", "records")
    totals = of_year.where("measure = 'records'").select("financial_year", "dataset", "of_records")
    aside = (
        quarantine.select("financial_year", "dataset", F.explode("reasons").alias("reason"))
        .groupBy("financial_year", "dataset", "reason")
        .agg(F.count("*").alias("records"))
        .join(totals, ["financial_year", "dataset"], "left")
        .select(
            "financial_year",
            "dataset",
            "of_records",
            F.concat(F.lit("quarantined:"), "reason").alias("measure"),
            "records",
        )
    )
    scoped = flags.where("reading = 'as_published'").groupBy("financial_year", "dataset")
    areas = scoped.agg(
        F.count("*").alias("of_records"),
        F.count_if(F.col("area_basis") == UNKNOWN).alias("area_unknown"),
        F.count_if(F.col("area_basis") == OUTSIDE_ENGLAND).alias("outside_england"),
    )
    listed = F.array(
        *[F.struct(F.lit(n).alias("measure"), F.col(n).alias("records")) for n in ("area_unknown", OUTSIDE_ENGLAND)]
    )
    located = areas.select("financial_year", "dataset", "of_records", F.inline(listed))
    whole = of_year.unionByName(aside).unionByName(located)
    return whole.withColumn("policy_id", F.lit(None).cast("string"))


def area_quality(flags: DataFrame, unmapped: DataFrame) -> DataFrame:
    """National measures of where records in scope belong: ``area_unmapped`` and ``area_not_valid_on_date`` of each dataset
    and year (``unmapped``: rows of ``gold/unmapped_area``), and ``area_basis:BASIS`` of each policy and year too."""
    scoped = flags.where("reading = 'as_published'")
    of_dataset = scoped.groupBy("financial_year", "dataset").agg(
        F.count_distinct("source_system", "record_id").alias("of_records")
    )
    reasons = (
        unmapped.groupBy("financial_year", "dataset", F.concat(F.lit("area_"), "reason").alias("measure"))
        .agg(F.sum("records").alias("records"))
        .join(of_dataset, ["financial_year", "dataset"], "left")
        .withColumn("policy_id", F.lit(None).cast("string"))
    )
    key = ["financial_year", "dataset", "policy_id"]
    of_policy = scoped.groupBy(*key).agg(F.count("*").alias("of_records"))
    bases = (
        scoped.groupBy(*key, F.concat(F.lit("area_basis:"), "area_basis").alias("measure"))
        .agg(F.count("*").alias("records"))
        .join(of_policy, key)
    )
    return bases.unionByName(reasons)
