"""Many files over time: submissions in any order, the same rows again, years in batches, and quarantined rows that are
corrected."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from calling import answer_of, call, duckdb_on_delta
from calling import ingest as ingested
from pyspark.sql import SparkSession
from source_rows import APCS, DER, OPA, attendance, derived, spell, state, write

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import BrokenRunError
from ebi_spark.lake import staging_area, writers
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.lake.storage import Lake
from ebi_spark.records import plan, upsert
from ebi_spark.records.file_counts import FileCount, FileCounts
from ebi_spark.records.ingest_audit import IngestSummary
from ebi_spark.records.quarantine_summary import quarantine_summary
from ebi_spark.records.years_to_replace import batches
from ebi_spark.small_frames import small_frame
from ebi_spark.stages import ingest as stage
from ebi_spark.stages import whole_run
from ebi_spark.tables.silver import APC_SPELL, INGEST_AUDIT, OP_ATTENDANCE, QUARANTINE
from ebi_spark.tables.table import Table
from jobs import ingest, status

pytestmark = pytest.mark.usefixtures("one_session")


@pytest.fixture
def take_in(
    spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path: Path
) -> Callable[..., tuple[Lake, IngestSummary]]:
    """Ingest some tables into a lake of the test's own."""
    runs = iter(range(100))

    def taken(mode: str, **tables: str | list[str]) -> tuple[Lake, IngestSummary]:
        folder = tmp_path / "lake"
        if not folder.exists():
            empty_lake(folder)
        sources = {
            role: TableSource(role, tuple([paths] if isinstance(paths, str) else paths))
            for role, paths in tables.items()
        }
        config = RunConfig(
            lake=LakeLocation(folder=folder), sources=(Source("sus", "sus_plus", sources),), mode=mode,
            max_quarantine_share=1.0, accept_shrunken=True,
        )  # fmt: skip
        at = Lake(spark, config.lake, f"run-{next(runs)}")
        return at, ingested(at, config)

    return taken


def rows(lake: Lake, table: Table, *columns: str) -> list[tuple[Any, ...]]:
    with duckdb_on_delta() as reader:
        place = Path(str(lake.location.folder)) / table.full_name
        query = f"SELECT {', '.join(columns)} FROM delta_scan('{place}') ORDER BY ALL"
        return reader.execute(query).fetchall()


@dataclass
class Submissions:
    """Monthly submissions of attendances, and the lake that they must lead to."""

    made: list[dict[str, str]]
    expected: list[tuple[str, str, int, date]]


def monthly_submissions(folder: Path) -> Submissions:
    """Attendances ``K0`` to ``K39`` of three monthly extracts, the later two with a list of withdrawn keys."""
    draw = random.Random(20)
    # The expected end result, key by key: the latest extract's row, unless a list of that day or later has the key.
    latest: dict[str, tuple[str, str, str]] = {}
    gone: dict[str, str] = {}
    submissions: list[dict[str, str]] = []
    for month in range(1, 4):
        extract = f"2022-{month:02d}-10"
        keys = draw.sample(range(40), 22)
        made = []
        for key in keys:
            year, age = draw.choice([("2021-05-01", "2021-22"), ("2020-09-01", "2020-21")]), str(draw.randint(20, 23))
            made.append(
                attendance(
                    f"K{key}", Appointment_Date=year[0], Der_Financial_Year=year[1], Extract_Date=extract,
                    Age_at_Start_of_Episode_SUS=age,
                )
            )  # fmt: skip
            latest[f"K{key}"] = max(latest.get(f"K{key}", ("", "", "")), (extract, year[1], age))
        if month == 1:  # what a later submission withdraws
            made += [attendance(key, Extract_Date=extract) for key in ("A", "B")]
        submission = {"opa": write(folder / f"opa_{month}.csv", made)}
        if month > 1:
            listed = [f"K{key}" for key in draw.sample(range(40), 6)]
            withdrawn(folder / f"gone_{month}/part.csv", listed, extract)
            submission["opa_withdrawn"] = str(folder / f"gone_{month}")  # a folder, as Spark writes one
            gone |= {key: max(gone.get(key, ""), extract) for key in listed}
        submissions.append(submission)
    expected = sorted(
        (key, year, int(age), date.fromisoformat(extract))
        for key, (extract, year, age) in latest.items()
        if gone.get(key, "") < extract
    )
    assert 0 < len(expected) < len(latest)
    assert any(gone.get(key, "9999") < extract for key, (extract, _, _) in latest.items()), "one comes back"
    return Submissions(submissions, expected)


