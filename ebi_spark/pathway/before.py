"""The care before an operation: which steps the linked records show in the 3, 6 and 12 months before it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.pathway.code_lists import look_evidence, nothing, steps, windows_of, with_whole_lists
from ebi_spark.pathway.coverage import Covered, is_covered
from ebi_spark.pathway.definitions import CANNOT_BE_SEEN, NOT_SEEN, OPERATION, PERSON, SEEN, definitions
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import RECORD_KEY, YEAR

NOT_VISIBLE = "not_visible"
# The data set in which a step is looked for.
DATASETS = {"admitted": "apc", "outpatients": "op"}


def findings(spells: DataFrame, attendances: DataFrame, flags: DataFrame) -> DataFrame:
    """The steps that linked records show: one row for each record and step.

    ``spells``, ``attendances`` and ``flags`` are those of :mod:`ebi_spark.pathway.linked`. ``day`` is the day of admission or of
    the appointment, ``evidence`` the codes or treatment functions, ``is_first`` whether it is a first attendance.

    | record                   | → step_id        | evidence |
    |--------------------------|------------------|----------|
    | attendance under 650     | physiotherapy_…  | [650]    |
    | spell ,V544,Z675,        | facet_injection  | [V544]   |
    | spell ,V544,Z673,        | no row           |          |
    """
    first = F.col("first_attendance").isin(*definitions()["attendance"]["first"]["codes"])
    found = _shown(with_whole_lists(spells), "admitted", F.col("admission_date"), F.lit(False)).unionByName(
        _shown(attendances, "outpatients", F.col("activity_date"), F.coalesce(first, F.lit(False)))
    )
    for step in steps():
        if flagged_by := step.get("flagged_by"):
            keys = flags.where(F.col("policy_id") == flagged_by["policy"]).select(*RECORD_KEY, YEAR).distinct()
            marked = found.join(F.broadcast(keys.withColumn("_flagged", F.lit(True))), [*RECORD_KEY, YEAR], "left")
            scan = (F.col("step_id") == flagged_by["step"]) & (F.col("dataset") == DATASETS[flagged_by["in"]])
            both = F.array("step_id", F.when(scan & F.col("_flagged"), F.lit(step["id"])))
            found = marked.withColumn("step_id", F.explode(F.array_compact(both))).select(*found.columns)
    return found


def _shown(records: DataFrame, where: str, day: Column, is_first: Column) -> DataFrame:
    """One row for each record and step that it shows, among the steps that are looked for in ``where``."""
    shown = []
    for step in steps(looked_for_in=where):
        parts = [_evidence(look) for look in step["look_in"] if look["in"] == where]
        evidence = F.array_distinct(F.concat(*parts)) if len(parts) > 1 else parts[0]
        shown.append(F.struct(F.lit(step["id"]).alias("step_id"), evidence.alias("evidence")))
    some = F.filter(F.array(*shown), lambda item: F.size(item["evidence"]) > 0)
    key = (*RECORD_KEY, YEAR, "person_id")
    each = records.select(*key, day.alias("day"), is_first.alias("is_first"), F.explode(some).alias("shown"))
    return each.select(*key, "day", "is_first", "shown.step_id", "shown.evidence")


def _evidence(look: Mapping[str, Any]) -> Column:
    if functions := look.get("treatment_functions"):
        function = F.col("treatment_function")
        return F.when(function.isin(*functions), F.array(function)).otherwise(nothing())
    return look_evidence(
        look, F.col("diagnosis_codes") if "diagnoses" in look else F.lit(None), F.col("procedure_codes")
    )


def by_operation(operations: DataFrame, found: DataFrame) -> DataFrame:
    """The rows of :func:`findings` before each operation: one row for each operation, step and window in which the step is found,
    with its evidence and its first and last day.

    | operation | finding                  | → step_id       | window    | evidence | first_day  |
    |-----------|--------------------------|-----------------|-----------|----------|------------|
    | 15 June   | 20 May, pain_management  | pain_management | 3_months  | [191]    | 2024-05-20 |
    |           |                          | pain_management | 6_months  | [191]    | 2024-05-20 |
    |           |                          | pain_management | 12_months | [191]    | 2024-05-20 |
    """
    wanted = operations.select(
        *OPERATION, "person_id", "operation_date", F.coalesce("admission_date", "operation_date").alias("_until"),
    )  # fmt: skip
    own = [F.col(name).alias(f"_{name}") for name in ("dataset", "record_id")]
    others = found.select(*PERSON, *own, "day", "is_first", "step_id", "evidence")
    months = definitions()["windows"]
    before = wanted.join(others, list(PERSON)).where(
        (F.col("day") < F.col("_until"))
        & (F.col("day") >= _start(max(months.values())))
        & ~((F.col("_dataset") == F.col("dataset")) & (F.col("_record_id") == F.col("record_id")))
    )
    windows = [F.when(F.col("day") >= _start(number), F.lit(window)) for window, number in months.items()]
    in_windows = before.withColumn("window", F.explode(F.array_compact(F.array(*windows))))
    enough = F.lit(True)
    for step in steps():
        for look in step.get("look_in", ()):
            if programme := look.get("programme"):
                enough = enough & ((F.col("step_id") != step["id"]) | _is_programme(programme))
    grouped = in_windows.groupBy(*OPERATION, "step_id", "window").agg(
        _all_of("evidence").alias("evidence"),
        F.min("day").alias("first_day"),
        F.max("day").alias("last_day"),
        enough.alias("_enough"),
    )
    shown = grouped.where("_enough").drop("_enough")
    for step in steps():
        if chain := step.get("chain"):
            shown = _with_chain(shown, step["id"], chain)
    return shown


def _with_chain(shown: DataFrame, step_id: str, chain: Mapping[str, list[str]]) -> DataFrame:
    """``shown``, plus a row for each operation and window in which a step of ``then`` was last seen on or after the first day of a
    step of ``first``. It uses window functions, because a join of the rows with themselves would read their records twice.

    | operation | step_id         | first_day, last_day | → row added                             |
    |-----------|-----------------|---------------------|-----------------------------------------|
    | A         | lumbar_imaging  | 1 February          | imaging_then_injection, 1 Feb and 1 May |
    | A         | facet_injection | 1 March, 1 May      |                                         |
    | B         | facet_injection | 1 March             | no row                                  |
    """
    first, then = (F.col("step_id").isin(*chain[part]) for part in ("first", "then"))
    together = Window.partitionBy(*OPERATION, "window")
    marked = shown.withColumns(
        {
            "_codes": F.flatten(F.collect_list(F.when(first | then, F.col("evidence"))).over(together)),
            "_earliest": F.min(F.when(first, F.col("first_day"))).over(together),
            "_latest": F.max(F.when(then, F.col("last_day"))).over(together),
            "_number": F.row_number().over(together.orderBy("step_id")),
        }
    )
    names = ("step_id", "evidence", "first_day", "last_day")
    codes = F.array_sort(F.array_distinct("_codes"))
    of_chain = [F.lit(step_id), codes, F.col("_earliest"), F.col("_latest")]
    holds = (F.col("_number") == 1) & (F.col("_latest") >= F.col("_earliest"))
    added = F.when(holds, F.struct(*[value.alias(name) for value, name in zip(of_chain, names, strict=True)]))
    rows = F.explode(F.array_compact(F.array(F.struct(*names), added)))
    return marked.select(*OPERATION, "window", rows.alias("row")).select(*OPERATION, "window", "row.*")


def _all_of(name: str) -> Column:
    """The codes of all lists of a group, each once, in order."""
    return F.array_sort(F.array_distinct(F.flatten(F.collect_list(name))))


def _is_programme(programme: Mapping[str, Any]) -> Column:
    """Whether the contacts of a group are a programme: enough contacts, one of them a first attendance, and enough days from the
    first contact to the last."""
    contacts: Column = F.count("*") >= programme["contacts"]
    first = F.bool_or("is_first") | F.lit(not programme["first_attendance"])
    apart: Column = F.date_diff(F.max("day"), F.min("day")) >= programme["days_apart"]
    return contacts & first & apart


def steps_before(
    operations: DataFrame, of_operations: DataFrame, stretches: Iterable[Covered], policies_read: Iterable[str]
) -> DataFrame:
    """Rows of ``gold/pathway_step``: one for each operation, step and window before the operation.

    ``of_operations`` has rows of :func:`by_operation`, ``stretches`` are the days that the data cover, ``policies_read`` the
    policies that flags were made for. A step that is found is ``seen``. Otherwise it is ``not_seen`` if every data set in which
    it is looked for covers the whole window, and ``cannot_be_seen`` if one does not, if the person is not known, or if such data
    never show the step.

    | found | outpatients cover the window | → state        |
    |-------|------------------------------|----------------|
    | yes   | no                           | seen           |
    | no    | yes                          | not_seen       |
    | no    | no                           | cannot_be_seen |
    """
    stretches, months = list(stretches), definitions()["windows"]
    places = [
        (
            step["id"],
            window,
            step["coding"] != NOT_VISIBLE and _read(step, policies_read),
            *(dataset in looked_in for dataset in DATASETS.values()),
        )
        for step in steps()
        for looked_in in [_datasets(step)]
        for window in windows_of(step)
        if window in months
    ]
    needed = ", ".join(f"_needs_{dataset} boolean" for dataset in DATASETS.values())
    wanted = small_frame(operations.sparkSession, places, f"step_id string, window string, _visible boolean, {needed}")
    last = F.date_sub(F.coalesce("admission_date", "operation_date"), 1)
    covered = {
        f"_{dataset}": F.create_map(
            *[
                part
                for window, number in months.items()
                for part in (F.lit(window), is_covered(stretches, dataset, _start(number), last))
            ]
        )
        for dataset in DATASETS.values()
    }
    known = operations.select(
        *OPERATION, YEAR, F.col("person_id").isNotNull().alias("_known"), *[c.alias(n) for n, c in covered.items()]
    )
    whole = known.crossJoin(F.broadcast(wanted)).join(of_operations, [*OPERATION, "step_id", "window"], "left")
    could = F.col("_known") & F.col("_visible")
    for dataset in DATASETS.values():
        could = could & (~F.col(f"_needs_{dataset}") | F.col(f"_{dataset}")[F.col("window")])
    state = F.when(F.col("evidence").isNotNull(), SEEN).when(could, NOT_SEEN).otherwise(CANNOT_BE_SEEN)
    return whole.select(
        *OPERATION, YEAR, "step_id", "window", state.alias("state"), F.coalesce("evidence", nothing()).alias("evidence"),
        "first_day", "last_day",
    )  # fmt: skip


def _read(step: Mapping[str, Any], policies_read: Iterable[str]) -> bool:
    """Whether the policy whose flags a step needs was applied."""
    return "flagged_by" not in step or step["flagged_by"]["policy"] in set(policies_read)


def _datasets(step: Mapping[str, Any]) -> set[str]:
    """The data sets in which a step is looked for."""
    if flagged_by := step.get("flagged_by"):
        return {DATASETS[flagged_by["in"]]}
    chain = step.get("chain", {})
    parts = [other for other in steps() if other["id"] in (*chain.get("first", ()), *chain.get("then", ()))]
    return {DATASETS[look["in"]] for part in (step, *parts) for look in part.get("look_in", ())}


def _start(months: int) -> Column:
    return F.add_months("operation_date", -months)
