"""Rows of one source table that share a key: which of them count.

Rows are compared by what a record takes from them: silver's columns after cleaning, without file, run and extract date
(:func:`_compared`). Rows that are equal there count once, whatever else their files say. Of rows that differ, those of the
latest ``extract_date`` count if every row has one; earlier ones are superseded. Where more than one content is left, these
rows conflict and none counts.

Such rows are few, and what becomes of each rests on the others. They are settled once, before any cleaning, and stand
in ``silver/repeated_row``; everything after that reads each source row once, and these from there.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce

import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.lake.storage import Lake
from ebi_spark.records import hes, sus_plus
from ebi_spark.records.cleaning import clean, text
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.schemas import APC_SPELL, OP_ATTENDANCE, REPEATED_ROW

# So many suspected keys of a table are brought to the driver, as hashes, and sent to every task from there; of more, rows and
# keys meet by a shuffle of all rows.
FEW_KEYS = 1_000_000

_TEXTS = "fields"
_LISTS = "lists"
_AS_THEY_ARE = ("raw_names", "raw_values", "content", "source_file", "file_bytes", "file_modified")


@dataclass(frozen=True)
class RepeatedKeys:
    """The keys of one source table that may stand in more than one row, by hash (a key that shares its hash with another
    is among them, and turns out to be alone). ``hashes`` is None where there are more than :data:`FEW_KEYS`."""

    hashes: DataFrame | None  # one column, ``_suspect``
    number: int

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.number > 0


def keyed(rows: DataFrame) -> DataFrame:
    """Rows that have a key, with it as ``_key`` and its hash as ``_hash``."""
    with_key = rows.where("corrupt IS NULL").withColumn("_key", text(F.col("record_id"))).where("_key IS NOT NULL")
    return with_key.withColumn("_hash", F.xxhash64("_key"))


def scan_for_repeated_keys(tables: list[SourceTable]) -> dict[tuple[str, str], RepeatedKeys]:
    """The suspected keys of each table, from one query over keys alone."""
    looks = []
    for table in tables:
        repeated = keyed(table.rows).groupBy("_hash").count().where("count > 1").limit(FEW_KEYS + 1)
        named = [F.lit(table.system).alias("system"), F.lit(table.role).alias("role")]
        looks.append(repeated.select(*named, F.col("_hash").alias("hash")))
    found = reduce(DataFrame.unionByName, looks).toArrow()
    suspects = {}
    for table in tables:
        mine = pc.and_(pc.equal(found["system"], table.system), pc.equal(found["role"], table.role))
        hashes = found.filter(mine).select(["hash"]).rename_columns(["_suspect"])
        number = hashes.num_rows
        frame = table.rows.sparkSession.createDataFrame(hashes) if number <= FEW_KEYS else None
        suspects[table.system, table.role] = RepeatedKeys(frame, number)
    return suspects


def _hashes(table: SourceTable, suspects: RepeatedKeys) -> DataFrame:
    """The suspected keys of a table: ``_suspect``, their hashes."""
    if suspects.hashes is None:
        repeated = keyed(table.rows).groupBy("_hash").count().where("count > 1")
        return repeated.select(F.col("_hash").alias("_suspect"))
    return F.broadcast(suspects.hashes)


def resolve_duplicates(
    lake: Lake,
    tables: list[SourceTable],
    suspects: dict[tuple[str, str], RepeatedKeys],
    config: RunConfig,
    besides: Collection[str] | None = None,
) -> None:
    """Write ``silver/repeated_row``: the rows of repeated keys, as read, with what becomes of them; where ``besides`` are
    given, its rows of these files stay."""
    parts = [
        _settled(table, suspects[table.system, table.role], config)
        for table in tables
        if suspects[table.system, table.role]
    ]
    if not parts and lake.version(REPEATED_ROW) == 0:
        return
    parts = [part.withColumn("run_id", F.lit(lake.run_id)) for part in parts]
    if besides is not None:
        parts.append(lake.read(REPEATED_ROW).where(F.col("source_file").isin(*besides)))
    frame = reduce(DataFrame.unionByName, parts) if parts else lake.read(REPEATED_ROW).limit(0)
    lake.replace(REPEATED_ROW, frame.coalesce(1), {}, stage="ingest")


def _settled(table: SourceTable, suspects: RepeatedKeys, config: RunConfig) -> DataFrame:
    hashes = _hashes(table, suspects)

    def suspected(frame: DataFrame, key: Column) -> DataFrame:
        return frame.join(hashes, F.xxhash64(text(key)) == F.col("_suspect"), "left_semi")

    types = dict(table.rows.dtypes)
    fields = {name: kind for name, kind in types.items() if name not in (*_AS_THEY_ARE, "corrupt")}
    texts = [name for name, kind in fields.items() if kind != "array<string>"]
    lists = [name for name, kind in fields.items() if kind == "array<string>"]
    empty = F.lit(None).cast("map<string,array<string>>")
    rows = keyed(table.where_key(suspected)).withColumns(
        {
            _TEXTS: F.create_map(*[part for name in texts for part in (F.lit(name), F.col(name).cast("string"))]),
            _LISTS: F.create_map(*[p for name in lists for p in (F.lit(name), F.col(name))]) if lists else empty,
        }
    )
    cleaned, compared = _compared(rows, table, config)
    values = [F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in compared]
    day, value = F.col("extract_date"), F.col("_value")
    same_key = Window.partitionBy("_key")
    newest_first = (day.desc_nulls_last(), "source_file", "content")
    same_value = Window.partitionBy("_key", "_value")
    # Rows of an earlier extract are superseded, if every row says of which extract it is.
    contends = F.col("_undated") | (day == F.col("_latest"))
    marked = (
        cleaned.withColumn("_value", F.xxhash64(*values))
        .withColumns({"_latest": F.max(day).over(same_key), "_undated": F.max(day.isNull()).over(same_key)})
        .withColumns(
            {
                "_values": F.size(F.collect_set(F.when(contends, value)).over(same_key)),
                "_place": F.row_number().over(same_key.orderBy(*newest_first)),
                "_copy": F.row_number().over(same_value.orderBy(*newest_first)),
                "_first": F.first("content").over(same_value.orderBy(*newest_first)),
                "_contends": F.max(contends).over(same_value),
            }
        )
    )
    # Of each content one row stands for its copies.
    conflict = F.col("_contends") & (F.col("_values") > 1) & (F.col("_copy") == 1)
    counts = (F.col("_values") == 1) & (F.col("_place") == 1)
    is_duplicate = ~conflict & ~counts
    return marked.select(
        F.lit(table.system).alias("source_system"),
        F.lit(table.role).alias("role"),
        F.col("_key").alias("record_id"),
        conflict.alias("conflict"),
        is_duplicate.alias("is_duplicate"),
        (is_duplicate & F.col("_contends") & (F.col("content") != F.col("_first"))).alias("differs_elsewhere"),
        _TEXTS,
        _LISTS,
        *_AS_THEY_ARE,
    )


def _compared(rows: DataFrame, table: SourceTable, config: RunConfig) -> tuple[DataFrame, list[str]]:
    """Rows of a source table cleaned, and the columns in which two rows of one key have to be equal to be one record: all
    that silver takes from them."""
    role = table.role
    if role == "apc":
        cleaned, own = hes.clean_episodes(rows, config.window(table.system, role), config.bare_year), hes.EPISODE_VALUES
    elif role in ("apcs", "opa", "op"):
        judge = {
            "apcs": sus_plus.classify_spells, "opa": sus_plus.classify_attendances, "op": hes.classify_attendances,
        }[role]  # fmt: skip
        cleaned = judge(rows.withColumn("conflict", F.lit(False)), config.window(table.system, role), config.bare_year)
        own = tuple((APC_SPELL if role == "apcs" else OP_ATTENDANCE).names())
    elif role == "apcs_der":
        cleaned, own = clean(rows, sus_plus.DERIVED_KINDS), tuple(sus_plus.DERIVED_KINDS)
    else:  # a list of withdrawn keys
        cleaned, own = clean(rows, {"record_id": "identifier", "extract_date": "day"}), ("record_id",)
    there = set(cleaned.columns) - {"cleaned", "extract_date", *_AS_THEY_ARE}
    return cleaned, [name for name in own if name in there]


def split_by_uniqueness(lake: Lake, table: SourceTable, suspects: RepeatedKeys) -> tuple[DataFrame, DataFrame | None]:
    """The rows of a source table whose key, if they have one, stands in no other row; and those of repeated keys, from
    ``silver/repeated_row``, where there are any. Both with ``is_duplicate`` (a copy, or superseded: left out),
    ``differs_elsewhere`` (a copy that differs in columns that no record takes) and ``conflict`` (one key, different
    content)."""
    neither = {name: F.lit(False) for name in ("is_duplicate", "differs_elsewhere", "conflict")}
    if not suspects:
        return table.rows.withColumns(neither), None
    stored = lake.read(REPEATED_ROW).where((F.col("source_system") == table.system) & (F.col("role") == table.role))
    key = text(F.col("record_id"))
    keyed = F.when(F.col("corrupt").isNull() & key.isNotNull(), F.xxhash64(key))
    if suspects.hashes is None:  # they stand in the table by now: all keys of the source need no second grouping
        hashes = stored.select(F.xxhash64("record_id").alias("_suspect")).distinct()
    else:
        hashes = _hashes(table, suspects)
    if table.only is not None:
        stored = stored.where(F.col("source_file").isin(*table.only))
    alone = table.rows.join(hashes, keyed == F.col("_suspect"), "left_anti").withColumns(neither)
    columns: list[Column] = []
    for name, kind in table.rows.dtypes:
        if name in _AS_THEY_ARE:
            columns.append(F.col(name))
        elif name == "corrupt":
            columns.append(F.lit(None).cast("string").alias(name))
        else:
            columns.append(F.col(_LISTS if kind == "array<string>" else _TEXTS)[name].cast(kind).alias(name))
    return alone, stored.select(*columns, *neither)


def all_rows(alone: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """All rows of a source table again, of the two parts."""
    if repeated is None:
        return alone
    # A number that nothing reads: without it Spark would move all the cleaning below the union and plan it twice.
    return alone.unionByName(repeated).withColumn("_row", F.monotonically_increasing_id())
