"""Makes the published tables from gold and silver: rates under disclosure control, and national tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.geography.code_forms import LIKE_A_KEY
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND, UNKNOWN
from ebi_spark.rates.methods import count_limits, crude_rate
from ebi_spark.release.disclosure_rules import (
    control_rates,
    crude_limits,
    expected_unit,
    flagged_share,
    possible_counts,
    published_expected,
    published_national,
    rate_unit,
)
from ebi_spark.release.suppressed_tables import AREA, PERIOD, SuppressedCounts, suppressed_variation
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.published import VARIATION
from ebi_spark.tables.table import YEAR_OF_REVISION


def default_readings(policies: DataFrame) -> DataFrame:
    """One row for each policy, with its default reading: ``policy_id``, ``reading``.

    | policy_id | revision | reading      | is_default_reading | → policy_id | reading     |
    |-----------|----------|--------------|--------------------|-------------|-------------|
    | P         | 2021-04  | as_published | false              | P           | as_intended |
    | P         | 2021-04  | as_intended  | true               |             |             |
    | P         | 2023-04  | as_intended  | true               |             |             |
    """
    return policies.where("is_default_reading").select("policy_id", "reading").distinct()


def in_published_periods(frame: DataFrame, policies: DataFrame) -> DataFrame:
    """The rows of each policy's default reading, in the periods for which the policy is published below England.

    These periods are single years, or windows of ``publish_years`` years, one of which begins with ``publish_first_year``.
    Windows never overlap, and do not move when a year is added (decision 19).

    | financial_year | period_years | with publish_years 3, publish_first_year 2018-19 |
    |----------------|--------------|--------------------------------------------------|
    | 2020-21        | 3            | kept (2018-19 to 2020-21)                        |
    | 2021-22        | 3            | removed                                          |
    | 2021-22        | 1            | removed                                          |
    """
    names = ["policy_id", "reading", "publish_years", "publish_first_year"]
    chosen = policies.where("is_default_reading").select(*names).distinct()
    offset = F.expr("int(substr(period, 1, 4)) - int(substr(publish_first_year, 1, 4))")
    aligned = (F.col("period_years") == F.col("publish_years")) & (F.pmod(offset, F.col("publish_years")) == 0)
    return frame.join(F.broadcast(chosen), ["policy_id", "reading"]).where(aligned).select(*frame.columns)


def national_only(frame: DataFrame, policies: DataFrame) -> DataFrame:
    """``frame`` without local policies. Their counts are of one board's patients, so no national table may show them."""
    local = policies.where("boards IS NOT NULL").select("policy_id").distinct()
    return frame.join(F.broadcast(local), "policy_id", "left_anti")


def suppressed_local_rates(rates: DataFrame, policies: DataFrame, rule_name: str) -> DataFrame:
    """The areas of local policies, with every figure suppressed.

    This is for rules with secondary suppression. The same patients are already counted under the national policy, and
    suppressed counts could be calculated from two tables about one area.

    | policy_id | boards | area_type | area_code | activity | → activity | status             |
    |-----------|--------|-----------|-----------|----------|------------|--------------------|
    | L         | [QJ2]  | icb       | QJ2       | 40       | NULL       | withheld_secondary |
    | L         | [QJ2]  | provider  | RX1       | 22       | no row     |                    |
    | P         | NULL   | icb       | QJ2       | 90       | no row     |                    |
    """
    local = policies.where("boards IS NOT NULL")
    areas = in_published_periods(rates.where("area_type IN ('icb', 'sub_icb')"), local)
    suppressed = {
        "activity", "in_scope", "flagged_share", "share_lower", "share_upper", "people_flagged",
        "activity_unknown_age_sex", "expected", "crude_rate", "standardised_rate", "lower", "upper", "lower_adjusted",
        "upper_adjusted", "standard_error", "method",
    }  # fmt: skip
    columns = [
        F.lit(None).alias(name) if name in suppressed else F.col(name) for name in areas.columns if name != "status"
    ]
    no_limits = [F.lit(None).cast("double").alias(name) for name in ("crude_lower", "crude_upper")]
    added = [F.lit("withheld_secondary").alias("status"), *no_limits, F.lit(rule_name).alias("disclosure")]
    return areas.select(*columns, *added)


