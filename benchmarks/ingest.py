"""Measures the ingest beside DuckDB that does the same: ``python -m benchmarks.ingest``.

The files are SUS+ or HES, and Parquet or text (CSV). With both formats the same rows are ingested from each, in turn. The first
repetition compares what the two engines wrote: :mod:`benchmarks.beside` and :mod:`benchmarks.beside_hes` say what DuckDB does.
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.copies import made_part, rows_of, write_copies
from benchmarks.measure import measured
from benchmarks.run import Bench, measure

BESIDE = {"sus_plus": "benchmarks.beside", "hes": "benchmarks.beside_hes"}
# Table → whether its rows are attendances.
TABLES = {"sus_plus": {"apcs": False, "apcs_der": False, "opa": True}, "hes": {"apc": False, "op": True}}


class IngestBench(Bench):
    """One run of the benchmark."""

    def place(self, file_format: str) -> Path:
        """The folder of the files of a format: the given one if it has files."""
        given = (self.source / "run.yml").exists()
        return self.source if given else self.source / f"{self.given.system}-{file_format}"

    def make_data(self) -> dict[str, int]:
        """The source files of each format, made unless they are there; rows of each table, which are the same in all."""
        given, rows = self.given, {}
        for file_format in given.format:
            place = self.place(file_format)
            if not (place / "run.yml").exists():
                number = min(given.part, given.spells)
                part = made_part(place / "part", number, given.year, given.seed, self.tell, given.system, file_format)
                self.tell("copying it")
                wanted = {name: given.attendances if op else given.spells for name, op in TABLES[given.system].items()}
                made = rows_of(part)
                copies = {name: max(1, round(wanted[name] / made[name])) for name in wanted}
                write_copies(part, place, copies)
            rows[file_format] = rows_of(place)
        first, *others = rows.values()
        if any(other != first for other in others):
            raise ValueError(f"the formats have different rows: {rows}")
        return first

    def repetition(self, number: int, rows: dict[str, int]) -> None:
        """Every format once, product and DuckDB in turn."""
        everything = sum(rows.values())
        for file_format in self.given.format:
            self._ingest(number, file_format, everything)

    def _ingest(self, number: int, file_format: str, rows: int) -> None:
        given, source = self.given, self.place(file_format)
        lake, duck = (self.folder / f"{name}-{file_format}-{number}" for name in ("lake", "duckdb"))
        product, theirs = f"ingest, {file_format}", f"duckdb: the same, {file_format}"
        self.tell(f"{number}: {product}")
        done = measured(
            "jobs.ingest", ["--config", str(source / "run.yml"), "--lake", str(lake), "--json"], self.environment
        )
        self.line(f"{product}, start to end", rows).add(done.seconds, done)
        seconds = sum(item["seconds"] for item in done.answer["stages"])
        self.line(product, rows, theirs).add(seconds, done)
        if file_format != given.format[0]:
            beside = f"ingest, {given.format[0]}"
            self.line(f"{product}, to {given.format[0]}", rows, beside).add(seconds, done)
        self.tell(f"{number}: {theirs}")
        module, threads = BESIDE[given.system], ["--threads", str(given.threads)]
        work = ["ingest", *threads, "--source", str(source), "--out", str(duck), "--format", file_format]
        done = measured(module, work, self.environment)
        self.line(theirs, rows).add(done.answer["seconds"], done)
        if number == 1:
            done = measured(
                module, ["compare-ingest", *threads, "--lake", str(lake), "--out", str(duck)], self.environment
            )
            same = self.same.setdefault("tables", {})
            self.same["flagged_as_published"] = {}
            for table, item in done.answer["tables"].items():
                same[f"{table}, {file_format}"] = item
                if item.get("differing"):
                    self.tell(f"{table}, {file_format}: {', '.join(item['differing'])} differ")
        for folder in (lake, duck):
            shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.ingest", description=__doc__)
    parser.add_argument("--system", choices=tuple(BESIDE), default="sus_plus")
    parser.add_argument("--format", nargs="+", choices=("parquet", "csv"), default=["parquet"])
    parser.add_argument("--spells", type=int, default=1_000_000, help="or episodes of HES, about (default %(default)s)")
    parser.add_argument(
        "--attendances", type=int, default=2_000_000, help="or appointments of HES, about (default %(default)s)"
    )
    parser.add_argument("--part", type=int, default=1_000_000, help="spells and attendances that are made up; the rest are copies of "
                        "them with their own keys and patients (default %(default)s)")  # fmt: skip
    parser.add_argument("--year", default="2022-23")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of Spark and of DuckDB (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of everything (default %(default)s)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="files to use, with their run.yml, or where to make and keep them"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where lakes are written (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    given = parser.parse_args(argv)
    if min(given.repeat, given.threads, given.spells, given.attendances, given.part) < 1:
        parser.error("all numbers have to be 1 or more")
    if len(given.format) > 1 and given.data and (given.data / "run.yml").exists():
        parser.error("--data has files of one format: name only that --format, or another folder")
    return measure(given, IngestBench)


if __name__ == "__main__":
    sys.exit(main())
