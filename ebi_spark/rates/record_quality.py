"""What the records of a data set and year hold: counted once when the year's rates are made, so that a publication, which is of
all years, reads no records."""

from collections.abc import Iterable
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.rates.code_forms import measures as measures_of_codes
from ebi_spark.schemas import YEAR


def record_quality(tables: Iterable[DataFrame]) -> DataFrame:
    """The rows of ``gold/record_quality`` but ``run_id``, of the records given: rows of the silver tables."""
    parts = []
    for records in tables:
        measures = {
            "records": F.count("*"),
            "no_person": F.count_if(F.col("person_id").isNull()),
            "no_age": F.count_if(F.col("age_years").isNull()),
            "no_sex": F.count_if(~F.coalesce(F.col("sex").isin("1", "2"), F.lit(False))),
            "no_diagnosis": F.count_if(F.col("diagnosis_codes").isNull()),
            "no_procedure": F.count_if(F.col("procedure_codes").isNull()),
            "no_commissioner": F.count_if(F.col("commissioner_code").isNull()),
            "no_activity_date": F.count_if(F.col("activity_date").isNull()),
            **measures_of_codes(records),
        }
        if "incomplete_spell" in records.columns:
            measures["incomplete_spell"] = F.count_if("incomplete_spell")
            measures["no_dominant_procedure"] = F.count_if(F.col("dominant_procedure_4").isNull())
        counted = records.groupBy("dataset", YEAR).agg(*[count.alias(name) for name, count in measures.items()])
        listed = F.array(*[F.struct(F.lit(n).alias("measure"), F.col(n).alias("records")) for n in measures])
        parts.append(counted.select("dataset", YEAR, F.col("records").alias("of_records"), F.inline(listed)))
    return reduce(DataFrame.unionByName, parts)
