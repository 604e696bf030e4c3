"""Clauses as Spark Columns with SQL's three-valued logic: true, false, or NULL where the record lacks the value.

Codes are tested on the normalised lists of silver (``,E119,J849,``). ``starts_with`` matches from the start of a code;
``contains`` matches anywhere, like the page's ``LIKE '%…%'``. A character class such as ``D3[789]`` means the same as in
T-SQL, and ``_`` is any one character.
"""

import re
from collections.abc import Iterable
from functools import reduce
from operator import and_, or_
from typing import assert_never

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import by_meaning
from ebi_spark.policies.model import (
    AS_PUBLISHED,
    AgeRange,
    AllOf,
    AnyOf,
    Clause,
    FollowedBy,
    HasCode,
    IsNull,
    NoneOf,
    Test,
    asks_null,
    fields_of,
)
from ebi_spark.policies.patterns import one_of
from ebi_spark.quoting import sql_list

_BOTH = {
    "primary_diagnosis": "primary_diagnosis",
    "any_diagnosis": "diagnosis_codes",
    "any_procedure": "procedure_codes",
    "age": "age",
    "age_years": "age_years",
    "sex": "sex",
    "administrative_category": "administrative_category",
    "treatment_function": "treatment_function",
}
# The fields that clauses may name, by dataset, and the silver column of each.
FIELDS: dict[str, dict[str, str]] = {
    "apc": _BOTH
    | {
        "dominant_procedure": "dominant_procedure",
        "admission_method": "admission_method",
        "discharge_method": "discharge_method",
        "patient_classification": "patient_classification",
    },
    "op": {name: column for name, column in _BOTH.items() if name != "primary_diagnosis"}
    | {
        "attendance_status": "attendance_status",
        "first_attendance": "first_attendance",
        "referral_source": "referral_source",
    },
}
# Fields that every reading sees as the published SQL does; `age_years` is the cleaned age (decision 2).
AS_SEEN = ("age",)
LIST_FIELDS = ("any_diagnosis", "any_procedure")

_PLAIN = re.compile(r"[A-Z0-9]+")


def uses_code_meaning(reading: str) -> bool:
    """Whether a reading treats default codes that mean "missing" as missing (decision 24). ``as_published`` does not: it
    compares the code itself, as the published SQL does."""
    return reading != AS_PUBLISHED


def holds(clause: Clause, dataset: str, reading: str = AS_PUBLISHED) -> Column:
    """Whether the record meets the clause in a reading: true, false, or NULL where that cannot be decided."""
    assert clause.test is not None
    test = compile_test(clause.test, dataset, reading)
    return ~test if clause.kind == "exclude" else test


def compile_test(test: Test, dataset: str, reading: str = AS_PUBLISHED) -> Column:
    """A test as a three-valued Column. Scopes are always tested ``as_published`` (decision 8)."""
    match test:
        case AnyOf(parts):
            return reduce(or_, [compile_test(part, dataset, reading) for part in parts])
        case AllOf(parts):
            return reduce(and_, [compile_test(part, dataset, reading) for part in parts])
        case NoneOf(parts):
            return ~compile_test(AnyOf(parts), dataset, reading)
        case IsNull(name, is_null):
            column = _field(name, dataset, reading)
            return column.isNull() if is_null else column.isNotNull()
        case AgeRange(name, low, None):
            return _field(name, dataset, reading) >= F.lit(low)
        case AgeRange(name, None, high):
            return _field(name, dataset, reading) <= F.lit(high)
        case AgeRange(name, low, high):
            return _field(name, dataset, reading).between(F.lit(low), F.lit(high))
        case FollowedBy(name, first, then, directly):
            return _field(name, dataset, reading).rlike(followed_by(first, then, bool(directly)))
        case HasCode():
            return _has_code(test, _field(test.field, dataset, reading))
        case _:
            assert_never(test)


