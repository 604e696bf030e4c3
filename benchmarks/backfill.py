"""Measures a backfill of many years: seconds and memory of its batches, the cost of one year that has changed, and the cost of a
provider with a third of the rows.

``python -m benchmarks.backfill``: makes years of source files, runs the whole job over the first few of them, over these
with every third row given to one provider, over all, and again after the files of one year have changed. Memory must not
grow with the years.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table

from benchmarks.copies import copy_others
from benchmarks.measure import ChildFailedError, Measured, measured
from ebi_spark.financial_years import parse_years

MEGABYTE = 1 << 20
SKEWED = {"apcs": "Der_Provider_Code", "opa": "Der_Provider_Code"}


def main(argv: list[str] | None = None) -> int:
    """Print (and write, with ``--out``) what the backfills took."""
    parser = argparse.ArgumentParser(prog="benchmarks.backfill", description=__doc__)
    parser.add_argument("--years", default="2013-14..2024-25")
    parser.add_argument(
        "--few", type=int, default=3, help="years of the small backfills (default %(default)s; 0: none)"
    )
    parser.add_argument("--repeat", type=int, default=1, help="of the one year that has changed (default %(default)s)")
    parser.add_argument("--spells", type=int, default=1_000_000, help="a year (default %(default)s)")
    parser.add_argument("--attendances", type=int, default=1_000_000, help="a year (default %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="source files to use, or to make and keep")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where lakes are written (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    given = parser.parse_args(argv)
    tell = Console(stderr=True).print
    if given.repeat < 1:
        parser.error("--repeat has to be 1 or more")
    years = parse_years(given.years)
    try:
        with tempfile.TemporaryDirectory(prefix="ebi-spark-backfill-", dir=given.work) as name:
            folder = Path(name)
            source = (given.data or folder / "source").resolve()
            if not (source / "run.yml").exists():
                tell(f"making {len(years)} years")
                sizes = ["--spells", str(given.spells * len(years))]
                sizes += ["--attendances", str(given.attendances * len(years))]
                measured(
                    "jobs.generate",
                    ["--out", str(source), "--years", given.years, "--format", "parquet", "--json", *sizes],
                    {},
                )
            found: dict[str, dict[str, Any]] = {}

            def backfill(name: str, title: str, files: Path, named: str, lake: str = "") -> None:
                tell(title)
                found[name] = _backfill(files, folder / (lake or name), named)
                if given.out:  # each as it comes: together they take hours on a small machine
                    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

            if given.few:
                few = f"{years[0]}..{years[given.few - 1]}"
                backfill("few", f"the first {given.few} years", source, few)
                skewed = _skewed(source, folder / "skewed-source")
                backfill("skewed", f"the first {given.few} years, a third of the rows from one provider", skewed, few)
                for done in ("few", "skewed", "skewed-source"):
                    shutil.rmtree(folder / done)
            files = _linked(source, folder / "files")
            backfill("all", "all years", files, given.years)
            middle = years[len(years) // 2]
            for number in range(1, given.repeat + 1):
                _shorten(files, middle)
                title = f"all years again, a row less in each file of {middle}"
                backfill(f"one again, {number}", title, files, given.years, lake="all")
    except ChildFailedError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 3
    _show(found)
    return 0


def _backfill(source: Path, lake: Path, years: str) -> dict[str, Any]:
    arguments = ["--config", str(source / "run.yml"), "--lake", str(lake), "--years", years, "--json"]
    done: Measured = measured("jobs.run", arguments, {})
    log = DeltaTable(str(lake / "gold/run_log")).to_pyarrow_table().to_pylist()
    steps = [
        {"years": row["years"], "rows": row["rows"], "seconds": (row["ended_at"] - row["started_at"]).total_seconds()}
        for row in sorted(log, key=lambda row: row["started_at"])
        if row["stage"] == "ingest" and row["run_id"] == done.answer["run_id"]
    ]
    return {
        "seconds": round(done.seconds, 1),
        "peak_megabytes": round((done.peak_bytes or 0) / MEGABYTE),
        "stages": {item["name"]: item["seconds"] for item in done.answer["stages"]},
        "ingest_steps": steps,
    }


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # another file system
        shutil.copy2(path, place)


def _linked(source: Path, target: Path) -> Path:
    """Link the same files, so that they can be replaced without changing those that are kept."""
    for path in source.rglob("*.*"):
        if path.suffix in (".parquet", ".csv", ".yml"):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(path, place)
    return target


def _shorten(source: Path, year: str) -> None:
    """Remove the last row from each file of a year."""
    for path in (source / "data").rglob(f"*{year}*.parquet"):
        shorter = path.with_suffix(".new")
        with duckdb.connect(config={"threads": 2}) as connection:
            rows = f"read_parquet('{path}', file_row_number = true)"
            connection.execute(
                f"COPY (SELECT * EXCLUDE (file_row_number) FROM {rows} WHERE file_row_number < "
                f"(SELECT max(file_row_number) FROM {rows}) ORDER BY file_row_number) "
                f"TO '{shorter}' (FORMAT parquet, COMPRESSION zstd)"
            )
        shorter.replace(path)


def _skewed(source: Path, target: Path) -> Path:
    """The same files with every third row of spells and attendances from one provider."""
    for table in sorted(entry.name for entry in (source / "data").iterdir() if entry.is_dir()):
        for path in sorted((source / "data" / table).rglob("*.parquet")):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if table not in SKEWED:
                _link(path, place)
                continue
            with duckdb.connect(config={"threads": 2}) as connection:
                column = SKEWED[table]
                connection.execute(
                    f"COPY (SELECT * REPLACE (CASE WHEN hash(columns_of_row) % 3 = 0 THEN 'RXX' ELSE {column} END AS "
                    f"{column}) FROM (SELECT *, file_row_number AS columns_of_row FROM read_parquet('{path}', "
                    f"file_row_number = true)) ) TO '{place}' (FORMAT parquet)"
                )
    copy_others(source, target)
    return target


def _show(found: dict[str, dict[str, Any]]) -> None:
    table = Table(title="Backfills")
    table.add_column("what")
    for name in ("seconds", "peak MB", "ingest steps", "slowest step, rows/s", "fastest step, rows/s"):
        table.add_column(name, justify="right")
    for name, item in found.items():
        # The first step looks at the files of all years too: its pace counts where there is no other.
        steps = item["ingest_steps"][1:] or item["ingest_steps"]
        paces = [step["rows"] / step["seconds"] for step in steps if step["seconds"]] or [0.0]
        table.add_row(
            name, f"{item['seconds']:,.0f}", f"{item['peak_megabytes']:,}", str(len(item["ingest_steps"])),
            f"{min(paces):,.0f}", f"{max(paces):,.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
