"""Runs in processes of their own, to be stopped and killed: what the tests of faults share."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from calling import duckdb_on_delta

from ebi_spark.lake.storage import Lake
from ebi_spark.spark.tuning import UNCOMPILED
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import Table

# A run as the command line makes it, which leaves a mark when it comes to a commit.
SCRIPT = """
import pathlib, sys
from ebi_spark.lake import storage
from jobs import run
mark, table, when, *arguments = sys.argv[1:]
commit = storage.Lake._commit
def marked(self, where, writer):
    if (where.full_name, when) == (table, "before"):
        pathlib.Path(mark).touch()
    commit(self, where, writer)
    if (where.full_name, when) == (table, "after"):
        pathlib.Path(mark).touch()
storage.Lake._commit = marked
sys.exit(run.main(arguments))
"""
WAIT = 600  # seconds after which a test gives up


class RealRun:
    """``ebi-spark run`` in a session (process group) of its own."""

    def __init__(self, folder: Path, table: str = "", when: str = "", *, compiled: bool = True, **popen: Any) -> None:
        self.mark = folder / f"mark-{time.monotonic_ns()}"
        self.out = (folder / f"{self.mark.name}.out").open("w+", encoding="utf-8")
        self.err = (folder / f"{self.mark.name}.err").open("w+", encoding="utf-8")
        arguments = [str(self.mark), table, when, "--config", str(folder / "run.yml"), "--json"]
        environment = {**os.environ, "EBI_SPARK_DRIVER_MEMORY": "2g", "PYTHONPATH": str(Path.cwd())}
        if not compiled:
            settings = [part for item in UNCOMPILED.items() for part in ("--conf", "=".join(item))]
            environment["PYSPARK_SUBMIT_ARGS"] = " ".join([*settings, "pyspark-shell"])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            stdout=self.out, stderr=self.err, stdin=subprocess.DEVNULL, start_new_session=True, env=environment, **popen,
        )  # fmt: skip

    def until(self, reached: Callable[[], bool] | None = None) -> None:
        """Wait for the mark (or ``reached``); an error when the run ends before."""
        for _ in range(WAIT * 50):
            if self.mark.exists() if reached is None else reached():
                return
            assert self.process.poll() is None, self.text()
            time.sleep(0.02)
        raise AssertionError("the run did not come to the point in question")

    def java(self) -> int:
        """The process id of its Java."""
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if child.name() == "java":
                    return child.pid
        raise AssertionError("it has no Java")

    def kill_all(self) -> None:
        """kill -9 to the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(WAIT)

    def text(self) -> str:
        """What it printed."""
        for file in (self.out, self.err):
            file.seek(0)
        return f"{self.out.read()}\n{self.err.read()}"


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


def until_gone(pid: int) -> None:
    """Wait for a process to end."""
    for _ in range(WAIT * 20):
        if not lives(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} did not end")


def releases_are_whole(lake: Path) -> list[str]:
    """What a reader by release sees: every release that the manifest names has all its rows, and exactly one is current.
    Gives the ids, the current one first; nothing before the first release."""
    if not (lake / "published/release/_delta_log/00000000000000000000.json").exists():
        return []
    with duckdb_on_delta() as reader:

        def scan(columns: str, table: str, where: str) -> list[tuple[Any, ...]]:
            return reader.execute(f"SELECT {columns} FROM delta_scan('{lake / table}') WHERE {where}").fetchall()

        manifest = scan("release_id, is_current, tables", "published/release", "true")
        for release, _, tables in manifest:
            for table, rows in tables.items():
                assert scan("count(*)", table, f"release_id = '{release}'") == [(rows,)], (release, table)
        current = [release for release, is_current, _ in manifest if is_current]
        assert len(current) == bool(manifest)
        return current + [release for release, is_current, _ in manifest if not is_current]


# What is written when a stage has ended.
LOGS = ("gold/stage_input", "gold/batch", "gold/run_log")
# Rows by content, but for what names a run or a time.
_PASSING = {"run_id", "release_id", "written_at", "released_at", "started_at", "ended_at", "file_modified"}


