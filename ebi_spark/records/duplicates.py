"""Decides which rows count where several rows of one source table share a key.

Rows are compared by what a record takes from them: silver's columns after cleaning, without file, run and extract
date. Rows that are equal there count once, whatever else their files say. Of rows that differ,
those with the latest ``extract_date`` count if every row has one; the earlier ones are superseded. Where more than
one content is left, these rows conflict and none of them counts.

Such rows are few, and the status of each depends on the others. They are marked before they are staged, resolved from the staged
rows, and staged again with what was decided (:mod:`ebi_spark.records.staging`). ``silver/repeated_row`` lists them until the
next ingest.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import reduce

import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake
from ebi_spark.records.cleaning import changed, text_of
from ebi_spark.small_frames import arrow_frame
from ebi_spark.sources.reader import SourceTable, TableId
from ebi_spark.tables.silver import REPEATED_ROW

# Up to this many repeated keys of a table are collected to the driver as hashes, and broadcast to every task. Beyond
# that, rows and keys are joined by a shuffle of all rows.
FEW_KEYS = 1_000_000


@dataclass(frozen=True)
class RepeatedKeys:
    """The keys of one source table that may be in more than one row, by hash. (A key that shares its hash with another
    key is among them, and turns out to be unique.) ``hashes`` is None where there are more than :data:`FEW_KEYS`."""

    hashes: DataFrame | None  # one column, ``_repeated_hash``: bigint
    number: int

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.number > 0


def keyed(rows: DataFrame) -> DataFrame:
    """The rows that have a key (corrupt lines have none), with the key as ``_key`` (text)."""
    return rows.where("corrupt IS NULL").withColumn("_key", text_of("record_id")).where("_key IS NOT NULL")


def scan_for_repeated_keys(tables: list[SourceTable]) -> dict[TableId, RepeatedKeys]:
    """The keys of each table that may be in more than one row, by (system, role). One query, which reads only the
    keys.

    | table | record_id of its rows | → hashes  | number |
    |-------|-----------------------|-----------|--------|
    | apcs  | A, A, B               | that of A | 1      |
    | opa   | A, B                  | none      | 0      |
    | op    | NULL, NULL            | none      | 0      |
    """
    queries = []
    for table in tables:
        named = [F.lit(table.system).alias("system"), F.lit(table.role).alias("role")]
        queries.append(_in_several_rows(table).limit(FEW_KEYS + 1).select(*named, "_repeated_hash"))
    found = reduce(DataFrame.unionByName, queries).toArrow()
    repeated_keys = {}
    for table in tables:
        this_table = pc.and_(pc.equal(found["system"], table.system), pc.equal(found["role"], table.role))
        hashes = found.filter(this_table).select(["_repeated_hash"])
        number = hashes.num_rows
        frame = arrow_frame(table.rows.sparkSession, hashes) if number <= FEW_KEYS else None
        repeated_keys[table.table_id] = RepeatedKeys(frame, number)
    return repeated_keys


def _in_several_rows(table: SourceTable) -> DataFrame:
    hashed = table.rows.groupBy(_repeated_hash().alias("_repeated_hash")).count()
    return hashed.where("count > 1 AND _repeated_hash IS NOT NULL")


def _hashes(table: SourceTable, repeated_keys: RepeatedKeys) -> DataFrame:
    """The hashes of a table's repeated keys, as ``_repeated_hash``."""
    if repeated_keys.hashes is None:
        return _in_several_rows(table).select("_repeated_hash")
    return F.broadcast(repeated_keys.hashes)


def write_repeated_rows(lake: Lake, parts: list[DataFrame], keep_rows_of: Collection[str]) -> None:
    """Write ``silver/repeated_row``. Existing rows of the files ``keep_rows_of`` are kept."""
    if not parts and (lake.version(REPEATED_ROW) == 0 or lake.is_empty(REPEATED_ROW)):
        return
    parts = [part.withColumn("run_id", F.lit(lake.run_id)) for part in parts]
    if keep_rows_of:
        existing = lake.read(REPEATED_ROW).where(F.col("source_file").isin(*keep_rows_of))
        parts.append(existing.select(*REPEATED_ROW.names()))
    frame = reduce(DataFrame.unionByName, parts) if parts else lake.read(REPEATED_ROW).limit(0)
    lake.replace(REPEATED_ROW, frame.coalesce(1), {}, stage="ingest")


