"""Files that were written elsewhere become files of a table in one commit."""

import json
import os
import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calling import delta_rows
from deltalake import DeltaTable

from ebi_spark.errors import BrokenRunError
from ebi_spark.lake.adopted_files import AdoptedFiles
from ebi_spark.lake.local_tables import commits_after, partitions
from ebi_spark.lake.small_writes import CHECKPOINT_EVERY, can_write
from ebi_spark.tables.silver import OP_ATTENDANCE

Y21, Y22, Y23 = "2021-22", "2022-23", "2023-24"
STATISTICS = OP_ATTENDANCE.statistics


def table(folder: Path) -> Path:
    place = folder / "silver" / "op_attendance"
    columns = pa.schema([("record_id", pa.string()), ("activity_date", pa.date32()), ("financial_year", pa.string())])
    DeltaTable.create(place, columns, partition_by=["financial_year"])
    return place


def staged(folder: Path, year: str, rows: dict[str, date | None]) -> Path:
    """A file of one year, in row groups of two, with a column that no table has."""
    place = folder / f"financial_year={year}"
    place.mkdir(parents=True)
    days = pa.array(list(rows.values()), pa.date32())
    made = pa.table({"record_id": list(rows), "activity_date": days, "_status": pa.nulls(len(rows), pa.string())})
    pq.write_table(made, place / f"part-{folder.name}.parquet", row_group_size=2)
    return folder


def rows(place: Path) -> list[tuple[object, ...]]:
    return delta_rows(place)


@pytest.mark.parametrize("links", [True, False])
def test_years_are_replaced_and_others_stay(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:  # a file system that has none
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError))
    place = table(tmp_path)
    assert can_write(place)
    first = staged(tmp_path / "first", Y21, {"A": date(2021, 5, 1), "B": None, "C": date(2021, 4, 1)})
    staged(tmp_path / "more", Y22, {"D": date(2022, 5, 1)})
    AdoptedFiles([first, tmp_path / "more"], [Y21, Y22], STATISTICS, replaces=False, metadata="one").save(str(place))
    assert rows(place) == [
        ("A", date(2021, 5, 1), Y21), ("B", None, Y21), ("C", date(2021, 4, 1), Y21), ("D", date(2022, 5, 1), Y22)
    ]  # fmt: skip
    # The other years of the folder are left: a batch takes its own.
    second = staged(tmp_path / "second", Y21, {"E": None})
    staged(tmp_path / "second", Y23, {"F": date(2023, 5, 1)})
    AdoptedFiles([second], [Y21], STATISTICS, replaces=True, metadata="two").save(str(place))
    assert rows(place) == [("D", date(2022, 5, 1), Y22), ("E", None, Y21)]
    # A year that has no rows any more.
    AdoptedFiles([second], [Y22], STATISTICS, replaces=True, metadata="three").save(str(place))
    assert partitions(place, "financial_year") == {Y21}
    assert [(commit.operation, commit.metadata) for commit in commits_after(place, 0)] == [
        ("WRITE", "one"), ("WRITE", "two"), ("WRITE", "three")
    ]  # fmt: skip


def test_the_log_says_what_each_file_has(tmp_path: Path) -> None:
    place = table(tmp_path)
    dated = {"A": date(2021, 5, 1), "B": None, "C": date(2021, 4, 1)}
    folders = [staged(tmp_path / "dated", Y21, dated), staged(tmp_path / "undated", Y21, {"D": None})]
    AdoptedFiles(folders, [Y21], STATISTICS, replaces=False, metadata="").save(str(place))
    entry = place / "_delta_log" / "00000000000000000001.json"
    added = [json.loads(line)["add"] for line in entry.read_text().splitlines() if line.startswith('{"add"')]
    statistics = {item["path"].rpartition("/")[2]: json.loads(item["stats"]) for item in added}
    assert statistics == {
        "part-dated.parquet": {
            "numRecords": 3,
            "minValues": {"activity_date": "2021-04-01"},
            "maxValues": {"activity_date": "2021-05-01"},
            "nullCount": {"activity_date": 1},
        },
        "part-undated.parquet": {
            "numRecords": 1, "minValues": {}, "maxValues": {}, "nullCount": {"activity_date": 1}
        },
    }  # fmt: skip


def test_a_log_says_nothing_of_values_that_a_file_does_not_say_all_of(tmp_path: Path) -> None:
    """Parquet leaves out the minimum and maximum of long values, here in the second of three row groups."""
    place = DeltaTable.create(tmp_path / "table", pa.schema([("file", pa.string())])).table_uri
    (tmp_path / "staged").mkdir()
    made = pa.table({"file": ["b", "c", "a" * 5000, "d", None, None]})
    pq.write_table(made, tmp_path / "staged/part.parquet", row_group_size=2)
    AdoptedFiles([tmp_path / "staged"], None, ["file"], replaces=False, metadata="").save(place.removeprefix("file://"))
    added = pa.table(DeltaTable(place).get_add_actions()).to_pylist()[0]
    assert (added["num_records"], added["null_count"]) == (6, {"file": 2})
    assert added["min"] == {"file": None} == added["max"]


def test_files_that_are_not_what_spark_counted_are_refused(tmp_path: Path) -> None:
    """A folder that Spark sees and this program does not, and a file that a failed attempt of Spark left: no row is lost or twice
    in the table."""
    place = table(tmp_path)
    folder = staged(tmp_path / "first", Y21, {"A": None, "B": None})

    def save(folders: list[Path], rows: int) -> None:
        AdoptedFiles(folders, [Y21], STATISTICS, replaces=False, metadata="", rows=rows).save(str(place))

    for folders, number in (([folder, tmp_path / "unseen"], 2), ([folder], 1), ([folder], 3)):
        with pytest.raises(BrokenRunError, match="nothing was committed"):
            save(folders, number)
    assert rows(place) == []
    save([folder], 2)
    assert rows(place) == [("A", None, Y21), ("B", None, Y21)]


def test_a_log_gets_a_checkpoint_now_and_then(tmp_path: Path) -> None:
    place = table(tmp_path)
    for number in range(CHECKPOINT_EVERY + 1):
        folder = staged(tmp_path / str(number), Y21, {str(number): None})
        AdoptedFiles([folder], [Y21], STATISTICS, replaces=number > 0, metadata="").save(str(place))
    assert list((place / "_delta_log").glob("*.checkpoint.parquet"))
    assert rows(place) == [(str(CHECKPOINT_EVERY), None, Y21)]


def test_what_is_left_to_spark(tmp_path: Path) -> None:
    assert not can_write(tmp_path / "nothing")
    shutil.copytree(table(tmp_path), tmp_path / "20%25")
    assert not can_write(tmp_path / "20%25"), "deltalake would take the path for another"
