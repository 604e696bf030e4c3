"""A national year, raw files to published, once: seconds of each stage, processor time and peak memory of the whole.

``python -m benchmarks.national --data DIR --work DIR``: a part of the rows is made up; the rest are copies of it under keys
and patients of their own, which takes minutes where making all of them up takes an hour.
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.measure import ChildFailedError, Measured, measured

MEGABYTE = 1 << 20
KEYS = {"apcs": "APCS_Ident", "apcs_der": "APCS_Ident", "opa": "OPA_Ident"}
PERSON = "Der_Pseudo_NHS_Number"
# More than any number that is made up.
APART = 10**13


def main(argv: list[str] | None = None) -> int:
    """Print (and write, with ``--out``) what the year took."""
    parser = argparse.ArgumentParser(prog="benchmarks.national", description=__doc__)
    parser.add_argument("--year", default="2023-24")
    parser.add_argument("--spells", type=int, default=20_000_000)
    parser.add_argument("--attendances", type=int, default=120_000_000)
    parser.add_argument(
        "--part", type=int, default=1_000_000, help="rows of each that are made up (default %(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="source files to use, or to make and keep")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where the lake is written (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    given = parser.parse_args(argv)
    tell = Console(stderr=True).print
    try:
        with tempfile.TemporaryDirectory(prefix="ebi-spark-national-", dir=given.work) as name:
            source = (given.data or Path(name) / "source").resolve()
            if not (source / "run.yml").exists():
                _make(source, given, tell)
            tell("the whole job")
            arguments = ["--config", str(source / "run.yml"), "--lake", str(Path(name) / "lake"), "--json"]
            done = measured("jobs.run", arguments, {})
    except ChildFailedError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 3
    found = _figures(source, done)
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    _show(found)
    return 0


def _make(source: Path, given: argparse.Namespace, tell: Callable[[str], None]) -> None:
    """The part that is made up, unless it is there, then its copies beside it; ``run.yml`` comes last."""
    part = source / "part"
    if not (part / "run.yml").exists():
        tell(f"making {given.part:,} spells and attendances")
        sizes = ["--spells", str(given.part), "--attendances", str(given.part)]
        measured(
            "jobs.generate", ["--out", str(part), "--years", given.year, "--format", "parquet", "--json", *sizes], {}
        )
    for table, key in KEYS.items():
        copies = max(1, (given.attendances if table == "opa" else given.spells) // given.part)
        tell(f"{table}: {copies} copies")
        files = sorted((part / "data" / table).glob("*.parquet"))
        (source / "data" / table).mkdir(parents=True, exist_ok=True)
        renumbered = [name for name in (key, PERSON) if name in pq.read_schema(files[0]).names]
        for copy, file in itertools.product(range(copies), files):
            changed = ", ".join(f"{name} + {copy * APART} AS {name}" for name in renumbered)
            place = source / "data" / table / f"{file.stem}_{copy:03}.parquet"
            with duckdb.connect(config={"threads": 2}) as connection:
                connection.execute(
                    f"COPY (SELECT * REPLACE ({changed}) FROM read_parquet('{file}')) "
                    f"TO '{place}' (FORMAT parquet, COMPRESSION zstd)"
                )
    for name in ("practices.csv", "run.yml"):
        (source / name).write_bytes((part / name).read_bytes())


def _figures(source: Path, done: Measured) -> dict[str, object]:
    rows = {
        table: sum(pq.read_metadata(file).num_rows for file in (source / "data" / table).glob("*.parquet"))
        for table in KEYS
    }
    return {
        "rows": rows,
        "seconds": round(done.seconds, 1),
        "processor_seconds": done.processor_seconds,
        "peak_megabytes": round((done.peak_bytes or 0) / MEGABYTE),
        "stages": {item["name"]: item["seconds"] for item in done.answer["stages"]},
    }


def _show(found: dict[str, object]) -> None:
    rows, stages = found["rows"], found["stages"]
    assert isinstance(rows, dict) and isinstance(stages, dict)
    table = Table(title=", ".join(f"{number:,} rows of {name}" for name, number in rows.items()))
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for name, seconds in stages.items():
        table.add_row(name, f"{seconds:,.0f}")
    table.add_row("from start to end", f"{found['seconds']:,.0f}")
    table.add_row("processor", f"{found['processor_seconds'] or 0:,.0f}")
    Console().print(table)
    Console().print(f"peak memory of all its processes: {found['peak_megabytes']:,} MB")


if __name__ == "__main__":
    sys.exit(main())
