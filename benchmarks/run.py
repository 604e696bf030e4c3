"""Measures the jobs beside DuckDB on made-up data: ``python -m benchmarks.run``.

Every repetition runs the product's jobs in their own processes and, between them, DuckDB on the same files, so that both run on
the same machine at the same time.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.measure import ChildFailedError, Measured, measured

MEGABYTE = 1 << 20
# DuckDB checks nothing and follows no care around operations.
_WITHOUT = "whole job without the stages `validate` and `monitor`"


@dataclass
class Line:
    """One thing that is measured: its repetitions, its rows, and what it is compared with."""

    name: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    beside: str | None = None

    def add(self, seconds: float | list[float], of: Measured) -> None:
        """One process's result."""
        self.seconds += seconds if isinstance(seconds, list) else [seconds]
        if of.peak_bytes:
            self.peaks.append(of.peak_bytes)

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


class Bench:
    """One run of the benchmark: the data, the lakes and what was measured."""

    def __init__(self, given: argparse.Namespace, folder: Path, tell: Callable[[str], None]) -> None:
        self.given, self.folder, self.tell = given, folder, tell
        self.environment = {"EBI_SPARK_MASTER": f"local[{given.threads}]"}
        self.source: Path = given.data or folder / "source"
        self.lines: dict[str, Line] = {}
        self.same: dict[str, Any] = {}

    def make_data(self) -> dict[str, int]:
        """The source files, made unless they are there; rows of each table."""
        given = self.given
        if not (self.source / "run.yml").exists():
            self.tell(f"making {given.spells:,} spells and {given.attendances:,} attendances")
            arguments = ["--out", str(self.source), "--years", given.years, "--spells", str(given.spells)]
            arguments += ["--attendances", str(given.attendances), "--seed", str(given.seed), "--format", "parquet"]
            measured("jobs.generate", [*arguments, "--json"], self.environment)
        rows = {}
        for table in ("apcs", "apcs_der", "opa"):
            files = sorted((self.source / "data" / table).rglob("*.parquet"))
            rows[table] = sum(pq.read_metadata(file).num_rows for file in files)
        return rows

    def line(self, name: str, rows: int, beside: str | None = None) -> Line:
        """The line of that name."""
        return self.lines.setdefault(name, Line(name, rows, beside=beside))

    def repetition(self, number: int, rows: dict[str, int]) -> None:
        """Every part once, product and DuckDB in turn."""
        given, config = self.given, str(self.source / "run.yml")
        lake, duck, bare = (self.folder / f"{name}-{number}" for name in ("lake", "duckdb", "bare"))
        everything = sum(rows.values())
        records = {"2Y_back_pain_fusion": rows["apcs"], "2S_lower_back_imaging": rows["opa"]}
        threads = ["--threads", str(given.threads)]
        job = ["--config", config, "--lake", str(lake)]

        def duckdb(work: str, *arguments: str) -> Measured:
            self.tell(f"{number}: duckdb, {work}")
            return measured("benchmarks.beside", [work, *threads, *arguments], self.environment)

        duckdb_ingest, duckdb_sql = "duckdb: the same to Parquet", "duckdb: published SQL"
        duckdb_rates, duckdb_whole = "duckdb: flags and rates", "duckdb: the same to Parquet, flags and rates"
        self.tell(f"{number}: the whole job")
        done = measured("jobs.run", [*job, "--json"], self.environment)
        stages = {item["name"]: item["seconds"] for item in done.answer["stages"]}
        self.line("whole job, start to end", everything).add(done.seconds, done)
        without = done.seconds - stages["validate"] - stages["monitor"]
        self.line(_WITHOUT, everything, duckdb_whole).add(without, done)
        for name, seconds in stages.items():
            beside = duckdb_ingest if name == "ingest" else None
            self.line(f"  of it {name}", everything, beside).add(seconds, done)
        self.line("  of it flag and rate", everything, duckdb_rates).add(stages["flag"] + stages["rate"], done)
        for work, shown, place in (
            ("ingest", duckdb_ingest, duck),
            ("normalise", "duckdb: records alone, unsorted", bare),
        ):
            done = duckdb(work, "--source", str(self.source), "--out", str(place))
            self.line(shown, everything).add(done.answer["seconds"], done)

        flagged = duckdb("flags", "--source", str(self.source), "--out", str(duck))
        self.line(duckdb_rates, everything).add(flagged.answer["seconds"], flagged)
        ingested, both = self.lines[duckdb_ingest], self.line(duckdb_whole, everything)
        both.add(ingested.seconds[-1] + flagged.answer["seconds"], flagged)
        both.peaks += ingested.peaks[-1:]

        self.tell(f"{number}: a run that finds nothing to do")
        done = measured("jobs.run", [*job, "--json"], self.environment)
        self.line("a run that finds nothing to do", everything).add(done.seconds, done)

        self.tell(f"{number}: rule pass")
        passed = measured("benchmarks.rule_pass", [*job, "--repeat", "1"], self.environment)
        ran = duckdb("published", "--source", str(self.source), "--repeat", "1")
        for policy, counted in records.items():
            theirs = f"{duckdb_sql}, {policy}"
            for kind in ("rule", "applying"):
                name = (
                    f"rule pass, {policy}"
                    if kind == "rule"
                    else f"policies applied: readings, reasons, areas, {policy}"
                )
                self.line(name, counted, theirs).add(passed.answer["seconds"][kind][policy], passed)
            self.line(theirs, counted).add(ran.answer["seconds"][policy], ran)

        if given.policies:
            self.tell(f"{number}: many policies")
            many = measured("benchmarks.many_policies", [*job, "--numbers", given.policies], self.environment)
            named = {count: f"rule pass, {count} policies at once" for count in given.policies.split(",")}
            first = next(iter(named.values()))
            for count, name in named.items():
                self.line(name, rows["apcs"] + rows["opa"], first).add(many.answer["seconds"][count], many)

        if number == 1:
            done = duckdb("compare", "--lake", str(lake), "--out", str(duck))
            self.same = {
                "tables": done.answer["tables"],
                "flagged_as_published": {
                    policy: {
                        "product": passed.answer["hits"]["rule"][policy],
                        "sql_on_normalised": done.answer["hits"][policy],
                        "sql_on_raw": ran.answer["hits"][policy],
                    }
                    for policy in records
                },
            }
        for folder in (lake, duck, bare):
            shutil.rmtree(folder, ignore_errors=True)

    def report(self, rows: dict[str, int]) -> dict[str, Any]:
        """Everything measured, for ``--out``."""
        lines = []
        for line in self.lines.values():
            other = self.lines[line.beside].median if line.beside else None
            lines.append(
                {
                    "name": line.name.strip(),
                    "seconds": [round(value, 3) for value in line.seconds],
                    "median_seconds": round(line.median, 3),
                    "rows": line.rows,
                    "rows_per_second": round(line.rows / line.median) if line.median else None,
                    "peak_megabytes": round(max(line.peaks) / MEGABYTE) if line.peaks else None,
                    "beside": line.beside,
                    "ratio": round(line.median / other, 2) if other else None,
                }
            )
        return {
            "arguments": {
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(self.given).items()
                if name not in ("data", "work", "out")
            },
            "machine": {
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "versions": {name: version(name) for name in ("ebi-spark", "pyspark", "delta-spark", "duckdb")},
            },
            "source_rows": rows,
            "measured": lines,
            "same": self.same,
        }


