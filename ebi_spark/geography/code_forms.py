"""Checks whether values in the provider and commissioner columns are valid codes. Invalid ones are published as ``unknown``.

A column that was mapped by mistake can hold anything, including identifiers of persons. So a value is a valid code only if
it has the form of one (``conf/code_forms.yml``) and is not the key of the person or record in its own row. Invalid values
are never shown outside the restricted tables. ``gold/record_quality`` counts them.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache, reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.errors import DataError

UNKNOWN_CODE = "unknown"
KINDS = {"provider_code": "provider", "commissioner_code": "commissioner"}
_KEYS = ("person_id", "record_id")

# Measures of gold/record_quality: records whose value is not a valid code; and, where a column looks like a key, all its
# records with a value.
NOT_A_CODE = {"provider_code": "provider_not_a_code", "commissioner_code": "commissioner_not_a_code"}
LIKE_A_KEY = {"provider_code": "provider_like_a_key", "commissioner_code": "commissioner_like_a_key"}

# On this many rows and distinct values, about one person (or record) for each value means that the column is a key, because
# a provider has many patients. 200 records drawn evenly from 150 providers have 1.8 persons for each value.
LEAST_ROWS, LEAST_VALUES, PERSONS_A_VALUE = 200, 100, 1.2
# A test that needs no persons: fewer than five rows for each value on this many rows would mean over 2,000 providers.
LEAST_ROWS_ALONE, ROWS_A_VALUE = 10_000, 5
# A single year is checked on its own if it has at least this many rows.
LEAST_ROWS_OF_A_YEAR = 100
COMPARED = ("dataset", "financial_year", "measure", "records", "of_records")


@cache
def _pattern(kind: str) -> str:
    forms = shipped_document("code_forms", "forms of codes")
    return f"^(?:{'|'.join(forms[kind])})$"


def code_of(value: Column, kind: str) -> Column:
    """The code in upper case without leading or trailing blanks; NULL where it does not have the form of a ``kind`` code."""
    tidy = F.upper(F.trim(value))
    return F.when(tidy.rlike(_pattern(kind)), tidy)


def valid_code(value: str | None, kind: str) -> str:
    """As :func:`code_of` for one text, outside Spark; ``unknown`` where it does not have the form of a code."""
    tidy = (value or "").strip(" ").upper()
    return tidy if re.fullmatch(_pattern(kind), tidy) else UNKNOWN_CODE


def known_code(frame: DataFrame, name: str) -> Column:
    """The code in the column ``name`` of ``frame``: NULL where it is missing, ``unknown`` where it is not a valid code."""
    return F.coalesce(_code(frame, name), F.when(F.col(name).isNotNull(), F.lit(UNKNOWN_CODE)))


def with_known_codes(frame: DataFrame) -> DataFrame:
    """``frame`` with invalid values in its provider and commissioner columns replaced by ``unknown``. NULL stays NULL."""
    return frame.withColumns({name: known_code(frame, name) for name in KINDS if name in frame.columns})


def _code(frame: DataFrame, name: str) -> Column:
    """The code; NULL where it does not have the form of one, or is the key of the row's person or record."""
    code = code_of(F.col(name), KINDS[name])
    keys = [F.coalesce(code == F.upper(F.trim(key)), F.lit(False)) for key in _KEYS if key in frame.columns]
    return F.when(~reduce(or_, keys), code) if keys else code


def measures(records: DataFrame) -> dict[str, Column]:
    """Aggregates over the records of a data set and year, by name of the measure. All count records.

    For each column: the records whose value is not a valid code; and the records with a valid code where the column looks
    like a key of persons or records (otherwise 0). Numbers of distinct values are estimates, but the same records always
    give the same estimate.
    """
    found: dict[str, Column] = {}
    for name in KINDS:
        code = _code(records, name)
        rows, values = F.count(code), F.approx_count_distinct(code)
        owner = F.coalesce("person_id", "record_id")
        persons = F.approx_count_distinct(F.when(code.isNotNull(), F.struct(code.alias("code"), owner.alias("owner"))))
        one_each = (rows >= LEAST_ROWS) & (values >= LEAST_VALUES) & (persons < values * PERSONS_A_VALUE)
        too_many = (rows >= LEAST_ROWS_ALONE) & (rows < values * ROWS_A_VALUE)
        found[NOT_A_CODE[name]] = F.count_if(F.col(name).isNotNull() & code.isNull())
        found[LIKE_A_KEY[name]] = F.when(one_each | too_many, rows).otherwise(F.lit(0)).cast("long")
    return found


def refuse_invalid_codes(quality: Iterable[Mapping[str, Any]], config: RunConfig) -> None:
    """Raise a :class:`DataError` where a column of codes looks like a key, or where too many of its values are invalid.

    Too many is more than ``max_unknown_code_share`` of a data set's records, or of the records of one year that has at
    least 100. ``quality``: rows of ``gold/record_quality`` with the columns :data:`COMPARED`.
    """
    names = {measure: (name, False) for name, measure in NOT_A_CODE.items()}
    names |= {measure: (name, True) for name, measure in LIKE_A_KEY.items()}
    counted: dict[tuple[str, str, bool], list[tuple[str, int, int]]] = {}
    for row in quality:
        if row["measure"] not in names:
            continue
        name, is_key = names[row["measure"]]
        by_year = counted.setdefault((row["dataset"], name, is_key), [])
        by_year.append((row["financial_year"], row["records"], row["of_records"]))
    limit, problems, columns = config.max_unknown_code_share, [], set()
    for (dataset, name, is_key), years in sorted(counted.items()):
        affected, whole = sum(number for _, number, _ in years), sum(total for *_, total in years)
        bad = [year for year, number, total in years if total >= LEAST_ROWS_OF_A_YEAR and number > limit * total]
        year_names = ", ".join(sorted(bad or [year for year, number, _ in years if number]))
        if is_key and affected:
            problems.append(
                f"{name} of {dataset} has nearly as many different values as persons on {affected:,} records ({year_names}): it looks "
                "like a key of persons or records"
            )
        elif not is_key and (bad or affected > limit * whole):
            problems.append(
                f"{name} of {dataset} is not the code of an organisation or area on {affected:,} of {whole:,} records "
                f"({year_names}), more than max_unknown_code_share ({limit:g})"
            )
        else:
            continue
        columns.add(name)
    if problems:
        raise DataError(
            f"{'; '.join(problems)}; nothing was published",
            remedy=f"correct the column that is mapped to {' and '.join(sorted(columns))} (`columns` of the source) and run the "
            f"same command again. If the column is right and its codes only have another form, raise max_unknown_code_share: these "
            f"codes are then published as `{UNKNOWN_CODE}`",
        )
