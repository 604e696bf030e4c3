"""What a change of some source files reaches: after it, the lake is what all files would make of an empty one, and no more
files were looked at than had to be."""

import itertools
import json
import os
import random
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from calling import call
from source_rows import APCS, DER, Row, attendance, derived, spell, state, write

from ebi_spark import settings
from ebi_spark.canonical import plan
from jobs import ingest, run

pytestmark = pytest.mark.usefixtures("one_session", "not_compiled")

CONFIG = """
lake: ./lake
max_quarantine_share: {share}
sources:
  both: {{system: sus_plus, tables: {{apcs: apcs/*.csv, apcs_der: der/*.csv, opa: [opa/*.csv]}}}}
"""
HELD = {
    "silver/apc_spell": "record_id, financial_year, age, dominant_procedure, dominance_basis, source_file",
    "silver/op_attendance": "record_id, financial_year, age, source_file",
    "silver/quarantine": "role, record_id, financial_year, reasons, source_file, raw",
    "silver/repeated_row": "role, record_id, conflict, is_duplicate, content, source_file",
}


class Sources:
    """Source files of some years, a lake, and which files each look went over (None: all)."""

    def __init__(self, folder: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.empty_lake = folder, empty_lake
        self.numbers = itertools.count()
        self.reached: list[list[str] | None] = []
        found = plan.reach

        def noted(*given: Any) -> Any:
            reached = found(*given)
            files = [path for table in reached.tables for path in table.state] if reached else None
            self.reached.append(files and sorted("/".join(Path(path).parts[-2:]) for path in files))
            return reached

        monkeypatch.setattr(plan, "reach", noted)
        monkeypatch.setattr(run, "silver_years", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))  # ingest is enough
        empty_lake(folder / "lake")
        self.allow(1.0)

    def allow(self, share: float) -> None:
        (self.folder / "run.yml").write_text(CONFIG.format(share=share))

    def configure(self, before: str, after: str) -> None:
        path = self.folder / "run.yml"
        path.write_text(path.read_text().replace(before, after))

    def put(self, name: str, rows: Iterable[Row]) -> None:
        columns = {"apcs": APCS, "der": DER}
        role = name.partition("/")[0]
        write(self.folder / f"{name}.csv", rows, *([columns[role]] if role in columns else []))

    def year(
        self, year: int, *, spells: Iterable[Row] = (), more: Iterable[Row] = (), visits: Iterable[Row] = ()
    ) -> None:
        """A year's three files: four sound rows each, and others."""
        keys = [f"{year}-{number}" for number in range(4)]
        self.put(f"apcs/{year}", [*(spell(key, year) for key in keys), *spells])
        self.put(f"der/{year}", [*(derived(key) for key in keys), *more])
        self.put(f"opa/{year}", [*(visit(key, year) for key in keys), *visits])

    def run(self, *options: str, exit: int = 130) -> dict[str, Any]:
        """A run, up to behind its ingest."""
        answer = call(run.main, self.folder, *options)
        assert answer["exit"] == exit, answer["error"]
        return answer

    def held(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table: state(self.folder, table, columns) for table, columns in HELD.items()}

    def anew(self) -> dict[str, list[tuple[Any, ...]]]:
        """What all files make of an empty lake."""
        place = self.folder / f"anew-{next(self.numbers)}"
        self.empty_lake(place / "lake")
        assert call(ingest.main, self.folder, "--lake", str(place / "lake"))["exit"] == 0
        return {table: state(place, table, columns) for table, columns in HELD.items()}


