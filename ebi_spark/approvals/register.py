"""Registers of approvals: their rows under our names, cleaned, and split into rows that can be used and rows that cannot.

A *register* is one source of the system ``local``: a board's list of requests. Its rows are *entries*.
"""

from collections.abc import Iterable, Mapping
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.records.cleaning import clean, text
from ebi_spark.records.row_status import reasons
from ebi_spark.sources.column_types import united
from ebi_spark.sources.file_inventory import FindFiles, find_files
from ebi_spark.sources.reader import raw_json, read_table

ROUTES = ("prior_approval", "ifr", "criteria_checked")
DECISIONS = ("approved", "declined", "withdrawn", "pending")
APPROVED, DECLINED, WITHDRAWN, PENDING = DECISIONS
CRITERIA_CHECKED = "criteria_checked"

_DAYS = ("requested_on", "decided_on", "valid_from", "valid_to", "extract_date")
_KINDS = {
    "approval_id": "identifier",
    "person_id": "identifier",
    "policy_id": "identifier",
    "procedure_codes": "codes",
    "route": "identifier",
    "decision": "identifier",
    "board": "short_code",
    "provider_code": "identifier",
    **dict.fromkeys(_DAYS, "day"),
}
# Two rows of one key are the same if all of these agree.
_COMPARED = tuple(name for name in (*_KINDS, "criteria") if name != "extract_date")


def read_registers(spark: SparkSession, config: RunConfig, find: FindFiles = find_files) -> DataFrame | None:
    """All rows of all registers, as in :class:`~ebi_spark.sources.reader.SourceTable`, with ``register``: the name of the
    source. None if there is no register."""
    frames = [
        read_table(spark, table, f"sources.{source.name}.{role}", config, find).rows.withColumn(
            "register", F.lit(source.name)
        )
        for source in config.registers
        for role, table in source.tables.items()
    ]
    return united(frames) if frames else None


def classify_entries(
    rows: DataFrame, policies: Iterable[str], boards: Mapping[str, str], plausible: tuple[date, date]
) -> DataFrame:
    """The rows of registers, cleaned, each with the ``reasons`` why it cannot be used: an empty list for an entry.

    ``policies``: the ids of all known policies. ``boards``: known boards, each with its code in the areas shown, which
    replaces it. ``plausible``: the first and the last day on which something can have been requested or decided. Equal rows of
    one register and key count once; of several extracts the latest counts. The columns are those of ``silver/prior_approval``
    without ``person_in_silver`` and ``run_id``, plus ``reasons`` and ``raw``.

    | approval_id | decision | requested_on | decided_on | → reasons                  |
    |-------------|----------|--------------|------------|----------------------------|
    | A1          | Approved | 2024-01-02   | 2024-01-10 | []                         |
    | A2          | approved | 2024-01-02   | NULL       | [no_decision_date]         |
    | A3          | declined | 2024-01-12   | 2024-01-10 | [decided_before_requested] |
    | A4          | approved | 1024-01-02   | 2024-01-10 | [implausible_date]         |
    """
    separated = rows.withColumns(
        {
            "procedure_codes": F.regexp_replace("procedure_codes", r"[;\s/]+", ","),
            "criteria": _listed(F.col("criteria")),
            "_raw": raw_json(),
        }
    )
    cleaned = clean(separated, _KINDS, unread=_DAYS)
    named = cleaned.withColumns(
        {
            "route": _word("route"),
            "decision": _word("decision"),
            "_policy": _known("policy_id", {policy.upper(): policy for policy in policies}),
            "_board": _known("board", boards),
            "corrupt": F.col("corrupt").isNotNull(),
        }
    )
    usable = ~F.col("corrupt")
    begins = F.coalesce("valid_from", "decided_on")
    found = reasons(
        corrupt_line=~usable,
        no_key=usable & F.col("approval_id").isNull(),
        no_person=usable & F.col("person_id").isNull(),
        no_policy=usable & F.col("policy_id").isNull() & F.col("procedure_codes").isNull(),
        unknown_policy=usable & F.col("policy_id").isNotNull() & F.col("_policy").isNull(),
        unknown_board=usable & F.col("board").isNotNull() & F.col("_board").isNull(),
        unknown_route=usable & ~_one_of("route", ROUTES),
        unknown_decision=usable & ~_one_of("decision", DECISIONS),
        unreadable_date=usable & _any(F.col(f"unread_{day}") for day in _DAYS),
        implausible_date=usable & _any(~F.col(day).between(*map(F.lit, plausible)) for day in _DAYS[:2]),
        decided_before_requested=usable & (F.col("decided_on") < F.col("requested_on")),
        ends_before_it_begins=usable & (F.col("valid_to") < begins),
        no_decision_date=usable
        & F.col("decided_on").isNull()
        & ~F.col("unread_decided_on")
        & F.col("decision").isin(APPROVED, DECLINED),
        conflicting_duplicate=F.col("_conflict"),
    )
    return _latest(named).select(
        "register",
        "approval_id",
        "person_id",
        F.col("_policy").alias("policy_id"),
        "procedure_codes",
        "route",
        "requested_on",
        "decided_on",
        "decision",
        begins.alias("valid_from"),
        "valid_to",
        F.col("_board").alias("board"),
        "provider_code",
        F.when(F.size("criteria") > 0, F.col("criteria")).alias("criteria"),
        "source_file",
        found.alias("reasons"),
        F.when(F.size(found) > 0, F.col("_raw")).alias("raw"),
    )