def published_rates(rates: DataFrame, policies: DataFrame, rule_name: str, rule: dict[str, Any]) -> DataFrame:
    """Rates as published under a rule without secondary suppression.

    England has all readings and periods. Below England only rows of :func:`in_published_periods` are published, so that
    readers cannot compare two overlapping figures of one area.

    | area_type | reading      | activity | default reading | → activity |
    |-----------|--------------|----------|-----------------|------------|
    | england   | as_published | 1,003    | as_intended     | 1,003      |
    | icb       | as_published | 23       | as_intended     | no row     |
    | icb       | as_intended  | 28       | as_intended     | 30         |
    """
    areas = in_published_periods(rates.where("area_type <> 'england'"), policies)
    return control_rates(rates.where("area_type = 'england'").unionByName(areas), rule_name, rule)


# Notes about a whole period: either all of its rows have one, or no row has it.
_PERIOD_NOTES = ("back_cast", "partial_year", "partial_coverage")
# The columns of a rate that suppression and the variation between areas need.
_COLUMNS_TO_SUPPRESS = (
    *PERIOD, "area_type", "area_code", "activity", "in_scope", "population", "expected", "standardised_rate",
    "geography",
)  # fmt: skip
INDIRECT = (
    "indirectly standardised by sex and five-year age band to England's rates, from the published count and expected events; "
    "exact Poisson or (10 events and more) Byar limits, of all counts that rounding leaves possible"
)


def rates_to_suppress(rates: DataFrame, policies: DataFrame) -> DataFrame:
    """The rows of gold to which suppression is applied: national policies in the periods of :func:`in_published_periods`.

    England's rows of the same periods are included. ``expected`` below England and England's ``standardised_rate`` are rounded
    as they will be published.
    """
    rows = in_published_periods(national_only(rates, policies), policies)
    england = F.col("area_type") == "england"
    published = {
        "expected": F.when(england, F.col("expected")).otherwise(published_expected(F.col("expected"))),
        "standardised_rate": F.when(england, published_national(F.col("population"))["standardised_rate"]).otherwise(
            F.col("standardised_rate")
        ),
    }
    return rows.withColumns(published).select(*_COLUMNS_TO_SUPPRESS)


def suppressed_rates(rates: DataFrame, controlled: SuppressedCounts, rule_name: str, rule: dict[str, Any]) -> DataFrame:
    """Rates as published under a rule with secondary suppression.

    Below England every figure is calculated from the published count. A directly standardised rate is a sum over strata, and
    the true count could be calculated from it. Areas therefore have an indirectly standardised rate: published count /
    published expected events × England's published standardised rate. Its limits hold for every true count, expected value
    and national rate that would be published as these. England's rows keep their counts; their standardised rates and limits
    are rounded.

    | area_type | activity | expected | → activity | standardised_rate            | status         |
    |-----------|----------|----------|------------|------------------------------|----------------|
    | england   | 1,003    | 1,003    | 1,003      | 10.0                         | ok             |
    | icb       | 23       | 20       | 25         | 12.5 (25 divided by 20 × 10) | ok             |
    | icb       | 4        | 16       | NULL       | NULL                         | withheld_small |
    """
    rates = _with_listed_providers(rates, controlled)
    published = ("activity", "in_scope", "status", "expected")
    counts = controlled.counts[[*PERIOD, *AREA, *published]].rename(columns={name: f"_{name}" for name in published})
    integers = {"period_years": "int", "_activity": "long", "_in_scope": "long"}
    types = integers | {"_expected": "double"}
    rows = counts.astype(object).where(counts.notna(), None).to_dict("records")
    schema = ", ".join(f"{name} {types.get(name, 'string')}" for name in counts.columns)
    published_counts = F.broadcast(
        small_frame(rates.sparkSession, [_with_integers(row, integers) for row in rows], schema)
    )
    england = rates.where("area_type = 'england'").withColumns(published_national(F.col("population")))
    national = F.broadcast(
        england.select(
            *PERIOD, F.col("standardised_rate").alias("_national"), rate_unit(F.col("population")).alias("_unit")
        )
    )
    areas = rates.join(published_counts, [*PERIOD, "area_type", "area_code"]).join(national, PERIOD, "left")
    count, expected = F.col("_activity"), F.col("_expected")
    known = expected > 0
    least, most = possible_counts(count, rule)
    half, half_unit = F.col("_unit") / 2, expected_unit(expected) / 2
    lower = count_limits(least)[0] * F.greatest(F.col("_national") - half, F.lit(0.0)) / (expected + half_unit)
    upper = count_limits(most)[1] * (F.col("_national") + half) / (expected - half_unit)
    # Without expected events, an area where none were flagged has a rate of 0, but a provider (no population) has none.
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
        # These are calculated from strata and persons, not from the published count.
        **dict.fromkeys(("lower_adjusted", "upper_adjusted", "standard_error"), F.lit(None)),
        **flagged_share(count, F.col("_in_scope"), rule),
        "method": F.when(F.col("population").isNotNull(), F.lit(INDIRECT)),
        "status": F.col("_status"),
    }
    columns = [replaced[name].alias(name) if name in replaced else F.col(name) for name in rates.columns]
    below = [figure.alias(name) for name, figure in crude_limits(least, most, F.col("population")).items()]
    of_england = crude_limits(F.col("activity"), F.col("activity"), F.col("population"))
    shown = england.withColumns(of_england).unionByName(areas.select(*columns, *below))
    return shown.withColumn("disclosure", F.lit(rule_name))


