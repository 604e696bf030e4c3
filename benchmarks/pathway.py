"""Links an outpatient table to the persons who have a fusion, beside one scan of it: ``python -m benchmarks.pathway``.

Makes up ``--attendances`` appointments of ``--people`` persons, written and sorted as silver is. The *scan* reads the columns that linking
reads, and takes the largest value of each. *Linking* brings ``--fusions`` persons to the table and does the same with what is left. Prints
seconds, rows and the ratio.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.pathway.linked import linked_attendances
from ebi_spark.small_frames import small_frame
from ebi_spark.spark.session import spark_session

SCANNED = (
    "source_system", "person_id", "activity_date", "treatment_function", "attendance_status", "first_attendance",
    "procedure_codes",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Scan and link ``--repeat`` times in turn after one pass of each; print the result as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.pathway", description=__doc__)
    parser.add_argument("--attendances", type=int, default=10_000_000)
    parser.add_argument("--people", type=int, default=2_000_000)
    parser.add_argument("--fusions", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, spark_session(Path(folder), data_bytes=1 << 30) as spark:
        path = f"{folder}/op_attendance"
        _attendances(spark, given.attendances, given.people).sortWithinPartitions("procedure_codes").write.parquet(path)
        persons = [("sus_plus", str(number * 7 % given.people)) for number in range(given.fusions)]
        operations = small_frame(spark, persons, "source_system string, person_id string")
        largest = [F.max(name) for name in SCANNED if name != "attendance_status"]
        counted = F.count("*").alias("rows")

        # Made again each time: Spark keeps what a frame has already shuffled.
        def scan() -> DataFrame:
            return spark.read.parquet(path).agg(counted, F.max("attendance_status"), *largest)

        def linking() -> DataFrame:
            return linked_attendances(operations, spark.read.parquet(path)).agg(counted, *largest)

        seconds: dict[str, list[float]] = {"scan": [], "linking": []}
        rows: dict[str, int] = {}
        work: dict[str, Callable[[], DataFrame]] = {"scan": scan, "linking": linking}
        for _ in range(given.repeat + 1):
            for name, run in work.items():
                started = time.monotonic()
                rows[name] = int(run().collect()[0]["rows"])
                seconds[name].append(round(time.monotonic() - started, 3))
    best = {name: min(times[1:]) for name, times in seconds.items()}
    print(json.dumps({"seconds": seconds, "rows": rows, "ratio": round(best["linking"] / best["scan"], 2)}))
    return 0


def _attendances(spark: SparkSession, number: int, people: int) -> DataFrame:
    """Appointments with the columns that linking reads: one in ten with codes, one in six in a service that a step looks for."""

    def one_of(values: list[str | None], salt: int) -> Column:
        return F.get(
            F.array(*map(F.lit, values)), F.pmod(F.xxhash64("id", F.lit(salt)), F.lit(len(values))).cast("int")
        )

    days = F.pmod(F.xxhash64("id", F.lit(1)), F.lit(4380)).cast("int")
    return spark.range(number).select(
        F.lit("sus_plus").alias("source_system"),
        F.lit("op").alias("dataset"),
        F.col("id").cast("string").alias("record_id"),
        F.pmod(F.xxhash64("id", F.lit(2)), F.lit(people)).cast("string").alias("person_id"),
        F.lit("2021-22").alias("financial_year"),
        F.date_add(F.lit("2012-04-01").cast("date"), days).alias("activity_date"),
        one_of(["650", "110", "300", "320", "301", "130", "502", "101", "330", "340", "370", "812"], 3).alias(
            "treatment_function"
        ),
        one_of(["5", "5", "5", "5", "5", "6", "3", "7"], 4).alias("attendance_status"),
        one_of(["1", "2", "2", "3", "4"], 5).alias("first_attendance"),
        F.when(
            F.pmod(F.xxhash64("id", F.lit(6)), F.lit(10)) == 0,
            one_of([",U212,Y981,Z665,", ",X621,", ",U051,Y973,", ",E251,", ",C554,Z941,", ",A577,Z073,"], 7),
        ).alias("procedure_codes"),
    )


if __name__ == "__main__":
    sys.exit(main())
