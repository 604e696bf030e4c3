"""Commits Parquet files that Spark has staged elsewhere in the lake's folder, with `deltalake`. No row is written a second time."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ebi_spark.lake.local_tables import open_table
from ebi_spark.tables.schemas import TABLES, YEAR


class AdoptedFiles:
    """Staged files of some years. They are committed by ``save``, as rows are written with a ``DataFrameWriter``.

    ``folders`` are partitioned by year. ``replaces``: whether the files replace rows of these years that the table may have.
    """

    def __init__(self, folders: Sequence[Path], years: Sequence[str], *, replaces: bool, metadata: str) -> None:
        self.folders, self.years, self.replaces, self.metadata = folders, years, replaces, metadata

    def save(self, path: str) -> None:
        """Link the files into the table's folder, then commit them in one commit. If the process is killed in between, the
        folder has files that no version of the table names; `maintain` removes them, as after a killed Spark."""
        from deltalake import CommitProperties
        from deltalake.transaction import AddAction, RemoveAction

        table, stored = Path(path), open_table(Path(path))
        statistics = TABLES[f"{table.parent.name}/{table.name}"].statistics
        added: list[AddAction | RemoveAction] = []
        for year in self.years:
            partition = f"{YEAR}={year}"
            for source in sorted(file for folder in self.folders for file in (folder / partition).glob("*.parquet")):
                (table / partition).mkdir(exist_ok=True)
                file = table / partition / source.name
                _link(source, file)
                state = file.stat()
                added.append(
                    AddAction(
                        path=f"{partition}/{source.name}",
                        size=state.st_size,
                        partition_values={YEAR: year},
                        modification_time=int(state.st_mtime * 1000),
                        data_change=True,
                        stats=json.dumps(_statistics(file, statistics)),
                    )
                )
        # Spark writes a checksum file with a checkpoint, `deltalake` does not. That of an earlier checkpoint would be wrong.
        (table / "_delta_log" / "._last_checkpoint.crc").unlink(missing_ok=True)
        stored.create_write_transaction(
            added,
            "overwrite" if self.replaces else "append",
            stored.schema(),
            [YEAR],
            [(YEAR, "in", list(self.years))] if self.replaces else None,
            commit_properties=CommitProperties(custom_metadata={"userMetadata": self.metadata}),
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
