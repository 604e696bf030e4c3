"""Made-up SUS+ and HES files that look real. No row describes a real patient, hospital or practice.

:mod:`ebi_spark.synthetic.shares` has the assumptions behind the data, and ``docs/made-up-data.md`` explains them.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.financial_years import start_of
from ebi_spark.synthetic import approvals, hes, shares, sus_plus, truth
from ebi_spark.synthetic.histories import write_histories
from ebi_spark.synthetic.lookups import Lookups, lookups
from ebi_spark.synthetic.people import intake_size
from ebi_spark.synthetic.places import places
from ebi_spark.synthetic.shares import INFLATION_WORDS
from ebi_spark.synthetic.truth import Plan
from ebi_spark.synthetic.writing import OutputFile, files_for, globs, write_run, write_table

__all__ = ["INFLATION_WORDS", "generate"]

FILE_FORMATS = ("csv", "parquet", "mixed")
REGISTER = "prior_approval"
HEADERLESS = ("op", 1)  # the second year of this HES table has no header row; a separate file lists its columns


@dataclass(frozen=True)
class _Table:
    """A table to write: its frame, the plan of its rows, and a function that gives the column names of a year's file."""

    name: str
    frame: DataFrame
    plan: Plan
    names: Callable[[list[str], int], list[str]]