def withdrawn(path: Path, keys: Iterable[str], extract: str) -> str:
    return write(path, [{"OPA_Ident": key, "Extract_Date": extract} for key in keys], ["OPA_Ident", "Extract_Date"])


def test_submissions_in_any_order_come_to_the_same(take_in: Any, tmp_path: Path) -> None:
    """One lake, submission after submission.

    Attendances: ``K0`` to ``K39`` of three months in a mixed order, then a submission again, then one that only withdraws.
    Spells: an undischarged one, and the extract that discharges it. In either order nothing is quarantined, because a row
    that comes late is a copy though it could not be used.
    """
    monthly = monthly_submissions(tmp_path)
    january, february, march = monthly.made
    other = spell("2", Extract_Date="2022-01-10")
    early = write(tmp_path / "early.csv", [spell("1", Discharge_Date="", Extract_Date="2022-01-10"), other], APCS)
    late = write(tmp_path / "late.csv", [spell("1", Extract_Date="2022-02-10"), spell("")], APCS)
    no_row = {"apcs_der": write(tmp_path / "der.csv", [], DER)}
    for submission, paths in ((february, late), (march, early), (january, early)):
        lake, done = take_in("upsert", **submission, apcs=paths, **no_row)
        assert rows(lake, APC_SPELL, "record_id")[0] == ("1",)
        assert rows(lake, QUARANTINE, "reasons") == [(["no_key"],)]
    assert done.reasons == {}
    attendances = rows(lake, OP_ATTENDANCE, "record_id", "financial_year", "age", "extract_date")
    assert [row for row in attendances if row[0].startswith("K")] == monthly.expected
    assert [row[0] for row in attendances if not row[0].startswith("K")] == ["A", "B"]
    counts = ("rows_read", "rows_valid", "rows_quarantined", "rows_duplicate")
    audit = rows(lake, INGEST_AUDIT, "source_file", *counts, "map_keys(reasons)")
    assert [row for row in audit if row[0] == early] == [(early, 2, 1, 0, 1, [])] * 2
    for _, read, *parts, _ in audit:
        assert read == sum(parts)

    # Read again, nothing is written, and the audit says so.
    version = lake.version(OP_ATTENDANCE)
    lake, again = take_in("upsert", **march)
    assert lake.version(OP_ATTENDANCE) == version
    assert (again.changed_years, again.records) == (set(), {"op": 0})
    assert sum(again.not_written[fate] for fate in ("unchanged", "older", "withdrawn since")) == 22

    # The file of attendances has its header alone; the list names one key that the lake has and one that it has not.
    lake, done = take_in(
        "upsert",
        opa=write(tmp_path / "none.csv", []),
        opa_withdrawn=withdrawn(tmp_path / "gone.csv", ["B", "C"], "2022-02-10"),
    )
    attendances = rows(lake, OP_ATTENDANCE, "record_id")
    assert [key for (key,) in attendances if not key.startswith("K")] == ["A"]
    assert len(attendances) == len(monthly.expected) + 1
    assert done.not_written["taken out"] == 1
    # The key that comes back by a later extract in the same submission is replaced, not taken out. And an undischarged spell
    # of a later extract than the record's is not a duplicate of it.
    write(tmp_path / "early.csv", [spell("1", Discharge_Date="", Extract_Date="2022-03-10"), other], APCS)
    lake, done = take_in(
        "upsert",
        opa=write(tmp_path / "again.csv", [attendance("A", Extract_Date="2022-04-10")]),
        opa_withdrawn=withdrawn(tmp_path / "then.csv", ["A"], "2022-03-10"),
        apcs=early,
        **no_row,
    )
    attendances = rows(lake, OP_ATTENDANCE, "record_id", "extract_date")
    assert [row for row in attendances if not row[0].startswith("K")] == [("A", date(2022, 4, 10))]
    assert done.not_written.get("taken out", 0) == 0
    assert sorted(rows(lake, QUARANTINE, "reasons")) == [(["no_key"],), (["undischarged"],)]


