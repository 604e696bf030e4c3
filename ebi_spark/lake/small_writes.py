"""Creates tables and commits small results with `deltalake`, in milliseconds, where Spark takes seconds. The lake must be a folder.

It is for rows that are on the driver anyway: logs, policies, aggregates and published tables, never records of patients.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ebi_spark.lake.local_tables import UnreadableTableError, open_table
from ebi_spark.small_frames import conform_table
from ebi_spark.tables.table import Table

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

# Commits after which a table gets a checkpoint, so that its readers need not open each entry of its log. As in Spark.
CHECKPOINT_EVERY = 10


def create(folder: Path, table: Table, properties: Mapping[str, str]) -> None:
    """Create an empty table in a folder, unless it has one."""
    from deltalake import DeltaTable, Schema

    folder.mkdir(parents=True, exist_ok=True)
    DeltaTable.create(
        folder,
        Schema.from_json(json.dumps(table.schema.jsonValue())),
        mode="ignore",
        partition_by=list(table.partition_by) or None,
        description=table.row,
        configuration=properties,
        raise_if_key_not_exists=False,
    )


def can_write(folder: Path) -> bool:
    """Whether `deltalake` can write the table as Spark would. It cannot if it would misread the table's path, or if the table has
    features that this product does not use."""
    try:
        return bool(open_table(folder).protocol().min_writer_version <= 2)
    except UnreadableTableError:
        return False


@contextlib.contextmanager
def opened_to_commit(folder: Path) -> Iterator["DeltaTable"]:
    """A table to which `deltalake` commits inside the ``with``. Its log is left as Spark leaves one."""
    table, log = open_table(folder), folder / "_delta_log"
    # Spark writes a checksum file with a checkpoint, `deltalake` does not. That of an earlier checkpoint would be wrong.
    (log / "._last_checkpoint.crc").unlink(missing_ok=True)
    yield table
    # Spark and `deltalake` each write a checkpoint only at certain versions. Where they take turns, both can miss these.
    checkpoints = [int(entry.name.partition(".")[0]) for entry in log.glob("*.checkpoint.parquet")]
    if table.version() - max(checkpoints, default=0) >= CHECKPOINT_EVERY:
        table.create_checkpoint()


def described_by(metadata: str) -> "CommitProperties":
    """What a commit says of itself, where Spark has ``userMetadata``."""
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata={"userMetadata": metadata})


class SmallWriter:
    """Rows for a table. They are written by ``save``, as with a ``DataFrameWriter``.

    ``replaced``: an SQL condition for the rows that they replace; an empty one replaces all rows. None: they are only added.
    """

    def __init__(self, rows: pa.Table, replaced: str | None, metadata: str) -> None:
        self.rows, self.replaced, self.metadata = rows, replaced, metadata

    def save(self, path: str) -> None:
        """Write and commit the rows, in one commit. Columns of the table that the rows do not have are NULL."""
        from deltalake import WriterProperties, write_deltalake

        with opened_to_commit(Path(path)) as table:
            stored = pa.schema(table.schema().to_arrow())
            unknown = set(self.rows.column_names) - set(stored.names)
            if unknown:
                raise ValueError(f"{Path(path).name} has no columns {', '.join(sorted(unknown))}")
            rows = conform_table(self.rows, stored)
            how: dict[str, Any] = {
                "writer_properties": WriterProperties(compression="ZSTD"),
                "commit_properties": described_by(self.metadata),
            }
            if self.replaced is None:
                write_deltalake(table, rows, mode="append", **how)
            else:
                write_deltalake(table, rows, mode="overwrite", predicate=self.replaced or None, **how)
