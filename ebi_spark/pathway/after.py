"""The care after an operation: complications, readmission, further operations and death, linked by person.

Everything is seen in records of admitted care only. A patient who died elsewhere seems to be alive.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.pathway.continuous_spells import continuous_spells
from ebi_spark.pathway.definitions import (
    CANNOT_BE_SEEN,
    NOT_SEEN,
    OPERATION,
    PERSON,
    SEEN,
    definitions_after,
    listed_codes,
)
from ebi_spark.tables.table import YEAR

INDEX_SPELL = "index_spell"

# The column with the days to the first event of a step.
_DAYS_TO = {
    "readmitted_after": "emergency_readmission",
    "possible_staged_after": "possible_staged",
    "further_fusion_after": "further_fusion",
    "revision_after": "revision",
    "removal_after": "removal",
}


def outcomes_after(operations: DataFrame, linked_spells: DataFrame, data_end: date | Column) -> DataFrame:
    """One row for each operation, with what happened to the patient after it: the columns of ``gold/pathway`` by these names.

    ``operations`` has rows of :func:`~ebi_spark.pathway.operations.operations`, ``linked_spells`` all spells of their
    persons, the spell of the operation among them. ``data_end`` is the last day that the data cover without a gap, as a date
    or as a column of ``operations`` where it differs between them (NULL: not known; docs/monitoring-outcomes.md).

    - ``spell_end`` is the last day of the continuous inpatient spell of the operation, ``died_in_hospital`` whether it ended
      with death, ``follow_up_days`` the days of data after it (NULL if the patient died in it or the end of the data is not known).
    - ``readmitted_after`` and ``possible_staged_after`` are days from ``spell_end``, the others days from the operation. They are
      NULL if nothing was seen. They are not limited to a window. Nothing counts after a death.
    - If the person is not known, or the record of the operation is not among the linked spells, all are NULL except a death in
      the record of the operation itself.

    Three operations of 4 March 2024:

    | spell_end  | next spell                         | → readmitted_after | further_fusion_after |
    |------------|------------------------------------|--------------------|----------------------|
    | 2024-03-09 | 2024-04-08, emergency              | 30                 | NULL                 |
    | 2024-03-09 | 2024-09-01, planned, fusion (V385) | NULL               | 181                  |
    | 2024-03-09 | none                               | NULL               | NULL                 |
    """
    followed = _followed(operations, linked_spells, data_end)
    known, end = F.col("spell_end").isNotNull(), F.col("_data_end")
    days = F.when(end < F.col("spell_end"), 0).otherwise(F.date_diff(end, "spell_end"))
    return followed.select(
        *OPERATION,
        "spell_end",
        F.when(known | F.col("_died"), F.col("_died")).alias("died_in_hospital"),
        F.when(known & ~F.col("_died"), days).alias("follow_up_days"),
        *[F.col(_days_to(step)).alias(name) for name, step in _DAYS_TO.items()],
        F.when(F.col("_death").isNotNull(), F.greatest(F.date_diff("_death", "operation_date"), F.lit(0))).alias(
            "death_after"
        ),
    )


def outcome_steps(operations: DataFrame, linked_spells: DataFrame, data_end: date | Column) -> DataFrame:
    """Rows of ``gold/pathway_step``: for each operation a row for each step and window after it (``conf/pathway_after.yml``).

    The arguments are those of :func:`outcomes_after`. A step is ``seen`` where its codes were found, whatever the data cover.
    Otherwise it is ``not_seen`` if the data cover the whole window or the patient died in hospital before it ended, and
    ``cannot_be_seen`` if they do not or the person is not known. A patient who died before the discharge has no row for
    windows that count from the discharge: only live discharges are in their denominator.

    | step_id               | window      | state          | evidence |
    |-----------------------|-------------|----------------|----------|
    | infection             | index_spell | not_seen       | []       |
    | infection             | 90_days     | seen           | [T814]   |
    | emergency_readmission | 30_days     | cannot_be_seen | []       |
    """
    followed = _followed(operations, linked_spells, data_end)
    rows = [
        F.struct(
            F.lit(step["id"]).alias("step_id"),
            F.lit(window).alias("window"),
            _evidence(step, window).alias("evidence"),
            _covered(step, window).alias("covered"),
            _applies(step, window).alias("applies"),
        )
        for step in definitions_after()["steps"]
        for window in step["windows"]
    ]
    state = (
        F.when(F.size("row.evidence") > 0, F.lit(SEEN))
        .when(F.col("row.covered"), F.lit(NOT_SEEN))
        .otherwise(F.lit(CANNOT_BE_SEEN))
    )
    each = followed.select(*OPERATION, YEAR, F.explode(F.array(*rows)).alias("row")).where("row.applies")
    return each.select(*OPERATION, YEAR, "row.step_id", "row.window", state.alias("state"), "row.evidence")


def _followed(operations: DataFrame, linked_spells: DataFrame, data_end: date | Column) -> DataFrame:
    """One row for each operation, with the evidence of each step and window and the days to each: one join by person."""
    kept = operations.select(
        *OPERATION, YEAR, "person_id", "operation_date", "discharge_date", "discharge_method", "diagnosis_codes",
        "procedure_codes", (F.lit(data_end) if isinstance(data_end, date) else data_end).alias("_data_end"),
    )  # fmt: skip
    spells = _with_evidence(continuous_spells(linked_spells))
    spell = F.struct(
        F.col("dataset").alias("of_dataset"), F.col("record_id").alias("of_record"), "place", "continuous_spell",
        "starts_on", "ends_on", "continuous_start", "continuous_end", "may_be_staged", "died",
        *[_codes_for(step) for step in _steps_with_codes()],
    )  # fmt: skip
    paired = kept.join(spells.select(*PERSON, spell.alias("spell")), list(PERSON), "left")
    return _one_row_each(_with_order(paired))


def _with_evidence(spells: DataFrame) -> DataFrame:
    """Spells of continuous spells with, for each step, the codes that show it: an empty list if no code does.

    ``may_be_staged``: the continuous spell begins with a planned admission and has an anterior operation.
    """
    # The dominant procedure and the primary diagnosis of a spell may be missing from its lists.
    whole_lists = {
        codes: F.concat_ws("", codes, F.concat(F.lit(","), main, F.lit(",")))
        for codes, main in (("diagnosis_codes", "primary_diagnosis"), ("procedure_codes", "dominant_procedure"))
    }
    listed = spells.withColumns(whole_lists).withColumns(
        {_codes_for(step): _matching(step["codes"]) for step in _steps_with_codes()}
    )
    planned = _is_one_of("admission_method", definitions_after()["planned_admission"]["codes"])
    fusions = [code for step in ("further_fusion", "revision") for code in _step(step)["codes"]]
    whole = Window.partitionBy(*PERSON, "continuous_spell")
    marked = listed.withColumns(
        {
            "continuous_start": F.min("starts_on").over(whole),
            "_planned": F.bool_or(F.col("begins") & planned).over(whole),
            "_anterior": F.bool_or(F.size(_codes_for(_step("possible_staged"))) > 0).over(whole),
            "_fusion": F.bool_or(F.size(_matching([*fusions, *_step("removal")["not_with"]])) > 0).over(whole),
        }
    )
    nothing = F.array().cast("array<string>")
    removal, readmission = (_codes_for(_step(name)) for name in ("removal", "emergency_readmission"))
    return marked.withColumns(
        {
            "may_be_staged": F.col("_planned") & F.col("_anterior"),
            "died": _died_in_hospital(),
            removal: F.when(~F.col("_fusion"), F.col(removal)).otherwise(nothing),
            # Its evidence is how the patient was admitted.
            readmission: F.when(F.col("begins") & F.col("emergency"), F.array("admission_method")).otherwise(nothing),
        }
    )


def _died_in_hospital() -> Column:
    """Whether a spell ended with the patient's death."""
    return _is_one_of("discharge_method", definitions_after()["death"]["codes"])


