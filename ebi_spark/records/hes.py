"""Classifies HES rows: builds episodes into spells, and classifies outpatient appointments.

HES has neither a dominant procedure nor a primary diagnosis of a spell. The stand-in (decision 4) is the first
``OPERTN_4_01`` that is an operation, in episode order, with ``DIAG_4_01`` of that same episode, or of the first
episode where that one has none. ``dominance_basis`` records on every spell which of these was used.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.config.activity_dates import DateWindow
from ebi_spark.config.default_codes import default_codes_of
from ebi_spark.financial_years import year_of_date
from ebi_spark.records.cleaning import changed, clean, tidied
from ebi_spark.records.code_lists import as_codes, bare_codes, first_code, join_episodes
from ebi_spark.records.column_kinds import (
    ALTERNATIVES,
    ATTENDANCE_KINDS,
    EPISODE_KINDS,
    RECORD_KINDS,
    SPELL_DAYS,
    SPELL_DETAILS,
)
from ebi_spark.records.row_status import reasons, row_conditions, with_year
from ebi_spark.records.sus_plus import date_attendances, with_ages

FIRST_OPERATION = "hes_first_operation"
FIRST_OPERATION_FIRST_DIAGNOSIS = "hes_first_operation_diagnosis_of_first_episode"
NO_OPERATION = "hes_no_operation"

REGULAR_ATTENDERS = ("3", "4")
UNFINISHED = "1"
# EPIORDER 98 and 99 mean "not applicable" and "unknown".
HIGHEST_EPISODE_ORDER = 87


# What some platforms write if a row has no number of the spell in SUS.
_NO_SUS_SPELL = "-1"
_TIDIED = (*ALTERNATIVES, *(name for name in SPELL_DETAILS if name not in EPISODE_KINDS))
# The cleaned values of an episode.
EPISODE_VALUES = (
    *RECORD_KINDS, *EPISODE_KINDS, *_TIDIED, *SPELL_DAYS, "age_years", "diagnosis_codes", "procedure_codes",
    "first_diagnosis", "first_operation", "financial_year",
)  # fmt: skip


def _with_codes(rows: DataFrame) -> DataFrame:
    """``rows`` with their numbered code columns turned into normalised texts and the codes in first position."""
    bare = {f"_{name}": bare_codes(F.col(name), F.col(f"{name}_concat")) for name in ("diagnosis", "operation")}
    codes = {"diagnosis_codes": as_codes(F.col("_diagnosis")), "procedure_codes": as_codes(F.col("_operation"))}
    first = {
        "first_diagnosis": first_code(F.col("_diagnosis"), F.col("diagnosis_codes")),
        "first_operation": first_code(F.col("_operation"), F.col("procedure_codes")),
    }
    listed = ("diagnosis", "operation", "diagnosis_concat", "operation_concat")
    return changed(rows, bare, without=listed).withColumns(codes).withColumns(first).drop(*bare)


def classify_attendances(rows: DataFrame, window: DateWindow, bare_year: str | None) -> DataFrame:
    """HES outpatient rows with their status columns: one row for each appointment. See
    :mod:`ebi_spark.records.row_status`."""
    cleaned = tidied(with_ages(clean(_with_codes(rows), RECORD_KINDS | ATTENDANCE_KINDS)), ALTERNATIVES)
    return date_attendances(cleaned.drop("first_diagnosis", "first_operation"), window, bare_year)


def clean_episodes(rows: DataFrame, window: DateWindow, bare_year: str | None) -> DataFrame:
    """HES episodes cleaned, each with the year of its own discharge date, or else of its year column."""
    # In two steps: the method for all columns at once would be too long for Java to compile well.
    of_record = clean(_with_codes(rows), RECORD_KINDS).withColumnRenamed("cleaned", "_of_record")
    of_both = clean(of_record, EPISODE_KINDS, unread=["discharge_date"])
    noted = of_both.withColumn("cleaned", F.concat("_of_record", "cleaned")).drop("_of_record")
    cleaned = tidied(with_ages(noted), _TIDIED, SPELL_DAYS)
    dated = with_year(cleaned, "discharge_date", window, bare_year)
    return dated.withColumn("financial_year", F.coalesce("dated_year", "stated_year"))


def classify_episodes(rows: DataFrame) -> DataFrame:
    """Cleaned HES episodes with their status columns. Year, discharge date and reasons are those of the whole spell.

    A bad episode sends its whole spell to quarantine: every episode gets the reasons of all. Duplicates, and rows
    that a later extract supersedes, have no effect on their spell.

    | record_id | spell | episode_status | discharge_date | → spell_discharged | reasons      |
    |-----------|-------|----------------|----------------|--------------------|--------------|
    | E1        | S1    | 3              | NULL           | 2021-05-03         | []           |
    | E2        | S1    | 3              | 2021-05-03     | 2021-05-03         | []           |
    | E3        | S2    | 1              | 2021-06-01     | 2021-06-01         | [unfinished] |
    """
    corrupt = F.col("corrupt").isNotNull()
    own = row_conditions(unfinished=F.col("episode_status") == UNFINISHED)
    of_spell = {name: f"_{name}" for name in sorted(own)}
    spell = Window.partitionBy("spell_key")
    counted = ~F.col("is_duplicate")
    episodes = rows.withColumns({"spell_key": _spell_key()} | {of_spell[name]: own[name] for name in own})
    whole = episodes.withColumns(
        {
            **{name: F.max(F.when(counted, F.col(name))).over(spell) for name in of_spell.values()},
            "spell_discharged": F.max(F.when(counted, F.col("discharge_date"))).over(spell),
            "spell_unreadable": F.max(F.when(counted, F.col("unread_discharge_date"))).over(spell),
            "spell_stated_year": F.max(F.when(counted, F.col("stated_year"))).over(spell),
        }
    )
    undated = F.col("spell_discharged").isNull() & ~corrupt
    return whole.withColumns(
        {
            "reasons": reasons(
                **{name: F.coalesce(of_spell[name], F.lit(False)) for name in of_spell},
                no_usable_date=undated & F.col("spell_unreadable"),
                undischarged=undated & ~F.col("spell_unreadable"),
            ),
            # A row that is left out may belong to a spell that has no other rows left: then its own year.
            "financial_year": F.coalesce(
                F.expr(year_of_date("spell_discharged")),
                "spell_stated_year",
                F.when(~counted, F.col("financial_year")),
            ),
        }
    ).drop(
        "conflict", *of_spell.values(), "spell_unreadable", "spell_stated_year", "stated_year", "dated_year",
        "unread_discharge_date", "in_future",
    )  # fmt: skip


def _spell_key() -> Column:
    """The key that the episodes of one spell share, as text that is never NULL: person, provider, the provider's spell number and
    day of admission, or the number of the spell in SUS where the provider's is missing. Corrupt lines, regular attenders and
    episodes with neither number each have a key of their own (decision 36)."""
    # The kind of key is its last part: Spark sorts keys faster if their first characters differ.
    own_key = F.concat(F.coalesce("record_id", F.concat(F.lit("#"), F.col("content").cast("string"))), F.lit("|E"))
    in_sus = F.nullif("sus_spell_id", F.lit(_NO_SUS_SPELL))
    on_its_own = (
        F.col("corrupt").isNotNull()
        | F.coalesce(F.col("patient_classification").isin(*REGULAR_ATTENDERS), F.lit(False))
        | (F.col("provider_spell_number").isNull() & in_sus.isNull())
    )
    provider = F.coalesce("provider_code", F.lit(""))
    admitted = F.coalesce(F.col("admission_date").cast("string"), F.lit(""))
    return (
        F.when(on_its_own, own_key)
        .when(F.col("provider_spell_number").isNull(), F.concat(in_sus, F.lit("|U")))
        .when(F.col("person_id").isNull(), F.concat_ws("|", provider, "provider_spell_number", F.lit("S")))
        .otherwise(F.concat_ws("|", "person_id", provider, "provider_spell_number", admitted, F.lit("P")))
    )


def _first_with_operation(episodes: Column) -> Column:
    """The first of a spell's episodes whose first operation is an operation; NULL if none has one."""
    # A default code says that there was no operation, or that no code fits: neither says what an operation was.
    no_operation = default_codes_of("procedure_codes")

    def has_operation(episode: Column) -> Column:
        code = episode["first_operation"]
        return code.rlike("^[A-Z][0-9]{2}") & ~code.isin(*no_operation)

    return F.get(F.filter(episodes, has_operation), F.lit(0))


