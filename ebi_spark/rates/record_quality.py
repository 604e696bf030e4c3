"""Counts what the records of each data set and year lack. This is done once, with the year's rates, so that publishing (which
covers all years) need not read the records again."""

from collections.abc import Collection, Iterable
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config import default_codes
from ebi_spark.geography.code_forms import code_measures
from ebi_spark.geography.record_areas import NAMED_BY
from ebi_spark.tables.table import YEAR

# The fields that can contain default codes, with their columns in silver. The key is the name used in the measures. Default
# codes are listed under the first column. A field is missing only if all of its columns are.
_WITH_DEFAULTS = {
    "diagnosis": ("diagnosis_codes",),
    "procedure": ("procedure_codes",),
    "commissioner": ("commissioner_code",),
    "gp_practice": NAMED_BY["gp_practice"],
    "provider": ("provider_code",),
}
# A procedure was done for which there is no code. That is a fact, not a missing procedure.
PROCEDURE_WITHOUT_CODE = "procedure_without_code"


def _without_code() -> Column:
    """Whether a record has a procedure for which there is no code."""
    facts = default_codes.default_codes_of("procedure_codes", default_codes.FACT)
    return reduce(or_, [default_codes.holds("procedure_codes", code) for code in facts], F.lit(False))


def _missing(present: Collection[str]) -> dict[str, Column]:
    """Aggregates by name of the measure: how many records lack a field.

    ``no_FIELD`` counts all records without a usable value, including those with a default code in its place.
    ``FIELD_not_known`` and ``FIELD_not_applicable`` count those among them with a default code of that meaning. ``present``:
    the columns that the records have.
    """
    measures = {}
    for name, (field, *others) in _WITH_DEFAULTS.items():
        columns = [field, *(column for column in others if column in present)]
        missing = F.coalesce(*[default_codes.by_meaning(column, field) for column in columns]).isNull()
        measures[f"no_{name}"] = F.count_if(missing)
        for meaning in default_codes.MISSING:
            if default_codes.default_codes_of(field, meaning):
                says_so = [default_codes.has(column, meaning, field=field) for column in columns]
                measures[f"{name}_{meaning}"] = F.count_if(missing & reduce(or_, says_so))
    return measures


def record_quality(tables: Iterable[DataFrame]) -> DataFrame:
    """The rows of ``gold/record_quality`` except ``run_id``: one for each data set, financial year and measure.

    | dataset | financial_year | of_records | measure   | records |
    |---------|----------------|------------|-----------|---------|
    | apc     | 2021-22        | 1000       | no_person | 12      |
    | apc     | 2021-22        | 1000       | no_age    | 0       |
    | op      | 2021-22        | 5000       | no_person | 40      |

    ``records`` counts the records to which the measure applies, among ``of_records``. ``tables`` are rows of silver tables.
    """
    tables = list(tables)
    parts = [code_measures(tables)]
    for records in tables:
        measures = {
            "records": F.count("*"),
            "no_person": F.count_if(F.col("person_id").isNull()),
            "no_age": F.count_if(F.col("age_years").isNull()),
            "no_sex": F.count_if(~F.coalesce(F.col("sex").isin("1", "2"), F.lit(False))),
            "age_not_known": F.count_if(default_codes.has("age")),
            **_missing(records.columns),
            PROCEDURE_WITHOUT_CODE: F.count_if(_without_code()),
            "no_activity_date": F.count_if(F.col("activity_date").isNull()),
        }
        if "incomplete_spell" in records.columns:
            measures["incomplete_spell"] = F.count_if("incomplete_spell")
            measures["no_dominant_procedure"] = F.count_if(default_codes.by_meaning("dominant_procedure").isNull())
        counted = records.groupBy("dataset", YEAR).agg(*[count.alias(name) for name, count in measures.items()])
        listed = F.array(*[F.struct(F.lit(n).alias("measure"), F.col(n).alias("records")) for n in measures])
        parts.append(counted.select("dataset", YEAR, F.col("records").alias("of_records"), F.inline(listed)))
    return reduce(DataFrame.unionByName, parts)
