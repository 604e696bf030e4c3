"""Commits Parquet files that Spark has staged elsewhere in the lake's folder, with `deltalake`. No row is written a second time."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from ebi_spark.lake.small_writes import described_by, opened_to_commit
from ebi_spark.tables.table import YEAR

if TYPE_CHECKING:
    from deltalake.transaction import AddAction, RemoveAction


class AdoptedFiles:
    """Staged files of some years. They are committed by ``save``, as rows are written with a ``DataFrameWriter``.

    ``folders`` are partitioned by year. ``statistics``: the columns of which Delta's log keeps minimum and maximum.
    ``replaces``: whether the files replace rows of these years that the table may have.
    """

    def __init__(
        self, folders: Sequence[Path], years: Sequence[str], statistics: Sequence[str], *, replaces: bool, metadata: str
    ) -> None:
        self.folders, self.years, self.statistics = folders, years, statistics
        self.replaces, self.metadata = replaces, metadata

    def save(self, path: str) -> None:
        """Link the files into the table's folder, then commit them in one commit. If the process is killed in between, the
        folder has files that no version of the table names; `maintain` removes them, as after a killed Spark."""
        added = [action for year in self.years for action in self._linked(Path(path), year)]
        with opened_to_commit(Path(path)) as table:
            table.create_write_transaction(
                added,
                "overwrite" if self.replaces else "append",
                table.schema(),
                [YEAR],
                [(YEAR, "in", list(self.years))] if self.replaces else None,
                commit_properties=described_by(self.metadata),
            )
            table.update_incremental()

    def _linked(self, table: Path, year: str) -> "Iterator[AddAction | RemoveAction]":
        """Link the files of one year into the table's folder, and describe each for Delta's log."""
        from deltalake.transaction import AddAction

        partition = f"{YEAR}={year}"
        for source in sorted(file for folder in self.folders for file in (folder / partition).glob("*.parquet")):
            (table / partition).mkdir(exist_ok=True)
            file = table / partition / source.name
            _link(source, file)
            state = file.stat()
            yield AddAction(
                path=f"{partition}/{source.name}",
                size=state.st_size,
                partition_values={YEAR: year},
                modification_time=int(state.st_mtime * 1000),
                data_change=True,
                stats=json.dumps(_statistics(file, self.statistics)),
            )


def _link(source: Path, file: Path) -> None:
    """Give a file a second name (a hard link), or copy it if the file system has no links."""
    try:
        os.link(source, file)
    except OSError:
        shutil.copyfile(source, file)


def _statistics(file: Path, columns: Sequence[str]) -> dict[str, Any]:
    """A file's statistics for Delta's log: its rows, and minimum, maximum and NULLs of some columns. Reads only the file's end."""
    metadata = pq.read_metadata(file)
    names = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    found: dict[str, Any] = {"numRecords": metadata.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    for column in columns:
        groups = [metadata.row_group(number).column(names.index(column)) for number in range(metadata.num_row_groups)]
        known = [group.statistics for group in groups if group.statistics is not None]
        if len(known) < len(groups):
            continue
        found["nullCount"][column] = sum(item.null_count for item in known)
        filled = [item for item in known if item.has_min_max]
        if filled:
            found["minValues"][column] = str(min(item.min for item in filled))
            found["maxValues"][column] = str(max(item.max for item in filled))
    return found
