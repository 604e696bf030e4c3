"""Measures the whole job by rows and cores, and makes ``docs/scaling.md`` from it: ``python -m benchmarks.scaling``.

Every measurement is one process, from made-up files of one financial year into a new lake. It is stored in the JSON of ``--out`` at
once, so that an interrupted benchmark makes only what is missing. The page beside that JSON is drawn only from it.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.copies import made_part, rows_of, write_copies
from benchmarks.cost_model import TooFewPointsError
from benchmarks.measure import PROC, ROOT, ChildFailedError, commit, measured
from benchmarks.scaling_page import Assumed, write_page
from ebi_spark.config.load import load_config
from ebi_spark.sources.file_inventory import source_bytes
from ebi_spark.spark.tuning import is_small

YEAR = "2023-24"


class StateError(RuntimeError):
    """The stored measurements do not match the arguments."""


class Bench:
    """Measurements kept in a file, and those still to make."""

    def __init__(self, given: argparse.Namespace, folder: Path, tell: Callable[[str], None]) -> None:
        self.given, self.folder, self.tell = given, folder, tell
        about = {
            "attendances_a_spell": given.attendances_a_spell,
            "part": given.part,
            "seed": given.seed,
            "machine": machine(),
        }
        self.state: dict[str, Any] = {**about, "measurements": []}
        if given.out.exists():
            self.state = read_state(given.out)
            differ = [name for name, value in about.items() if self.state[name] != value]
            if differ:
                raise StateError(f"{given.out} was measured with another {' and '.join(differ)}: name another --out")

    def run(self) -> None:
        """Measure what is missing: every size and core count once, before any of them a second time."""
        made = {(item["size"], item["cores"], item["repetition"]) for item in self.state["measurements"]}
        ahead = [
            (size, cores, repetition)
            for repetition in range(1, self.given.repeat + 1)
            for size in self.given.sizes
            for cores in self.given.cores
            if (size, cores, repetition) not in made
        ]
        sources = {size: self.source(size) for size in sorted({size for size, _, _ in ahead})}
        for number, (size, cores, repetition) in enumerate(ahead, start=1):
            self.tell(f"{number} of {len(ahead)}: {size:,} rows on {cores} core{'s' if cores > 1 else ''}")
            self.state["measurements"].append(self.measurement(sources[size], size, cores, repetition))
            keep(self.state, self.given.out)

    def source(self, size: int) -> Path:
        """Source files of that many rows, copies of one part; written unless they exist."""
        given = self.given
        data: Path = given.data or self.folder
        named = f"1-1-{given.attendances_a_spell}-seed-{given.seed}"
        folder = data / f"{size}-rows-{named}"
        if not folder.exists():
            made = made_part(data / f"part-of-{given.part}-seed-{given.seed}", given.part, YEAR, given.seed, self.tell)
            part = folder.with_name(folder.name + ".part")  # left by an interrupted benchmark: not usable
            shutil.rmtree(part, ignore_errors=True)
            self.tell(f"copying {size:,} rows")
            spells = size // (2 + given.attendances_a_spell) // given.part
            write_copies(made, part, {"apcs": spells, "apcs_der": spells, "opa": spells * given.attendances_a_spell})
            part.rename(folder)
        return folder

    def measurement(self, source: Path, size: int, cores: int, repetition: int) -> dict[str, Any]:
        """The whole job once."""
        load = os.getloadavg()[0]
        lake = self.folder / "lake"
        arguments = ["--config", str(source / "run.yml"), "--lake", str(lake), "--json"]
        try:
            done = measured("jobs.run", arguments, {"EBI_SPARK_MASTER": f"local[{cores}]"}, cores)
        finally:
            shutil.rmtree(lake, ignore_errors=True)
        return {
            "size": size,
            "cores": cores,
            "repetition": repetition,
            "rows": sum(rows_of(source).values()),
            "small": is_small(source_bytes(load_config(source / "run.yml"))),
            "seconds": round(done.seconds, 1),
            "stages": {item["name"]: item["seconds"] for item in done.answer["stages"]},
            "processor_seconds": done.processor_seconds,
            "peak_megabytes": round((done.peak_bytes or 0) / (1 << 20)),
            "load_before": round(load, 1),
            "day": f"{datetime.now(UTC):%Y-%m-%d}",
            "commit": commit(),
        }


def keep(state: dict[str, Any], out: Path) -> None:
    """Replace the file, completely or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    part.replace(out)


def read_state(path: Path) -> dict[str, Any]:
    """The measurements kept in a file."""
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    return state


def machine() -> dict[str, Any]:
    """What the measurements depend on, without the machine's name."""
    lines = (PROC / "cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    home = os.environ.get("JAVA_HOME")
    java = subprocess.run(
        [str(Path(home) / "bin" / "java") if home else "java", "-version"], capture_output=True, text=True, check=True
    )
    of_java = re.search(r'version "([^"]+)"', java.stderr + java.stdout)
    names = ("ebi-spark", "pyspark", "delta-spark")
    return {
        "processor": processor or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)),
        "driver_memory": os.environ.get("EBI_SPARK_DRIVER_MEMORY", "4g"),
        "versions": {"Python": platform.python_version(), "Java": of_java[1] if of_java else "unknown"}
        | {name: version(name) for name in names},
    }


