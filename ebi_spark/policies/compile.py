"""Clauses as Spark Columns with SQL's three-valued logic: true, false, or NULL where the record lacks the value.

Codes are tested on the normalised lists of silver (``,E119,J849,``). ``starts_with`` matches from the start of a code;
``contains`` matches anywhere, like the page's ``LIKE '%…%'``. A character class such as ``D3[789]`` means the same as in
T-SQL, and ``_`` is any one character.
"""

import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import by_meaning
from ebi_spark.policies.model import AS_PUBLISHED, Clause
from ebi_spark.policies.patterns import one_of

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


def passes(clause: Clause, dataset: str, reading: str = AS_PUBLISHED) -> Column:
    """Like :func:`holds`, but never NULL: where the clause cannot be decided, its ``missing`` decides."""
    return F.coalesce(holds(clause, dataset, reading), F.lit(clause.missing == "passes"))


def compile_test(test: dict[str, Any], dataset: str, reading: str = AS_PUBLISHED) -> Column:
    """A test from the YAML as a three-valued Column. Scopes are always tested ``as_published`` (decision 8)."""
    if "any_of" in test:
        return reduce(lambda a, b: a | b, [compile_test(item, dataset, reading) for item in test["any_of"]])
    if "all_of" in test:
        return reduce(lambda a, b: a & b, [compile_test(item, dataset, reading) for item in test["all_of"]])
    if "none_of" in test:
        return ~reduce(lambda a, b: a | b, [compile_test(item, dataset, reading) for item in test["none_of"]])
    name = test["field"]
    column = F.col(FIELDS[dataset][name])
    if uses_code_meaning(reading) and name not in AS_SEEN:
        column = by_meaning(FIELDS[dataset][name])
    is_list = name in LIST_FIELDS
    if "is_null" in test:
        return column.isNull() if test["is_null"] else column.isNotNull()
    if "between" in test:
        return column.between(*test["between"])
    if "at_least" in test:
        return column >= F.lit(test["at_least"])
    if "at_most" in test:
        return column <= F.lit(test["at_most"])
    if "left" in test:
        column = F.substring(column, 1, test["left"])
    if "in" in test:
        return column.isin(*test["in"])
    if "contains" in test:
        return column.rlike(one_of(test["contains"]))
    if "followed_by" in test:
        return column.rlike(followed_by(**test["followed_by"], directly=test.get("directly", False)))
    codes = test["starts_with"]
    if is_list:
        return column.rlike(f",{one_of(codes)}")
    if stored_four(test):
        # A plain IN on the stored four characters lets Spark skip pages of the Parquet files.
        return F.col("dominant_procedure_4").isin(*codes)
    return column.rlike(f"^{one_of(codes)}")


def followed_by(first: list[str], then: list[str], directly: bool) -> str:
    """A regular expression for a list in which a code of ``then`` comes after one of ``first``, or directly after it.

    It reads the list once, however long it is: the groups are atomic, so the engine never backtracks into them. A code that
    comes after any code of ``first`` also comes after the earliest one, so no other start has to be tried. (With a plain
    ``.*`` between the two, a list without a match was read again from every code of ``first``.)
    """
    if directly:
        # The remaining characters of the first code, but no other code.
        return f",{one_of(first)}[^,|]*+,{one_of(then)}"
    return f"(?s)^(?>.*?,{one_of(first)})(?>.*?,{one_of(then)})"


def stored_four(test: dict[str, Any]) -> bool:
    """Whether the test needs only the first four characters of the dominant procedure, which silver stores as a column."""
    codes = test.get("starts_with", ())
    plain = bool(codes) and all(_PLAIN.fullmatch(code) and len(code) == 4 for code in codes)
    return plain and test.get("field") == "dominant_procedure" and test.get("left", 4) >= 4


def null_columns(test: dict[str, Any], dataset: str) -> list[str] | None:
    """The silver column whose NULL, and nothing else, leaves the test undecided (a list of one); None if there is no such
    single column."""
    names = set(fields_of(test))
    if len(names) != 1 or asks_null(test):
        return None
    return [FIELDS[dataset][name] for name in names]


def fields_of(test: dict[str, Any]) -> Iterator[str]:
    """Every field that a test names, with repeats."""
    for item in parts_of(test):
        yield from fields_of(item)
    if "field" in test:
        yield test["field"]


def parts_of(test: dict[str, Any]) -> list[dict[str, Any]]:
    """The tests inside ``any_of``, ``all_of`` or ``none_of``; empty for a test of a field."""
    return [item for key in ("any_of", "all_of", "none_of") for item in test.get(key, ())]


def asks_null(test: dict[str, Any]) -> bool:
    """Whether the test contains ``is_null``. Such a test can be decided although a field is NULL."""
    return "is_null" in test or any(map(asks_null, parts_of(test)))


_WITHOUT_TEST = {"not_codable": "no code expresses this", "not_applicable": "does not apply to this procedure"}


def clause_in_words(clause: Clause) -> str:
    """One readable line that says what a clause tests, or why it has no test."""
    if clause.test is None:
        if clause.covered_by:
            return f"tested by the clause {clause.covered_by}"
        return _WITHOUT_TEST.get(clause.coding, _WITHOUT_TEST["not_codable"])
    return in_words(clause.test, clause.kind)


def in_words(test: dict[str, Any] | None, kind: str = "require") -> str:
    """A test as one readable line, used by ``explain``, the policy table and the report."""
    if test is None:
        return _WITHOUT_TEST["not_codable"]
    line = _line(test)
    return f"not ({line})" if kind == "exclude" else line


def _line(test: dict[str, Any]) -> str:
    for key, word in (("any_of", " or "), ("all_of", " and ")):
        if key in test:
            return "(" + word.join(_line(item) for item in test[key]) + ")"
    if "none_of" in test:
        return "not (" + " or ".join(_line(item) for item in test["none_of"]) + ")"
    name = test["field"]
    if "followed_by" in test:
        pair = test["followed_by"]
        return f"{name} has {', '.join(pair['first'])} with {', '.join(pair['then'])} {'directly ' * bool(test.get('directly'))}after it"
    if "is_null" in test:
        return f"{name} is {'' if test['is_null'] else 'not '}missing"
    if "between" in test:
        return f"{name} between {test['between'][0]} and {test['between'][1]}"
    for key, sign in (("at_least", "≥"), ("at_most", "≤")):
        if key in test:
            return f"{name} {sign} {test[key]}"
    if "left" in test:
        name = f"the first {test['left']} characters of {name}"
    operator = next(key for key in ("starts_with", "contains", "in") if key in test)
    return f"{name} {operator.replace('_', ' ')} {', '.join(test[operator])}"
