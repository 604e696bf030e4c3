"""Whether a provider or commissioner code of a source can be one at all: what is not is published as ``unknown``.

A column that is mapped by mistake can hold anything, also keys of persons. So a value counts as a code only where it has the
form of one (``conf/code_forms.yml``) and is not the key of its own row's person or record. What is no code is shown nowhere
outside the restricted tables, and is counted in ``gold/record_quality``.
"""

from functools import cache, reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig, resource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import DataError

UNKNOWN_CODE = "unknown"
KINDS = {"provider_code": "provider", "commissioner_code": "commissioner"}
_KEYS = ("person_id", "record_id")

# Measures of gold/record_quality: records whose value is no code; all records with a value where these look like keys.
NOT_A_CODE = {"provider_code": "provider_not_a_code", "commissioner_code": "commissioner_not_a_code"}
LIKE_A_KEY = {"provider_code": "provider_like_a_key", "commissioner_code": "commissioner_like_a_key"}

# A value a person (or record) on so many rows and values is a key: a provider has many persons. Drawn evenly from 150
# providers, 200 records have 1.8 for each value.
LEAST_ROWS, LEAST_VALUES, PERSONS_A_VALUE = 200, 100, 1.2
# Without persons to compare: fewer than five rows a value on so many rows would be more than 2,000 providers.
LEAST_ROWS_ALONE, ROWS_A_VALUE = 10_000, 5
# A single year is judged by itself from so many rows on.
LEAST_ROWS_OF_A_YEAR = 100


@cache
def _pattern(kind: str) -> str:
    forms = load_document(
        resource("conf", "code_forms.yml"), resource("conf", "code_forms.schema.json"), what="forms of codes"
    )
    return f"^(?:{'|'.join(forms[kind])})$"


def code_of(value: Column, kind: str) -> Column:
    """The code in upper case and without blanks at its ends; NULL for what has not the form of a ``kind``."""
    tidy = F.upper(F.trim(value))
    return F.when(tidy.rlike(_pattern(kind)), tidy)


def known_code(frame: DataFrame, name: str) -> Column:
    """The code in the column ``name`` of ``frame``, NULL where there is none, ``unknown`` where it is no code."""
    return F.coalesce(_code(frame, name), F.when(F.col(name).isNotNull(), F.lit(UNKNOWN_CODE)))


def with_known_codes(frame: DataFrame) -> DataFrame:
    """``frame`` with ``unknown`` for what is no code in its columns of provider and commissioner codes."""
    return frame.withColumns({name: known_code(frame, name) for name in KINDS if name in frame.columns})


def _code(frame: DataFrame, name: str) -> Column:
    """The code, NULL where it has not the form of one or is the key of the row's person or record."""
    code = code_of(F.col(name), KINDS[name])
    keys = [F.coalesce(code == F.upper(F.trim(key)), F.lit(False)) for key in _KEYS if key in frame.columns]
    return F.when(~reduce(or_, keys), code) if keys else code


def measures(records: DataFrame) -> dict[str, Column]:
    """Aggregates over records of a data set and year: how many have a value that is no code, and how many a value where the
    column looks like a key of persons or records. Counts of different values are estimates, the same for the same records."""
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


def refuse_invalid_codes(quality: DataFrame, config: RunConfig) -> None:
    """A :class:`DataError` where a column of codes looks like a key, or more than ``max_unknown_code_share`` of a data
    set's records have a value that is no code. ``quality``: rows of ``gold/record_quality``."""
    names = {measure: (name, False) for name, measure in NOT_A_CODE.items()}
    names |= {measure: (name, True) for name, measure in LIKE_A_KEY.items()}
    counted: dict[tuple[str, str, bool], list[tuple[str, int, int]]] = {}
    for row in quality.where(F.col("measure").isin(*names)).collect():
        name, is_key = names[row["measure"]]
        of = counted.setdefault((row["dataset"], name, is_key), [])
        of.append((row["financial_year"], row["records"], row["of_records"]))
    limit, problems, columns = config.max_unknown_code_share, [], set()
    for (dataset, name, is_key), years in sorted(counted.items()):
        against, whole = sum(number for _, number, _ in years), sum(of_records for *_, of_records in years)
        bad = [year for year, number, of in years if of >= LEAST_ROWS_OF_A_YEAR and number > limit * of]
        of_years = ", ".join(sorted(bad or [year for year, number, _ in years if number]))
        if is_key and against:
            problems.append(
                f"{name} of {dataset} has nearly as many different values as persons on {against:,} records ({of_years}): it looks "
                "like a key of persons or records"
            )
        elif not is_key and (bad or against > limit * whole):
            problems.append(
                f"{name} of {dataset} is not the code of an organisation or area on {against:,} of {whole:,} records "
                f"({of_years}), more than max_unknown_code_share ({limit:g})"
            )
        else:
            continue
        columns.add(name)
    if problems:
        raise DataError(
            f"{'; '.join(problems)}; nothing was published",
            remedy=f"correct the column that is mapped to {' and '.join(sorted(columns))} (`columns` of the source) and run the "
            f"same call again. If only values of other forms are right: raise max_unknown_code_share, and they are published "
            f"as `{UNKNOWN_CODE}`",
        )
