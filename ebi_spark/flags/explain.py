"""Explains why a record was or was not flagged: one sentence, the record's codes with their titles, and each clause with its
source text, the value it tested and its result."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, assert_never

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import EPISODE, MISSING, default_codes_of
from ebi_spark.errors import InputError
from ebi_spark.financial_years import FIRST_YEAR, HES_KEYS_UNIQUE_FROM, label
from ebi_spark.flags.apply_policies import basis_day
from ebi_spark.policies.code_books import SYSTEM_OF, CodeBook
from ebi_spark.policies.compile import (
    AS_SEEN,
    FIELDS,
    LIST_FIELDS,
    clause_in_words,
    compile_test,
    holds,
    uses_code_meaning,
)
from ebi_spark.policies.model import (
    AgeRange,
    Clause,
    FieldTest,
    FollowedBy,
    HasCode,
    IsNull,
    NoneOf,
    Policy,
    field_tests,
    fields_of,
)
from ebi_spark.policies.patterns import as_regex

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


@dataclass(frozen=True)
class Explanation:
    """The explanation of one record.

    ``facts``: its date, provider and codes with titles (:func:`record_facts`). ``sentences``: for each policy, the outcome in its
    default reading on the record's day. ``readings``: for each policy, revision and reading, the outcome and the clauses
    (:func:`explain_row`).
    """

    facts: dict[str, Any]
    sentences: dict[str, str]
    readings: list[dict[str, Any]]

    @property
    def in_scope(self) -> set[str]:
        """The policies that have the record in scope on its day."""
        return {item["policy_id"] for item in self.readings if item["in_force"] and item["outcome"] != NOT_IN_SCOPE}


FLAGGED, NOT_FLAGGED, NOT_IN_SCOPE = "flagged", "not flagged", "not in scope"
_KEY = ("source_system", "dataset", "record_id", "financial_year")
_SYSTEMS = {"sus_plus": "SUS+", "hes": "HES"}
NOUNS = {"apc": "Spell", "op": "Attendance"}
# The columns of silver that the facts need, besides those that policies test.
SHOWN = {
    "apc": ("activity_date", "provider_code", "admission_date", "discharge_date"),
    "op": ("activity_date", "provider_code"),
}
# The columns with codes, in the order in which they are shown: what a code is, and its system.
_CODES = (
    ("dominant_procedure", "dominant procedure", "opcs4"),
    ("primary_diagnosis", "primary diagnosis", "icd10"),
    ("procedure_codes", "procedure", "opcs4"),
    ("diagnosis_codes", "diagnosis", "icd10"),
)


def explain_records(
    records: DataFrame,
    policies: Collection[Policy],
    books: Mapping[str, CodeBook],
    flagged_policies: Collection[str] | None = None,
    day: Column | None = None,
    provider_names: Mapping[str, str] | None = None,
) -> list[Explanation]:
    """One explanation for each record. ``day``: the day that decides which revision applies (None: the record's own).
    ``provider_names``: names of providers by their codes, as far as they are known.

    ``records``: a few rows of one silver table, such as one record from each source system that has it. ``policies``: those of
    its data set. No other code brings the values of records to the driver. ``flagged_policies``: the policies for which
    ``gold/activity_flag`` has rows of this record (None: there are no flags yet). The board of a patient depends on the
    lookups of the run, so only these flags show whether the patient is one of a local policy's own board.
    """
    found: dict[tuple[Any, ...], Explanation] = {}
    for policy in policies:
        for row in _results(records, policy, day):
            row["provider_name"] = (provider_names or {}).get(row["provider_code"])
            if row["_day"] is None:
                raise InputError(
                    "records: a record has no day, so it is not known which revision of the policy applies",
                    remedy="fill in its date, or name a day",
                )
            record = found.setdefault(tuple(row[name] for name in _KEY), Explanation(record_facts(row, books), {}, []))
            readings = explain_row(row, policy, flagged_policies)
            record.readings.extend(readings)
            record.sentences[policy.id] = in_one_sentence(row, policy, readings, books)
    return list(found.values())


def _results(records: DataFrame, policy: Policy, day: Column | None) -> list[dict[str, Any]]:
    """The values of each record, and the result of each clause under the name that :func:`result_name` gives."""
    dataset = policy.dataset
    results: list[Column] = []
    for number, revision in enumerate(policy.revisions):
        results.append(compile_test(revision.scope_test, dataset).alias(result_name(number)))
        for reading in revision.readings.values():
            for clause in reading.deciding:
                name = result_name(number, reading.reading, clause.id)
                results.append(holds(clause, dataset, reading.reading).alias(name))
    columns = sorted({*FIELDS[dataset].values(), *SHOWN[dataset]})
    own_day = basis_day(dataset) if day is None else day
    rows = records.select(*_KEY, own_day.alias("_day"), *columns, *results).collect()
    return [row.asDict() for row in rows]


def result_name(revision: int, reading: str = "", clause: str = "") -> str:
    """The column name of a result: of a revision's scope (revisions are counted from 0), or of a clause in a reading."""
    return f"{revision}|{reading}|{clause}"


def record_facts(row: Mapping[str, Any], books: Mapping[str, CodeBook]) -> dict[str, Any]:
    """Date, provider and codes of a record. ``provider_name`` is None for an unknown provider. ``codes``: a list of
    ``code``, ``title`` (empty for a code that the code book does not have) and ``role``, such as primary diagnosis."""
    facts = {name: row[name] for name in (*_KEY, *SHOWN[row["dataset"]])} | {"provider_name": row.get("provider_name")}
    roles: dict[tuple[str, str], str] = {}
    for column, role, system in _CODES:
        for code in _codes_in(row.get(column)):
            roles.setdefault((system, code), role)
    codes = [{"code": code, "title": books[system].title(code), "role": role} for (system, code), role in roles.items()]
    return facts | {"codes": codes}


def _codes_in(value: str | None) -> list[str]:
    """The codes in a column of silver, each once: a single code or a list such as ``,M545,|,Z981,``."""
    return list(dict.fromkeys(code for code in (value or "").split(",") if code not in ("", EPISODE)))


def explain_row(
    row: Mapping[str, Any], policy: Policy, flagged_policies: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """One item for each revision and reading: the outcome of a record, why, and its clauses.

    ``row``: the record's values, its day as ``_day``, and the result of each clause (true, false or None: it cannot be decided)
    by :func:`result_name`. ``in_force`` says whether the revision was in force on that day. ``elsewhere`` is true if the lake has
    no flag of the record under a local policy: its patient is probably not of the policy's own board.

    | reading      | results of scope, age, cancer | → outcome    | why        |
    |--------------|-------------------------------|--------------|------------|
    | as_published | true, true, true              | flagged      |            |
    | as_intended  | true, false, true             | not flagged  | failed age |
    | any          | false or None                 | not in scope |            |
    """
    found = []
    for number, revision in enumerate(policy.revisions):
        earlier = number == 0 and row["_day"] < revision.start
        in_force = (revision.start <= row["_day"] or earlier) and (revision.end is None or row["_day"] < revision.end)
        is_in_scope = row[result_name(number)] is True
        elsewhere = bool(
            is_in_scope and policy.boards and flagged_policies is not None and policy.id not in flagged_policies
        )
        is_in_scope = is_in_scope and not elsewhere
        span = "" if in_force else "this revision was not in force on the record's day"
        if earlier and in_force:
            span = "back-cast: the record is older than the first revision"
        boards = f"only for patients of {', '.join(policy.boards)}" if policy.boards else ""
        if elsewhere:
            boards += "; gold/activity_flag has no row for this record, so it is either not one of their patients or not evaluated yet"
        for reading in revision.readings.values():
            clauses = [_explain_clause(row, policy.dataset, number, reading.reading, one) for one in reading.clauses]
            failed = [one["clause_id"] for one in clauses if one["verdict"].startswith("fails")]
            failure = f"failed {', '.join(failed)}" if is_in_scope and failed else ""
            found.append(
                {
                    "policy_id": policy.id,
                    "revision": revision.name,
                    "reading": reading.reading,
                    "source_system": row["source_system"],
                    "dataset": row["dataset"],
                    "record_id": row["record_id"],
                    "outcome": NOT_IN_SCOPE if not is_in_scope else NOT_FLAGGED if failed else FLAGGED,
                    "why": "; ".join(part for part in (failure, span, boards) if part),
                    "in_force": in_force,
                    "elsewhere": elsewhere,
                    "clauses": clauses,
                }
            )
    return found


def _explain_clause(
    row: Mapping[str, Any], dataset: str, revision: int, reading: str, clause: Clause
) -> dict[str, Any]:
    """What a clause tests, the record's values of the fields that it tests, and its result (``verdict``)."""
    names = sorted(set(fields_of(clause.test))) if clause.test else []
    verdict = "not codable"
    if clause.kind != "note":
        scope = clause.kind == "scope"
        key = result_name(revision) if scope else result_name(revision, reading, clause.id)
        verdict = _result(row[key], clause.missing, scope=scope)
    return {
        "clause_id": clause.id,
        "words": clause.source_text,
        "test": clause_in_words(clause),
        "value": "; ".join(f"{name} = {_shown(row[FIELDS[dataset][name]], dataset, name, reading)}" for name in names),
        "verdict": verdict,
        "coding": clause.coding,
    }


def in_one_sentence(
    row: Mapping[str, Any], policy: Policy, readings: Collection[Mapping[str, Any]], books: Mapping[str, CodeBook]
) -> str:
    """The sentence on one policy: what the record is, and whether the policy flags it or why not. It uses the policy's default
    reading and the revision in force on the record's day."""
    known = _where_and_when(row)
    subject = f"{NOUNS[policy.dataset]} {row['record_id']}{f' ({known})' if known else ''}"
    named = f"the policy {policy.id} ({policy.title})"
    item = next((one for one in readings if one["in_force"] and one["reading"] == policy.default_reading), None)
    if item is None:
        return f"{subject} is not flagged: no revision of {named} was in force on {_in_words(row['_day'])}."
    number, revision = next(
        (number, one) for number, one in enumerate(policy.revisions) if one.name == item["revision"]
    )
    later = f", by revision {revision.name}, which came into force later" if row["_day"] < revision.start else ""
    if item["elsewhere"]:
        return (
            f"{subject} is not in the scope of {named}, which is only for patients of {', '.join(policy.boards)}: the lake has "
            "no flag of this record under it, so the patient is not theirs, or the policy has not been applied yet."
        )
    if item["outcome"] == NOT_IN_SCOPE:
        return f"{subject} is not in the scope of {named}{later}: {_outside(revision.scope, row, books)}."
    scoped = _named_codes(revision.scope, row, books)
    inside = _and(scoped) or "the record"
    reading = revision.readings[policy.default_reading]
    failing = {one["clause_id"] for one in item["clauses"] if one["verdict"].startswith("fails")}
    failed = [clause for clause in reading.deciding if clause.id in failing]
    if not failed:
        return f"{subject} is flagged by {named}{later}: {inside} {'is' if len(scoped) < 2 else 'are'} in its scope, and every clause is met."
    why = "; ".join(
        f"{clause.id}, because {_why(clause, row, row[result_name(number, reading.reading, clause.id)], reading.reading, books)}"
        for clause in failed
    )
    number_of = f"{len(failed)} of {len(reading.deciding)} clauses {'is' if len(failed) == 1 else 'are'}"
    return (
        f"{subject} is in the scope of {named} with {inside}, but is not flagged{later}: {number_of} not met ({why})."
    )


def _where_and_when(row: Mapping[str, Any]) -> str:
    admitted, discharged = row.get("admission_date"), row.get("discharge_date")
    days = [f"admitted {_in_words(admitted)}"] if admitted else []
    days += [f"discharged {_in_words(discharged)}"] if discharged else []
    if not days and row["activity_date"]:
        days = [_in_words(row["activity_date"])]
    provider = [f"provider {with_name(row)}"] if row["provider_code"] else []
    system = [_SYSTEMS[row["source_system"]]] if row["source_system"] in _SYSTEMS else []
    return ", ".join([*system, *days, *provider])


def with_name(row: Mapping[str, Any]) -> str:
    """The code of a record's provider, with its name where that is known."""
    return f"{row['provider_code']} ({row['provider_name']})" if row.get("provider_name") else str(row["provider_code"])


def _in_words(day: date) -> str:
    """A day such as 3 May 2022."""
    return f"{day.day} {day:%B %Y}"


def _and(parts: Collection[str]) -> str:
    *before, last = [*parts] or [""]
    return f"{', '.join(before)} and {last}" if before else last


def _outside(scope: Clause, row: Mapping[str, Any], books: Mapping[str, CodeBook]) -> str:
    """Why a record is not in scope."""
    assert scope.test is not None
    reasons = []
    for name in dict.fromkeys(fields_of(scope.test)):
        value, words = row[FIELDS[row["dataset"]][name]], name.replace("_", " ")
        if not value:
            reasons.append(f"it has no {words.removeprefix('any ')}")
        elif name in LIST_FIELDS:
            kind = words.removeprefix("any ")
            if not _named_codes(scope, row, books):
                reasons.append(f"none of its {kind.replace('diagnosis', 'diagnose')}s is one that the policy is about")
        else:
            reasons.append(f"its {words} is {_with_title(str(value), name, books)}")
    return _and(reasons) or "its codes are not those that the policy is about"


def _why(
    clause: Clause, row: Mapping[str, Any], result: bool | None, reading: str, books: Mapping[str, CodeBook]
) -> str:
    """Why a record does not meet a clause."""
    assert clause.test is not None
    dataset = row["dataset"]
    values = {name: row[FIELDS[dataset][name]] for name in dict.fromkeys(fields_of(clause.test))}
    if result is None:
        seen = {name: _shown(value, dataset, name, reading) for name, value in values.items()}
        missing = [name.replace("_", " ") for name, text in seen.items() if "missing" in text]
        return f"{_and(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    excluded = clause.kind == "exclude" or isinstance(clause.test, NoneOf)
    codes = _named_codes(clause, row, books)
    if excluded and codes:
        return f"it has {_and(codes)}"
    if codes:
        ordered = any(isinstance(test, FollowedBy) for test in field_tests(clause.test))
        return (
            f"{_and(codes)} {'is not' if len(codes) == 1 else 'are not'} in the order asked for"
            if ordered
            else (f"of the codes asked for it has only {_and(codes)}")
        )
    shown = [f"{name.replace('_', ' ')} is {value}" for name, value in values.items() if name not in SYSTEM_OF]
    return _and(shown) or "it has none of the codes asked for"


def _named_codes(clause: Clause, row: Mapping[str, Any], books: Mapping[str, CodeBook]) -> list[str]:
    """The codes of the record that are named in the tests of a clause, with their titles."""
    found: dict[str, None] = {}
    for test in field_tests(clause.test) if clause.test else ():
        if test.field in SYSTEM_OF:
            value = row[FIELDS[row["dataset"]][test.field]]
            found |= {_with_title(code, test.field, books): None for code in _codes_in(value) if _names(test, code)}
    return list(found)


def _names(test: FieldTest, code: str) -> bool:
    """Whether a test names a code: the same patterns as :func:`~ebi_spark.policies.compile.compile_test`, one at a time."""
    match test:
        case HasCode(_, operator, codes, left):
            tried = {"in": re.fullmatch, "contains": re.search, "starts_with": re.match}[operator]
            return any(tried(as_regex(pattern), code[:left]) for pattern in codes)
        case FollowedBy(_, first, then):
            return any(re.match(as_regex(pattern), code) for pattern in (*first, *then))
        case AgeRange() | IsNull():
            return False
        case _:
            assert_never(test)


def _with_title(code: str, name: str, books: Mapping[str, CodeBook]) -> str:
    title = books[SYSTEM_OF[name]].title(code) if name in SYSTEM_OF else ""
    return f"{code} ({title})" if title else code


def _shown(value: Any, dataset: str, name: str, reading: str) -> str:
    if value is None:
        return "missing"
    column = "" if name in AS_SEEN else FIELDS[dataset][name]
    codes = _codes_in(str(value))
    missing = uses_code_meaning(reading) and codes and set(codes) <= set(default_codes_of(column, *MISSING))
    text = ", ".join(filter(None, str(value).split(","))) if name in LIST_FIELDS else str(value)
    return f"{text} (a default code: missing)" if missing else text


def _result(value: bool | None, missing: str, *, scope: bool) -> str:
    if value is None:
        return "not in scope (cannot be decided)" if scope else f"{missing} (cannot be decided)"
    if scope:
        return "in scope" if value else "not in scope"
    return "passes" if value else "fails"