def _with_order(paired: DataFrame) -> DataFrame:
    """Where each spell is in the history of the operation: ``_in_index`` (in the rest of its continuous spell), ``_later``
    (in a later one, the patient alive) and ``_staged`` (in one that may be the second stage of the operation)."""
    own = (F.col("spell.of_dataset") == F.col("dataset")) & (F.col("spell.of_record") == F.col("record_id"))
    of_operation = Window.partitionBy(*PERSON, "policy_id", "dataset", "record_id")
    place = F.struct(*[F.col(f"spell.{name}").alias(name) for name in ("continuous_spell", "place", "continuous_end")])
    placed = paired.withColumn("_own", F.max(F.when(own, place)).over(of_operation))
    since = F.col("spell.place") >= F.col("_own.place")
    own_death = F.when(_died_in_hospital(), F.col("discharge_date"))
    death = F.min(F.when(since & F.col("spell.died"), F.col("spell.ends_on"))).over(of_operation)
    dated = placed.withColumn("_death", F.coalesce(death, own_death))
    same = F.col("spell.continuous_spell") == F.col("_own.continuous_spell")
    alive = F.col("_death").isNull() | (F.col("spell.starts_on") <= F.col("_death"))
    ordered = dated.withColumns({"_in_index": since & same, "_later": since & ~same & alive})
    days = F.date_diff("spell.continuous_start", F.col("_own.continuous_end"))
    within = max(definitions_after()["windows"][window] for window in _step("possible_staged")["windows"])
    return ordered.withColumn("_staged", F.col("_later") & F.col("spell.may_be_staged") & (days <= within))


