"""The files that an ingest reads again after some source files have changed. Afterwards the lake is what all files
would make of an empty one, and no more files were read than necessary."""

import itertools
import os
import random
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from calling import call
from source_rows import APCS, DER, Row, attendance, derived, spell, state, write

from ebi_spark.config import load
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.records import plan
from ebi_spark.runs import stage_inputs
from ebi_spark.runs.history import RunHistory
from ebi_spark.sources.file_inventory import is_configured
from ebi_spark.stages import whole_run
from ebi_spark.stages.whole_run import silver_years
from jobs import ingest, run

pytestmark = pytest.mark.usefixtures("one_session")

CONFIG = """
lake: ./lake
max_quarantine_share: {share}
sources:
  both: {{system: sus_plus, tables: {{apcs: apcs/*.csv, apcs_der: der/*.csv, opa: [opa/*.csv]}}}}
"""
TABLE_COLUMNS = {
    "silver/apc_spell": "record_id, financial_year, age, dominant_procedure, dominance_basis, source_file",
    "silver/op_attendance": "record_id, financial_year, age, source_file",
    "silver/quarantine": "role, record_id, financial_year, reasons, source_file, raw",
    "silver/repeated_row": "role, record_id, conflict, is_duplicate, content, source_file",
}


class Sources:
    """Source files of some years, a lake, and the files that each ingest read again (None: all)."""

    def __init__(self, folder: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.empty_lake = folder, empty_lake
        self.numbers = itertools.count()
        self.affected: list[list[str] | None] = []
        found = plan.find_affected_files

        def noted(*given: Any) -> Any:
            affected = found(*given)
            files = [path for table in affected.tables for path in table.state] if affected else None
            self.affected.append(files and sorted("/".join(Path(path).parts[-2:]) for path in files))
            return affected

        monkeypatch.setattr(plan, "find_affected_files", noted)
        monkeypatch.setattr(
            whole_run, "silver_years", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
        )  # ingest is enough
        empty_lake(folder / "lake")
        self.allow(1.0)

    def allow(self, share: float) -> None:
        (self.folder / "run.yml").write_text(CONFIG.format(share=share))

    def configure(self, before: str, after: str) -> None:
        path = self.folder / "run.yml"
        path.write_text(path.read_text().replace(before, after))

    def spells_alone(self) -> None:
        """Configure no attendances: each table takes its time."""
        self.configure(", opa: [opa/*.csv]", "")

    def put(self, name: str, rows: Iterable[Row]) -> None:
        columns = {"apcs": APCS, "der": DER}
        role = name.partition("/")[0]
        write(self.folder / f"{name}.csv", rows, *([columns[role]] if role in columns else []))

    def year(
        self, year: int, *, spells: Iterable[Row] = (), more: Iterable[Row] = (), visits: Iterable[Row] = ()
    ) -> None:
        """The three files of a year, with four usable rows each, and further rows."""
        keys = [f"{year}-{number}" for number in range(4)]
        self.put(f"apcs/{year}", [*(spell(key, year) for key in keys), *spells])
        self.put(f"der/{year}", [*(derived(key) for key in keys), *more])
        self.put(f"opa/{year}", [*(visit(key, year) for key in keys), *visits])

    def remove(self, name: str) -> None:
        (self.folder / f"{name}.csv").unlink()

    def run(self, *options: str, exit: int = 130) -> dict[str, Any]:
        """A run that is interrupted after its ingest."""
        answer = call(run.main, self.folder, *options)
        assert answer["exit"] == exit, answer["error"]
        return answer

    def run_to_the_end(self, *options: str) -> dict[str, Any]:
        """A run of all stages."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(whole_run, "silver_years", silver_years)
            return self.run(*options, exit=0)

    def run_to_rates(self, *options: str) -> None:
        """A run that is interrupted when its rates are written."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(whole_run, "silver_years", silver_years)
            patch.setattr(RunHistory, "why_monitor", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            self.run(*options)

    def lake_state(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table: state(self.folder, table, columns) for table, columns in TABLE_COLUMNS.items()}

    def state_from_scratch(self) -> dict[str, list[tuple[Any, ...]]]:
        """What all files make of an empty lake."""
        place = self.folder / f"scratch-{next(self.numbers)}"
        self.empty_lake(place / "lake")
        assert call(ingest.main, self.folder, "--lake", str(place / "lake"))["exit"] == 0
        return {table: state(place, table, columns) for table, columns in TABLE_COLUMNS.items()}


@pytest.fixture
def sources(tmp_path: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> Sources:
    return Sources(tmp_path, empty_lake, monkeypatch)


def visit(key: str, year: int, **changes: str) -> Row:
    text = f"{year}-{year % 100 + 1:02d}"
    return attendance(key, **{"Appointment_Date": f"{year}-06-01", "Der_Financial_Year": text} | changes)


@pytest.mark.parametrize(
    ("stated", "path", "configured"),
    [
        ("/in/apcs/*.csv", "/in/apcs/2021.csv", True),
        ("/in/apcs/*.csv", "/in/apcs/old/2021.csv", False),
        ("/in/apcs/*.csv", "/in/apcs/2021.csv/part-0", True),  # a folder that Spark wrote
        ("/in/apcs", "/in/apcs/old/2021.csv", True),
        ("/in/apcs", "/in/apcs_der/2021.csv", False),
        ("/in/**/*.csv", "/in/2021.csv", True),
        ("/in/**/*.csv", "/in/apcs/old/2021.csv", True),
        ("/in/202[12].csv", "/in/2023.csv", False),
        ("/in/apcs[2021].csv", "/in/apcs[2021].csv", True),  # a file of that very name
        ("/config/../in/2021.csv", "/in/2021.csv", True),
        ("s3://bucket/in/*.csv", "s3://bucket/in/2021.csv", True),
        ("s3://bucket/in/*.csv", "s3://other/in/2021.csv", False),
    ],
)
def test_which_files_a_configuration_names(stated: str, path: str, configured: bool) -> None:
    sources = [Source("both", "sus_plus", {"apcs": TableSource("apcs", (stated,))})]
    assert is_configured(path, sources) is configured


UNDATED = {"Discharge_Date": "", "Der_Financial_Year": ""}


def files_of(*years: int) -> list[str]:
    """The three files of each year."""
    return [f"{role}/{year}.csv" for role in ("apcs", "der", "opa") for year in years]


def test_a_change_reaches_its_years_its_keys_and_its_days(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes that have nothing to do with each other are made together: the files read are those of each."""

    def on(year: int, month: int, day: int) -> None:
        monkeypatch.setattr(load, "today", lambda *_: date(year, month, day))

    def visits_to_come() -> dict[str, Any]:
        rows = state(sources.folder, "silver/op_attendance", "record_id, financial_year, activity_date")
        return {row[0]: row[1:] for row in rows if row[0].startswith("to come")}

    def quarantined(key: str) -> list[tuple[Any, ...]]:
        return [row for row in state(sources.folder, "silver/quarantine", "record_id, role") if row == (key, "opa")]

    years = range(2012, 2022)  # what the changes reach must be less than half
    for year in years:
        # A quarantined row, a duplicate within the file, and a quarantined row without a year.
        sources.year(
            year,
            spells=[spell("", year), spell(f"{year}-0", year), spell(f"{year}-U", **UNDATED)],
            more=[derived(f"{year}-nobody")],
            visits=[visit(f"{year}-0", year, Age_at_Start_of_Episode_SUS="46")],
        )
    sources.put("der/late", [derived("2018-U")])
    sources.configure("opa/*.csv", "late, opa/*.csv")
    sources.put("late/one", [visit("2012-1", 2012, Appointment_Date="", Der_Financial_Year="")])
    sources.put("late/two", [visit("2014-9", 2014)])
    sources.put(
        "opa/2022",
        [
            visit("2022-0", 2022),
            visit("to come 1", 2022, Appointment_Date="2022-07-10"),
            visit("to come 2", 2023, Appointment_Date="2023-05-02"),
        ],
    )
    on(2022, 6, 30)
    sources.run()
    first = sources.lake_state()
    assert visits_to_come() == {"to come 1": ("2022-23", None)}
    assert len(quarantined("2012-1")) == 2
    on(2022, 7, 9)
    sources.run()
    assert (sources.lake_state(), sources.affected) == (first, []), "nothing is due"

    # Only its own year is affected.
    sources.year(2019, spells=[spell("2019-9", 2019), spell("2019-U", 2019)])
    # A spell that has its discharge now: its derived row is in a file without a year of its own, next to a row of
    # another year.
    sources.year(2018, spells=[spell("2018-U", 2018)])
    # A file that leaves a folder lets go of its keys: the year of the file that stays in the folder, and that of the key.
    (sources.folder / "late/one.csv").unlink()
    # Rows of days to come are read again on their day.
    on(2022, 7, 10)
    sources.run()
    assert sources.affected.pop() == sorted(
        [*files_of(2019), *files_of(2018), "der/late.csv", *files_of(2012, 2014), "late/two.csv", "opa/2022.csv"]
    )
    after = sources.lake_state()
    assert ("2018-U", "2018-19", 45, "V382", "sus_grouper") in [row[:5] for row in after["silver/apc_spell"]]
    assert quarantined("2012-1") == []
    assert visits_to_come() == {"to come 1": ("2022-23", date(2022, 7, 10))}
    assert after == sources.state_from_scratch()
    log = state(sources.folder, "gold/batch", "started_at, years_found")
    assert log[-1][1] == [f"{year}-{year % 100 + 1:02d}" for year in (*years, 2022)]
    sources.run()
    assert sources.affected == [], "nothing is due"

    # A new year; and a new file with a conflicting row for a key of an unchanged year.
    sources.put("apcs/2007", [spell("2007-0", 2007)])
    sources.put("opa/again", [visit("2017-1", 2007, Age_at_Start_of_Episode_SUS="47")])
    sources.run("--accept-shrinkage")
    reached = ["apcs/2007.csv", "opa/again.csv", *files_of(2017)]
    assert sources.affected.pop() == sorted(reached)
    # By hand: the spell of the new year is added. Both rows of the key conflict, and its attendance leaves.
    assert keys_gone_and_come(after, sources.lake_state()) == {
        "silver/apc_spell": ([], ["2007-0"]),
        "silver/op_attendance": (["2017-1"], []),
        "silver/quarantine": ([], ["2017-1"] * 2),
        "silver/repeated_row": ([], ["2017-1"] * 2),
    }
    # The file loses the key again. A row of the next year has come.
    sources.put("opa/again", [visit("2007-1", 2007)])
    on(2023, 5, 2)
    sources.run()
    assert sources.affected.pop() == sorted([*reached, "opa/2022.csv"])
    assert visits_to_come().keys() == {"to come 1", "to come 2"}
    assert sources.lake_state() == sources.state_from_scratch()


def keys_gone_and_come(
    before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]
) -> dict[str, tuple[list[str], list[str]]]:
    """The keys of the rows of each table that were there before, and of those that are there now. Rows that are in both states
    are left out, each once."""
    found = {}
    for table, columns in TABLE_COLUMNS.items():
        gone, come = list(before[table]), []
        for row in after[table]:
            if row in gone:
                gone.remove(row)
            else:
                come.append(row)
        key = columns.split(", ").index("record_id")
        found[table] = ([row[key] for row in gone], [row[key] for row in come])
    return found


def test_two_files_that_share_keys_change_one_after_the_other(sources: Sources) -> None:
    """The later extract's row is the record. When its file loses the key, the row of the file that has not changed is."""
    sources.spells_alone()
    years = range(2015, 2021)
    for year in years:
        sources.year(year)
    early, late = ({"Extract_Date": f"2022-0{month}-01"} for month in (1, 2))
    sources.year(2016, spells=[spell("K", 2016, **early), spell("L", 2016)])
    sources.year(2020, spells=[spell("K", 2020, **late), spell("L", 2020)])
    sources.run()

    others = sorted(f"{year}-{number}" for year in years for number in range(4))

    def found() -> tuple[list[str], int, list[str]]:
        """The years of K, the quarantined rows of L, and the keys that are repeated. The other records are as they were."""
        rows = sources.lake_state()
        records = rows["silver/apc_spell"]
        assert [row[:2] for row in records if row[0] not in "KL"] == [
            (key, f"{key[:4]}-{int(key[2:4]) + 1}") for key in others
        ]
        assert all(row[1] == "L" for row in rows["silver/quarantine"])
        of_k = [row[1] for row in records if row[0] == "K"]
        return of_k, len(rows["silver/quarantine"]), [row[1] for row in rows["silver/repeated_row"]]

    # L has no extract date: its rows conflict.
    assert found() == (["2020-21"], 2, ["K", "K", "L", "L"])
    both = [f"{table}/{year}.csv" for table in ("apcs", "der") for year in (2016, 2020)]
    for later, earlier, expected in (
        ([spell("L", 2020)], [spell("K", 2016, **early), spell("L", 2016)], (["2016-17"], 2, ["L", "L"])),
        ([spell("L", 2020)], [spell("K", 2016, **early)], (["2016-17"], 0, [])),
        ([spell("K", 2020, **late)], [spell("K", 2016, **early)], (["2020-21"], 0, ["K", "K"])),
    ):
        sources.year(2016, spells=earlier)
        sources.year(2020, spells=later)
        sources.run("--accept-shrinkage")
        assert sources.affected.pop() == both
        assert found() == expected
    assert sources.lake_state() == sources.state_from_scratch()


def spells_by_year(sources: Sources) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, year, *_ in sources.lake_state()["silver/apc_spell"]:
        found.setdefault(year, []).append(key)
    return found


def test_a_record_whose_date_is_corrected_leaves_its_year_and_a_release_counts_it_once(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 spells of 2022-23, and one whose date is corrected from 2021-22 into it: 31 in the lake and in the release. Before it is
    corrected, the rates of both years have it too."""
    sources.spells_alone()
    sources.configure("lake:", "pooled_years: [2]\npolicies: [2Y_back_pain_fusion]\nlake:")
    thirty = [spell(f"K{number}", 2022) for number in range(30)]
    unusable = spell("Q", 2021, Discharge_Date="soon")
    sources.put("apcs/gone", [spell("G", 2020)])
    sources.put("der/all", [derived(key) for key in (*(row["APCS_Ident"] for row in thirty), "M", "G")])
    columns = "DISTINCT policy_id, reading, area_type, {}, activity"
    england = ("2Y_back_pain_fusion", "as_published", "england")

    def published() -> dict[str, int]:
        rows = state(sources.folder, "published/rate", columns.format("period"))
        return {row[3]: row[4] for row in rows if row[:3] == england}

    def rates() -> dict[tuple[str, int], int]:
        rows = state(sources.folder, "gold/activity_rate", columns.format("financial_year, period_years"))
        return {row[3:5]: row[5] for row in rows if row[:3] == england}

    def spells() -> dict[str, int]:
        return {year: len(keys) for year, keys in spells_by_year(sources).items()}

    sources.put("apcs/all", [*thirty, spell("M", 2021), unusable])
    sources.run_to_rates()
    found = rates()
    assert found.items() >= {("2021-22", 1): 1, ("2022-23", 2): 31, ("2022-23", 1): 30, ("2020-21", 1): 1}.items()
    assert spells() == {"2020-21": 1, "2021-22": 1, "2022-23": 30}
    assert [row[2] for row in sources.lake_state()["silver/quarantine"]] == ["2021-22"]
    sources.put("apcs/all", [*thirty, spell("M", 2022), unusable])
    # The year that it leaves is part of the check for years that shrink.
    refusal = sources.run(exit=1)["error"]
    assert "silver/apc_spell: 2021-22 has 0 usable rows in the source files and 1 in the lake" in refusal["message"]
    assert "--accept-shrinkage" in refusal["remedy"]
    # An earlier version wrote the record a second time, and left the quarantined row.
    with monkeypatch.context() as before:
        before.setattr(plan, "emptied_years", lambda *_, **__: {})
        before.setattr(plan, "refuse_in_two_years", lambda *_, **__: None)
        sources.run()
    assert spells() == {"2020-21": 1, "2021-22": 1, "2022-23": 31}
    # The next version corrects this, even if nothing else has changed.
    monkeypatch.setattr(stage_inputs, "STAGE_VERSIONS", stage_inputs.STAGE_VERSIONS | {"ingest": 99})
    sources.run(exit=1)
    sources.run_to_the_end("--accept-shrinkage")
    assert published() == {"2022-23": 31, "2020-21": 1}
    assert spells() == {"2020-21": 1, "2022-23": 31}
    assert sources.lake_state() == sources.state_from_scratch()
    # Then no year has anything left to do.
    ended = state(sources.folder, "gold/run_log", "started_at")
    assert all(stage.get("skipped") for stage in sources.run_to_the_end()["stages"])
    assert state(sources.folder, "gold/run_log", "started_at") == ended, "nothing is due"
    # A year that has lost all its records is the only one due: its flags and rates are removed.
    (sources.folder / "apcs/gone.csv").unlink()
    sources.run_to_rates("--accept-shrinkage")
    for table in ("activity_flag", "policy_attrition", "activity_rate", "activity_month", "provider_month"):
        assert state(sources.folder, f"gold/{table}", "DISTINCT financial_year") == [("2022-23",)], table


def test_a_record_is_never_in_a_year_that_a_run_does_not_replace(sources: Sources) -> None:
    """60 spells of two years; one is corrected over 1 April, and only one of the years is asked for."""
    sources.spells_alone()
    sources.configure("lake:", "max_shrink_share: 0.5\nlake:")
    first, second = ([spell(f"{year}-{number}", year) for number in range(30)] for year in (2021, 2022))
    moved = [spell("2021-0", 2022), *first[1:]]
    sources.put("apcs/2021", first)
    sources.put("apcs/2022", second)
    sources.put("der/all", [])
    sources.run()
    sources.put("apcs/2021", moved)
    before = sources.lake_state()
    refusal = sources.run("--years", "2022-23", exit=1)["error"]
    assert "silver/apc_spell: 1 record of 2022-23 is in the lake under 2021-22 too" in refusal["message"]
    assert refusal["remedy"] == "run again with `--years 2021-22,2022-23`"
    assert sources.lake_state() == before, "nothing was committed"
    sources.run("--years", "2021-22,2022-23")
    assert {year: len(keys) for year, keys in spells_by_year(sources).items()} == {"2021-22": 29, "2022-23": 31}
    assert keys_gone_and_come(before, sources.lake_state()) == {
        table: (["2021-0"], ["2021-0"]) if table == "silver/apc_spell" else ([], []) for table in TABLE_COLUMNS
    }
    # A file that no longer has rows of a year, and has none of that year's keys: the year is due too.
    sources.put("apcs/2021", [spell("new", 2022)])
    refusal = sources.run("--years", "2022-23", exit=1)["error"]
    assert "2021.csv no longer has rows of 2021-22" in refusal["message"]
    assert refusal["remedy"] == "run again with `--years 2021-22,2022-23`"
    refusal = sources.run("--years", "2021-22,2022-23", exit=1)["error"]
    assert "2021-22 has 0 usable rows in the source files and 29 in the lake" in refusal["message"]
    sources.run("--years", "2021-22,2022-23", "--accept-shrinkage")
    assert {year: len(keys) for year, keys in spells_by_year(sources).items()} == {"2022-23": 31}
    # A key of a year whose file is not a source.
    sources.put("apcs/2021", first)
    sources.run("--accept-shrinkage")
    sources.configure("apcs: apcs/*.csv", "apcs: apcs/2022.csv")
    sources.put("apcs/2022", [*second, spell("2021-0", 2022)])
    refusal = sources.run(exit=1)["error"]
    assert "1 record of 2022-23 is in the lake under 2021-22 too" in refusal["message"]
    assert refusal["remedy"] == "add the source files of 2021-22 to the configuration and run again"


def test_what_is_refused_is_refused_of_all_files(sources: Sources) -> None:
    years = range(2015, 2022)
    for year in years:
        sources.year(year)
    sources.allow(0.05)
    sources.run()
    # A fourth of the file, a twenty-ninth of the table.
    sources.year(2019, visits=[visit("", 2019)])
    sources.run()
    assert sources.affected.pop() is not None
    # A fifteenth of the table.
    sources.year(2019, visits=[visit("", 2019)] * 2)
    refusal = sources.run(exit=1)
    assert sources.affected.pop() is not None
    assert "sus_plus opa: 2 of 30 rows were quarantined (no_key 2)" in refusal["error"]["message"]
    # When the last run did not end, all files are read: what it did is not known.
    sources.year(2019)
    sources.run()
    assert sources.affected == []
    # A year that loses its attendances waits for a person's decision.
    sources.put("opa/2018", [])
    refusal = sources.run(exit=1)
    assert sources.affected.pop() is not None
    assert (
        "silver/op_attendance: 2018-19 has 0 usable rows in the source files and 4 in the lake"
        in refusal["error"]["message"]
    )
    sources.run("--accept-shrinkage")
    assert sources.affected.pop() is not None
    assert {row[1] for row in sources.lake_state()["silver/op_attendance"]} == {
        f"{year}-{year % 100 + 1}" for year in years if year != 2018
    }
    # So does one whose files are gone. Then they take their year with them.
    for table in ("apcs", "der", "opa"):
        sources.remove(f"{table}/2019")
    refusal = sources.run(exit=1)
    assert "2019-20 has 0 usable rows in the source files and 4 in the lake" in refusal["error"]["message"]
    sources.run("--accept-shrinkage")
    assert set(spells_by_year(sources)) == {f"{year}-{year % 100 + 1}" for year in years if year != 2019}
    assert sources.lake_state() == sources.state_from_scratch()
    # A file that is no longer in the configuration is different: its years stay.
    sources.configure("apcs: apcs/*.csv, apcs_der: der/*.csv, opa: [opa/*.csv]",
                      "apcs: apcs/202*.csv, apcs_der: der/202*.csv, opa: [opa/202*.csv]")  # fmt: skip
    sources.run()
    assert set(spells_by_year(sources)) == {f"{year}-{year % 100 + 1}" for year in years if year != 2019}
    # A lake waits, too, when no file has attendances any more.
    for year in (2020, 2021):
        sources.put(f"opa/{year}", [])
    refusal = sources.run(exit=1)
    assert (
        "silver/op_attendance: 2020-21 has 0 usable rows in the source files and 4 in the lake"
        in refusal["error"]["message"]
    )


def test_a_spell_of_a_year_that_was_not_asked_for_leaves_its_derived_row(sources: Sources) -> None:
    sources.spells_alone()
    for year in range(2017, 2022):
        sources.year(year)
    sources.configure("lake:", 'years: "2018-19..2021-22"\nlake:')
    sources.run()
    sources.year(2019, spells=[spell("2019-9", 2019)])
    sources.run()
    assert sources.affected.pop() == ["apcs/2019.csv", "der/2019.csv"]
    sources.put("apcs/2017", [spell("2017-9", 2017)])
    sources.year(2019, spells=[spell("2019-8", 2019)])
    sources.run()
    assert sources.affected.pop() is None
    assert {row[:2] for row in sources.lake_state()["silver/quarantine"]} == {
        ("apcs_der", f"2017-{n}") for n in range(4)
    }
    assert sources.lake_state() == sources.state_from_scratch()


@pytest.mark.parametrize(
    ("seed", "rounds"),
    [
        (1, 3),
        pytest.param(int(os.environ.get("EBI_SPARK_SOAK_SEED", random.randrange(1 << 30))), 40, marks=pytest.mark.soak),
    ],
)
def test_whatever_changes_the_lake_is_what_all_files_make(sources: Sources, seed: int, rounds: int) -> None:
    draw = random.Random(seed)
    years = range(2014, 2022)

    def some(make: Callable[..., Row], year: int, **undated: str) -> list[Row]:
        """Rows with a key that other files may have too, of another year, of none, without a key; of one extract and of a
        later one that supersedes it."""
        kinds: list[Callable[[], list[Row]]] = [
            lambda: [make(f"S{draw.randrange(3)}", year, Extract_Date=draw.choice(["", "2022-01-01", "2022-02-01"]))],
            # A date that moves over years, also to some that no other row is of.
            lambda: [make(f"{year}-T{draw.randrange(2)}", draw.choice([year - 1, year, year + 1, year + 20]))],
            lambda: [make(f"{year}-U{draw.randrange(3)}", year, **draw.choice([undated, {}]))],
            lambda: [make("", year + draw.choice([0, 0, 4]))],
            lambda: [make(f"{year}-{draw.randrange(4)}", year, Extract_Date=draw.choice(["", "2022-03-01"]))],
            lambda: [
                make(f"{year}-E", year, Extract_Date="2022-01-01", **draw.choice([undated, {}])),
                make(
                    f"{year}-E", draw.choice([year, year + 1]), Extract_Date=draw.choice(["2022-01-01", "2022-02-01"])
                ),
            ],
        ]
        drawn = (draw.choices(kinds, [1, 3, 3, 2, 4, 3])[0]() for _ in range(draw.choice([0, 0, 1, 2])))
        return list(itertools.chain.from_iterable(drawn))

    def drawn(year: int) -> None:
        near = draw.choice([year, year, year, year + 1])
        sources.year(
            year,
            spells=some(spell, year, **UNDATED),
            more=[derived(f"{near}-U{draw.randrange(3)}")] if draw.random() < 0.3 else [],
            visits=some(visit, year, Appointment_Date="soon", Der_Financial_Year=""),
        )

    for year in years[:-1]:
        drawn(year)
    sources.run()
    there, changed = set(years[:-1]), 0
    for number in range(rounds):
        if number % 3 == 2:  # a year's files leave
            year = draw.choice(sorted(there))
            there.remove(year)
            for table in ("apcs", "der", "opa"):
                sources.remove(f"{table}/{year}")
        else:
            year = draw.choice(years) if number else years[-1]
            there.add(year)
            changed += 1
            drawn(year)
        sources.run("--accept-shrinkage")
        assert sources.lake_state() == sources.state_from_scratch(), (seed, number)
    # The result does not come from reading all files each time.
    assert len([files for files in sources.affected if files]) >= changed / 3


HES_CONFIG = """
lake: ./lake
max_quarantine_share: 1.0
sources:
  hes: {system: hes, tables: {apc: apc/*.csv, op: op/*.csv}}
"""


def episode(key: str, spell_number: str, year: int, order: int = 1, **changes: str) -> Row:
    """One row of HES admitted patients; ``order`` is its place in its spell."""
    day = f"{year}-06-{order:02d}"
    return {
        "EPIKEY": key, "PSEUDO_HESID": f"P{spell_number}", "PROCODE3": "RX1", "PROVSPNOPS": spell_number,
        "ADMIDATE": f"{year}-06-01", "DISDATE": f"{year}-06-09", "EPISTART": day, "EPIEND": day,
        "EPIORDER": str(order), "EPISTAT": "3", "ADMIMETH": "11", "ADMINCAT": "01", "STARTAGE": "45",
        "FYEAR": f"{year % 100:02d}{(year + 1) % 100:02d}", "DIAG_4_01": "M545", "OPERTN_4_01": "V382",
        "EXTRACT_DATE": "",
    } | changes  # fmt: skip


def appointment(key: str, year: int, **changes: str) -> Row:
    """One row of HES outpatients."""
    return {
        "ATTENDKEY": key, "ADMINCAT": "01", "APPTAGE": "45", "APPTDATE": f"{year}-06-01", "DIAG_4_01": "",
        "OPERTN_4_01": "U055", "FYEAR": f"{year % 100:02d}{(year + 1) % 100:02d}", "EXTRACT_DATE": "",
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "rounds"),
    [
        (3, 1),
        pytest.param(int(os.environ.get("EBI_SPARK_SOAK_SEED", random.randrange(1 << 30))), 40, marks=pytest.mark.soak),
    ],
)
def test_whatever_changes_in_hes_the_lake_is_what_all_files_make(
    tmp_path: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, seed: int, rounds: int
) -> None:
    """Monthly extracts beside each other, over the year from which keys are unique: spells that a later extract finishes,
    whose dates move over years, and files that leave."""
    sources = Sources(tmp_path, empty_lake, monkeypatch)
    (tmp_path / "run.yml").write_text(HES_CONFIG)
    draw = random.Random(seed)
    years = (2010, 2011, 2012, 2013)

    def extract(month: int) -> None:
        day = {"EXTRACT_DATE": f"2014-{month:02d}-01"}
        episodes, appointments = [], []
        for year in years:
            # In every extract, so that no year is ever without a row.
            episodes.append(episode(f"{year}-always", f"{year}-always", year, **day))
            appointments.append(appointment(f"{year}-always", year, **day))
            for number in draw.sample(range(4), 2):
                # Keys repeat from year to year, which before 2012-13 makes them different episodes.
                moved = year + draw.choice([0, 0, 0, 1])
                finished = draw.choice([{}, {}, {"EPISTAT": "1", "DISDATE": ""}])
                key = f"{number}" if year < 2012 else f"{year}-{number}"
                in_spell = f"{year}-{number}"
                episodes.append(episode(f"{key}1", in_spell, moved, 1, **day))
                episodes.append(episode(f"{key}2", in_spell, moved, 2, **(finished | day)))
                undated = draw.choice([{}, {"APPTDATE": "soon"}])
                appointments.append(appointment(key, moved, **(day | undated)))
        write(tmp_path / f"apc/{month:02d}.csv", episodes, [*episode("", "", 2010)])
        write(tmp_path / f"op/{month:02d}.csv", appointments, [*appointment("", 2010)])

    extract(1)
    extract(2)
    sources.run()
    for number in range(rounds):
        if number % 3 == 2:
            for role in ("apc", "op"):
                (tmp_path / f"{role}/{number - 1:02d}.csv").unlink(missing_ok=True)
        else:
            extract(draw.choice([2, number + 3]))
        sources.run("--accept-shrinkage")
        assert sources.lake_state() == sources.state_from_scratch(), (seed, number)
