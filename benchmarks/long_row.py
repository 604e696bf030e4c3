"""Cleans one row of N codes and one of ten times as many, and applies all shipped policies to them. Ten times as long would be
proportional; 20 times as long or more ends with status 1. A test that backtracks through a text would take a hundred times as long.

Every row is timed ``--repeat`` times in one session, after a pass that is not counted. The times include the start of a query, so
expect ratios below 10.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.flags.apply_policies import apply_policies
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.records.cleaning import clean
from ebi_spark.small_frames import small_frame
from ebi_spark.spark.session import spark_session
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE

MOST_TIMES = 20
BASE: dict[str, Any] = {
    "source_system": "sus_plus", "record_id": "1", "financial_year": "2023-24", "activity_date": date(2024, 1, 3),
    "age": 45, "age_years": 45, "administrative_category": "01", "diagnosis_codes": "M545", "primary_diagnosis": "M545",
}  # fmt: skip
# The content of the row: field, its start, the codes that repeat, its end.
ROWS = {
    "imaging without a site after it": ("op", "procedure_codes", "Z665", ",U132", ""),
    "imaging and its site at the end": ("op", "procedure_codes", "U132", ",U142", ",Z665"),
    "diagnoses of attendances": ("op", "diagnosis_codes", "M545", ",D489,M4", ""),
    "diagnoses of spells": ("apc", "diagnosis_codes", "M545", ",M406", ",C349"),
    "marks of empty codes": ("apc", "diagnosis_codes", "M545", ",-,&||", ",M401"),
}


def main(argv: list[str] | None = None) -> int:
    """Time each row of :data:`ROWS` with ``--codes`` codes and with ten times as many; print seconds and ratios as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.long_row", description=__doc__)
    parser.add_argument("--codes", type=int, default=60_000, help="codes of the shorter row (60,000 are some 300 KB)")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(argv)
    answer: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, spark_session(Path(folder) / "scratch") as spark:
        for what in ROWS:
            short, long = (_seconds(spark, what, given.codes * times, given.repeat) for times in (1, 10))
            answer[what] = {"seconds": short, "seconds_of_ten_times": long, "ratio": round(long / short, 1)}
    print(json.dumps(answer))
    return int(any(row["ratio"] >= MOST_TIMES for row in answer.values()))


def _seconds(spark: SparkSession, what: str, number: int, repeat: int) -> float:
    dataset, name, start, repeated, end = ROWS[what]
    table = APC_SPELL if dataset == "apc" else OP_ATTENDANCE
    own = {"dataset": dataset, "procedure_codes": "V382" if dataset == "apc" else "U133,Z665"}
    if dataset == "apc":
        own |= {"dominant_procedure": "V382", "dominant_procedure_4": "V382", "admission_method": "11"}
    given = {key: value for key, value in (BASE | own).items() if key in table.names()}
    frame = small_frame(spark, [given | {name: None}], table.schema)
    # Put together by Spark, so that the plan does not contain the row.
    row = frame.repartition(1).withColumn(name, F.concat(F.lit(start), F.repeat(F.lit(repeated), number), F.lit(end)))
    times = []
    for _ in range(repeat + 1):
        started = time.monotonic()
        _apply(row, dataset)
        times.append(time.monotonic() - started)
    return round(sorted(times[1:])[repeat // 2], 2)


def _apply(row: DataFrame, dataset: str) -> None:
    cleaned = clean(row, {"procedure_codes": "codes", "diagnosis_codes": "codes"}).drop("cleaned")
    chosen = revision_periods(load_policies(), RunConfig(lake=LakeLocation()))
    nowhere = Lookups(practices=None, lsoas=None, known_codes=(), order=("commissioner",))
    apply_policies(cleaned, dataset, chosen, nowhere).select("outcome", "failed_clauses").collect()


if __name__ == "__main__":
    sys.exit(main())
