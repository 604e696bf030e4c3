"""Default codes: what a source writes where it has no code to give, and what each of them means (``conf/default_codes.yml``).

``not_known`` and ``not_applicable`` count as missing, except in the reading ``as_published``, which sees a code as the
published SQL does. A ``fact`` is not missing. Silver keeps every code as it is.
"""

from functools import cache, reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.settings import resource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError

NOT_KNOWN, NOT_APPLICABLE, FACT = "not_known", "not_applicable", "fact"
MISSING = (NOT_KNOWN, NOT_APPLICABLE)
# The columns that hold a list of codes, ``,R69X6,``.
LISTS = ("diagnosis_codes", "procedure_codes")
EPISODE = "|"


@cache
def default_codes() -> dict[str, dict[str, str]]:
    """By column of the silver tables: code → meaning."""
    path = resource("conf", "default_codes.yml")
    document = load_document(path, resource("conf", "default_codes.schema.json"), what="default codes")
    found: dict[str, dict[str, str]] = {}
    for item in document["codes"]:
        if item["source"] not in document["sources"]:
            raise InputError(
                f"default codes: {path}: {item['code']} names the source {item['source']!r}, which is not listed",
                remedy=f"use one of: {', '.join(document['sources'])}",
            )
        found.setdefault(item["field"], {})[item["code"]] = item["meaning"]
    return found


def codes_of(column: str, *meanings: str) -> tuple[str, ...]:
    """The default codes of a column that have one of the meanings; without any meaning named, all of them."""
    listed = default_codes().get(column, {})
    return tuple(sorted(code for code, meaning in listed.items() if not meanings or meaning in meanings))


def has(column: str, *meanings: str, field: str = "") -> Column:
    """Whether a record has a default code of one of these meanings (any, where none is named): of a column that holds a list
    whether it has such codes and no other. ``field``: what the codes are listed under, where it is not the column. Never
    NULL."""
    codes = codes_of(field or column, *meanings)
    if not codes:
        return F.lit(False)
    value = F.col(column)
    if column not in LISTS:
        return F.coalesce(F.upper(value.cast("string")).isin(*codes), F.lit(False))
    # Nearly every list begins with another code: only the others are looked at as a whole. What is left of ``,X999,|,X999,``
    # without its codes and marks is the last comma.
    begins = reduce(lambda a, b: a | b, [value.startswith(f",{code},") for code in codes])
    rest = reduce(lambda left, item: F.replace(left, F.lit(f",{item}"), F.lit("")), [*codes, EPISODE], value)
    no_other = rest == ","
    return F.coalesce(begins & no_other, F.lit(False))


def holds(column: str, code: str) -> Column:
    """Whether a list of codes holds this one. Never NULL."""
    return F.coalesce(F.col(column).contains(f",{code},"), F.lit(False))


def by_meaning(column: str, field: str = "") -> Column:
    """A column, NULL where it holds nothing but codes that mean "not known" or "not applicable". ``field``: what the codes are
    listed under, where it is not the column."""
    if not codes_of(field or column, *MISSING):
        return F.col(column)
    return F.when(~has(column, *MISSING, field=field), F.col(column))


def without_default(column: str, field: str = "") -> Column:
    """A column, NULL where it holds a default code of any meaning. ``field``: what the codes are listed under, where it is not
    the column."""
    return F.when(~has(column, field=field), F.col(column)) if codes_of(field or column) else F.col(column)