def _field(name: str, dataset: str, reading: str) -> Column:
    """A field as a reading sees it."""
    column = FIELDS[dataset][name]
    return by_meaning(column) if uses_code_meaning(reading) and name not in AS_SEEN else F.col(column)


def _has_code(test: HasCode, column: Column) -> Column:
    if test.left is not None:
        column = F.substring(column, 1, test.left)
    match test.operator:
        case "in":
            return column.isin(*test.codes)
        case "contains":
            return column.rlike(one_of(test.codes))
        case "starts_with" if test.field in LIST_FIELDS:
            return column.rlike(f",{one_of(test.codes)}")
        case "starts_with" if stored_four(test):
            # A plain IN on the stored four characters lets Spark skip pages of the Parquet files.
            return F.expr(f"dominant_procedure_4 IN {sql_list(test.codes)}")
        case "starts_with":
            return column.rlike(f"^{one_of(test.codes)}")
        case _:
            assert_never(test.operator)


def followed_by(first: Iterable[str], then: Iterable[str], directly: bool) -> str:
    """A regular expression for a list in which a code of ``then`` comes after one of ``first``, or directly after it.

    It reads the list once, however long it is: the groups are atomic, so the engine never backtracks into them. A code that
    comes after any code of ``first`` also comes after the earliest one, so no other start has to be tried. (With a plain
    ``.*`` between the two, a list without a match was read again from every code of ``first``.)
    """
    if directly:
        # The remaining characters of the first code, but no other code.
        return f",{one_of(first)}[^,|]*+,{one_of(then)}"
    return f"(?s)^(?>.*?,{one_of(first)})(?>.*?,{one_of(then)})"


def stored_four(test: Test) -> bool:
    """Whether the test needs only the first four characters of the dominant procedure, which silver stores as a column."""
    match test:
        case HasCode("dominant_procedure", "starts_with", codes, left):
            return (left is None or left >= 4) and all(_PLAIN.fullmatch(code) and len(code) == 4 for code in codes)
    return False


def null_column(test: Test, dataset: str) -> str | None:
    """The silver column whose NULL, and nothing else, leaves the test undecided; None if there is no such single column."""
    names = set(fields_of(test))
    return FIELDS[dataset][names.pop()] if len(names) == 1 and not asks_null(test) else None


_WITHOUT_TEST = {"not_codable": "no code expresses this", "not_applicable": "does not apply to this procedure"}


def clause_in_words(clause: Clause) -> str:
    """One readable line that says what a clause tests, or why it has no test."""
    if clause.test is None:
        if clause.covered_by:
            return f"tested by the clause {clause.covered_by}"
        return _WITHOUT_TEST.get(clause.coding, _WITHOUT_TEST["not_codable"])
    return in_words(clause.test, clause.kind)


def in_words(test: Test, kind: str = "require") -> str:
    """A test as one readable line, used by ``explain``, the policy table and the report."""
    return f"not ({_line(test)})" if kind == "exclude" else _line(test)


def _line(test: Test) -> str:
    match test:
        case AnyOf(parts):
            return f"({' or '.join(map(_line, parts))})"
        case AllOf(parts):
            return f"({' and '.join(map(_line, parts))})"
        case NoneOf(parts):
            return f"not ({' or '.join(map(_line, parts))})"
        case FollowedBy(name, first, then, directly):
            return f"{name} has {', '.join(first)} with {', '.join(then)} {'directly ' * bool(directly)}after it"
        case IsNull(name, is_null):
            return f"{name} is {'' if is_null else 'not '}missing"
        case AgeRange(name, low, None):
            return f"{name} ≥ {low}"
        case AgeRange(name, None, high):
            return f"{name} ≤ {high}"
        case AgeRange(name, low, high):
            return f"{name} between {low} and {high}"
        case HasCode(name, operator, codes, left):
            start = "" if left is None else f"the first {left} characters of "
            return f"{start}{name} {operator.replace('_', ' ')} {', '.join(codes)}"
        case _:
            assert_never(test)
