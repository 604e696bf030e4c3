"""The lake: the only module that knows Delta, table names and paths.

Every write is one commit that a rerun repeats without harm. Tables are created empty with their whole schema, reader
protocol 1 and no deletion vectors, so that other engines read them.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark import __version__
from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.schemas import TABLES, YEAR, Table
from ebi_spark.settings import LAYERS, LakeLocation

_PROPERTIES = {
    "delta.minReaderVersion": "1",
    "delta.minWriterVersion": "2",
    "delta.enableDeletionVectors": "false",
    "delta.checkpointPolicy": "classic",
}

_Answer = TypeVar("_Answer")
# Values by column.
Where = Mapping[str, Iterable[str | int]]


class Lake:
    """The tables of one lake. Local folders of silver and gold are closed to others; published has the user's mask."""

    def __init__(self, spark: SparkSession, location: LakeLocation, run_id: str = "") -> None:
        self.spark, self.location, self.run_id = spark, location, run_id
        self.versions_read: dict[str, int] = {}
        self.versions_written: dict[str, int] = {}

    # Where things are

    def identifier(self, table: Table) -> str:
        """The table's name for SQL: ``catalog.schema.name`` or ``delta.`path` ``."""
        if self.location.folder:
            return f"delta.`{self._path(table)}`"
        return f"`{self.location.catalog}`.`{self.location.schemas[table.layer]}`.`{table.name}`"

    def _path(self, table: Table) -> str:
        return str(Path(str(self.location.folder)) / table.layer / table.name)

    def exists(self, table: Table) -> bool:
        """Whether the table has a first version."""
        if self.location.folder:
            log = Path(self._path(table)) / "_delta_log"
            return log.is_dir() and any(log.glob("*.json"))
        return self.spark.catalog.tableExists(
            f"{self.location.catalog}.{self.location.schemas[table.layer]}.{table.name}"
        )

    # Making

    def prepare(self) -> None:
        """Create what is missing of folders or schemas and tables."""
        if self.location.folder:
            prepare_folders(self.location.folder)
        else:
            for schema in self.location.schemas.values():
                self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS `{self.location.catalog}`.`{schema}`")
        missing = [table for table in TABLES.values() if not self.exists(table)]
        side_by_side([partial(self._create, table) for table in missing])

    def _create(self, table: Table) -> None:
        columns = ", ".join(
            f"`{name}` {kind}" + (f" COMMENT '{_quoted(meaning)}'" if meaning else "")
            for name, kind, meaning in table.fields()
        )
        properties = dict(_PROPERTIES)
        if table.statistics:
            properties["delta.dataSkippingStatsColumns"] = ",".join(table.statistics)
        partition = f" PARTITIONED BY ({', '.join(table.partition_by)})" if table.partition_by else ""
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.identifier(table)} ({columns}) USING DELTA{partition} "
            f"COMMENT '{_quoted(table.row)}' TBLPROPERTIES ({listed})"
        )

    # Reading

    def read(self, table: Table) -> DataFrame:
        """The table as it stands; its version is noted for the run log."""
        if not self.exists(table):
            raise InputError(
                f"{self.location} has no table {table.full_name}", remedy="run the stages before this one first"
            )
        if table.full_name not in self.versions_read:
            self.versions_read[table.full_name] = self.version(table)
        if self.location.folder:
            return self.spark.read.format("delta").load(self._path(table))
        return self.spark.table(self.identifier(table))

    def version(self, table: Table) -> int:
        """The newest Delta version."""
        if self.location.folder:  # asking Delta takes a Spark job; a local log tells by its file names
            log = Path(self._path(table)) / "_delta_log"
            numbers = [int(entry.stem) for entry in log.glob("*.json") if entry.stem.isdigit()]
            if numbers:
                return max(numbers)
        row = self.spark.sql(f"DESCRIBE HISTORY {self.identifier(table)} LIMIT 1").select("version").first()
        if row is None:
            raise BrokenRunError(f"{table.full_name} has no history", remedy="restore the table or remove its folder")
        return int(row["version"])

    def years(self, table: Table) -> list[str]:
        """The financial years that the table holds, sorted."""
        rows = self.read(table).select(YEAR).distinct().orderBy(YEAR).collect()
        return [row[YEAR] for row in rows if row[YEAR] is not None]

    # Writing

    def replace(self, table: Table, frame: DataFrame, where: Where | Sequence[Where], *, stage: str) -> None:
        """Replace, in one commit, the rows for which every column named in ``where`` has one of its values; with several
        mappings, the rows of any.

        ``frame`` must hold only such rows. An empty ``where`` replaces the whole table.
        """
        conformed = conform(frame, table)
        writer = conformed.write.format("delta").mode("overwrite").option("userMetadata", self._metadata(stage))
        predicate = predicate_of(where)
        if predicate:
            writer = writer.option("replaceWhere", predicate)
        if self.location.folder:
            writer.save(self._path(table))
        else:
            writer.saveAsTable(self.identifier(table))
        self._written(table)

    def append(self, table: Table, frame: DataFrame, *, stage: str) -> None:
        """Add rows in one commit (logs only: a rerun adds again)."""
        writer = conform(frame, table).write.format("delta").mode("append")
        writer = writer.option("userMetadata", self._metadata(stage))
        if self.location.folder:
            writer.save(self._path(table))
        else:
            writer.saveAsTable(self.identifier(table))
        self._written(table)

    def _written(self, table: Table) -> None:
        self.versions_written[table.full_name] = self.version(table)
        self.versions_read.pop(table.full_name, None)
        if self.location.folder and table.layer == "published":
            _open_to_others(Path(self._path(table)), self.location.folder)

    def _metadata(self, stage: str) -> str:
        return json.dumps({"run_id": self.run_id, "code_version": __version__, "stage": stage})

    # Keeping

    def maintain(self, table: Table, keep_hours: int) -> None:
        """Compact small files and remove those that no version younger than ``keep_hours`` needs."""
        if table.compact:
            self.spark.sql(f"OPTIMIZE {self.identifier(table)}")
        self.spark.sql(f"VACUUM {self.identifier(table)} RETAIN {int(keep_hours)} HOURS")