def end_state(lake: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of every table but the logs of runs; of published tables those of the current release."""
    (current, *_) = releases_are_whole(lake)
    state = {}
    with duckdb_on_delta() as reader:
        for name, table in TABLES.items():
            if name in (*LOGS, "silver/ingest_audit", "published/release"):
                continue
            columns = ", ".join(
                f'round("{column}", 9)' if kind == "double" else f'"{column}"::VARCHAR'
                for column, kind, _ in table.fields()
                if column not in _PASSING
            )
            where = f"release_id = '{current}'" if table.layer == "published" else "true"
            query = f"SELECT {columns} FROM delta_scan('{lake / name}') WHERE {where} ORDER BY ALL"
            state[name] = reader.execute(query).fetchall()
    return state


# Tables that hold rows of records; their data files alone may hold a patient's values.
RECORD_TABLES = (
    "silver/apc_spell",
    "silver/op_attendance",
    "silver/quarantine",
    "silver/repeated_row",
    "silver/prior_approval",
    "gold/activity_flag",
    "gold/approval_match",
    "gold/approval_unused",
    "gold/pathway",
)
SECRET = "ZQX"


# Rows of a register with such values: one that can be used, and one for each value that cannot.
USUAL_ENTRY = {
    "approval_id": f"{SECRET}I0", "person_id": f"{SECRET}P9", "policy_id": "2Y_back_pain_fusion", "route": "prior_approval",
    "requested_on": "2020-01-02", "decided_on": "2020-01-10", "decision": "approved", "board": "QOQ",
}  # fmt: skip
BAD_ENTRIES = [
    {}, {"policy_id": f"{SECRET}Y"}, {"procedure_codes": f"{SECRET}O"}, {"route": f"{SECRET}R"}, {"decision": f"{SECRET}C"},
    {"decided_on": f"{SECRET}T"}, {"board": f"{SECRET}B"}, {"person_id": ""},
]  # fmt: skip


def seed_secrets(data: Path) -> int:
    """Put values that are nowhere else into made-up SUS+ files and the register: persons, keys, codes, ages, dates, a column of
    names, a key with two contents, a line that is cut short. Gives how many were put."""
    put = 0
    for path in sorted((data / "prior_approval").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            listed = list(reader)
            names = [*(reader.fieldnames or ()), "Patient_Name"]
        listed += [{**USUAL_ENTRY, **bad, "approval_id": f"{SECRET}I{n}"} for n, bad in enumerate(BAD_ENTRIES)]
        listed += [
            {**USUAL_ENTRY, "approval_id": f"{SECRET}TWICE", "valid_to": day} for day in ("2022-01-01", "2022-02-02")
        ]
        put += len(BAD_ENTRIES) + 2
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "Patient_Name": f"{SECRET}NAME {n}"} for n, row in enumerate(listed))
    for path in sorted(path for path in data.rglob("*.csv") if path.parent.name != "prior_approval"):
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
        at = {name.upper(): number for number, name in enumerate(header)}
        for number, row in enumerate(rows):
            if number % 9 == 0:
                fields = {"DER_PSEUDO_NHS_NUMBER": "P", "DER_DIAGNOSIS_ALL": "D", "DER_PROCEDURE_ALL": "O"}
                fields |= {"SPELL_DOMINANT_PROCEDURE": "Q", "SPELL_PRIMARY_DIAGNOSIS": "R", "GP_PRACTICE_CODE": "G"}
                if number % 27 == 0:
                    fields |= {"AGE_AT_START_OF_SPELL_SUS": "A", "AGE_AT_START_OF_EPISODE_SUS": "A"}
                    fields |= {"DER_PROVIDER_CODE": "V", "DER_COMMISSIONER_CODE": "C"}
                if number % 243 == 0:
                    fields |= {"APCS_IDENT": "K", "OPA_IDENT": "K", "DISCHARGE_DATE": "T", "APPOINTMENT_DATE": "T"}
                for name, letter in fields.items():
                    if name in at:
                        row[at[name]] = f"{SECRET}{letter}{number}"
                        put += 1
            row.append(f"{SECRET}NAME {number}")
        rows.append([f"{SECRET}TWICE" if number == 0 else cell for number, cell in enumerate(rows[1])])
        rows.append([f"{SECRET}TWICE" if number == 0 else cell for number, cell in enumerate(rows[2])])
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([[*header, "Patient_Name"], *rows])
    return put


def leaks(lake: Path, *printed: str) -> list[str]:
    """Where a run wrote or printed the seeded values, except in the data files of the record tables."""
    found = [f"printed: {text[max(0, text.find(SECRET) - 60) :][:120]}" for text in printed if SECRET in text]
    for path in sorted(entry for entry in lake.rglob("*") if entry.is_file()):
        name = path.relative_to(lake).as_posix()
        if name.startswith(RECORD_TABLES) and path.suffix in (".parquet", ".crc") and "_delta_log" not in name:
            continue
        content = (
            str(pq.ParquetFile(path).read().to_pylist())
            if path.suffix == ".parquet"
            else path.read_bytes().decode("latin-1")
        )
        if SECRET in content or SECRET in name:
            found.append(f"{name}: {content[max(0, content.find(SECRET) - 60) :][:120]}")
    return found


class Fault(Exception):
    """Raised instead of a commit, or after it."""


@contextlib.contextmanager
def faults_at(monkeypatch: pytest.MonkeyPatch, strikes: Mapping[str, str]) -> Iterator[set[str]]:
    """A run in this process meets an error ``before`` or ``after`` its first commit to each of the tables; gives those
    where it did. Tables that are written side by side are all struck, since each ends before the first error is raised."""
    met: set[str] = set()
    commit = Lake._commit

    def faulty(self: Lake, where: Table, writer: Any) -> None:
        when = None if where.full_name in met else strikes.get(where.full_name)
        if when:
            met.add(where.full_name)
        if when == "before":
            raise Fault
        commit(self, where, writer)
        if when:
            raise Fault

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "_commit", faulty)
        yield met