def _latest(rows: DataFrame) -> DataFrame:
    """The rows of the latest extract of each register and key, equal ones once. ``_conflict``: they differ for one key.

    | approval_id | extract_date | decision | → kept | → _conflict |
    |-------------|--------------|----------|--------|-------------|
    | A1          | 2024-01-31   | pending  | no     |             |
    | A1          | 2024-02-29   | approved | yes    | false       |
    | A2          | 2024-02-29   | approved | yes    | true        |
    | A2          | 2024-02-29   | declined | yes    | true        |
    """
    has_key = ~F.col("corrupt") & F.col("approval_id").isNotNull()
    same_key = Window.partitionBy("register", "approval_id", "corrupt")
    content = F.xxhash64(*[F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in _COMPARED])
    compared = rows.withColumns(
        {
            "_content": F.when(has_key, content).otherwise(F.col("content")),
            "_last": F.max("extract_date").over(same_key),
        }
    )
    older = has_key & (F.col("extract_date") < F.col("_last"))
    current = compared.where(~F.coalesce(older, F.lit(False))).dropDuplicates(
        ["register", "approval_id", "corrupt", "_content"]
    )
    differing = F.min("_content").over(same_key) != F.max("_content").over(same_key)
    return current.withColumn("_conflict", has_key & differing)


def unused_approvals(
    entries: DataFrame, matched: DataFrame, policies: Iterable[str], last_day: date, days: int
) -> DataFrame:
    """Approved entries that no operation has in ``approval_ids``, decided at least ``days`` before the last day of the data.

    ``entries`` has rows of ``silver/prior_approval``, ``matched`` those of ``gold/approval_match``. Entries of other policies
    than ``policies`` are left out, because their procedures were not looked for. The last day is 2024-03-31 here, ``days`` 365:

    | entry approved on | valid until | operation of the person    | → days_waited |
    |-------------------|-------------|----------------------------|---------------|
    | 2023-01-10        | no end      | none                       | 446           |
    | 2023-01-10        | 2023-04-10  | 2023-06-01, too late       | no row        |
    | 2023-09-01        | no end      | none                       | no row        |
    """
    used = matched.select(
        F.col("person_id").alias("_person"), "operation_date", "match_class", F.explode("approval_ids").alias("_id")
    )
    valid = (F.col("operation_date") >= F.col("valid_from")) & (
        F.col("valid_to").isNull() | (F.col("operation_date") <= F.col("valid_to"))
    )
    # An approval that was too old or too late for its operation was used all the same. Other classes list every entry of the
    # person: only those that were valid on the day count.
    counts = valid | F.col("match_class").isin("approved_expired", "approved_late")
    waited = F.date_diff(F.lit(last_day), "decided_on")
    looked_for = F.col("policy_id").isNull() | F.col("policy_id").isin(sorted(policies))
    return (
        entries.where((F.col("decision") == APPROVED) & looked_for & (waited >= days))
        .join(
            used,
            (F.col("person_id") == F.col("_person")) & (F.col("approval_id") == F.col("_id")) & counts,
            "left_anti",
        )
        .withColumn("days_waited", waited)
    )


def _listed(column: Column) -> Column:
    """The words of a text as a list; commas, semicolons, bars and blanks separate them."""
    return F.array_remove(F.split(F.coalesce(text(column), F.lit("")), r"[,;|\s]+"), "")


def _word(name: str) -> Column:
    """``Prior approval`` → ``prior_approval``."""
    return F.regexp_replace(F.lower(F.col(name)), r"[\s_-]+", "_")


def _known(name: str, known: Mapping[str, str]) -> Column:
    """The value that belongs to a code, in capital or small letters; NULL if the code is not known."""
    if not known:
        return F.lit(None).cast("string")
    pairs = F.create_map(*[F.lit(item) for pair in sorted(known.items()) for item in pair])
    return F.try_element_at(pairs, F.upper(F.col(name)))


def _one_of(name: str, values: Iterable[str]) -> Column:
    return F.coalesce(F.col(name).isin(*values), F.lit(False))


def _any(conditions: Iterable[Column]) -> Column:
    found = F.lit(False)
    for condition in conditions:
        found = found | condition
    return found