def audited(lake: Lake, table: Table) -> None:
    """Every row of a run is in the audit of that run."""
    counts = {APC_SPELL: "records_built", OP_ATTENDANCE: "records_built", QUARANTINE: "rows_quarantined"}
    audit = rows(lake, INGEST_AUDIT, "run_id", "dataset", counts[table])
    written = Counter(rows(lake, table, "run_id", "dataset"))
    assert written
    for (run, dataset), number in written.items():
        assert number <= sum(counted for by, of, counted in audit if (by, of) == (run, dataset)), (run, dataset)


def test_submissions_that_contradict_meet_or_break_off(
    take_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lake, submission after submission: attendances A to D, spells 1 and 2 with what was derived of them."""
    one, two = {"Extract_Date": "2022-01-10"}, {"Extract_Date": "2022-02-10"}
    codes = ("record_id", "procedure_codes")
    first = {
        "opa": write(tmp_path / "first.csv", [attendance(key, **one) for key in ("A", "B", "")]),
        "apcs": write(tmp_path / "a1.csv", [spell("1", **one), spell("2", **one)], APCS),
        "apcs_der": write(tmp_path / "d1.csv", [derived("1", **one), derived("2", **one)], DER),
    }
    # Stopped before its audit: the same call writes again what is in no audit.
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take_in("upsert", **first)
    lake, _ = take_in("upsert", **first)
    for table in (APC_SPELL, OP_ATTENDANCE, QUARANTINE):
        audited(lake, table)

    # Two files of one extract say different things about A. While one is ingested, another submission adds D.
    other = write(tmp_path / "other.csv", [attendance("A", Der_Procedure_All="U054", **one), attendance("C", **one)])
    meanwhile = write(tmp_path / "meanwhile.csv", [attendance("D", **one)])
    merged = upsert.merged

    def met(*given: Any) -> Any:
        frame = merged(*given)
        patch.setattr(upsert, "merged", merged)
        take_in("upsert", opa=meanwhile)
        return frame

    with monkeypatch.context() as patch:
        patch.setattr(upsert, "merged", met)
        # As in a catalogue, which has no lock: Spark reads and writes every table, and no run removes what another has staged.
        patch.setattr(Lake, "_without_spark", lambda *_: False)
        patch.setattr(writers, "_takes_files", lambda *_: False)
        patch.setattr(staging_area.shutil, "rmtree", lambda *_, **__: None)
        try:
            lake, done = take_in("upsert", opa=other)
        except BrokenRunError as error:
            assert "another run committed" in error.message
            lake, done = take_in("upsert", opa=other)
    assert rows(lake, OP_ATTENDANCE, *codes) == [(key, ",U055,") for key in "ABCD"]
    assert done.reasons == {"conflicting_duplicate": 1}
    quarantined = rows(lake, QUARANTINE, "record_id", "reasons")
    assert quarantined == [("A", ["conflicting_duplicate"]), (None, ["no_key"])]
    assert (2, 1, 1, 1) in rows(lake, INGEST_AUDIT, "rows_read", "rows_valid", "rows_quarantined", "records_built")

    # A corrected file replaces what it said before; a later extract resolves the conflict, and nothing is left of it.
    write(tmp_path / "first.csv", [attendance("A", Der_Procedure_All="U133", **one), attendance("B", **one)])
    lake, _ = take_in("upsert", opa=first["opa"])
    assert rows(lake, OP_ATTENDANCE, *codes)[0] == ("A", ",U133,")
    assert rows(lake, QUARANTINE, "record_id") == [("A",)]
    lake, _ = take_in(
        "upsert",
        opa=write(tmp_path / "later.csv", [attendance("A", Der_Procedure_All="U212", **two)]),
        apcs=write(tmp_path / "a2.csv", [spell("2", **two)], APCS),
        apcs_der=write(tmp_path / "d2.csv", [derived("2", Spell_Dominant_Procedure="V384", **two)], DER),
    )
    assert rows(lake, OP_ATTENDANCE, *codes)[0] == ("A", ",U212,")
    assert rows(lake, APC_SPELL, "record_id", "dominant_procedure") == [("1", "V382"), ("2", "V384")]
    assert rows(lake, QUARANTINE, "record_id") == []


def test_the_same_rows_again_change_nothing_whatever_their_order(
    take_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spells, more = [spell(str(n), year=2020 + n % 2) for n in range(20)], [derived(str(n)) for n in range(20)]
    bad = spell("", Discharge_Date="soon")
    paths = {
        "apcs": write(tmp_path / "a.csv", [*spells, bad], APCS),
        "apcs_der": write(tmp_path / "d.csv", more, DER),
    }
    with monkeypatch.context() as patch:  # broken off before its account: not "the same" as anything
        patch.setattr(Lake, "append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take_in("refresh", **paths)
    lake, first = take_in("refresh", **paths)
    audited(lake, APC_SPELL)
    audited(lake, QUARANTINE)
    assert first.records == {"apc": 20}
    versions = {table.full_name: lake.version(table) for table in (APC_SPELL, QUARANTINE)}
    write(tmp_path / "a.csv", [bad, *spells[::-1]], APCS)
    write(tmp_path / "d.csv", more[::-1], DER)
    lake, again = take_in("refresh", **paths)
    assert {table.full_name: lake.version(table) for table in (APC_SPELL, QUARANTINE)} == versions
    assert (again.changed_years, again.records, again.not_written) == (set(), {"apc": 0}, {"unchanged": 20})
    audits = rows(lake, INGEST_AUDIT, "role", "rows_checksum", "records_built + records_unchanged")
    assert audits[0] == audits[1] != audits[2]
    # One value of one derived row has changed: the checksum differs, and the records are written.
    write(tmp_path / "d.csv", [*more[1:], derived("0", Spell_Primary_Diagnosis="M549")], DER)
    lake, changed = take_in("refresh", **paths)
    assert changed.records == {"apc": 20}
    assert len({row[0] for row in rows(lake, INGEST_AUDIT, "rows_checksum") if row[0]}) == 2
    # One quarantined row has changed: it is written too, even though the number of rows is the same.
    versions = {table.full_name: lake.version(table) for table in (APC_SPELL, QUARANTINE)}
    write(tmp_path / "a.csv", [spell("", Discharge_Date="later"), *spells], APCS)
    lake, _ = take_in("refresh", **paths)
    assert lake.version(APC_SPELL) == versions["silver/apc_spell"]
    assert lake.version(QUARANTINE) > versions["silver/quarantine"]


# Years in batches


def counted(**files: dict[str | None, int]) -> FileCounts:
    return FileCounts(
        {("sus_plus", "opa"): {path: FileCount(years=Counter(years)) for path, years in files.items()}},
        {"op": dict.fromkeys({year for years in files.values() for year in years if year}, 1)},
    )


def test_years_linked_by_files_are_in_one_batch() -> None:
    found = counted(
        a={"2019-20": 5}, b={"2020-21": 5, "2021-22": 1}, c={"2021-22": 5, None: 1}, d={"2022-23": 5}, e={None: 2}
    )
    years = ["2019-20", "2020-21", "2021-22", "2022-23"]
    made = batches(found, years, 1)
    assert [(batch.years, sorted(batch.files)) for batch in made] == [
        (["2019-20"], ["a", "e"]), (["2020-21", "2021-22"], ["b", "c"]), (["2022-23"], ["d"]),
    ]  # fmt: skip
    assert [batch.years for batch in batches(found, years, 100)] == [years]
    assert [batch.years for batch in batches(found, ["2022-23"], 1)] == [["2022-23"]]
    # Every file is in one batch, those of other years too: each is audited for once.
    assert sorted(batches(found, ["2022-23"], 1)[0].files) == ["a", "b", "c", "d", "e"]


CONFIG = """
lake: ./lake
max_quarantine_share: 1
sources:
  admitted: {system: sus_plus, tables: {apcs: apcs/*.csv, apcs_der: der/*.csv}}
"""


@pytest.fixture
def source(empty_lake: Callable[[Path], Path], tmp_path: Path) -> Path:
    for year in (2019, 2020, 2021):
        bad = [spell("", year), spell(f"{year}-X", year, Discharge_Date="soon", Der_Financial_Year="")]
        write(tmp_path / f"apcs/{year}.csv", [*(spell(f"{year}-{n}", year) for n in range(4)), *bad], APCS)
        write(tmp_path / f"der/{year}.csv", [derived(f"{year}-{n}") for n in range(4)], DER)
    (tmp_path / "run.yml").write_text(CONFIG)
    empty_lake(tmp_path / "lake")
    return tmp_path


def test_an_interrupted_backfill_resumes_after_its_last_batch(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import run

    write(source / "opa.csv", [attendance("A", Appointment_Date="2019-05-01", Der_Financial_Year="2019-20")])
    (source / "run.yml").write_text(CONFIG.replace("der/*.csv}", "der/*.csv, opa: opa.csv}"))
    monkeypatch.setattr(plan, "BATCH_ROWS", 1)
    monkeypatch.setattr(
        whole_run, "silver_years", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )  # ingest is enough
    written = stage.write_batch
    seen: list[list[str]] = []

    def stopped_at(number: int) -> None:
        def write_or_stop(lake: Any, whole: Any, batch: Any, *more: Any) -> Any:
            if len(seen) == number:
                raise KeyboardInterrupt
            seen.append(batch.years)
            return written(lake, whole, batch, *more)

        monkeypatch.setattr(stage, "write_batch", write_or_stop)

    stopped_at(2)
    assert call(run.main, source)["exit"] == 130
    assert seen == [["2019-20"], ["2020-21"]]
    seen.clear()
    stopped_at(99)
    assert call(run.main, source)["exit"] == 130
    assert seen == [["2021-22"]]
    whole = {
        "silver/apc_spell": "record_id, financial_year, source_file",
        "silver/quarantine": "record_id, financial_year, reasons, source_file",
    }
    in_batches = {table: state(source, table, columns) for table, columns in whole.items()}
    assert [len(found) for found in in_batches.values()] == [12, 6]
    audit = state(source, "silver/ingest_audit", "role, source_file, rows_read, rows_valid, rows_quarantined")
    assert sorted({row[:2] for row in audit}) == sorted(row[:2] for row in audit), "each file is audited for once"
    assert sum(row[2] for row in audit) == 3 * 6 + 3 * 4 + 1

    # A year whose file changes is the only one read; the batches of the others are not processed again.
    seen.clear()
    write(source / "apcs/2020.csv", [spell(f"2020-{n}", 2020, Admission_Method="12") for n in range(4)], APCS)
    assert call(run.main, source)["exit"] == 130
    assert seen == [["2020-21"]]
    assert [len(state(source, table, columns)) for table, columns in whole.items()] == [12, 4]

    # One year alone: quarantined rows of the other files, and rows without a year, stay unchanged.
    write(source / "apcs/2019.csv", [spell(f"2019-{n}", 2019) for n in range(4)] + [spell("", 2019)], APCS)
    quarantined = state(source, "silver/quarantine", whole["silver/quarantine"])
    assert call(ingest.main, source, "--years", "2019-20")["exit"] == 0
    left = state(source, "silver/quarantine", whole["silver/quarantine"])
    assert [(row[0], row[2]) for row in quarantined if row not in left] == [("2019-X", ["no_usable_date"])]
    assert len(left) == len(quarantined) - 1

    # All years at once give the same result.
    monkeypatch.setattr(plan, "BATCH_ROWS", 10**9)
    before = {table: state(source, table, columns) for table, columns in whole.items()}
    assert call(ingest.main, source)["exit"] == 0
    assert {table: state(source, table, columns) for table, columns in whole.items()} == before


WHOLE = {
    "silver/apc_spell": "record_id, financial_year, dominant_procedure, source_file",
    "silver/quarantine": "role, record_id, financial_year, reasons, source_file",
}


@dataclass(frozen=True)
class Change:
    """Further rows of a file of spells before and after it changes, and of files of another year, by their keys."""

    years: tuple[int, int]
    before: list[str]
    after: list[str]
    others: dict[str, list[str]]
    linked: bool  # whether the files have rows of the same year before the change, which puts both years in one batch


# Each has two years, with files of its own for each of them.
CHANGES = [
    # Keys of two years with two contents, so that none counts: the file loses one key and gains another.
    Change((2011, 2013), ["S"], ["T"], {"apcs": ["S", "T"]}, linked=False),
    # The spell of a row of APCS_Der in another file.
    Change((2015, 2017), ["U"], [], {"der": ["U"]}, linked=True),
    # A row of the other file's year, which disappears with its key.
    Change((2019, 2021), ["V of 2021"], [], {}, linked=True),
]


def test_a_file_that_changes_changes_what_counts_of_others(
    source: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After files have changed, the lake is what all files would make of an empty one."""
    from jobs import run

    monkeypatch.setattr(
        whole_run, "silver_years", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )  # ingest is enough
    for file in (*source.glob("apcs/*"), *source.glob("der/*")):
        file.unlink()

    def put(table: str, year: int, keys: Iterable[str]) -> None:
        of = [*(f"{year}-{n}" for n in range(2)), *keys]
        dated = [(key, int(of_year or year)) for key, _, of_year in (key.partition(" of ") for key in of)]
        rows = [spell(key, year) for key, year in dated] if table == "apcs" else [derived(key) for key in of]
        write(source / f"{table}/{year}.csv", rows, APCS if table == "apcs" else DER)

    def batches_of_a_run() -> list[list[str]]:
        """The years of each batch that a run takes, by the log."""
        ended = state(source, "gold/run_log", "started_at")
        assert call(run.main, source, "--accept-shrinkage")["exit"] == 130
        batches = state(source, "gold/run_log", "started_at, years")
        assert all(row[:1] in ended for row in batches[: len(ended)])
        return sorted(years for _, years in batches[len(ended) :] if years)

    def labels(*years: int) -> list[str]:
        return [f"{year}-{year % 100 + 1}" for year in years]

    monkeypatch.setattr(plan, "BATCH_ROWS", 1)
    for change in CHANGES:
        first, second = change.years
        put("apcs", first, change.before)
        put("der", first, [])
        for table in ("apcs", "der"):
            put(table, second, change.others.get(table, []))
    # Files that have rows of the same year are in the same batch.
    together = [labels(*change.years) for change in CHANGES if change.linked]
    apart = [labels(year) for change in CHANGES if not change.linked for year in change.years]
    assert batches_of_a_run() == sorted(together + apart)
    for change in CHANGES:
        put("apcs", change.years[0], change.after)
    assert batches_of_a_run() == [labels(year) for change in CHANGES for year in change.years]
    found = {table: state(source, table, columns) for table, columns in WHOLE.items()}
    # The same values again: its own batch is processed and finds nothing to write; the other batch is not processed.
    for change in CHANGES:
        put("apcs", change.years[0], change.after)
    assert batches_of_a_run() == [labels(change.years[0]) for change in CHANGES]
    assert batches_of_a_run() == []
    assert found == {table: state(source, table, columns) for table, columns in WHOLE.items()}
    monkeypatch.setattr(plan, "BATCH_ROWS", 10**9)
    empty_lake(source / "again/lake")
    assert call(ingest.main, source, "--lake", str(source / "again/lake"))["exit"] == 0
    assert found == {table: state(source / "again", table, columns) for table, columns in WHOLE.items()}


def test_quarantined_rows_are_read_again_once_corrected(source: Path) -> None:
    assert call(ingest.main, source)["exit"] == 0
    columns = "record_id, reasons, source_file"
    assert len(state(source, "silver/quarantine", columns)) == 6
    listed = answer_of(status.main, "--lake", str(source / "lake"))["status"]["quarantine"]
    assert [(item["role"], item["reason"], item["rows"], item["files"], item["columns"]) for item in listed] == [
        ("apcs", "no_key", 3, 3, ["APCS_IDENT"]),
        ("apcs", "no_usable_date", 3, 3, ["DISCHARGE_DATE", "DER_FINANCIAL_YEAR"]),
    ]
    # Corrected at the source: one row of one file. The other rows stay in quarantine.
    write(source / "apcs/2020.csv", [spell(f"2020-{n}", 2020) for n in [0, 1, 2, 3, "X"]], APCS)
    write(source / "der/2020.csv", [derived(f"2020-{n}") for n in [0, 1, 2, 3, "X"]], DER)
    keys = "record_id, dominant_procedure"
    for _ in ("once", "and no more"):
        answer = call(ingest.main, source, "--retry-quarantine")
        assert answer["exit"] == 0
        spells = state(source, "silver/apc_spell", keys)
        assert len(spells) == 13
        assert ("2020-X", "V382") in spells
        assert len(state(source, "silver/quarantine", columns)) == 4

    # By a mapping in the configuration: the date is in another column.
    moved = [*APCS, "Ended"]
    for year in (2019, 2021):
        records = [{**spell(f"{year}-{n}", year), "Ended": f"{year}-06-01"} for n in range(4)]
        records.append(
            {**spell(f"{year}-X", year, Discharge_Date="soon", Der_Financial_Year=""), "Ended": f"{year}-06-02"}
        )
        write(source / f"apcs/{year}.csv", records, moved)
    write(
        source / "apcs/2020.csv",
        [{**spell(f"2020-{n}", 2020), "Ended": "2020-06-01"} for n in [0, 1, 2, 3, "X"]],
        moved,
    )
    (source / "run.yml").write_text(
        CONFIG.replace("apcs: apcs/*.csv", "apcs: {path: apcs/*.csv, columns: {discharge_date: Ended}}")
    )
    assert call(ingest.main, source, "--retry-quarantine")["exit"] == 0
    assert len(state(source, "silver/apc_spell", keys)) == 15
    assert state(source, "silver/quarantine", columns) == []
    assert call(ingest.main, source, "--retry-quarantine")["stages"][0]["skipped"]


def test_the_quarantine_summary_names_the_columns_in_which_rows_conflict(spark: SparkSession, tmp_path: Path) -> None:
    def row(key: str, raw: str) -> dict[str, Any]:
        return {"source_system": "hes", "dataset": "op", "role": "op", "record_id": key, "raw": raw, "source_file": "f",
                "reasons": ["conflicting_duplicate"]}  # fmt: skip

    made = [
        row("1", '{"SEX": "1", "APPTAGE": "45", "REFSOURC": null, "LOADED": "1"}'),
        row("1", '{"SEX": "1", "APPTAGE": "46", "REFSOURC": "01", "LOADED": "2"}'),
        row("2", '{"SEX": "1", "APPTAGE": "7", "LOADED": "1"}'),
        row("2", '{"SEX": "1", "APPTAGE": "8", "LOADED": "2"}'),
        row("3", '{"SEX": "2"}') | {"reasons": ["no_usable_date", "conflicting_duplicate"]},
    ]
    lake = Lake(spark, LakeLocation(folder=tmp_path))
    small_frame(spark, made, QUARANTINE.schema).write.format("delta").save(str(tmp_path / QUARANTINE.full_name))
    listed = quarantine_summary(lake)
    assert quarantine_summary(LocalLake(lake.location)) == listed
    found = {item["reason"]: item for item in listed}
    assert found["conflicting_duplicate"]["columns"] == ["APPTAGE", "REFSOURC", "LOADED"]
    assert found["no_usable_date"]["columns"] == ["APPTDATE", "FYEAR"]
    assert (found["no_usable_date"]["rows"], found["conflicting_duplicate"]["rows"]) == (1, 5)


@pytest.mark.parametrize(
    ("tables", "mode", "words"),
    [
        ("{system: hes, tables: {apc: x.csv}}", "upsert", ["apc", "refresh"]),
        ("{system: sus_plus, tables: {opa: opa.csv, opa_withdrawn: x.csv}}", "refresh", ["opa_withdrawn", "upsert"]),
        (
            "{system: sus_plus, tables: {apcs: a.csv, apcs_der: d.csv, opa_withdrawn: x.csv}}",
            "upsert",
            ["no source has opa", "add opa"],
        ),
        ("{system: sus_plus, tables: {opa: opa.csv}}", "upsert", ["opa.csv", "extract_date", "EXTRACT_DATE"]),
    ],
)
def test_what_a_mode_cannot_do_is_said(tables: str, mode: str, words: list[str], tmp_path: Path) -> None:
    write(tmp_path / "opa.csv", [{k: v for k, v in attendance("A").items() if k != "Extract_Date"}], OPA[:-1])
    (tmp_path / "run.yml").write_text(f"lake: ./lake\nmode: {mode}\nsources: {{s: {tables}}}\n")
    answer = call(ingest.main, tmp_path)
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    message = f"{answer['error']['message']} {answer['error']['remedy']}"
    assert all(word in message for word in words), message
