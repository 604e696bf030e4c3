"""Operations matched with a register of approvals: one class for each operation.

An *operation* is a record in scope of a policy, on its operation date. An *entry* is a row of the register: a request of one
person for one policy. A *regime* says what a board asked for on a day. Register and regimes are small; operations are the
records in scope, so nothing here reads silver.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

# In the order in which they are tried: the first that holds is the class of an operation.
MATCH_CLASSES = (
    "cannot_link",
    "regime_unknown",
    "not_required",
    "ambiguous",
    "approved_in_time",
    "criteria_confirmed",
    "approved_expired",
    "approved_late",
    "declined",
    "pending",
    "withdrawn",
    "none_on_record",
)
NO_PERSON, NOT_COVERED, NOT_LINKABLE = "no_person", "register_does_not_cover", "register_not_linkable"
NO_APPROVAL_NEEDED = "none"
CRITERIA_CHECKED = "criteria_checked"

_OPERATION = ("source_system", "dataset", "record_id", "policy_id")


def match_approvals(operations: DataFrame, register: DataFrame, regimes: DataFrame, boards: DataFrame) -> DataFrame:
    """A row an operation, with its ``match_class`` and what it rests on.

    ``operations``: the record's key, ``policy_id``, ``person_id``, ``operation_date``, ``board`` (NULL where unknown) and
    ``emergency`` (BOOLEAN). ``register``: ``approval_id``, ``person_id``, ``policy_id``, ``board`` (NULL: any), ``route``,
    ``requested_on``, ``decided_on``, ``decision``, ``valid_from``, ``valid_to``. ``regimes``: ``board``, ``policy_id``,
    ``kind``, ``since`` (inclusive; NULL: from ever), ``until`` (exclusive; NULL: still), ``exempts_emergencies``. ``boards``:
    of each board that the register covers, ``covered_from`` and ``covered_to`` (both inclusive, NULL: open) and ``linkable``.

    Adds ``match_class``, ``reason`` (of ``cannot_link``), ``regime``, ``approval_ids`` (the entries behind the class),
    ``days_from_decision`` (operation less decision, of the one entry behind the class; negative when decided afterwards) and
    ``other_policy_approvals`` (approved entries of the person with another policy).

    | operation_date | entry                               | → match_class    |
    |----------------|-------------------------------------|------------------|
    | 2024-02-01     | approved 2024-01-10, no end         | approved_in_time |
    | 2024-02-01     | approved 2024-02-02                 | approved_late    |
    | 2024-02-01     | approved 2023-01-10 to 2024-01-10   | approved_expired |
    """
    with_entries = _with_entries(_with_regime(_with_coverage(operations, boards), regimes), register)
    return with_entries.withColumns({"match_class": _match_class(), "reason": _reason()}).select(
        *_OPERATION,
        "person_id",
        "operation_date",
        "board",
        "regime",
        "match_class",
        "reason",
        _evidence().alias("approval_ids"),
        F.when(F.col("_valid") == 1, F.date_diff("operation_date", "_valid_decided")).alias("days_from_decision"),
        "other_policy_approvals",
    )


def _with_coverage(operations: DataFrame, boards: DataFrame) -> DataFrame:
    """``_covered`` and ``_linkable`` of the operation's board on its date."""
    covered = boards.select(
        F.col("board").alias("_board"),
        F.col("linkable").alias("_linkable"),
        "covered_from",
        "covered_to",
    )
    day = F.col("operation_date")
    joined = operations.join(F.broadcast(covered), F.col("board") == F.col("_board"), "left")
    inside = (F.col("covered_from").isNull() | (day >= F.col("covered_from"))) & (
        F.col("covered_to").isNull() | (day <= F.col("covered_to"))
    )
    return joined.withColumn("_covered", F.coalesce(F.col("_board").isNotNull() & inside, F.lit(False))).drop(
        "_board", "covered_from", "covered_to"
    )


def _with_regime(operations: DataFrame, regimes: DataFrame) -> DataFrame:
    """``regime`` (its kind) and ``_exempt`` of the operation's board and policy on its date."""
    named = regimes.select(
        F.col("board").alias("_board"),
        F.col("policy_id").alias("_policy"),
        F.col("kind").alias("regime"),
        F.col("exempts_emergencies").alias("_exempt"),
        "since",
        "until",
    )
    day = F.col("operation_date")
    holds = (
        (F.col("board") == F.col("_board"))
        & (F.col("policy_id") == F.col("_policy"))
        & (F.col("since").isNull() | (day >= F.col("since")))
        & (F.col("until").isNull() | (day < F.col("until")))
    )
    return operations.join(F.broadcast(named), holds, "left").drop("_board", "_policy", "since", "until")


