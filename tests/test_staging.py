"""Rows that are staged as files, and as tables that Spark writes to silver: both come to the same. What is refused or killed leaves
nothing of either."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from calling import call
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession
from source_rows import APCS, DER, attendance, derived, spell, state, write

from ebi_spark.config.load import load_config
from ebi_spark.lake import staging_area
from ebi_spark.lake.staging_area import FOLDER, StagingArea
from ebi_spark.lake.storage import Lake
from ebi_spark.records import plan
from ebi_spark.runs import history
from ebi_spark.runs.history import RunHistory
from ebi_spark.stages import ingest as stage
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE
from ebi_spark.validation.suites import Check, load_suite
from ebi_spark.validation.violations import ViolationCounter
from jobs import ingest

pytestmark = pytest.mark.usefixtures("one_session")

CONFIG = """
lake: ./lake
max_quarantine_share: 1
{years}
sources:
  both: {{system: sus_plus, tables: {{apcs: apcs/*.csv, apcs_der: der/*.csv, opa: opa/*.csv}}}}
"""
COLUMNS = {
    "silver/apc_spell": "* EXCLUDE (run_id)",
    "silver/op_attendance": "* EXCLUDE (run_id)",
    "silver/quarantine": "* EXCLUDE (run_id)",
    "silver/ingest_audit": "* EXCLUDE (run_id, written_at), rows_read - rows_valid - rows_quarantined - rows_duplicate "
    "- rows_outside_years",
}
UNDATED = {"Discharge_Date": "", "Der_Financial_Year": ""}
AGES = ("45", "46")


def put_sources(folder: Path) -> None:
    """Two files of each table. Keys in both files: the same rows, rows that differ, and of two years."""
    for year in (2020, 2021):
        own = [spell(f"{year}-{number}", year, Age_At_Start_of_Spell_SUS=" 45 ") for number in range(3)]
        odd = [
            spell("", year), spell("  ", year), spell(f"{year}-open", **UNDATED), spell(f"{year}-soon", Discharge_Date="soon"),
            spell("twice", year), spell("same"), spell("differs", Age_At_Start_of_Spell_SUS=AGES[year % 2]),
            spell("old", 2015, Extract_Date="2016-01-01"), spell("later", year, Extract_Date=f"{year}-12-01"),
            spell("case", year, Der_Diagnosis_All="||m54.5,Z98.1||", Administrative_Category="1"),
        ]  # fmt: skip
        path = Path(write(folder / f"apcs/{year}.csv", [*own, *odd], APCS))
        path.write_text(path.read_text() + "a,line,that,is,too,short\n")
        spells = ["nobody", "same", "differs", "later", f"{year}-0", f"{year}-open", ""]
        more = [derived(key, Spell_Dominant_Procedure="v38.2" if key == "differs" else "V382") for key in spells]
        write(folder / f"der/{year}.csv", [*more, derived("2020-1", Spell_Primary_Diagnosis=f"M54{year % 10}")], DER)
        visits = [
            attendance(f"{year}-{number}", Appointment_Date=f"{year}-05-01", Der_Financial_Year="")
            for number in range(3)
        ]
        visits += [
            attendance("", Der_Financial_Year="soon", Appointment_Date=""),
            attendance("disagrees", Der_Financial_Year="2019-20"),
        ]
        write(
            folder / f"opa/{year}.csv",
            [*visits, attendance("twice"), attendance("future", Appointment_Date="2090-05-01")],
        )


State = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source files, which no test changes."""
    folder = tmp_path_factory.mktemp("staged")
    put_sources(folder)
    return folder


def configure(sources: Path, years: str = "") -> None:
    (sources / "run.yml").write_text(CONFIG.format(years=years))


def state_of(place: Path) -> State:
    return {table: state(place, table, columns) for table, columns in COLUMNS.items()}


@pytest.fixture(scope="module")
def lake_of(
    one_session: None, sources: Path, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A folder with a lake of its own, in which an ingest wrote the sources."""

    def made(years: str) -> Path:
        place = tmp_path_factory.mktemp("ingested")
        empty_lake(place / "lake")
        configure(sources, years)
        answer = call(ingest.main, sources, "--lake", str(place / "lake"))
        assert answer["exit"] == 0, answer["error"]
        assert not (place / "lake/silver" / FOLDER).exists()
        return place

    return made


@pytest.fixture(scope="module")
def undisturbed(lake_of: Callable[[str], Path]) -> tuple[Path, list[str]]:
    """The folder of an ingest of all years, and the tables whose files were staged."""
    adopted: list[str] = []
    with noted(adopted):
        return lake_of(""), adopted


@contextlib.contextmanager
def noted(adopted: list[str]) -> Iterator[None]:
    """The tables that take over staged files while this lasts."""
    adopt = Lake.adopt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Lake,
            "adopt",
            lambda lake, table, *rest, **how: (adopted.append(table.name), adopt(lake, table, *rest, **how)),
        )
        yield


@pytest.mark.parametrize("years", ["", 'years: "2021-22"'])
def test_staged_rows_are_the_rows(
    years: str,
    lake_of: Callable[[str], Path],
    undisturbed: tuple[Path, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, adopted = undisturbed
    if years:
        adopted = []
        with noted(adopted):
            place = lake_of(years)
    assert sorted(adopted) == ["apc_spell", "op_attendance"]
    staged = state_of(place)
    monkeypatch.setattr(StagingArea, "adoptable", False)
    not_adopted: list[str] = []
    with noted(not_adopted):
        assert state_of(lake_of(years)) == staged
    assert not_adopted == []
    # By hand: the other keys of spells conflict (twice, differs, case) or their rows cannot be used.
    earlier_years = {"2020-0", "2020-1", "2020-2", "old"}
    keys = {row[2] for row in staged["silver/apc_spell"]}
    assert keys == {"2021-0", "2021-1", "2021-2", "same", "later"} | (set() if years else earlier_years)
    reasons = {reason for row in staged["silver/quarantine"] for reason in row[5]}
    assert {"corrupt_line", "no_key", "undischarged", "no_spell", "conflicting_duplicate"} <= reasons
    assert {row[-1] for row in staged["silver/ingest_audit"]} == {0}
    audited = state(place, "silver/ingest_audit", "role, rows_read")
    assert audited == [(role, rows) for role, rows in (("apcs", 14), ("apcs_der", 8), ("opa", 7)) for _ in range(2)]


@pytest.mark.parametrize("after", ["staging", "linking"])
def test_what_a_killed_run_leaves_is_removed_or_ignored(
    tmp_path: Path,
    after: str,
    sources: Path,
    undisturbed: tuple[Path, list[str]],
    empty_lake: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed when all rows are staged, or when their files are linked into the tables' folders and nothing is committed:
    readers see no row, and the same call comes to what an undisturbed run comes to."""
    configure(sources)
    empty_lake(tmp_path / "lake")
    own_lake = ("--lake", str(tmp_path / "lake"))

    class Killed(BaseException):
        """As if the process ended here."""

    transaction = DeltaTable.create_write_transaction

    def stopped(table: DeltaTable, *given: Any, **named: Any) -> None:
        # Rows of repeated keys are committed before.
        if Path(table.table_uri).name != "repeated_row":
            raise Killed
        transaction(table, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(staging_area.shutil, "rmtree", lambda *_, **__: None)
        if after == "staging":
            patch.setattr(plan, "count_files", lambda *_, **__: (_ for _ in ()).throw(Killed))
        else:
            patch.setattr(DeltaTable, "create_write_transaction", stopped)
        with pytest.raises(Killed):
            call(ingest.main, sources, *own_lake)
    left = list((tmp_path / "lake/silver").rglob("*.parquet"))
    assert {path.relative_to(tmp_path / "lake/silver").parts[0] for path in left} >= {FOLDER}
    assert any("apc_spell" in path.parts for path in left) == (after == "linking")
    for table in ("silver/apc_spell", "silver/op_attendance", *(["silver/quarantine"] if after == "staging" else [])):
        assert state(tmp_path, table, "count(*)") == [(0,)]
    answer = call(ingest.main, sources, *own_lake)
    assert answer["exit"] == 0, answer["error"]
    assert not (tmp_path / "lake/silver" / FOLDER).exists()
    assert state_of(tmp_path) == state_of(undisturbed[0])


def test_what_an_ingest_has_checked_is_not_read_again(
    spark: SparkSession, tmp_path: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_sources(tmp_path)
    empty_lake(tmp_path / "lake")
    (tmp_path / "run.yml").write_text(CONFIG.format(years=""))
    config = load_config(tmp_path / "run.yml")
    lake = Lake(spark, config.lake, "r")
    silver = {"apc_spell": APC_SPELL, "op_attendance": OP_ATTENDANCE}

    def passed() -> dict[str, set[str]]:
        years = {year for table in silver.values() for year in lake.years(table)}
        return RunHistory(Lake(spark, config.lake, "r"), config, "r").passed_checks(years)

    # A condition that the records of one year do not meet.
    with monkeypatch.context() as patch:
        for module in (stage, history):
            patch.setattr(module, "row_checks", lambda name: {"x": "record_id <> '2021-1'"})
        assert call(ingest.main, tmp_path)["exit"] == 0
        found = passed()
        assert found.keys() == silver.keys()
        assert all("2020-21" in years and "2021-22" not in years for years in found.values())
    assert passed() == {}, "the checks are others"
    put_sources(tmp_path)
    write(tmp_path / "opa/more.csv", [attendance("more")])
    write(tmp_path / "apcs/more.csv", [spell("more")], APCS)
    assert call(ingest.main, tmp_path)["exit"] == 0
    assert {name: years & set(lake.years(silver[name])) for name, years in passed().items()} == {
        name: set(lake.years(table)) for name, table in silver.items()
    }
    # What is known is not read, but everything else is: 2020-1 and 2021-1 do not meet this check.
    check = Check("x", "", "row", "record_id NOT LIKE '%-1'")
    known = {"op_attendance": ["2021-22"]}
    counters = [ViolationCounter(lake, None, None, passed=skipped) for skipped in ({}, known)]
    suites = [replace(load_suite("op_attendance"), checks=(check,))]
    assert [counter.violations(suites).counts["op_attendance", "x"] for counter in counters] == [2, 1]
    # Another tool adds a row.
    table = DeltaTable(tmp_path / "lake/silver/apc_spell")
    write_deltalake(table, table.to_pyarrow_table().slice(0, 1), mode="append")
    assert passed().keys() == {"op_attendance"}