@pytest.fixture
def sources(tmp_path: Path, empty_lake: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> Sources:
    return Sources(tmp_path, empty_lake, monkeypatch)


def visit(key: str, year: int, **changes: str) -> Row:
    text = f"{year}-{year % 100 + 1:02d}"
    return attendance(key, **{"Appointment_Date": f"{year}-06-01", "Der_Financial_Year": text} | changes)


def test_rows_of_days_to_come_are_read_again_on_their_day(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(year: int, month: int, day: int) -> None:
        monkeypatch.setattr(settings, "today", lambda *_: date(year, month, day))

    def visits() -> dict[str, Any]:
        rows = state(sources.folder, "silver/op_attendance", "record_id, financial_year, activity_date")
        return {row[0]: row[1:] for row in rows if row[0].startswith("to come")}

    for year in (2019, 2020, 2021):
        sources.year(year)
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
    first = sources.held()
    assert visits() == {"to come 1": ("2022-23", None)}
    looks = len(sources.reached)
    on(2022, 7, 9)
    sources.run()
    assert (sources.held(), len(sources.reached)) == (first, looks)
    on(2022, 7, 10)
    sources.run()
    assert sources.reached[looks:] == [["opa/2022.csv"]]
    assert visits() == {"to come 1": ("2022-23", date(2022, 7, 10))}
    on(2023, 5, 2)
    sources.run()
    assert visits().keys() == {"to come 1", "to come 2"}
    assert sources.held() == sources.anew()
    assert sources.held()["silver/quarantine"] == []


UNDATED = {"Discharge_Date": "", "Der_Financial_Year": ""}


def test_a_change_reaches_its_years_and_its_keys(sources: Sources) -> None:
    for year in range(2017, 2022):
        # Set aside, a copy within the file, and set aside without a year.
        sources.year(
            year,
            spells=[spell("", year), spell(f"{year}-0", year), spell(f"{year}-U", **UNDATED)],
            more=[derived(f"{year}-nobody")],
            visits=[visit(f"{year}-0", year, Age_at_Start_of_Episode_SUS="46")],
        )
    sources.put("der/late", [derived("2018-U")])
    sources.run()
    assert sources.reached == []

    # Nothing but its own year.
    sources.year(2019, spells=[spell("2019-9", 2019), spell("2019-U", 2019)])
    sources.run()
    assert sources.reached.pop() == ["apcs/2019.csv", "der/2019.csv", "opa/2019.csv"]
    assert sources.held() == sources.anew()
    log = state(sources.folder, "gold/run_log", "started_at, details")
    assert json.loads(log[-1][1]["found"]) == [f"{year}-{year % 100 + 1}" for year in range(2017, 2022)]
    sources.run()
    assert sources.reached == [], "nothing is due"

    # A spell that has its discharge now: its derived row stands in a file of no year of its own, beside one of another year.
    sources.year(2018, spells=[spell("2018-U", 2018)])
    sources.run()
    assert sources.reached.pop() == ["apcs/2018.csv", "der/2018.csv", "der/late.csv", "opa/2018.csv"]
    assert ("2018-U", "2018-19", 45, "V382", "sus_grouper") in [row[:5] for row in sources.held()["silver/apc_spell"]]

    # A new year; and a new file that contradicts a key of a year that stands.
    sources.put("apcs/2022", [spell("2022-0", 2022)])
    sources.put("opa/again", [visit("2017-1", 2022, Age_at_Start_of_Episode_SUS="47")])
    sources.run("--accept")
    assert sources.reached.pop() == [
        "apcs/2017.csv", "apcs/2022.csv", "der/2017.csv", "opa/2017.csv", "opa/again.csv"
    ]  # fmt: skip
    assert sources.held() == sources.anew()
    # It lets go of the key again.
    sources.put("opa/again", [visit("2022-1", 2022)])
    sources.run()
    assert sources.reached.pop() == [
        "apcs/2017.csv", "apcs/2022.csv", "der/2017.csv", "opa/2017.csv", "opa/again.csv"
    ]  # fmt: skip
    assert sources.held() == sources.anew()


def test_what_is_refused_is_refused_of_all_files(sources: Sources) -> None:
    for year in range(2017, 2022):
        sources.year(year)
    sources.allow(0.06)
    sources.run()
    # A fourth of the file, a twentieth of the table.
    sources.year(2019, visits=[visit("", 2019)])
    sources.run()
    assert sources.reached.pop() is not None
    # A tenth of the table.
    sources.year(2019, visits=[visit("", 2019)] * 2)
    told = sources.run(exit=1)
    assert sources.reached.pop() is not None
    assert "sus_plus opa: 2 of 22 rows had to be set aside (no_key 2)" in told["error"]["message"]
    # Where the last run did not come to its end, all files are looked at: nobody knows what it did.
    sources.year(2019)
    sources.run()
    assert sources.reached == []
    # A year that loses its attendances waits for a person's word.
    sources.put("opa/2018", [])
    told = sources.run(exit=1)
    assert sources.reached.pop() is not None
    assert (
        "silver/op_attendance: 2018-19 has 0 usable rows in the source files and 4 in the lake"
        in told["error"]["message"]
    )
    sources.run("--accept")
    assert sources.reached.pop() is not None
    assert sources.held() == sources.anew()
    # So does a lake of which no file has attendances any more.
    for year in range(2017, 2022):
        sources.put(f"opa/{year}", [])
    told = sources.run(exit=1)
    assert (
        "silver/op_attendance: 2017-18 has 0 usable rows in the source files and 4 in the lake"
        in told["error"]["message"]
    )


def test_a_file_that_leaves_a_folder_lets_go_of_its_keys(sources: Sources) -> None:
    for year in range(2017, 2022):
        sources.year(year)
    sources.configure("opa/*.csv", "late, opa/*.csv")
    sources.put("late/one", [visit("2017-0", 2017, Appointment_Date="", Der_Financial_Year="")])
    sources.put("late/two", [visit("2021-9", 2021)])
    sources.run()
    assert [row[0] for row in state(sources.folder, "silver/quarantine", "record_id")] == ["2017-0"] * 2
    (sources.folder / "late/one.csv").unlink()
    sources.run()
    # The year of the file that stays in the folder, and that of the key.
    assert sources.reached.pop() == [
        "apcs/2017.csv", "apcs/2021.csv", "der/2017.csv", "der/2021.csv", "late/two.csv", "opa/2017.csv", "opa/2021.csv"
    ]  # fmt: skip
    assert state(sources.folder, "silver/quarantine", "record_id") == []
    assert sources.held() == sources.anew()


def test_a_spell_of_a_year_that_was_not_asked_for_leaves_its_derived_row(sources: Sources) -> None:
    for year in range(2017, 2022):
        sources.year(year)
    sources.configure("lake:", 'years: "2018-19..2021-22"\nlake:')
    sources.run()
    sources.year(2019, spells=[spell("2019-9", 2019)])
    sources.run()
    assert sources.reached.pop() == ["apcs/2019.csv", "der/2019.csv", "opa/2019.csv"]
    sources.put("apcs/2017", [spell("2017-9", 2017)])
    sources.year(2019, spells=[spell("2019-8", 2019)])
    sources.run()
    assert sources.reached.pop() is None
    assert {row[:2] for row in sources.held()["silver/quarantine"]} == {("apcs_der", f"2017-{n}") for n in range(4)}
    assert sources.held() == sources.anew()


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
        """Rows with a key that other files may have too, of another year, of none, without a key."""
        kinds: list[Callable[[], Row]] = [
            lambda: make(f"S{draw.randrange(3)}", year, Extract_Date=draw.choice(["", "2022-01-01", "2022-02-01"])),
            # Of years that stay: a refresh leaves alone what it finds no row of.
            lambda: make(
                f"{year}-T{draw.randrange(3)}", draw.choice([near for near in (year - 1, year + 1) if near in years])
            ),
            lambda: make(f"{year}-U{draw.randrange(3)}", year, **undated),
            lambda: make("", year + draw.choice([0, 0, 4])),
            lambda: make(f"{year}-{draw.randrange(4)}", year, Extract_Date=draw.choice(["", "2022-03-01"])),
        ]
        return [draw.choices(kinds, [1, 1, 3, 3, 4])[0]() for _ in range(draw.choice([0, 0, 1, 2]))]

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
    for number in range(rounds):
        drawn(draw.choice(years) if number else years[-1])
        sources.run("--accept")
        assert sources.held() == sources.anew(), (seed, number)
    # Not by looking at all of them each time.
    assert len([files for files in sources.reached if files]) >= rounds / 2
