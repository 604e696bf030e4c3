"""What the records of a data set and year hold: counted once when the year's rates are made, so that a publication, which is of
all years, reads no records."""

from collections.abc import Collection, Iterable
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config import default_codes
from ebi_spark.geography.code_forms import measures as measures_of_codes
from ebi_spark.geography.record_areas import NAMED_BY
from ebi_spark.tables.schemas import YEAR

# What of a record can hold a default code, by the measure that counts where it is missing: its columns in silver, the one
# first that the codes are listed under. What any of them says is not missing.
_WITH_DEFAULTS = {
    "diagnosis": ("diagnosis_codes",),
    "procedure": ("procedure_codes",),
    "commissioner": ("commissioner_code",),
    "gp_practice": NAMED_BY["gp_practice"],
    "provider": ("provider_code",),
}
# A procedure was done that has no code: a fact, and no missing procedure.
PROCEDURE_WITHOUT_CODE = "procedure_without_code"


def _without_code() -> Column:
    """Whether a record has a procedure that no code fits."""
    facts = default_codes.codes_of("procedure_codes", default_codes.FACT)
    return reduce(lambda a, b: a | b, [default_codes.holds("procedure_codes", code) for code in facts], F.lit(False))


def _missing(present: Collection[str]) -> dict[str, Column]:
    """By measure, how many records say nothing of a thing: in ``no_THING`` all of them, whatever they say instead of it; in
    ``THING_not_known`` and ``THING_not_applicable`` those of them that say so by a default code. ``present``: the columns that
    the records have."""
    measures = {}
    for name, (field, *others) in _WITH_DEFAULTS.items():
        columns = [field, *(column for column in others if column in present)]
        missing = F.coalesce(*[default_codes.by_meaning(column, field) for column in columns]).isNull()
        measures[f"no_{name}"] = F.count_if(missing)
        for meaning in default_codes.MISSING:
            if default_codes.codes_of(field, meaning):
                says_so = [default_codes.has(column, meaning, field=field) for column in columns]
                measures[f"{name}_{meaning}"] = F.count_if(missing & reduce(lambda a, b: a | b, says_so))
    return measures


def record_quality(tables: Iterable[DataFrame]) -> DataFrame:
    """The rows of ``gold/record_quality`` but ``run_id``, of the records given: rows of the silver tables."""
    parts = []
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
            **measures_of_codes(records),
        }
        if "incomplete_spell" in records.columns:
            measures["incomplete_spell"] = F.count_if("incomplete_spell")
            measures["no_dominant_procedure"] = F.count_if(default_codes.by_meaning("dominant_procedure").isNull())
        counted = records.groupBy("dataset", YEAR).agg(*[count.alias(name) for name, count in measures.items()])
        listed = F.array(*[F.struct(F.lit(n).alias("measure"), F.col(n).alias("records")) for n in measures])
        parts.append(counted.select("dataset", YEAR, F.col("records").alias("of_records"), F.inline(listed)))
    return reduce(DataFrame.unionByName, parts)