def _with_listed_providers(rates: DataFrame, controlled: SuppressedCounts) -> DataFrame:
    """The rates of gold, with a row of zeros for each listed provider that has no row in a period.

    Listed providers are those in ``controlled``.

    | period  | provider | row in gold | → activity | status        |
    |---------|----------|-------------|------------|---------------|
    | 2021-22 | RX1      | 9 records   | 9          | no_population |
    | 2021-22 | RX2      | none        | 0          | no_population |
    | 2022-23 | RX2      | 3 records   | 3          | no_population |
    """
    listed = controlled.counts.loc[controlled.counts["area_type"] == "provider", [*PERIOD, *AREA]]
    if listed.empty:
        return rates
    schema = ", ".join(f"{name} {'int' if name == 'period_years' else 'string'}" for name in listed.columns)
    rows = [_with_integers(row, ["period_years"]) for row in listed.to_dict("records")]
    absent = small_frame(rates.sparkSession, rows, schema).join(rates, [*PERIOD, *AREA], "left_anti")
    periods = rates.groupBy(*PERIOD).agg(
        F.first("period").alias("period"),
        F.first("coverage").alias("coverage"),
        F.first("geography").alias("geography"),
        # Notes about the period as a whole.
        F.array_intersect(F.first("notes"), F.array(*map(F.lit, _PERIOD_NOTES))).alias("notes"),
    )
    zero = {name: F.lit(0).cast("long") for name in ("activity", "in_scope")}
    rest = {"area_name": F.col("area_code"), "status": F.lit("no_population")}
    zero_rows = absent.join(F.broadcast(periods), PERIOD).withColumns(zero | rest)
    return rates.unionByName(zero_rows, allowMissingColumns=True)


def with_provider_names(rates: DataFrame, names: Mapping[str, str]) -> DataFrame:
    """``rates`` with the names of providers. A provider without one keeps its code as its name."""
    rows = [("provider", code, name) for code, name in sorted(names.items())]
    named = small_frame(rates.sparkSession, rows, "area_type string, area_code string, _name string")
    found = rates.join(F.broadcast(named), ["area_type", "area_code"], "left")
    return found.withColumn("area_name", F.coalesce("_name", "area_name")).select(*rates.columns)


def variation_from_counts(
    variation: DataFrame, controlled: SuppressedCounts, rule_name: str, rule: dict[str, Any], min_national_events: int
) -> DataFrame:
    """Variation between areas of each policy's default reading, calculated from published figures only
    (:func:`~ebi_spark.release.suppressed_tables.suppressed_variation` has an example)."""
    measured = suppressed_variation(controlled.counts, rule, min_national_events)
    names = [name for name in VARIATION.names() if name in measured.columns]
    integers = ("areas", "areas_with_activity", "period_years")
    rows = measured.astype(object).where(measured.notna(), None).to_dict("records")
    types = {item.name: item.dataType.simpleString() for item in VARIATION.schema.fields}
    schema = ", ".join(f"{name} {types[name]}" for name in names)
    calculated = small_frame(variation.sparkSession, [_with_integers(row, integers) for row in rows], schema)
    labels = variation.select(*PERIOD, "area_type", "period", "notes", "coverage", "geography")
    return calculated.join(labels, [*PERIOD, "area_type"]).withColumn("disclosure", F.lit(rule_name))


def _with_integers(row: dict[Any, Any], names: Iterable[str]) -> dict[str, Any]:
    """A pandas row with the columns ``names`` as integers, because pandas keeps nullable counts as floats."""
    return {name: int(value) if name in names and value is not None else value for name, value in row.items()}