def _is_incomplete(episodes: Column) -> Column:
    """Whether the EPIORDER of a spell's episodes does not run from 1 without a gap."""
    orders = F.filter(
        F.transform(episodes, lambda e: e["episode_order"]), lambda n: n.between(1, HIGHEST_EPISODE_ORDER)
    )
    gap = F.array_max(orders) > F.size(F.array_distinct(orders))
    return (F.size(orders) > 0) & ((F.array_min(orders) > 1) | gap)


_FROM_FIRST = (
    "record_id", "person_id", "provider_code", "commissioner_code", "gp_practice_code", "lsoa", "sex", "age",
    "age_years", "administrative_category", "treatment_function", "admission_date", "admission_method",
    "patient_classification", "admission_source", "provider_spell_number", *ALTERNATIVES,
)  # fmt: skip


def build_spells(episodes: DataFrame) -> DataFrame:
    """Spells, built from valid classified episodes: one row for each spell. ``episodes`` is the number of rows that
    made it.

    Method, source, category and age come from the first episode, the discharge method and destination from the last,
    and the date of the operation from the episode of the dominant procedure (its first operation is that procedure). The
    discharge date is the latest of the spell. Episodes are ordered by start, EPIORDER, end and key. A spell is marked
    ``incomplete_spell`` when its EPIORDER does not run from 1 without a gap: an episode is in a file that was not read.

    | spell_key | episode_order | first_operation | → dominant_procedure | episodes | incomplete_spell |
    |-----------|---------------|-----------------|----------------------|----------|------------------|
    | S1        | 1             | NULL            |                      |          |                  |
    | S1        | 2             | V382            | V382                 | 2        | false            |
    | S2        | 2             | W371            | W371                 | 1        | true             |
    """
    carried = [
        "episode_start", "episode_order", "episode_end", *_FROM_FIRST, "discharge_date", "discharge_method",
        "discharge_destination", "procedure_date", "diagnosis_codes", "procedure_codes", "first_diagnosis",
        "first_operation", "cleaned", "source_file", "extract_date",
    ]  # fmt: skip
    grouped = episodes.groupBy("spell_key", "financial_year").agg(
        F.array_sort(F.collect_list(F.struct(*carried))).alias("list")
    )
    listed = F.col("list")
    first, last, operated = F.get(listed, F.lit(0)), F.get(listed, F.size(listed) - 1), _first_with_operation(listed)
    spells = grouped.select(
        "financial_year",
        *[first[name].alias(name) for name in _FROM_FIRST],
        # The latest, which also decides the year: the last episode in order may have an earlier date.
        F.array_max(F.transform(listed, lambda e: e["discharge_date"])).alias("discharge_date"),
        last["discharge_method"].alias("discharge_method"),
        last["discharge_destination"].alias("discharge_destination"),
        operated["procedure_date"].alias("procedure_date"),
        join_episodes(F.transform(listed, lambda e: e["diagnosis_codes"])).alias("diagnosis_codes"),
        join_episodes(F.transform(listed, lambda e: e["procedure_codes"])).alias("procedure_codes"),
        operated["first_operation"].alias("dominant_procedure"),
        F.coalesce(operated["first_diagnosis"], first["first_diagnosis"]).alias("primary_diagnosis"),
        F.when(operated.isNull(), F.lit(NO_OPERATION))
        .when(operated["first_diagnosis"].isNull(), F.lit(FIRST_OPERATION_FIRST_DIAGNOSIS))
        .otherwise(F.lit(FIRST_OPERATION))
        .alias("dominance_basis"),
        _is_incomplete(listed).alias("incomplete_spell"),
        F.size(listed).alias("episodes"),
        F.array_sort(F.array_distinct(F.flatten(F.transform(listed, lambda e: e["cleaned"])))).alias("cleaned"),
        F.array_max(F.transform(listed, lambda e: e["extract_date"])).alias("extract_date"),
        last["source_file"].alias("source_file"),
    )
    return spells.withColumn("activity_date", F.col("discharge_date"))