def _one_row_each(paired: DataFrame) -> DataFrame:
    """One row for each operation, from all of its spells."""
    first = [
        F.first(name).alias(name)
        for name in (YEAR, "operation_date", "diagnosis_codes", "procedure_codes", "_data_end", "_death")
    ]
    found: dict[str, Column] = {}
    for step in _steps_with_codes():
        codes = F.col(f"spell.{_codes_for(step)}")
        happened, days = _event(step)
        found[_days_to(step["id"])] = F.min(F.when(happened & (F.size(codes) > 0), days))
        for window in step["windows"]:
            inside = F.col("_in_index") if window == INDEX_SPELL else happened & (days <= _days(window))
            found[_evidence_name(step, window)] = F.flatten(F.collect_list(F.when(inside, codes)))
    own_death = _died_in_hospital()
    # The person is part of the key, so that the rows of the join need no second shuffle.
    return paired.groupBy(*OPERATION, "person_id").agg(
        *first,
        F.max("_own.continuous_end").alias("spell_end"),
        F.coalesce(F.bool_or(own_death | (F.col("_in_index") & F.col("spell.died"))), F.lit(False)).alias("_died"),
        *[value.alias(name) for name, value in found.items()],
    )


def _event(step: dict[str, Any]) -> tuple[Column, Column]:
    """Whether a spell after the continuous spell of the operation counts for a step, and the days to it."""
    start = F.col("_own.continuous_end") if step["counted_from"] == "discharge" else F.col("operation_date")
    happened = {
        "complication": F.col("_later"),
        "readmission": F.col("_later"),
        "staged": F.col("_staged"),
        "further_operation": F.col("_later") & ~F.col("_staged"),
    }[step["kind"]]
    first_day = F.col("spell.continuous_start") if step["kind"] == "staged" else F.col("spell.starts_on")
    # A date of the operation that is wrong in the source can be after the discharge.
    return happened, F.greatest(F.date_diff(first_day, start), F.lit(0))


def _evidence(step: dict[str, Any], window: str) -> Column:
    """The codes that show a step in a window, each once, in order."""
    if step["kind"] == "death":
        seen = F.col("_died") if window == INDEX_SPELL else F.date_diff("_death", "operation_date") <= _days(window)
        codes = F.array(*map(F.lit, listed_codes(definitions_after()["death"]["codes"])))
        return F.when(seen, codes).otherwise(F.array().cast("array<string>"))
    found = F.col(_evidence_name(step, window))
    if window == INDEX_SPELL:
        # The record of the operation itself counts even if its person is not known.
        found = F.concat(found, _matching(step["codes"]))
    return F.array_sort(F.array_distinct(found))


def _covered(step: dict[str, Any], window: str) -> Column:
    """Whether the data cover all of a window, so that what was not found did not happen in hospital."""
    if window == INDEX_SPELL:
        last = F.col("spell_end")
    else:
        start = F.col("spell_end" if step["counted_from"] == "discharge" else "operation_date")
        last = F.least(F.date_add(start, _days(window)), F.col("_death"))
    return F.coalesce(F.col("spell_end").isNotNull() & (last <= F.col("_data_end")), F.lit(False))


def _applies(step: dict[str, Any], window: str) -> Column:
    """Whether a step has a row. A window counted from the discharge has none if the patient was not discharged alive."""
    return F.lit(step["counted_from"] == "operation" or window == INDEX_SPELL) | ~F.col("_died")


def _matching(codes: Iterable[dict[str, Any]]) -> Column:
    """The codes of a record that are in a list or are subdivisions of codes in it; empty if it has no such code."""
    found = []
    for system, column in (("icd10", "diagnosis_codes"), ("opcs4", "procedure_codes")):
        wanted = "|".join(item["code"] for item in codes if item["system"] == system)
        if wanted:
            listed = F.regexp_extract_all(F.coalesce(column, F.lit("")), F.lit(f",((?:{wanted})[^,|]*)"), F.lit(1))
            found.append(listed)
    return F.concat(*found) if found else F.array().cast("array<string>")


def _is_one_of(column: str, codes: list[dict[str, Any]]) -> Column:
    return F.coalesce(F.col(column).isin(*listed_codes(codes)), F.lit(False))


def _step(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(step for step in definitions_after()["steps"] if step["id"] == name)
    return found


def _steps_with_codes() -> list[dict[str, Any]]:
    return [step for step in definitions_after()["steps"] if step["kind"] != "death"]


def _days(window: str) -> int:
    return int(definitions_after()["windows"][window])


def _codes_for(step: dict[str, Any]) -> str:
    return f"codes_{step['id']}"


def _days_to(step_id: str) -> str:
    return f"_days_to_{step_id}"


def _evidence_name(step: dict[str, Any], window: str) -> str:
    return f"_evidence_{step['id']}_{window}"