def generate(
    spark: SparkSession,
    out: Path,
    *,
    years: list[str],
    spells: int,
    attendances: int,
    seed: int,
    system: str,
    file_format: str = "csv",
    histories: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, int]:
    """Write made-up source files, practices and a run configuration. Returns the number of rows of each table.

    ``years`` are labels such as ``2021-22``. ``spells`` and ``attendances`` are totals, spread evenly over the years. The
    same arguments give the same rows, however many cores or files there are. ``system`` is ``sus_plus`` or ``hes``.
    ``file_format`` is ``csv``, ``parquet`` or ``mixed``, which writes the last year as Parquet and the others as CSV.
    ``histories`` adds a few patients whose care around a fusion is known (:mod:`ebi_spark.synthetic.histories`).
    ``progress`` is called with a line for each table.

    Raises :class:`InputError` if ``out`` exists and is not an empty folder, if no year is given, if ``spells`` or
    ``attendances`` is less than 1, or if the system or format is unknown.
    """
    _check(out, years, spells, attendances, system, file_format)
    out.mkdir(parents=True, exist_ok=True)
    starts = tuple(sorted({int(year[:4]) for year in years}))
    intake = intake_size(spells // len(starts), attendances // len(starts))
    spell_plan = Plan(starts, spells, intake, files_for(spells // len(starts)))
    attendance_plan = Plan(starts, attendances, intake, files_for(attendances // len(starts)))
    places_and_days = lookups(spark, starts, seed)
    tables = _tables(spark, system, spell_plan, attendance_plan, places_and_days, seed)
    counts: dict[str, int] = {}
    with _without_whole_stage_code(spark):
        for table in tables:
            columns = [name for name in table.frame.columns if name != "file"]
            outputs = {
                number: _output(out, system, table, number, columns, file_format) for number in range(len(starts))
            }
            counts[table.name] = write_table(
                table.frame, out / "data" / table.name, outputs, one_file=table.plan.files == 1
            )
            progress(f"{table.name}: {counts[table.name]:,} rows")
        fusions = truth.spells(spell_plan.rows(spark), spell_plan, places_and_days, seed)
        first_day = start_of(spell_plan.labels[0])
        register = approvals.entries(approvals.operations(fusions, first_day, seed), seed).orderBy("approval_id")
        output = OutputFile(REGISTER, "csv", register.columns)
        one = register.coalesce(1).withColumn("file", F.lit(0))
        counts[REGISTER] = write_table(one, out / "data" / REGISTER, {0: output}, one_file=True)
    if histories:
        layouts = {table.name: [name for name in table.frame.columns if name != "file"] for table in tables}
        for role, rows in write_histories(out / "data", system, starts, layouts).items():
            counts[role] += rows
    counts["practices"] = places().write_practices(out / "practices.csv")
    counts["deprivation"] = places().write_deprivation(out / "deprivation.csv", out / "deprivation_people.csv")
    fifths = [
        "deprivation:  # made up, as everything else",
        "  lookup: deprivation.csv",
        "  population: deprivation_people.csv",
    ]
    sources = _sources(out, system) | {"register": ("local", {REGISTER: {"path": f"data/{REGISTER}/{REGISTER}.csv"}})}
    write_run(out / "run.yml", spell_plan.labels, sources, [*fifths, *approvals.settings(first_day)])
    return counts


def _tables(
    spark: SparkSession, system: str, spells: Plan, attendances: Plan, tables: Lookups, seed: int
) -> list[_Table]:
    if system == "hes":
        return [
            _Table("apc", hes.apc(spark, spells, tables, seed), spells, hes.column_names),
            _Table("op", hes.op(spark, attendances, tables, seed), attendances, hes.column_names),
        ]

    def names_in_case(plan: Plan, shift: int) -> Callable[[list[str], int], list[str]]:
        return lambda names, start: sus_plus.column_case(names, plan.starts.index(start) + shift)

    admitted = sus_plus.admitted(spark, spells, tables, seed)
    return [
        _Table("apcs", sus_plus.apcs(admitted, seed), spells, names_in_case(spells, 0)),
        _Table("apcs_der", sus_plus.apcs_der(admitted, seed), spells, names_in_case(spells, 1)),
        _Table("opa", sus_plus.opa(spark, attendances, tables, seed), attendances, names_in_case(attendances, 2)),
    ]


def _check(out: Path, years: Sequence[str], spells: int, attendances: int, system: str, file_format: str) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"generate: {out} exists and is not an empty folder",
            remedy="name a new folder, or empty this one yourself",
        )
    if not years:
        raise InputError("generate: no year is given", remedy="give one, such as 2021-22")
    if spells < 1 or attendances < 1:
        raise InputError("generate: spells and attendances must be 1 or more", remedy="ask for at least one of each")
    for what, value, known in (
        ("system", system, ("sus_plus", "hes")),
        ("format", file_format, FILE_FORMATS),
    ):
        if value not in known:
            raise InputError(f"generate: unknown {what} {value!r}", remedy=f"use one of {', '.join(known)}")


def _output(out: Path, system: str, table: _Table, number: int, columns: list[str], file_format: str) -> OutputFile:
    plan = table.plan
    last = number == len(plan.starts) - 1
    kind = ("parquet" if last else "csv") if file_format == "mixed" else file_format
    name = f"{table.name}_{plan.labels[number]}"
    if kind == "parquet":
        return OutputFile(name, kind, columns)
    names = table.names(columns, plan.starts[number])
    if system != "hes":
        return OutputFile(name, kind, names)
    delimiter = "|" if plan.starts[number] <= shares.LAST_PIPE_YEAR else ","
    headers = out / "data" / f"{table.name}_headers.txt" if (table.name, number) == HEADERLESS else None
    return OutputFile(name, kind, names, delimiter, headers)


def _sources(out: Path, system: str) -> dict[str, tuple[str, dict[str, dict[str, object]]]]:
    """The sources of the run configuration: name → (system, role → table entry)."""
    data = out / "data"
    admitted, outpatient = (("apc",), ("op",)) if system == "hes" else (("apcs", "apcs_der"), ("opa",))
    entries: dict[str, dict[str, object]] = {
        role: {"path": globs(data / role, out)} for role in (*admitted, *outpatient)
    }
    for role, entry in entries.items():
        if (data / f"{role}_headers.txt").exists():
            entry["headers_file"] = f"data/{role}_headers.txt"
    return {
        name: (system, {role: entries[role] for role in roles})
        for name, roles in (("admitted", admitted), ("outpatient", outpatient))
    }


@contextlib.contextmanager
def _without_whole_stage_code(spark: SparkSession) -> Iterator[None]:
    """Switch whole-stage code generation off: for rows this wide the generated method would exceed 64 KB, and Spark would
    only fall back after trying."""
    name = "spark.sql.codegen.wholeStage"
    before = spark.conf.get(name, "true")
    try:
        spark.conf.set(name, "false")
    except Exception:  # a platform that refuses the setting still works, more slowly
        yield
        return
    try:
        yield
    finally:
        spark.conf.set(name, before or "true")
