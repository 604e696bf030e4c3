"""Commits Parquet files that Spark has staged elsewhere in the lake's folder, with `deltalake`. No row is written a second time.

For few rows this is faster than Delta's own writer in Spark, which plans the query twice and asks its log by several queries.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from ebi_spark.errors import BrokenRunError
from ebi_spark.lake.small_writes import described_by, opened_to_commit
from ebi_spark.tables.table import YEAR, Table

if TYPE_CHECKING:
    from deltalake.transaction import AddAction, RemoveAction
    from pyspark.sql import DataFrame

# What Spark calls the partition of rows without a year.
NULL_YEAR = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class AdoptedFiles:
    """Staged files of some years. They are committed by ``save``, as rows are written with a ``DataFrameWriter``.

    ``folders`` have a folder for each year. For a table without partitions, they have none and ``years`` is None. ``statistics``: the columns whose
    minimum and maximum are in Delta's log. ``replaces``: whether the files replace rows of these years that the table may have.
    ``whole``: whether they replace those of all years. ``rows``: how many rows they should have; None if that is not known.
    """

    folders: Sequence[Path]
    years: Sequence[str] | None
    statistics: Sequence[str]
    _: KW_ONLY
    replaces: bool
    metadata: str
    whole: bool = False
    rows: int | None = None

    def save(self, path: str) -> None:
        """Link the files into the table's folder, then commit them in one commit. If the process is killed in between, the
        folder has files that no version of the table names; `maintain` removes them, as after a killed Spark.

        Raises a :class:`BrokenRunError` if this program does not see what Spark has written: a row would be lost or be there twice.
        """
        for folder in self.folders:
            if not folder.is_dir():
                raise _not_seen(f"{folder} is not there, though Spark has written to it")
        staged = [(partition, file, _statistics(file, self.statistics)) for partition, file in self._files()]
        found = sum(statistics["numRecords"] for _, _, statistics in staged)
        if self.rows is not None and found != self.rows:
            raise _not_seen(f"the files for {Path(path).name} have {found:,} rows, and Spark counted {self.rows:,}")
        added: list[AddAction | RemoveAction] = [_linked(Path(path), *file) for file in staged]
        with opened_to_commit(Path(path)) as table:
            table.create_write_transaction(
                added,
                "overwrite" if self.replaces else "append",
                table.schema(),
                table.metadata().partition_columns,
                [(YEAR, "in", list(self.years))]
                if self.replaces and self.years is not None and not self.whole
                else None,
                commit_properties=described_by(self.metadata),
            )
            table.update_incremental()

    def _files(self) -> Iterator[tuple[str, Path]]:
        """(folder of the partition, or an empty text; file) of each file of these years."""
        for partition in [""] if self.years is None else [f"{YEAR}={year}" for year in self.years]:
            for folder in self.folders:
                yield from ((partition, file) for file in sorted((folder / partition).glob("*.parquet")))


@dataclass(frozen=True)
class WrittenFiles:
    """Rows of a frame for a table that has no partitions or is partitioned by year. Spark writes their files to a folder in
    ``scratch``; then they are committed as :class:`AdoptedFiles`.

    ``years``: those that the rows replace (None: all). Without ``replaces`` they replace none. `deltalake` does not notice every
    commit that another program makes at the same time, so this is only for a lake that has one writer at a time.
    """

    rows: "DataFrame"
    table: Table
    years: Sequence[str] | None
    scratch: Path
    _: KW_ONLY
    replaces: bool
    metadata: str

    def save(self, path: str) -> None:
        """Write the rows, and commit them in one commit. A :class:`ValueError` for rows of a year that is not replaced."""
        # A name of this form is removed by the next session, if this process is killed.
        staged = self.scratch / f"spark-{os.getpid()}-{self.table.name}_{uuid.uuid4().hex}"
        try:
            writer = self.rows.write
            (writer.partitionBy(YEAR) if self.table.partition_by else writer).parquet(str(staged))
            found = sorted(entry.name.partition("=")[2] for entry in staged.glob(f"{YEAR}=*"))
            if self.years is not None and not set(found) <= set(self.years):
                raise ValueError(f"{self.table.full_name}: there are rows of years that are not replaced")
            AdoptedFiles(
                [staged],
                (self.years or found) if self.table.partition_by else None,
                self.table.statistics,
                replaces=self.replaces,
                metadata=self.metadata,
                whole=self.years is None,
            ).save(path)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _not_seen(what: str) -> BrokenRunError:
    return BrokenRunError(
        f"{what}; nothing was committed",
        remedy="make sure that Spark and this program see the same files below the lake's folder, then run the same command again",
    )


def _linked(table: Path, partition: str, source: Path, statistics: dict[str, Any]) -> "AddAction":
    """Link a file into the table's folder, and describe it for Delta's log."""
    from deltalake.transaction import AddAction

    (table / partition).mkdir(exist_ok=True)
    file, year = table / partition / source.name, partition.partition("=")[2]
    _link(source, file)
    state = file.stat()
    return AddAction(
        path=file.relative_to(table).as_posix(),
        size=state.st_size,
        partition_values={YEAR: None if year == NULL_YEAR else year} if partition else {},
        modification_time=int(state.st_mtime * 1000),
        data_change=True,
        stats=json.dumps(statistics),
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
        filled = [item for item in known if item.num_values]
        # Parquet leaves out the minimum and maximum of long values. Those of the other row groups would be too narrow.
        if filled and all(item.has_min_max for item in filled):
            found["minValues"][column] = str(min(item.min for item in filled))
            found["maxValues"][column] = str(max(item.max for item in filled))
    return found
