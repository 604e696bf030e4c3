"""Operations matched with a register of approvals: one class for each operation.

An *operation* is a record in scope of a policy, on its operation date. An *entry* is a row of the register: a request for one
person, for a policy or for procedures. A *regime* says what a board asked for on a day. Register and regimes are small, and
operations are the records in scope, so nothing here reads the records of silver.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.approvals.regimes import NO_APPROVAL_NEEDED
from ebi_spark.approvals.register import APPROVED, CRITERIA_CHECKED, DECLINED, PENDING, WITHDRAWN

# In the order in which they are tried: the first that applies is the class of an operation.
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

_OPERATION = ("source_system", "dataset", "record_id", "policy_id")


def match_approvals(operations: DataFrame, register: DataFrame, regimes: DataFrame, boards: DataFrame) -> DataFrame:
    """One row for each operation, with its ``match_class`` and what it is based on.

    ``operations``: the record's key, ``policy_id``, ``person_id``, ``procedure_codes`` (such as ``,V382,Z993,``),
    ``operation_date``, ``board`` (NULL where unknown) and ``emergency`` (BOOLEAN); their other columns are kept. ``register``:
    rows of ``silver/prior_approval``. An entry counts for an operation of its person under its policy, or, if it names procedures
    only, with one of these procedures. ``regimes``: ``board``, ``policy_id``, ``kind``, ``since`` (inclusive; NULL: not known),
    ``until`` (exclusive; NULL: not ended), ``exempts_emergencies``. ``boards``: for each board that the registers cover,
    ``covered_from`` and ``covered_to`` (both inclusive, NULL: open), ``linkable``, and ``person_system``, whose ``person_id``
    the registers use (NULL: any). No two regimes, and no two rows of ``boards``, may share a day.

    Adds ``match_class``, ``reason`` (of ``cannot_link``), ``regime``, ``approval_ids`` (the entries on which the class is based),
    ``days_from_decision`` (from the decision to the operation, where the class is based on one entry; negative if the decision
    came afterwards) and ``other_policy_approvals`` (approved entries of the person for other policies).

    | operation_date | entry                               | → match_class    |
    |----------------|-------------------------------------|------------------|
    | 2024-02-01     | approved 2024-01-10, no end         | approved_in_time |
    | 2024-02-01     | approved 2024-02-02                 | approved_late    |
    | 2024-02-01     | approved 2023-01-10 to 2024-01-10   | approved_expired |
    """
    with_entries = _with_entries(_with_regime(_with_coverage(operations, boards), regimes), register)
    classified = with_entries.withColumns({"match_class": _match_class(), "reason": _reason()})
    return classified.select(
        *operations.columns,
        "regime",
        "match_class",
        "reason",
        _based_on("ids").alias("approval_ids"),
        _days_from_decision().alias("days_from_decision"),
        "other_policy_approvals",
    )


def _with_coverage(operations: DataFrame, boards: DataFrame) -> DataFrame:
    """``_covered`` and ``_linkable`` of the operation's board on its date."""
    covered = boards.select(
        F.col("board").alias("_board"), "linkable", "person_system", "covered_from", "covered_to"
    )  # fmt: skip
    day = F.col("operation_date")
    inside = (
        (F.col("board") == F.col("_board"))
        & (F.col("covered_from").isNull() | (day >= F.col("covered_from")))
        & (F.col("covered_to").isNull() | (day <= F.col("covered_to")))
    )
    same_kind = F.col("person_system").isNull() | (F.col("person_system") == F.col("source_system"))
    joined = operations.join(F.broadcast(covered), inside, "left")
    return joined.withColumns(
        {"_covered": F.col("_board").isNotNull(), "_linkable": F.col("linkable") & same_kind}
    ).drop("_board", "linkable", "person_system", "covered_from", "covered_to")


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


# What an entry can be for an operation. For each of these the entries are counted and listed, with the last day of a decision.
_VALID, _EXPIRED, _LATE, _DECLINED, _PENDING, _WITHDRAWN = (
    "valid",
    "expired",
    "late",
    "declined",
    "pending",
    "withdrawn",
)
_ROLES = (_VALID, _EXPIRED, _LATE, _DECLINED, _PENDING, _WITHDRAWN)