def side_by_side(tasks: Sequence[Callable[[], _Answer]]) -> list[_Answer]:
    """Call every task, a few at once, and give their answers in order: planning a query and committing a table keep one
    core busy at most. The first error is raised once all are done; an interrupt does not wait for them."""
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        futures = [pool.submit(task) for task in tasks]
        wait(futures)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def conform(frame: DataFrame, table: Table) -> DataFrame:
    """``frame`` with exactly the table's columns in its order and types."""
    return frame.select([F.col(name).cast(kind).alias(name) for name, kind, _ in table.fields()])


def prepare_folders(folder: Path) -> None:
    """Make a lake's folders: silver and gold for their owner alone. Raises when the place cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for layer in LAYERS:
            (folder / layer).mkdir(exist_ok=True)
        for layer in ("silver", "gold"):
            (folder / layer).chmod(0o700)
        probe = folder / "silver" / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the lake {folder} cannot be written ({error.strerror})", remedy="give a folder that this user may write"
        ) from None


def _open_to_others(path: Path, folder: Path) -> None:
    """Give published files the mode that the user's own mask allows; the job itself runs under 077."""
    mask = published_mask()
    for entry in (folder, folder / "published", path, *path.rglob("*")):
        entry.chmod((0o777 if entry.is_dir() else 0o666) & ~mask)


_USER_MASK: list[int] = []


def restrict_new_files() -> None:
    """Set the process's mask to 077 before Spark starts, and remember the user's own for what is published."""
    mask = os.umask(0o077)
    if not _USER_MASK:
        _USER_MASK.append(mask)


def published_mask() -> int:
    """The mask that the user had when the job began (022 when unknown)."""
    return _USER_MASK[0] if _USER_MASK else 0o022


def predicate_of(where: Where | Sequence[Where]) -> str:
    """The SQL condition that a row meets when it has one of the values of every column, of one of the mappings."""
    either = [
        " AND ".join(
            f"`{column}` IN ({', '.join(_literal(value) for value in values)})" for column, values in one.items()
        )
        for one in ([where] if isinstance(where, Mapping) else where)
    ]
    return either[0] if len(either) == 1 else " OR ".join(f"({one})" for one in either)


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
