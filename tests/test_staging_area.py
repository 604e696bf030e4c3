"""Where rows are staged: what Delta's log says of them, and that nothing of them stays. No Spark."""

from pathlib import Path
from typing import Any

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.lake.staging_area import FOLDER, StagingArea, remove_left
from ebi_spark.lake.storage import Lake

CATALOGUE = LakeLocation(catalog="main", schemas={"silver": "ebi_silver"})
RUN = "20240331T225900Z-abc123"


class Frame:
    """A frame that notes how it is written."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    @property
    def write(self) -> "Frame":
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *given: (self.calls.append((name, *given)), self)[1]


class Session:
    """A session whose catalogue refuses to drop one table."""

    def __init__(self, refused: str) -> None:
        self.refused, self.dropped = refused, list[str]()

    def sql(self, text: str) -> None:
        name = text.removeprefix("DROP TABLE IF EXISTS ").rpartition("`.`")[2].rstrip("`")
        if name.endswith(self.refused):
            raise RuntimeError
        self.dropped.append(name)


def test_a_log_does_not_say_whose_rows_are_staged() -> None:
    lake, first, more = Lake(Session(""), CATALOGUE, RUN), Frame(), Frame()  # type: ignore[arg-type]
    area = StagingArea(lake)
    area.write("sus_plus_apcs", first, by_year=True)  # type: ignore[arg-type]
    area.write("sus_plus_apcs", more, by_year=True, more=True)  # type: ignore[arg-type]
    table = ("saveAsTable", "`main`.`ebi_silver`.`_staging_20240331t225900z_abc123_sus_plus_apcs`")
    assert {("format", "delta"), ("option", "delta.dataSkippingNumIndexedCols", "0"), table} <= set(first.calls)
    assert {("format", "delta"), ("mode", "append"), table} <= set(more.calls)


def test_a_table_that_cannot_be_dropped_keeps_no_other() -> None:
    session = Session("_a")
    area = StagingArea(Lake(session, CATALOGUE, RUN))  # type: ignore[arg-type]
    for name in ("a", "b", "c"):
        area.write(name, Frame())  # type: ignore[arg-type]
    area.remove()
    assert [name.rpartition("_")[2] for name in session.dropped] == ["b", "c"]


def test_maintain_removes_what_a_killed_run_left_in_a_folder(tmp_path: Path) -> None:
    left, other = tmp_path / "silver" / FOLDER / "r/a/b.parquet", tmp_path / "silver/apc_spell/c.parquet"
    for file in (left, other):
        file.parent.mkdir(parents=True)
        file.touch()
    remove_left(Lake(Session(""), LakeLocation(folder=tmp_path), RUN))  # type: ignore[arg-type]
    assert not (tmp_path / "silver" / FOLDER).exists() and other.exists()
