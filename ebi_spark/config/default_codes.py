"""Default codes: what a source writes if it has no code to give, with the meaning of each (``conf/default_codes.yml``).

``not_known`` and ``not_applicable`` count as missing. A ``fact`` is not missing. The reading ``as_published`` treats
every code as the published SQL does, and silver keeps every code unchanged (decision 24).
"""

from functools import cache, reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.errors import InputError
from ebi_spark.quoting import sql_list, sql_name, sql_text

NOT_KNOWN, NOT_APPLICABLE, FACT = "not_known", "not_applicable", "fact"
MISSING = (NOT_KNOWN, NOT_APPLICABLE)
# The columns that have a list of codes, such as ``,R69X6,``.
LISTS = ("diagnosis_codes", "procedure_codes")
# The mark between the episodes of a spell.
EPISODE = "|"


@cache
def default_codes() -> dict[str, dict[str, str]]:
    """For each column of the silver tables: code → meaning."""
    document = shipped_document("default_codes", "default codes")
    found: dict[str, dict[str, str]] = {}
    for item in document["codes"]:
        if item["source"] not in document["sources"]:
            raise InputError(
                f"default codes: conf/default_codes.yml: {item['code']} names the source {item['source']!r}, which is not listed",
                remedy=f"use one of: {', '.join(document['sources'])}",
            )
        found.setdefault(item["field"], {})[item["code"]] = item["meaning"]
    return found


def default_codes_of(column: str, *meanings: str) -> tuple[str, ...]:
    """The default codes of a column that have one of the meanings; all of them if no meaning is named."""
    listed = default_codes().get(column, {})
    return tuple(sorted(code for code, meaning in listed.items() if not meanings or meaning in meanings))


def has(column: str, *meanings: str, field: str = "") -> Column:
    """Whether a record has a default code with one of these meanings (any meaning if none is named). Never NULL.

    A column with a list of codes qualifies if it has such codes and no others. ``field``: the name under which the
    codes are listed, if it is not the name of the column.
    """
    return F.expr(_has(column, *meanings, field=field))


def _has(column: str, *meanings: str, field: str = "") -> str:
    codes, value = default_codes_of(field or column, *meanings), sql_name(column)
    if not codes:
        return "false"
    if column not in LISTS:
        return f"coalesce(upper(CAST({value} AS STRING)) IN {sql_list(codes)}, false)"
    # Few lists begin with a default code, and only those are checked as a whole. Without its codes and marks, only the
    # last comma of ``,X999,|,X999,`` is left.
    begins = " OR ".join(f"startswith({value}, {sql_text(f',{code},')})" for code in codes)
    rest = reduce(lambda left, item: f"replace({left}, {sql_text(f',{item}')}, '')", [*codes, EPISODE], value)
    return f"coalesce(({begins}) AND {rest} = ',', false)"


def holds(column: str, code: str) -> Column:
    """Whether a list of codes includes this code. Never NULL."""
    return F.expr(f"coalesce(contains({sql_name(column)}, {sql_text(f',{code},')}), false)")


def by_meaning(column: str, field: str = "") -> Column:
    """The column, but NULL if it has only codes that mean "not known" or "not applicable". ``field`` as for
    :func:`has`."""
    if not default_codes_of(field or column, *MISSING):
        return F.col(column)
    return F.expr(f"CASE WHEN NOT {_has(column, *MISSING, field=field)} THEN {sql_name(column)} END")


def without_default(column: str, field: str = "") -> Column:
    """The column, but NULL if it has only default codes, of any meaning. ``field`` as for :func:`has`."""
    if not default_codes_of(field or column):
        return F.col(column)
    return F.expr(f"CASE WHEN NOT {_has(column, field=field)} THEN {sql_name(column)} END")
