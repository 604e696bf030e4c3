"""Assigns records to the areas of the version that a run shows, and lists codes that cannot be assigned."""

from collections import defaultdict
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.financial_years import label, starts_in
from ebi_spark.geography.area_versions import NOT_VALID, UNMAPPED, WHOLE, Geography
from ebi_spark.geography.code_forms import known_code
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.quoting import sql_list
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import RECORD_KEY


def area_mapping(spark: SparkSession, geography: Geography) -> DataFrame:
    """One row for each known code, stretch of days and sub-ICB location of the version that the code belongs to then.

    | known_code | since      | until (exclusive) | location | low  | high | decided_by | decided_by_any |
    |------------|------------|-------------------|----------|------|------|------------|----------------|
    | 02P        | 2021-04-01 | …                 | 02P      | 0.0  | 1.0  | NULL       | NULL           |
    | 01Y        | 2021-04-01 | 2022-07-01        | 01Y      | 0.0  | 0.87 | [01Y, …]   | [01Y, 15M, …]  |
    | 01Y        | 2021-04-01 | 2022-07-01        | 15M      | 0.87 | 1.0  | [15M, …]   | [01Y, 15M, …]  |

    ``location`` is NULL where the code belongs to no area of the version. ``low`` and ``high`` bound the part of the range
    0 to 1 that falls to this location when an area was split. ``decided_by`` lists the values of ``latest_area_code`` that
    put a record in this part, ``decided_by_any`` those that put it in any part; both are NULL where nothing was split.
    """
    rows = []
    for span in geography.spans:
        deciding = {
            part: sorted(code for code, area in geography.newest_area.items() if area == part) for part, _ in span.parts
        }
        every = sorted({code for codes in deciding.values() for code in codes})
        low = 0.0
        for part, share in span.parts or ((None, 1.0),):
            # Where shares add up to 1 except for rounding, the last one ends at 1, so that no record is left out.
            high = 1.0 if low + share > WHOLE else low + share
            decided = (deciding[part], every) if part and span.is_split else (None, None)
            rows.append((span.code, span.since, span.until, part, low, high, *decided))
            low = high
    return small_frame(
        spark,
        rows,
        "known_code string, since date, until date, location string, low double, high double, "
        "decided_by array<string>, decided_by_any array<string>",
    )


def drawn_number() -> Column:
    """A number from 0 to 1 that is always the same for a person, or for a record that has no person: the first 32 bits of
    the SHA-256 of the person's or record's key, divided by 2³²."""
    key = F.coalesce(F.col("person_id"), F.concat_ws("/", *RECORD_KEY))
    return F.conv(F.substring(F.sha2(key, 256), 1, 8), 16, 10).cast("double") / F.lit(2.0**32)


def assign_output_area(flags: DataFrame, geography: Geography) -> DataFrame:
    """``flags`` with ``area_code`` replaced by the sub-ICB location of the version in which the record counts.

    Every row appears once. ``area_code`` is NULL where the record's code belongs to no area of the version. A record of a
    split area goes to the part that its practice or residence belongs to by the newest rows of the lookups. If they do not
    say, the part is drawn at random by the shares, with the same result for all records of a person. So counts stay whole
    numbers and add up.

    | record_id | area_code | area_date  | latest_area_code | → area_code |
    |-----------|-----------|------------|------------------|-------------|
    | 1         | 02P       | 2021-05-01 | NULL             | 02P         |
    | 2         | 01Y       | 2021-05-01 | 15M              | 15M         |
    | 3         | 13Q       | 2021-05-01 | NULL             | NULL        |
    """
    found = _join_mapping(flags, geography)
    return found.withColumn("area_code", F.col("location")).select(*flags.columns)