def show(report: dict[str, Any]) -> None:
    """The report as tables on standard output."""
    console = Console()
    table = Table(title=f"medians of {report['arguments']['repeat']}, {report['arguments']['threads']} threads")
    table.add_column("what")
    for name in ("seconds", "rows/s", "ratio", "peak MB"):
        table.add_column(name, justify="right")
    for line in report["measured"]:
        nested = "  " if line["name"].startswith("of it") else ""
        ratio = "" if line["ratio"] is None else f"{line['ratio']:.2f}"
        rate = "" if nested or not line["rows_per_second"] else f"{line['rows_per_second']:,}"
        peak = "" if nested or line["peak_megabytes"] is None else f"{line['peak_megabytes']:,}"
        table.add_row(nested + line["name"], f"{line['median_seconds']:,.2f}", rate, ratio, peak)
    console.print(table)
    checks = Table(title="the same result")
    for name in ("what", "product", "duckdb", "same"):
        checks.add_column(name, justify="left" if name == "what" else "right")
    for what, ours, theirs, same in _compared(report["same"]):
        checks.add_row(what, f"{ours:,}", f"{theirs:,}", "yes" if same else "no")
    for name, item in report["same"]["flagged_as_published"].items():
        ours, raw = item["product"], item["sql_on_raw"]
        shown = "yes" if ours == raw else "no, as expected"
        checks.add_row(f"flagged, {name}; SQL on raw values", f"{ours:,}", f"{raw:,}", shown)
    console.print(checks)


def _compared(same: dict[str, Any]) -> list[tuple[str, int, int, bool]]:
    """What has to be the same, with the product's rows, DuckDB's, and whether it is."""
    rows = [(f"rows of {name}", i["product"], i["duckdb"], i["same_rows"]) for name, i in same["tables"].items()]
    for name, item in same["flagged_as_published"].items():
        ours, cleaned = item["product"], item["sql_on_normalised"]
        rows.append((f"flagged, {name}; SQL on cleaned values", ours, cleaned, ours == cleaned))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``make bench``."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("--spells", type=int, default=200_000, help="over all years (default %(default)s)")
    parser.add_argument("--attendances", type=int, default=600_000, help="over all years (default %(default)s)")
    parser.add_argument("--years", default="2021-22..2023-24")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of Spark and of DuckDB (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of everything (default %(default)s)")
    parser.add_argument("--policies", default="2,10,50,100", metavar="N,N", help="numbers of policies to apply at once; "
                        "'' for none (default %(default)s)")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="made-up Parquet files to use, or to make and keep")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where lakes are written (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    given = parser.parse_args(argv)
    if given.repeat < 1 or given.threads < 1:
        parser.error("--repeat and --threads have to be 1 or more")
    return measure(given, Bench)


def measure(given: argparse.Namespace, kind: type[Bench]) -> int:
    """All repetitions of a benchmark, shown and written; 1 if product and DuckDB differ."""
    for name in ("data", "work", "out"):
        if getattr(given, name):
            setattr(given, name, getattr(given, name).resolve())
    console = Console(stderr=True)
    # Like an interrupt: the measured process ends too, and the lakes are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="ebi-spark-bench-", dir=given.work) as folder:
            bench = kind(given, Path(folder), lambda message: console.print(message, highlight=False))
            rows = bench.make_data()
            for number in range(1, given.repeat + 1):
                bench.repetition(number, rows)
            report = bench.report(rows)
    except ChildFailedError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("benchmark: interrupted", file=sys.stderr)
        return 130
    show(report)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    differing = [what for what, _, _, same in _compared(report["same"]) if not same]
    if differing:
        print(
            f"benchmark: product and DuckDB differ in: {'; '.join(differing)}. They did not do the same work, so their ratios "
            "say nothing. Find out which of the two does not follow docs/decisions.md",
            file=sys.stderr,
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