def with_decision(rows: DataFrame, day: str, whole: str, compared: Iterable[str]) -> DataFrame:
    """Rows of repeated keys with what was decided about each: ``conflict``, ``is_duplicate`` and ``differs_elsewhere``.

    The other arguments name columns: the date of the extract, the hash of the whole source row, and those in which two rows of one
    key have to be equal to be the same record.

    | record_id | day        | compared | → conflict | is_duplicate |                                      |
    |-----------|------------|----------|------------|--------------|--------------------------------------|
    | A         | 2022-01-10 | 1        | false      | true         | superseded by the later extract      |
    | A         | 2022-02-10 | 2        | false      | false        | counts                               |
    | B         | 2022-01-10 | 1        | true       | false        | conflicts with the other row of B    |
    | B         | 2022-01-10 | 2        | true       | false        |                                      |
    """
    values = [F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in compared]
    date, value = F.col(day), F.col("_value")
    same_key, same_value = Window.partitionBy("record_id"), Window.partitionBy("record_id", "_value")
    newest_first = (date.desc_nulls_last(), "source_file", whole)
    # Rows of an earlier extract are superseded if every row has an extract date.
    contends = F.col("_undated") | (date == F.col("_latest"))
    marked = (
        rows.withColumn("_value", F.xxhash64(*values))
        .withColumns({"_latest": F.max(date).over(same_key), "_undated": F.max(date.isNull()).over(same_key)})
        .withColumns(
            {
                "_values": F.size(F.collect_set(F.when(contends, value)).over(same_key)),
                "_place": F.row_number().over(same_key.orderBy(*newest_first)),
                "_copy": F.row_number().over(same_value.orderBy(*newest_first)),
                "_first": F.first(whole).over(same_value.orderBy(*newest_first)),
                "_contends": F.max(contends).over(same_value),
            }
        )
    )
    # Of equal rows in a conflict, one is quarantined and the others are duplicates.
    conflict = F.col("_contends") & (F.col("_values") > 1) & (F.col("_copy") == 1)
    counts = (F.col("_values") == 1) & (F.col("_place") == 1)
    is_duplicate = ~conflict & ~counts
    return marked.withColumns(
        {
            "conflict": conflict,
            "is_duplicate": is_duplicate,
            "differs_elsewhere": is_duplicate & F.col("_contends") & (F.col(whole) != F.col("_first")),
        }
    )


_NO_FLAGS = ("is_duplicate", "differs_elsewhere", "conflict")


def _repeated_hash() -> Column:
    """The hash of a row's key; NULL for a row without a usable one."""
    key = text_of("record_id")
    return F.when(F.col("corrupt").isNull() & key.isNotNull(), F.xxhash64(key))


def with_repeated(table: SourceTable, repeated_keys: RepeatedKeys) -> DataFrame:
    """The rows of a source table with ``repeated``: whether the row's key may be in other rows. No row is a duplicate or in a
    conflict yet: :func:`with_decision` decides that.

    | record_id | repeated keys | → repeated | is_duplicate | conflict |
    |-----------|---------------|------------|--------------|----------|
    | A         | A             | true       | false        | false    |
    | B         | A             | false      | false        | false    |
    | NULL      | A             | false      | false        | false    |
    """
    no_flags = dict.fromkeys(_NO_FLAGS, F.lit(False))
    if not repeated_keys:
        return table.rows.withColumns({**no_flags, "repeated": F.lit(False)})
    joined = table.rows.join(_hashes(table, repeated_keys), _repeated_hash() == F.col("_repeated_hash"), "left")
    marked = {**no_flags, "repeated": F.col("_repeated_hash").isNotNull()}
    return changed(joined, marked, without=["_repeated_hash"])
