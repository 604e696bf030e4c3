"""Decides which rows count where several rows of one source table share a key.

Rows are compared by what a record takes from them: silver's columns after cleaning, without file, run and extract
date (:func:`_compared`). Rows that are equal there count once, whatever else their files say. Of rows that differ,
those with the latest ``extract_date`` count if every row has one; the earlier ones are superseded. Where more than
one content is left, these rows conflict and none of them counts.

Such rows are few, and the status of each depends on the others. If rows are staged (:mod:`ebi_spark.records.staging`) and each is
a record by itself, rows of repeated keys are staged apart from the others and resolved there. Otherwise they are resolved first:
later steps read all other rows from the source, and the resolved ones from ``silver/repeated_row``. That table has them
until the next ingest.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.lake.storage import Lake
from ebi_spark.records import code_tables, column_kinds, hes, sus_plus
from ebi_spark.records.cleaning import clean, text
from ebi_spark.small_frames import arrow_frame
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE, REPEATED_ROW

# Up to this many repeated keys of a table are collected to the driver as hashes, and broadcast to every task. Beyond
# that, rows and keys are joined by a shuffle of all rows.
FEW_KEYS = 1_000_000

_TEXTS = "fields"
_LISTS = "lists"
_PASSED_THROUGH = ("raw_names", "raw_values", "content", "source_file", "file_bytes", "file_modified")


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
    """The rows that have a key, with the key as ``_key`` (text) and its hash as ``_hash`` (bigint)."""
    with_key = rows.where("corrupt IS NULL").withColumn("_key", text(F.col("record_id"))).where("_key IS NOT NULL")
    return with_key.withColumn("_hash", F.xxhash64("_key"))


def scan_for_repeated_keys(tables: list[SourceTable]) -> dict[tuple[str, str], RepeatedKeys]:
    """The keys of each table that may be in more than one row, by (system, role). One query, which reads only the
    keys."""
    queries = []
    for table in tables:
        repeated = keyed(table.rows).groupBy("_hash").count().where("count > 1").limit(FEW_KEYS + 1)
        named = [F.lit(table.system).alias("system"), F.lit(table.role).alias("role")]
        queries.append(repeated.select(*named, F.col("_hash").alias("hash")))
    found = reduce(DataFrame.unionByName, queries).toArrow()
    repeated_keys = {}
    for table in tables:
        this_table = pc.and_(pc.equal(found["system"], table.system), pc.equal(found["role"], table.role))
        hashes = found.filter(this_table).select(["hash"]).rename_columns(["_repeated_hash"])
        number = hashes.num_rows
        frame = arrow_frame(table.rows.sparkSession, hashes) if number <= FEW_KEYS else None
        repeated_keys[table.system, table.role] = RepeatedKeys(frame, number)
    return repeated_keys


def _hashes(table: SourceTable, repeated_keys: RepeatedKeys) -> DataFrame:
    """The hashes of a table's repeated keys, as ``_repeated_hash``."""
    if repeated_keys.hashes is None:
        repeated = keyed(table.rows).groupBy("_hash").count().where("count > 1")
        return repeated.select(F.col("_hash").alias("_repeated_hash"))
    return F.broadcast(repeated_keys.hashes)


def resolve_duplicates(
    tables: Iterable[SourceTable], repeated_keys: Mapping[tuple[str, str], RepeatedKeys], config: RunConfig
) -> list[DataFrame]:
    """The rows of repeated keys as they were read, each with what was decided about it: frames of ``silver/repeated_row``."""
    return [
        _resolved(table, repeated_keys[table.system, table.role], config)
        for table in tables
        if repeated_keys[table.system, table.role]
    ]


def write_repeated_rows(lake: Lake, parts: list[DataFrame], keep_rows_of: Collection[str] | None = None) -> None:
    """Write ``silver/repeated_row``. If ``keep_rows_of`` is given, existing rows of these files are kept."""
    if not parts and lake.version(REPEATED_ROW) == 0:
        return
    parts = [part.withColumn("run_id", F.lit(lake.run_id)) for part in parts]
    if keep_rows_of is not None:
        parts.append(lake.read(REPEATED_ROW).where(F.col("source_file").isin(*keep_rows_of)))
    frame = reduce(DataFrame.unionByName, parts) if parts else lake.read(REPEATED_ROW).limit(0)
    lake.replace(REPEATED_ROW, frame.coalesce(1), {}, stage="ingest")


def _resolved(table: SourceTable, repeated_keys: RepeatedKeys, config: RunConfig) -> DataFrame:
    hashes = _hashes(table, repeated_keys)

    def with_repeated_key(frame: DataFrame, key: Column) -> DataFrame:
        return frame.join(hashes, F.xxhash64(text(key)) == F.col("_repeated_hash"), "left_semi")

    types = dict(table.rows.dtypes)
    fields = {name: kind for name, kind in types.items() if name not in (*_PASSED_THROUGH, "corrupt")}
    texts = [name for name, kind in fields.items() if kind != "array<string>"]
    lists = [name for name, kind in fields.items() if kind == "array<string>"]
    empty = F.lit(None).cast("map<string,array<string>>")
    rows = keyed(table.where_key(with_repeated_key)).withColumns(
        {
            _TEXTS: F.create_map(*[part for name in texts for part in (F.lit(name), F.col(name).cast("string"))]),
            _LISTS: F.create_map(*[p for name in lists for p in (F.lit(name), F.col(name))]) if lists else empty,
        }
    )
    cleaned, compared = _compared(rows, table, config)
    return with_decision(cleaned, "_key", "extract_date", "content", compared).select(
        F.lit(table.system).alias("source_system"),
        F.lit(table.role).alias("role"),
        F.col("_key").alias("record_id"),
        *("conflict", "is_duplicate", "differs_elsewhere"),
        _TEXTS,
        _LISTS,
        *_PASSED_THROUGH,
    )