def _with_entries(operations: DataFrame, register: DataFrame) -> DataFrame:
    """What the register says of each operation, counted over the entries of its person and policy."""
    entries = register.where("person_id IS NOT NULL").select(
        F.col("person_id").alias("_person"),
        F.col("policy_id").alias("_policy"),
        F.col("board").alias("_entry_board"),
        "approval_id",
        "route",
        "requested_on",
        "decided_on",
        "decision",
        F.coalesce("valid_from", "decided_on").alias("_from"),
        F.col("valid_to").alias("_to"),
    )
    day = F.col("operation_date")
    own = (F.col("policy_id") == F.col("_policy")) & (
        F.col("_entry_board").isNull() | (F.col("_entry_board") == F.col("board"))
    )
    approved = F.col("decision") == "approved"
    decided = F.col("decided_on") <= day
    begun = decided & (F.col("_from") <= day)
    paired = operations.join(F.broadcast(entries), F.col("person_id") == F.col("_person"), "left").withColumns(
        {
            "_own": F.coalesce(own, F.lit(False)),
            "_is_valid": _yes(own & approved & begun & (F.col("_to").isNull() | (day <= F.col("_to")))),
            "_is_expired": _yes(own & approved & begun & (day > F.col("_to"))),
            "_is_late": _yes(own & approved & (~decided | (F.col("_from") > day))),
            "_is_pending": _yes(
                own & ~approved & (F.col("requested_on") <= day)
                & ((F.col("decision") == "pending") | (F.col("decided_on") > day))
            ),
            "_is_withdrawn": _yes(own & (F.col("decision") == "withdrawn")),
        }
    )  # fmt: skip
    # An entry that is valid for two operations says of neither that it was the one meant.
    uses = Window.partitionBy("_person", "_policy", "approval_id")
    counted = paired.withColumn("_used", F.sum(F.col("_is_valid").cast("int")).over(uses))
    first = {name: F.first(name).alias(name) for name in operations.columns if name not in _OPERATION}
    last_decision = F.max_by(
        "decision",
        F.when(F.col("_own") & decided & F.col("decision").isin("approved", "declined"), F.col("decided_on")),
    )
    return counted.groupBy(*_OPERATION).agg(
        *first.values(),
        _number("_is_valid").alias("_valid"),
        F.max(F.when(F.col("_is_valid"), F.col("_used"))).alias("_used"),
        F.max(F.when(F.col("_is_valid"), F.col("route"))).alias("_route"),
        F.max(F.when(F.col("_is_valid"), F.col("decided_on"))).alias("_valid_decided"),
        _number("_is_expired").alias("_expired"),
        _number("_is_late").alias("_late"),
        last_decision.alias("_last_decision"),
        _number("_is_pending").alias("_pending"),
        _number("_is_withdrawn").alias("_withdrawn"),
        *(_ids(name).alias(f"_ids{name}") for name in ("_is_valid", "_is_expired", "_is_late", "_is_pending",
                                                      "_is_withdrawn", "_own")),
        F.array_sort(F.collect_set(F.when(~F.col("_own") & approved & (F.col("policy_id") != F.col("_policy")),
                                          F.col("approval_id")))).alias("other_policy_approvals"),
    )  # fmt: skip


def _match_class() -> Column:
    approval_needed = ~((F.col("regime") == NO_APPROVAL_NEEDED) | (F.col("emergency") & F.col("_exempt")))
    conditions = {
        "cannot_link": _reason().isNotNull(),
        "regime_unknown": F.col("regime").isNull(),
        "not_required": ~F.coalesce(approval_needed, F.lit(True)),
        "ambiguous": (F.col("_valid") > 1) | (F.col("_used") > 1),
        "approved_in_time": (F.col("_valid") == 1) & (F.col("_route") != CRITERIA_CHECKED),
        "criteria_confirmed": F.col("_valid") == 1,
        "approved_expired": F.col("_expired") > 0,
        "approved_late": F.col("_late") > 0,
        "declined": F.col("_last_decision") == "declined",
        "pending": F.col("_pending") > 0,
        "withdrawn": F.col("_withdrawn") > 0,
        "none_on_record": F.lit(True),
    }
    assert tuple(conditions) == MATCH_CLASSES
    found: Column | None = None
    for name, holds in conditions.items():
        found = F.when(holds, F.lit(name)) if found is None else found.when(holds, F.lit(name))
    assert found is not None
    return found


def _reason() -> Column:
    """Why an operation cannot be linked; NULL where it can."""
    return (
        F.when(F.col("person_id").isNull(), F.lit(NO_PERSON))
        .when(~F.col("_covered"), F.lit(NOT_COVERED))
        .when(~F.coalesce(F.col("_linkable"), F.lit(False)), F.lit(NOT_LINKABLE))
    )


def _evidence() -> Column:
    """The entries that the class rests on; every entry of the person and policy where it rests on a decision."""
    by_class = {
        "ambiguous": "_ids_is_valid",
        "approved_in_time": "_ids_is_valid",
        "criteria_confirmed": "_ids_is_valid",
        "approved_expired": "_ids_is_expired",
        "approved_late": "_ids_is_late",
        "pending": "_ids_is_pending",
        "withdrawn": "_ids_is_withdrawn",
    }
    found: Column | None = None
    for name, ids in by_class.items():
        is_it = F.col("match_class") == name
        found = F.when(is_it, F.col(ids)) if found is None else found.when(is_it, F.col(ids))
    assert found is not None
    return found.otherwise(F.col("_ids_own"))


def _yes(condition: Column) -> Column:
    return F.coalesce(condition, F.lit(False))


def _number(name: str) -> Column:
    return F.sum(F.col(name).cast("int"))


def _ids(name: str) -> Column:
    return F.array_sort(F.collect_set(F.when(F.col(name), F.col("approval_id"))))
