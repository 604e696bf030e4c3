"""Runs a national year once, from raw files to published: seconds of each stage, processor time and peak memory of the whole.

``python -m benchmarks.national --data DIR --work DIR``: a part of the rows is made up; the rest are copies of it with
their own keys and patients.
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.copies import made_part, rows_of, write_copies
from benchmarks.measure import ChildFailedError, Measured, commit, measured

MEGABYTE = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Print (and write, with ``--out``) the time and memory of the year."""
    parser = argparse.ArgumentParser(prog="benchmarks.national", description=__doc__)
    parser.add_argument("--year", default="2023-24")
    parser.add_argument("--spells", type=int, default=20_000_000)
    parser.add_argument("--attendances", type=int, default=120_000_000)
    parser.add_argument(
        "--part", type=int, default=1_000_000, help="rows of each that are made up (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
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
                part = made_part(source / "part", given.part, given.year, given.seed, tell)
                spells = max(1, given.spells // given.part)
                attendances = max(1, given.attendances // given.part)
                tell("copying it")
                write_copies(part, source, {"apcs": spells, "apcs_der": spells, "opa": attendances})
            tell("the whole job")
            arguments = ["--config", str(source / "run.yml"), "--lake", str(Path(name) / "lake"), "--json"]
            done = measured("jobs.run", arguments, {})
    except ChildFailedError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 3
    found = _figures(rows_of(source), done)
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    _show(found)
    return 0


def _figures(rows: dict[str, int], done: Measured) -> dict[str, Any]:
    return {
        "rows": rows,
        "cores": os.cpu_count(),
        "seconds": round(done.seconds, 1),
        "processor_seconds": done.processor_seconds,
        "peak_megabytes": round((done.peak_bytes or 0) / MEGABYTE),
        "stages": {item["name"]: item["seconds"] for item in done.answer["stages"]},
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit(),
    }


def _show(found: dict[str, Any]) -> None:
    table = Table(title=", ".join(f"{number:,} rows of {name}" for name, number in found["rows"].items()))
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for name, seconds in found["stages"].items():
        table.add_row(name, f"{seconds:,.0f}")
    table.add_row("from start to end", f"{found['seconds']:,.0f}")
    table.add_row("processor", f"{found['processor_seconds'] or 0:,.0f}")
    Console().print(table)
    Console().print(f"peak memory of all its processes: {found['peak_megabytes']:,} MB")


if __name__ == "__main__":
    sys.exit(main())
