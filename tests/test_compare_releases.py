"""The comparison of two lakes finds what differs, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from benchmarks.compare_releases import compare, main

FLAGS: dict[str, list[Any]] = {
    "record_id": ["1", "2", "3"],
    "failed_clauses": [["age"], [], None],
    "rate": [0.1 + 0.2, None, 5.0],
    "run_id": ["first"] * 3,
}
RATES: dict[str, list[Any]] = {"release_id": ["r-1", "r-2"], "area_code": ["E92000001"] * 2, "activity": [7, 8]}
RELEASES: dict[str, list[Any]] = {
    "release_id": ["r-1", "r-2"],
    "is_current": [False, True],
    "released_at": [datetime(2024, 6, 1, tzinfo=UTC)] * 2,
    "tables": [[("rate", 1)], [("rate", 1), ("policy", 4)]],
}
MAPS = pa.schema([("release_id", pa.string()), ("is_current", pa.bool_()), ("released_at", pa.timestamp("us", "UTC")),
                  ("tables", pa.map_(pa.string(), pa.int64()))])  # fmt: skip


def lake(folder: Path, **changed: dict[str, list[Any]]) -> Path:
    """A lake of three tables and a run log; ``changed`` replaces columns of a table."""
    tables = {"gold/flag": FLAGS, "published/rate": RATES, "published/release": RELEASES}
    for name, columns in tables.items():
        schema = MAPS if name == "published/release" else None
        write_deltalake(str(folder / name), pa.table(columns | changed.get(name.split("/")[1], {}), schema=schema))
    write_deltalake(str(folder / "gold" / "run_log"), pa.table({"stage": [folder.name]}))
    return folder


def test_what_differs_between_any_two_runs_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = lake(
        tmp_path / "b",
        flag={name: values[::-1] for name, values in FLAGS.items()}
        | {"rate": [5.0, None, 0.3], "run_id": ["second"] * 3},
        rate={"release_id": ["s-0", "s-1"], "activity": [99, 8]},
        release={
            "release_id": ["s-0", "s-1"],
            "released_at": [datetime(2025, 1, 1, tzinfo=UTC)] * 2,
            "tables": [None, RELEASES["tables"][1][::-1]],
        },
    )
    assert main([str(lake(tmp_path / "a")), str(other)]) == 0
    assert "3 tables are the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "change", "differing", "columns"),
    [
        ("flag", {"record_id": ["1", "2", "4"]}, 2, ()),
        ("flag", {"failed_clauses": [["sex"], [], None]}, 2, ()),
        ("flag", {"failed_clauses": [["age"], [], []]}, 2, ()),
        ("flag", {"rate": [0.3001, None, 5.0]}, 1, ()),
        ("flag", {"rate": [0.3, None, None]}, 1, ()),
        ("flag", {name: [*values, values[-1]] for name, values in FLAGS.items()}, 2, ()),
        ("flag", {"note": ["new"] * 3}, 0, ("note",)),
        ("rate", {"activity": [7, 9]}, 2, ()),
        ("release", {"tables": [None, [("rate", 2), ("policy", 4)]]}, 2, ()),
    ],
)
def test_a_difference_is_found(
    tmp_path: Path, table: str, change: dict[str, list[Any]], differing: int, columns: tuple[str, ...]
) -> None:
    found = compare(lake(tmp_path / "a"), lake(tmp_path / "b", **{table: change}))
    assert [(item.table.split("/")[1], item.differing, item.columns) for item in found if not item.same] == [
        (table, differing, columns)
    ]


def test_a_table_of_one_lake_only_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = lake(tmp_path / "b")
    write_deltalake(str(more / "silver" / "apc_spell"), pa.table({"record_id": ["1"]}))
    assert main([str(lake(tmp_path / "a")), str(more)]) == 1
    assert "1 of 4 tables differ" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "a"), str(tmp_path)])
    assert ended.value.code == 2