def published_variation(variation: DataFrame, policies: DataFrame, rule_name: str) -> DataFrame:
    """Variation between areas of the default reading, in the periods of :func:`in_published_periods`."""
    return in_published_periods(variation, policies).withColumn("disclosure", F.lit(rule_name))


def published_attrition(attrition: DataFrame, flags: DataFrame) -> DataFrame:
    """The attrition of each policy, with ``near_miss``: the records that failed only this clause.

    | step | clause_id     | records_in | records_failed | records_left | → near_miss |
    |------|---------------|------------|----------------|--------------|-------------|
    | 1    | global_cancer | 120        | 5              | 115          | 4           |
    | 2    | age           | 115        | 3              | 112          | 0           |
    | 3    | imaging       | 112        | 72             | 40           | 68          |
    """
    key = [*YEAR_OF_REVISION, "reading", "clause_id"]
    near_misses = (
        flags.where("near_miss")
        .withColumn("clause_id", F.get("failed_clauses", F.lit(0)))
        .groupBy(*key)
        .agg(F.count("*").alias("near_miss"))
    )
    return attrition.join(near_misses, key, "left").fillna(0, ["near_miss"])


def reading_effects(flags: DataFrame, policies: DataFrame) -> DataFrame:
    """One row for each revision, reading and year, comparing the reading with the policy as published.

    Columns: the key, ``in_scope``, ``flagged``, ``flagged_as_published``, ``added`` (flagged by this reading only), ``removed``
    (flagged as published only) and ``is_default_reading``.

    | reading        | in_scope | flagged | flagged_as_published | added | removed |
    |----------------|----------|---------|----------------------|-------|---------|
    | as_published   | 120      | 40      | 40                   | 0     | 0       |
    | as_intended    | 120      | 47      | 40                   | 9     | 2       |
    | guidance_coded | 120      | 43      | 40                   | 3     | 0       |
    """
    record = [*YEAR_OF_REVISION, "source_system", "dataset", "record_id"]
    flagged = F.col("outcome") == FLAGGED
    as_published = F.when(F.col("reading") == "as_published", flagged)
    # Group all readings of a record: this reads the flags once, where a join would read them twice.
    by_record = flags.groupBy(*record).agg(
        F.max(as_published).alias("_published"),
        F.collect_list(F.struct("reading", flagged.alias("_flagged"))).alias("_each"),
    )
    joined = by_record.select(*YEAR_OF_REVISION, "_published", F.inline("_each"))
    counts = joined.groupBy(*YEAR_OF_REVISION, "reading").agg(
        F.count("*").alias("in_scope"),
        F.count_if("_flagged").alias("flagged"),
        F.count_if("_published").alias("flagged_as_published"),
        F.count_if(F.col("_flagged") & ~F.col("_published")).alias("added"),
        F.count_if(~F.col("_flagged") & F.col("_published")).alias("removed"),
    )
    default = F.broadcast(default_readings(policies).withColumn("is_default_reading", F.lit(True)))
    return counts.join(default, ["policy_id", "reading"], "left").fillna(False, ["is_default_reading"])


def quality(measured: DataFrame, quarantine: DataFrame, flags: DataFrame, unmapped: DataFrame) -> DataFrame:
    """National measures of data quality for each data set and year.

    Columns: the key, ``policy_id`` (NULL for a measure of the whole data set), ``measure``, ``records``, ``of_records``, ``status``.
    ``measured`` has rows of ``gold/record_quality``, ``unmapped`` rows of ``gold/unmapped_area``. Measures of each policy come
    from :func:`area_quality`. All measures but the totals (``records``) are rounded by :func:`round_quality_measures`.

    | financial_year | dataset | policy_id | measure             | records | of_records | status         |
    |----------------|---------|-----------|---------------------|---------|------------|----------------|
    | 2021-22        | apc     | NULL      | records             | 5123    | 5123       | ok             |
    | 2021-22        | apc     | NULL      | no_age              | 200     | 5123       | ok             |
    | 2021-22        | apc     | 2Y…       | area_unknown        | NULL    | 3400       | withheld_small |
    """
    # These measures only decide whether anything is published. They are not measures of the published records.
    shown = measured.where(~F.col("measure").isin(*LIKE_A_KEY.values()))
    by_year = shown.select("financial_year", "dataset", "measure", "records", "of_records")
    totals = by_year.where("measure = 'records'").select("financial_year", "dataset", "of_records")
    quarantined = (
        quarantine.select("financial_year", "dataset", F.explode("reasons").alias("reason"))
        .groupBy("financial_year", "dataset", F.concat(F.lit("quarantined:"), "reason").alias("measure"))
        .agg(F.count("*").alias("records"))
        .join(totals, ["financial_year", "dataset"], "left")
    )
    of_data_set = by_year.unionByName(quarantined).withColumn("policy_id", F.lit(None).cast("string"))
    is_total = F.col("measure") == "records"
    return round_quality_measures(of_data_set.unionByName(area_quality(flags, unmapped)), is_total)


