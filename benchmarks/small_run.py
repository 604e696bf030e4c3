"""Counts what a run over a few thousand made-up rows asks of Spark: jobs, bytes, scans of each table; and the longest Java method
that Spark compiles for the cleaning of a row. These numbers are the same on every machine. Ends with status 1 where one is above its
bound. Whoever raises a bound says in the commit what for.
"""

import argparse
import contextlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from benchmarks.event_log import counted
from ebi_spark import synthetic
from ebi_spark.config.activity_dates import DateWindow
from ebi_spark.records import column_kinds, sus_plus
from ebi_spark.records.row_status import with_status
from ebi_spark.spark import session
from ebi_spark.spark.session import spark_session
from jobs import run

YEARS = ["2021-22", "2022-23"]
BOUNDS = {
    "jobs": 250,
    "bytes read": 9_000_000,
    "bytes written": 1_000_000,
    "scans of apcs": 3,
    "scans of apcs_der": 2,
    "scans of opa": 3,
    # One of them counts the codes of organisations by value, which is five times as fast as estimates in the scan of other measures.
    "scans of silver/apc_spell": 21,
    "scans of silver/op_attendance": 20,
    "scans of gold/activity_flag": 40,
    # Of how many bytes a method may be for Java's first compiler to take it with its counters. It is not bytes alone that decide:
    # all up to 11,372 were seen to be taken and one of 12,030, but one of 11,866 was not (Java 17).
    "longest method, spells": 11_300,
    "longest method, attendances": 11_300,
}


def main(argv: list[str] | None = None) -> int:
    """Print each count with its bound."""
    argparse.ArgumentParser(prog="benchmarks.small_run", description=__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as name, spark_session(Path(name) / "scratch", data_bytes=0) as spark:
        found = _work(spark, Path(name)) | _methods(spark, Path(name))
    above = [what for what, number in found.items() if number > BOUNDS[what]]
    print(json.dumps({what: {"found": number, "bound": BOUNDS[what]} for what, number in found.items()}, indent=2))
    return int(bool(above))


def _work(spark: SparkSession, folder: Path) -> dict[str, int]:
    source = folder / "source"
    synthetic.generate(
        spark, source, years=YEARS, spells=2_500, attendances=5_000, seed=7, system="sus_plus", file_format="csv",
        progress=lambda _: None,
    )  # fmt: skip
    with (
        patch.object(session, "spark_session", lambda *_, **__: contextlib.nullcontext(spark)),  # not one of its own
        counted(spark, folder / "log") as work,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        status = run.main(["--config", str(source / "run.yml"), "--json"])
    if status:
        raise SystemExit(f"the run ended with status {status}")
    places = {role: source / "data" / role for role in ("apcs", "apcs_der", "opa")}
    tables = ("silver/apc_spell", "silver/op_attendance", "gold/activity_flag")
    places |= {table: source / "lake" / table for table in tables}
    return {
        "jobs": work.jobs,
        "bytes read": work.bytes_read,
        "bytes written": work.bytes_written,
        **{f"scans of {place}": work.scans_of(path) for place, path in places.items()},
    }


def _methods(spark: SparkSession, folder: Path) -> dict[str, int]:
    """The bytes of the longest method for the cleaning of each kind of row."""
    kinds = (
        column_kinds.RECORD_KINDS | column_kinds.CODE_KINDS | column_kinds.SPELL_KINDS | column_kinds.ATTENDANCE_KINDS
    )
    columns = {name: {"day": "date", "number": "int"}.get(kind, "string") for name, kind in kinds.items()}
    columns |= dict.fromkeys(
        ("year_text", "corrupt", "source_file", *column_kinds.ALTERNATIVES, *column_kinds.SPELL_DETAILS), "string"
    )
    columns |= dict.fromkeys(column_kinds.SPELL_DAYS, "date") | {"conflict": "boolean", "is_duplicate": "boolean"}
    types = {"date": pa.date32(), "int": pa.int32(), "string": pa.string(), "boolean": pa.bool_()}
    rows = folder / "rows"
    rows.mkdir()
    pq.write_table(
        pa.schema({name: types[sort] for name, sort in columns.items()}).empty_table(), rows / "rows.parquet"
    )
    spark.conf.set("spark.sql.codegen.wholeStage", "true")
    spark.conf.set("spark.sql.codegen.factoryMode", "FALLBACK")
    found: dict[str, int] = {}
    classify: dict[str, Callable[..., DataFrame]] = {
        "spells": sus_plus.classify_spells,
        "attendances": sus_plus.classify_attendances,
    }
    window = DateWindow(date(2000, 4, 1), date(2026, 11, 29), 731)
    for what, function in classify.items():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            frame: Any = function(spark.read.parquet(str(rows)), window, None)
            classified = with_status(frame, ("2023-24",))
            classified.sortWithinPartitions("procedure_codes").explain("codegen")
        found[f"longest method, {what}"] = max(map(int, re.findall(r"maxMethodCodeSize:(\d+)", shown.getvalue())))
    return found


if __name__ == "__main__":
    sys.exit(main())