def _join_mapping(flags: DataFrame, geography: Geography) -> DataFrame:
    """``flags`` with the row of :func:`area_mapping` that applies to each record. Its columns are NULL if no row applies."""
    same_code_and_day = (
        (F.col("area_code") == F.col("known_code"))
        & (F.col("area_date") >= F.col("since"))
        & (F.col("area_date") < F.col("until"))
    )
    drawn = (drawn_number() >= F.col("low")) & (drawn_number() < F.col("high"))
    decided = F.coalesce(F.array_contains("decided_by_any", F.col("latest_area_code")), F.lit(False))
    this_part = (
        F.when(F.col("decided_by_any").isNull(), F.lit(True))
        .when(decided, F.array_contains("decided_by", F.col("latest_area_code")))
        .otherwise(drawn)
    )
    return flags.join(F.broadcast(area_mapping(flags.sparkSession, geography)), same_code_and_day & this_part, "left")


def unmapped_areas(flags: DataFrame, geography: Geography) -> DataFrame:
    """The rows of ``gold/unmapped_area`` except ``run_id``: area codes of records in scope that belong to no area of the
    version, with the number of ``records``.

    | area_code | area_date  | commissioner_code | → code_kind  | code    | reason            | records |
    |-----------|------------|-------------------|--------------|---------|-------------------|---------|
    | 13Q       | 2022-05-01 | 13Q00             | gp_practice  | 13Q     | unmapped          | 2       |
    | 00L       | 2030-05-01 | 00L00             | gp_practice  | 00L     | not_valid_on_date | 1       |
    | NULL      | 2022-05-01 | SMITH             | commissioner | unknown | unmapped          | 1       |

    Where a record has no area code at all, its commissioner code is listed instead (``unknown`` if that does not have the
    form of a code). ``reason`` is ``not_valid_on_date`` for a code that is valid on other days, and otherwise ``unmapped``.
    ``flags`` are rows of ``gold/activity_flag``; records from outside England are left out.
    """
    inside = _join_mapping(flags.where(F.col("area_basis") != OUTSIDE_ENGLAND), geography).where("location IS NULL")
    named = F.col("area_code").isNotNull()
    # A code that names an area, but on other days. A practice's code may never name one (NHS England's 13Q).
    is_area = F.expr(f"area_code IN {sql_list(sorted(geography.valid))}")
    on_other_days = is_area & F.col("known_code").isNull() & (F.col("area_date") >= F.lit(geography.covered_from))
    return (
        inside.select(
            *RECORD_KEY,
            "financial_year",
            F.when(named, F.col("area_basis")).otherwise(F.lit("commissioner")).alias("code_kind"),
            F.coalesce("area_code", known_code(inside, "commissioner_code")).alias("code"),
            F.when(F.coalesce(on_other_days, F.lit(False)), F.lit(NOT_VALID))
            .otherwise(F.lit(UNMAPPED))
            .alias("reason"),
        )
        .where("code IS NOT NULL")
        .groupBy("dataset", "financial_year", "code_kind", "code", "reason")
        .agg(F.count_distinct("source_system", "record_id").alias("records"))
        .withColumn("geography", F.lit(geography.version))
    )


def has_unmapped_part(geography: Geography) -> Column:
    """Whether a row's area (``area_type``, ``area_code``) includes a location to which no code maps in some year of its
    ``period``. Records of people there count in England's figures only, so a count of 0 or a low rate says nothing about
    the area."""
    lacking: dict[tuple[date, date], set[str]] = defaultdict(set)
    for code, row in geography.areas.items():
        known = geography.mapped_days.get(code, (date.max, date.max))
        lacking[known] |= {f"{kind}/{row[f'{kind}_code']}" for kind in ("region", "icb", "sub_icb")}
    first, last = F.substring("period", 1, 7), F.col("financial_year")
    found = F.lit(False)
    for (since, until), areas in sorted(lacking.items()):
        outside = F.lit(False) if since == date.min else first < label(starts_in(since))
        if until < date.max:
            outside = outside | (last >= label(starts_in(until)))
        found = found | (outside & F.expr(f"concat_ws('/', area_type, area_code) IN {sql_list(sorted(areas))}"))
    return found