def area_quality(flags: DataFrame, unmapped: DataFrame) -> DataFrame:
    """Records in scope whose area is a problem, before they are rounded.

    | financial_year | dataset | policy_id | measure         | records | of_records |
    |----------------|---------|-----------|-----------------|---------|------------|
    | 2021-22        | apc     | P         | area_unknown    | 12      | 3400       |
    | 2021-22        | apc     | P         | outside_england | 70      | 3400       |
    | 2021-22        | apc     | NULL      | area_unmapped   | 3       | 5100       |

    ``area_unknown`` and ``outside_england`` are given for each policy and year. ``area_unmapped`` is given for each data set and
    year: records whose code is not an area of the version shown, or was not an area on the record's date.

    Only gold has these counts by code and by basis. All records with one code or basis can be from one area, and from parts
    that add up to a national figure the missing part could be calculated.
    """
    scoped = flags.where("reading = 'as_published'")
    key = ["financial_year", "dataset", "policy_id"]
    measures = {"area_unknown": UNKNOWN, OUTSIDE_ENGLAND: OUTSIDE_ENGLAND}
    by_policy = scoped.groupBy(*key).agg(
        F.count("*").alias("of_records"),
        *[F.count_if(F.col("area_basis") == basis).alias(name) for name, basis in measures.items()],
    )
    listed = F.array(*[F.struct(F.lit(name).alias("measure"), F.col(name).alias("records")) for name in measures])
    by_dataset = scoped.groupBy("financial_year", "dataset").agg(
        F.count_distinct("source_system", "record_id").alias("of_records")
    )
    unmapped_records = unmapped.groupBy("financial_year", "dataset").agg(F.sum("records").alias("records"))
    unmapped_measure = by_dataset.join(unmapped_records, ["financial_year", "dataset"], "left").select(
        *key[:2],
        F.lit(None).cast("string").alias("policy_id"),
        F.lit("area_unmapped").alias("measure"),
        F.coalesce("records", F.lit(0)).alias("records"),
        "of_records",
    )
    return by_policy.select(*key, "of_records", F.inline(listed)).unionByName(unmapped_measure)


# All records of a national measure can be from one area, provider or board, so it is rounded to the nearest hundred.
QUALITY_STEP = 100


def round_quality_measures(measures: DataFrame, is_total: Column) -> DataFrame:
    """``records`` as published, with a ``status``. Rows where ``is_total`` is true keep their number.

    A measure is suppressed if it counts fewer than half of :data:`QUALITY_STEP` records, or if fewer than half of that are not
    in it (``quarantined:`` measures are not part of ``of_records``, so only the first applies to them). Other measures are
    rounded to the nearest multiple. So neither a release nor the difference between two releases reveals a count that a
    disclosure rule suppresses: a changed value only reveals that a count is near 50, 150, …

    | measure  | records | of_records | → records | status             |
    |----------|---------|------------|-----------|--------------------|
    | no_age   | 312     | 2,000      | 300       | ok                 |
    | no_age   | 12      | 2,000      | NULL      | withheld_small     |
    | no_age   | 1,990   | 2,000      | NULL      | withheld_secondary |
    """
    count, half = F.col("records"), QUALITY_STEP // 2
    few = (count < half) | F.coalesce(F.col("of_records") - count < half, F.lit(False)) & ~F.startswith(
        F.col("measure"), F.lit("quarantined:")
    )
    rounded = (F.floor((count + half) / QUALITY_STEP) * QUALITY_STEP).cast("long")
    return measures.withColumns(
        {
            "records": F.when(is_total, count).when(~few, rounded),
            "status": F.when(is_total | ~few, F.lit("ok")).when(count < half, F.lit("withheld_small")).otherwise(
                F.lit("withheld_secondary")
            ),
        }
    )  # fmt: skip
