"""Explains why a record was or was not flagged: each clause with its source text, the value it tested and its result."""

import re
from collections.abc import Collection
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import EPISODE, MISSING, codes_of
from ebi_spark.financial_years import FIRST_YEAR, HES_KEYS_UNIQUE_FROM, label
from ebi_spark.flags.apply_policies import basis_day
from ebi_spark.policies.compile import (
    AS_SEEN,
    FIELDS,
    clause_in_words,
    compile_test,
    holds,
    uses_code_meaning,
)
from ebi_spark.policies.model import Policy, fields_of

# A HES key that begins with its financial year.
_WITH_YEAR = re.compile(r"([0-9]{4}-[0-9]{2})/(.+)")


def with_key(asked: str) -> Column:
    """Whether a record has the key that was asked for.

    In silver, keys of HES rows before 2012-13 begin with their year (``2010-11/100001``). A key asked for without a year
    matches that key in every year. A key asked for with a year also matches a record of that year whose key has no year.
    """
    key, hes = F.col("record_id"), F.col("source_system") == "hes"
    in_any_year = hes & (F.substring(key, 8, 1) == "/") & (F.substring(key, 9, 1 << 20) == asked)
    found = (key == asked) | in_any_year
    stated = _WITH_YEAR.fullmatch(asked)
    return found | (hes & (key == stated[2]) & (F.col("financial_year") == stated[1])) if stated else found


def possible_keys(asked: str) -> list[str]:
    """Every key in silver that :func:`with_key` can match."""
    stated = _WITH_YEAR.fullmatch(asked)
    in_any_year = [f"{label(year)}/{asked}" for year in range(FIRST_YEAR, HES_KEYS_UNIQUE_FROM)]
    return [asked, *([stated[2]] if stated else []), *in_any_year]


def explain_record(
    records: DataFrame, policy: Policy, flagged_policies: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """One item for each record, revision and reading, with its outcome and its clauses.

    ``records`` holds the one record asked for, once for each source system that has it. No other code brings the values of
    records to the driver. ``flagged_policies``: the policies for which ``gold/activity_flag`` has rows of this record
    (None: there are no flags yet). The board of a patient depends on the lookups of the run, so only these flags show
    whether the patient is one of a local policy's own board.
    """
    dataset = policy.dataset
    results: list[Column] = []
    for number, revision in enumerate(policy.revisions):
        results.append(compile_test(revision.scope_test, dataset).alias(f"scope_{number}"))
        for reading in revision.readings.values():
            for clause in reading.deciding:
                results.append(holds(clause, dataset, reading.reading).alias(f"{number}|{reading.reading}|{clause.id}"))
    columns = sorted(set(FIELDS[dataset].values()))
    rows = records.select(
        "source_system", "dataset", "record_id", "financial_year", basis_day(dataset).alias("_day"), *columns, *results
    ).collect()
    found = []
    for row in rows:
        for number, revision in enumerate(policy.revisions):
            earlier = number == 0 and row["_day"] < revision.start
            in_force = (revision.start <= row["_day"] or earlier) and (
                revision.end is None or row["_day"] < revision.end
            )
            for reading in revision.readings.values():
                clauses = []
                failed = []
                for clause in reading.clauses:
                    names = sorted(set(fields_of(clause.test))) if clause.test else []
                    seen = "; ".join(
                        f"{name} = {_shown(row[FIELDS[dataset][name]], dataset, name, reading.reading)}"
                        for name in names
                    )
                    if clause.kind == "note":
                        verdict = "not codable"
                    else:
                        key = f"scope_{number}" if clause.kind == "scope" else f"{number}|{reading.reading}|{clause.id}"
                        verdict = _result(row[key], clause.missing, scope=clause.kind == "scope")
                        if verdict.startswith("fails"):
                            failed.append(clause.id)
                    clauses.append(
                        {
                            "clause_id": clause.id,
                            "words": clause.source_text,
                            "test": clause_in_words(clause),
                            "value": seen,
                            "verdict": verdict,
                            "coding": clause.coding,
                        }
                    )
                scoped = row[f"scope_{number}"] is True
                elsewhere = (
                    scoped
                    and bool(policy.boards)
                    and flagged_policies is not None
                    and policy.id not in flagged_policies
                )
                scoped = scoped and not elsewhere
                flagged = scoped and not failed
                outcome = "flagged" if flagged else ("not flagged" if scoped else "not in scope")
                span = "back-cast: the record is older than the first revision" if earlier else ""
                span = span if in_force else "this revision was not in force on the record's day"
                failure = f"failed {', '.join(failed)}" if scoped and failed else ""
                boards = f"only for patients of {', '.join(policy.boards)}" if policy.boards else ""
                if elsewhere:
                    boards += "; gold/activity_flag has no row for this record, so it is either not one of their patients or not evaluated yet"
                found.append(
                    {
                        "policy_id": policy.id,
                        "revision": revision.name,
                        "reading": reading.reading,
                        "source_system": row["source_system"],
                        "dataset": row["dataset"],
                        "record_id": row["record_id"],
                        "outcome": outcome,
                        "why": "; ".join(part for part in (failure, span, boards) if part),
                        "in_force": in_force,
                        "clauses": clauses,
                    }
                )
    return found


def _shown(value: Any, dataset: str, name: str, reading: str) -> str:
    if value is None:
        return "missing"
    column = "" if name in AS_SEEN else FIELDS[dataset][name]
    codes = {code for code in str(value).split(",") if code not in ("", EPISODE)}
    missing = uses_code_meaning(reading) and codes and codes <= set(codes_of(column, *MISSING))
    return f"{value} (a default code: missing)" if missing else str(value)


def _result(value: bool | None, missing: str, *, scope: bool) -> str:
    if value is None:
        return "not in scope (cannot be decided)" if scope else f"{missing} (cannot be decided)"
    if scope:
        return "in scope" if value else "not in scope"
    return "passes" if value else "fails"