def numbers(text: str) -> list[int]:
    """Whole numbers above 0 of an argument, each once and in order."""
    found = sorted({int(part.replace("_", "")) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure what is missing, and draw the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__)
    parser.add_argument("--sizes", type=numbers, default="4_000_000,6_000_000,8_000_000,12_000_000", metavar="N,N",
                        help="source rows of a measurement (default %(default)s)")  # fmt: skip
    parser.add_argument("--cores", type=numbers, default="1,2", metavar="N,N", help="default %(default)s")
    parser.add_argument("--repeat", type=int, default=1, help="of every measurement (default %(default)s)")
    parser.add_argument("--attendances-a-spell", type=int, default=2, metavar="N",
                        help="attendances for each spell and its derived row (default %(default)s)")  # fmt: skip
    parser.add_argument("--part", type=int, default=500_000, metavar="N",
                        help="spells, derived rows and attendances that are made up; the rest are copies of them with "
                        "their own keys and patients (default %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scaling.json", metavar="FILE",
                        help="the measurements; page and figures are written beside (default docs/scaling.json)")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="made-up Parquet files to use, or to make and keep")
    parser.add_argument("--work", type=Path, metavar="DIR",
                        help="where lakes are written (default: a temporary folder)")  # fmt: skip
    parser.add_argument("--national", type=Path, metavar="FILE",
                        help="a measured national year, as `benchmarks.national --out` wrote it: stored with the "
                        "measurements as one more point of the fit")  # fmt: skip
    parser.add_argument("--page-only", action="store_true", help="draw the page from the JSON, measure nothing")
    parser.add_argument("--clusters", type=numbers, default="2,16,32,64,128", metavar="N,N",
                        help="core counts to predict for (default %(default)s)")  # fmt: skip
    parser.add_argument("--price", type=float, default=Assumed.price,
                        help="of an hour of one core (default %(default)s: an assumption)")  # fmt: skip
    parser.add_argument("--efficiency", type=float, default=Assumed.efficiency,
                        help="at worst, of cores beyond the measured ones (default %(default)s)")  # fmt: skip
    parser.add_argument("--night", type=float, default=Assumed.night_hours, metavar="HOURS",
                        help="in which a dozen years should be done (default %(default)s)")  # fmt: skip
    parser.add_argument("--evening", type=float, default=Assumed.evening_hours, metavar="HOURS",
                        help="in which one year should be done (default %(default)s)")  # fmt: skip
    given = parser.parse_args(argv)
    if given.repeat < 1 or given.attendances_a_spell < 1:
        parser.error("--repeat and --attendances-a-spell have to be 1 or more")
    step = given.part * (2 + given.attendances_a_spell)
    if given.part < 1 or (not given.page_only and any(size % step for size in given.sizes)):
        parser.error(f"--sizes have to be multiples of {step:,}: --part for each table and attendance of a spell")
    if not 0 < given.efficiency <= 1 or min(given.price, given.night, given.evening) <= 0:
        parser.error("--efficiency is above 0 and at most 1; --price, --night and --evening are above 0")
    if not given.page_only and not hasattr(os, "sched_getaffinity"):
        parser.error("measuring needs Linux, which can limit a process to some of the cores; --page-only does not")
    if not given.page_only and max(given.cores) > len(os.sched_getaffinity(0)):
        parser.error(f"this process may use {len(os.sched_getaffinity(0))} cores, fewer than --cores asks for")
    for name in ("out", "data", "work", "national"):
        if getattr(given, name):
            setattr(given, name, getattr(given, name).resolve())
    console = Console(stderr=True)
    # Like an interrupt: the measured process ends too, and its lake is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.page_only:
            state = read_state(given.out)
        else:
            for folder in (given.data, given.work):
                if folder:
                    folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="ebi-spark-scaling-", dir=given.work) as folder:
                bench = Bench(given, Path(folder), lambda message: console.print(message, highlight=False))
                bench.run()
                state = bench.state
        if given.national:
            state["national"] = read_state(given.national)
            keep(state, given.out)
        assumed = Assumed(given.price, given.efficiency, given.night, given.evening, tuple(given.clusters))
        for path in write_page(state, given.out, assumed):
            print(path)
    except TooFewPointsError as error:
        small = sorted({item["size"] for item in state["measurements"] if item["small"]})
        left = f"; {', '.join(f'{size:,}' for size in small)} rows are too few to go in, as small data is run otherwise"
        print(f"benchmark: no page: {error}{left if small else ''}", file=sys.stderr)
        return 3
    except (ChildFailedError, StateError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("benchmark: interrupted; the same call continues from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