def _with_entries(operations: DataFrame, register: DataFrame) -> DataFrame:
    """What the register says of each operation, counted over the entries of its person and policy.

    | operation     | entries                               | → _number_valid | _number_late | _ids_own |
    |---------------|---------------------------------------|-----------------|--------------|----------|
    | 1, 1 February | A1 approved 10 January                | 1               | 0            | [A1]     |
    | 2, 1 February | A2 approved 2 February, A3 declined   | 0               | 1            | [A2, A3] |
    | 3, 1 February | none                                  | 0               | 0            | []       |
    """
    entries = register.where("person_id IS NOT NULL").select(
        F.col("person_id").alias("_person"),
        F.col("policy_id").alias("_policy"),
        F.split(F.btrim("procedure_codes", F.lit(",")), ",").alias("_procedures"),
        "register",
        "approval_id",
        "route",
        "requested_on",
        "decided_on",
        "decision",
        F.coalesce("valid_from", "decided_on").alias("_from"),
        F.col("valid_to").alias("_to"),
    )
    day = F.col("operation_date")
    named = F.exists("_procedures", lambda code: F.col("procedure_codes").contains(F.concat(F.lit(","), code)))
    own = F.when(F.col("_policy").isNotNull(), F.col("policy_id") == F.col("_policy")).otherwise(named)
    paired = operations.join(F.broadcast(entries), F.col("person_id") == F.col("_person"), "left")
    decided = F.col("decided_on") <= day
    begun = decided & (F.col("_from") <= day)
    # An entry that does not say when it was requested counts as requested before the operation.
    requested = F.coalesce(F.col("requested_on") <= day, F.lit(True))
    approved = F.col("decision") == APPROVED
    undecided = requested & ((F.col("decision") == PENDING) | (~approved & (F.col("decided_on") > day)))
    conditions = {
        _VALID: approved & begun & (F.col("_to").isNull() | (day <= F.col("_to"))),
        _EXPIRED: approved & begun & (day > F.col("_to")),
        _LATE: approved & (~decided | (F.col("_from") > day)),
        # Every approval is valid, expired or late. If there is none, the latest decision is a refusal.
        _DECLINED: (F.col("decision") == DECLINED) & decided,
        _PENDING: undecided,
        _WITHDRAWN: (F.col("decision") == WITHDRAWN) & requested,
    }
    marked = paired.withColumn("_own", _yes(own)).withColumns(
        {f"_is_{name}": _yes(F.col("_own") & holds) for name, holds in conditions.items()}
        | {"_is_other": _yes(~F.col("_own") & approved)}
    )
    # If an entry is valid for two operations, it is not known which of them was meant. (Each operation without an entry has a
    # key of its own, so that they are not all sorted together.)
    use = F.when(F.col("approval_id").isNull(), F.concat_ws("/", *_OPERATION)).otherwise(
        F.concat_ws("/", "register", "approval_id")
    )
    uses = Window.partitionBy("policy_id", use)
    counted = marked.withColumn("_used", F.sum(F.col("_is_valid").cast("int")).over(uses))
    kept = {name: F.first(name).alias(name) for name in operations.columns if name not in _OPERATION}
    return counted.groupBy(*_OPERATION).agg(
        *kept.values(),
        *(part.alias(f"_{what}_{role}") for role in _ROLES for what, part in _counted(f"_is_{role}").items()),
        _ids("_own").alias("_ids_own"),
        F.max(F.when(F.col("_is_valid"), F.col("_used"))).alias("_used"),
        F.max(F.when(F.col("_is_valid"), F.col("route"))).alias("_route"),
        _ids("_is_other").alias("other_policy_approvals"),
    )


def _counted(role: str) -> dict[str, Column]:
    """For the entries with one role: how many, which, and the last day of a decision."""
    return {
        "number": F.sum(F.col(role).cast("int")),
        "ids": _ids(role),
        "decided": F.max(F.when(F.col(role), F.col("decided_on"))),
    }


def _ids(role: str) -> Column:
    return F.array_sort(F.collect_set(F.when(F.col(role), F.col("approval_id"))))


def _match_class() -> Column:
    exempt = _yes(F.col("emergency") & F.col("_exempt"))
    number = {role: F.col(f"_number_{role}") for role in _ROLES}
    conditions = {
        "cannot_link": _reason().isNotNull(),
        "regime_unknown": F.col("regime").isNull(),
        "not_required": (F.col("regime") == NO_APPROVAL_NEEDED) | exempt,
        "ambiguous": (number[_VALID] > 1) | (F.col("_used") > 1),
        "approved_in_time": (number[_VALID] == 1) & (F.col("_route") != CRITERIA_CHECKED),
        "criteria_confirmed": number[_VALID] == 1,
        "approved_expired": number[_EXPIRED] > 0,
        "approved_late": number[_LATE] > 0,
        "declined": number[_DECLINED] > 0,
        "pending": number[_PENDING] > 0,
        "withdrawn": number[_WITHDRAWN] > 0,
        "none_on_record": F.lit(True),
    }
    assert tuple(conditions) == MATCH_CLASSES
    return _first(conditions, {name: F.lit(name) for name in conditions})


def _reason() -> Column:
    """Why an operation cannot be linked; NULL where it can."""
    return (
        F.when(F.col("person_id").isNull(), F.lit(NO_PERSON))
        .when(~F.col("_covered"), F.lit(NOT_COVERED))
        .when(~_yes(F.col("_linkable")), F.lit(NOT_LINKABLE))
    )


# The role of the entries on which each class is based. The other classes list all entries of the person and policy.
_BASED_ON = {
    "ambiguous": _VALID,
    "approved_in_time": _VALID,
    "criteria_confirmed": _VALID,
    "approved_expired": _EXPIRED,
    "approved_late": _LATE,
    "declined": _DECLINED,
    "pending": _PENDING,
    "withdrawn": _WITHDRAWN,
}


def _based_on(what: str) -> Column:
    return F.coalesce(
        _first(
            {name: F.col("match_class") == name for name in _BASED_ON},
            {name: F.col(f"_{what}_{role}") for name, role in _BASED_ON.items()},
        ),
        F.col(f"_{what}_own"),
    )


def _days_from_decision() -> Column:
    """Days from the decision to the operation, where the class is based on one entry."""
    one = {name: (F.col("match_class") == name) & (F.col(f"_number_{role}") == 1) for name, role in _BASED_ON.items()}
    return F.date_diff(
        "operation_date", _first(one, {name: F.col(f"_decided_{role}") for name, role in _BASED_ON.items()})
    )


def _first(conditions: Mapping[str, Column], values: Mapping[str, Column]) -> Column:
    """The value of the first condition that is true; NULL if no condition is."""
    return F.coalesce(*[F.when(holds, values[name]) for name, holds in conditions.items()])


def _yes(condition: Column) -> Column:
    return F.coalesce(condition, F.lit(False))