def with_decision(rows: DataFrame, key: str, day: str, whole: str, compared: Iterable[str]) -> DataFrame:
    """Rows of repeated keys with what was decided about each: ``conflict``, ``is_duplicate`` and ``differs_elsewhere``.

    The other arguments name columns: the key, the date of the extract, the hash of the whole source row, and those in which
    two rows of one key have to be equal to be the same record.
    """
    values = [F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in compared]
    date, value = F.col(day), F.col("_value")
    same_key, same_value = Window.partitionBy(key), Window.partitionBy(key, "_value")
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


def _compared(rows: DataFrame, table: SourceTable, config: RunConfig) -> tuple[DataFrame, list[str]]:
    """Rows of a source table cleaned, and the columns in which two rows of one key have to be equal to be the same
    record: all that silver takes from them."""
    role = table.role
    if role == "apc":
        cleaned, record_columns = (
            hes.clean_episodes(rows, config.window(table.system, role), config.bare_year),
            hes.EPISODE_VALUES,
        )
    elif role in ("apcs", "opa", "op"):
        classify = {
            "apcs": sus_plus.classify_spells, "opa": sus_plus.classify_attendances, "op": hes.classify_attendances,
        }[role]  # fmt: skip
        cleaned = classify(
            rows.withColumn("conflict", F.lit(False)), config.window(table.system, role), config.bare_year
        )
        record_columns = tuple((APC_SPELL if role == "apcs" else OP_ATTENDANCE).names())
    elif role == "apcs_der":
        cleaned, record_columns = clean(rows, column_kinds.DERIVED_KINDS), tuple(column_kinds.DERIVED_KINDS)
    elif role in CODE_TABLES:
        cleaned, record_columns = code_tables.clean_codes(rows), tuple(column_kinds.CODE_TABLE_KINDS)
    else:  # a list of withdrawn keys
        cleaned, record_columns = clean(rows, {"record_id": "identifier", "extract_date": "day"}), ("record_id",)
    present = set(cleaned.columns) - {"cleaned", "extract_date", *_PASSED_THROUGH}
    return cleaned, [name for name in record_columns if name in present]


_NO_FLAGS = ("is_duplicate", "differs_elsewhere", "conflict")


def _repeated_hash() -> Column:
    """The hash of a row's key; NULL for a row without a usable one."""
    key = text(F.col("record_id"))
    return F.when(F.col("corrupt").isNull() & key.isNotNull(), F.xxhash64(key))


def with_repeated(table: SourceTable, repeated_keys: RepeatedKeys) -> DataFrame:
    """The rows of a source table with ``repeated``: whether the row's key may be in other rows. No row is a duplicate yet."""
    rows = table.rows.withColumns(dict.fromkeys(_NO_FLAGS, F.lit(False)))
    if not repeated_keys:
        return rows.withColumn("repeated", F.lit(False))
    joined = rows.join(_hashes(table, repeated_keys), _repeated_hash() == F.col("_repeated_hash"), "left")
    return joined.withColumn("repeated", F.col("_repeated_hash").isNotNull()).drop("_repeated_hash")


def split_by_uniqueness(
    resolved: DataFrame | None, table: SourceTable, repeated_keys: RepeatedKeys
) -> tuple[DataFrame, DataFrame | None]:
    """The rows of a source table in two parts: rows whose key is in no other row, or that have no key; and rows of
    repeated keys, from ``resolved`` (as ``silver/repeated_row``), or None where there are none.

    Both parts have three BOOLEAN columns: ``is_duplicate`` (a duplicate or superseded row, which is left out),
    ``differs_elsewhere`` (a duplicate that differs in columns that no record takes) and ``conflict`` (one key,
    different content).

    | record_id | extract_date | sex | → part   | is_duplicate | conflict |
    |-----------|--------------|-----|----------|--------------|----------|
    | A         | 2022-01-10   | 1   | unique   | false        | false    |
    | B         | 2022-01-10   | 1   | repeated | true         | false    |
    | B         | 2022-02-10   | 2   | repeated | false        | false    |
    """
    no_flags = dict.fromkeys(_NO_FLAGS, F.lit(False))
    if not repeated_keys or resolved is None:
        return table.rows.withColumns(no_flags), None
    stored = resolved.where((F.col("source_system") == table.system) & (F.col("role") == table.role))
    if repeated_keys.hashes is None:  # they are known by now, so the keys of the source need not be grouped again
        hashes = stored.select(F.xxhash64("record_id").alias("_repeated_hash")).distinct()
    else:
        hashes = _hashes(table, repeated_keys)
    if table.only is not None:
        stored = stored.where(F.col("source_file").isin(*table.only))
    unique = table.rows.join(hashes, _repeated_hash() == F.col("_repeated_hash"), "left_anti").withColumns(no_flags)
    columns: list[Column] = []
    for name, kind in table.rows.dtypes:
        if name in _PASSED_THROUGH:
            columns.append(F.col(name))
        elif name == "corrupt":
            columns.append(F.lit(None).cast("string").alias(name))
        else:
            columns.append(F.col(_LISTS if kind == "array<string>" else _TEXTS)[name].cast(kind).alias(name))
    return unique, stored.select(*columns, *no_flags)


def all_rows(unique: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """All rows of a source table, put together from the two parts."""
    if repeated is None:
        return unique
    # Nothing reads this number. Without it, Spark would move all the cleaning below the union and plan it twice.
    return unique.unionByName(repeated).withColumn("_row", F.monotonically_increasing_id())
