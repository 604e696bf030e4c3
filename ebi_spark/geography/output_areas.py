"""Records in the areas of the version that is shown, and those whose code is none of it."""

from collections import defaultdict
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.financial_years import label
from ebi_spark.geography.area_versions import NOT_VALID, UNMAPPED, WHOLE, Geography
from ebi_spark.geography.code_forms import known_code
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.schemas import RECORD_KEY


def area_mapping(spark: SparkSession, geography: Geography) -> DataFrame:
    """A row a known code, stretch of days and sub-ICB location of the version that it is.

    ``known_code``, ``since``, ``until`` (exclusive); ``location``, NULL where the code is none of the version; ``low`` and
    ``high``, the part of 0 to 1 that goes to it of a split area; ``decided_by``, the latest codes of a record that say that
    it is this part, and ``decided_by_any`` for all parts (both NULL where nothing was split).
    """
    rows = []
    for span in geography.spans:
        deciding = {
            part: sorted(code for code, area in geography.newest_area.items() if area == part) for part, _ in span.parts
        }
        every = sorted({code for codes in deciding.values() for code in codes})
        low = 0.0
        for part, share in span.parts or ((None, 1.0),):
            # Shares that add up to 1 but for rounding leave no record out.
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
    """A number from 0 to 1 that is always the same for one person, without one for one record: the first 32 bits of the
    SHA-256 of its key."""
    key = F.coalesce(F.col("person_id"), F.concat_ws("/", *RECORD_KEY))
    return F.conv(F.substring(F.sha2(key, 256), 1, 8), 16, 10).cast("double") / F.lit(2.0**32)


def assign_output_area(flags: DataFrame, geography: Geography) -> DataFrame:
    """``flags``, every row once, with ``area_code`` being the sub-ICB location of the version that the record counts in,
    NULL where its code is none.

    A record of a split area is in the part that its practice or residence belongs to by the newest lookups, else in one
    drawn by the shares, the same for all records of a person: counts stay whole and add up.
    """
    found = _join_mapping(flags, geography)
    return found.withColumn("area_code", F.col("location")).select(*flags.columns)


def _join_mapping(flags: DataFrame, geography: Geography) -> DataFrame:
    there = (
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
    return flags.join(F.broadcast(area_mapping(flags.sparkSession, geography)), there & this_part, "left")


def unmapped_areas(flags: DataFrame, geography: Geography) -> DataFrame:
    """The rows of ``gold/unmapped_area`` but ``run_id``: codes of records in scope that are no area of the version, and
    commissioners that are none at all (``unknown``, where they have not even the form of a code). ``flags`` are rows of ``gold/activity_flag``."""
    inside = _join_mapping(flags.where(F.col("area_basis") != OUTSIDE_ENGLAND), geography).where("location IS NULL")
    named = F.col("area_code").isNotNull()
    # A code that is an area on other days of the years covered; a practice's can be no area at all (NHS England's).
    is_area = F.col("area_code").isin(sorted(geography.valid))
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
    """Whether a row's area (``area_type``, ``area_code``) has a location that no code of a year of its ``period`` is: records
    of people there count in England only, so that a 0 or a low rate says nothing of it."""
    lacking: dict[tuple[date, date], set[str]] = defaultdict(set)
    for code, row in geography.areas.items():
        known = geography.mapped_days.get(code, (date.max, date.max))
        lacking[known] |= {f"{kind}/{row[f'{kind}_code']}" for kind in ("region", "icb", "sub_icb")}
    first, last = F.substring("period", 1, 7), F.col("financial_year")
    area = F.concat_ws("/", "area_type", "area_code")
    found = F.lit(False)
    for (since, until), areas in sorted(lacking.items()):
        outside = F.lit(False) if since == date.min else first < _year_of(since)
        if until < date.max:
            outside = outside | (last >= _year_of(until))
        found = found | (outside & area.isin(sorted(areas)))
    return found


def _year_of(day: date) -> str:
    return label(day.year if day.month > 3 else day.year - 1)
