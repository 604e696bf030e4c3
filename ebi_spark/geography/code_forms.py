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
_NOT_A_CODE, _LIKE_A_KEY = "_not_a_code", "_like_a_key"
NOT_A_CODE = {name: kind + _NOT_A_CODE for name, kind in KINDS.items()}
LIKE_A_KEY = {name: kind + _LIKE_A_KEY for name, kind in KINDS.items()}
# The bits of a BIGINT.
_BITS = 64

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
    return F.when(~_is_own_key(frame, name), code_of(F.col(name), KINDS[name]))


def _is_own_key(frame: DataFrame, name: str) -> Column:
    """Whether a value is the key of the row's person or record. Never NULL."""
    value = F.upper(F.trim(F.col(name)))
    keys = [F.coalesce(value == F.upper(F.trim(key)), F.lit(False)) for key in _KEYS if key in frame.columns]
    return reduce(or_, keys, F.lit(False))


def code_measures(tables: Iterable[DataFrame]) -> DataFrame:
    """Whether provider and commissioner columns have valid codes: two measures of ``gold/record_quality`` for each column, data
    set and year. ``tables`` are rows of silver tables.

    | dataset | provider_code | person_id | → dataset | measure              | records | of_records |
    |---------|---------------|-----------|-----------|----------------------|---------|------------|
    | op      | RX1           | A         | op        | provider_not_a_code  | 1       | 3          |
    | op      | RX1           | B         | op        | provider_like_a_key  | 0       | 3          |
    | op      | MRS JONES     | C         |           |                      |         |            |

    ``_not_a_code`` counts records whose value is not a valid code. ``_like_a_key`` counts records with a valid code if the column
    looks like a key of persons or records; otherwise it is 0.
    """
    by = ["dataset", "financial_year"]
    # A person sets one of 64 bits, by a hash. So the bits of a code show how many persons it has, if they are few.
    bit = F.expr("shiftleft(1L, CAST(xxhash64(coalesce(person_id, record_id)) & 63 AS INT))").alias("bits")
    own = {name: f"_own_{name}" for name in KINDS}
    records = [
        table.select(*by, *KINDS, *(_is_own_key(table, name).alias(flag) for name, flag in own.items()), bit)
        for table in tables
    ]
    # Different values are few, so only these are compared with the forms of codes.
    different = reduce(DataFrame.unionByName, records).groupBy(*by, *KINDS, *own.values())
    found = F.array(
        *[
            F.struct(
                F.lit(kind).alias("kind"),
                F.when(~F.col(own[name]), code_of(F.col(name), kind)).alias("code"),
                F.col(name).isNotNull().alias("filled"),
            )
            for name, kind in KINDS.items()
        ]
    )
    listed = different.agg(F.count("*").alias("rows"), F.bit_or("bits").alias("bits")).select(
        *by, "rows", "bits", F.inline(found)
    )
    codes = listed.groupBy(*by, "kind", "code").agg(
        F.sum("rows").alias("rows"),
        F.sum(F.when(F.col("filled") & F.col("code").isNull(), F.col("rows"))).alias("invalid"),
        F.bit_count(F.bit_or("bits")).alias("persons"),
    )
    valid = F.col("code").isNotNull()
    # A code with all bits set has many persons, and its number of records will do for theirs.
    persons = F.when(F.col("persons") < _BITS, F.col("persons")).otherwise(F.col("rows"))
    columns = codes.groupBy(*by, "kind").agg(
        F.sum("rows").alias("of_records"),
        F.coalesce(F.sum("invalid"), F.lit(0)).alias("invalid"),
        F.coalesce(F.sum(F.when(valid, F.col("rows"))), F.lit(0)).alias("rows"),
        F.count("code").alias("values"),
        F.coalesce(F.sum(F.when(valid, persons)), F.lit(0)).alias("persons"),
    )
    rows, values = F.col("rows"), F.col("values")
    one_each = (rows >= LEAST_ROWS) & (values >= LEAST_VALUES) & (F.col("persons") < values * PERSONS_A_VALUE)
    too_many = (rows >= LEAST_ROWS_ALONE) & (rows < values * ROWS_A_VALUE)
    like_a_key = F.when(one_each | too_many, rows).otherwise(F.lit(0))
    measures = {_NOT_A_CODE: F.col("invalid"), _LIKE_A_KEY: like_a_key.cast("long")}
    return columns.select(
        *by,
        "of_records",
        F.inline(
            F.array(
                *[
                    F.struct(F.concat("kind", F.lit(ending)).alias("measure"), count.alias("records"))
                    for ending, count in measures.items()
                ]
            )
        ),
    )


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
