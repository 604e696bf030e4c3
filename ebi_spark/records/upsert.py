"""``mode: upsert``: a submission adds records and updates those that the lake holds, by key and extract date.

A later extract wins. A file that arrives late changes nothing that a later extract has said, and brings back no record
that was withdrawn since. Read again, the same file changes nothing; put right in its place, it replaces what it said
before. Two files of one extract that say different things of one record contradict each other: what stands stays, and the
row that came later is set aside. A record without an extract date is older than any with one.

Keys that are withdrawn come as lists (roles ``apcs_withdrawn``, ``opa_withdrawn``, ``op_withdrawn``): a record of the same
extract or an earlier one is taken out, and stays out.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.financial_years import HES_KEYS_UNIQUE_FROM, label
from ebi_spark.lake.storage import Lake
from ebi_spark.tables.schemas import WITHDRAWN_RECORD, YEAR, Table

# What becomes of a record that a submission brings, and of one that a list takes out.
NEW, NEWER, UNCHANGED, OLDER, CONFLICT = "new", "newer", "unchanged", "older", "contradicting"
WITHDRAWN, TAKEN_OUT = "withdrawn since", "taken out"
PUT = (NEW, NEWER)
# What became of an incoming record, and the year in which the lake holds its key.
FATE, HELD_YEAR = "_fate", "_held_year"

KEY = ("source_system", "record_id")


def extract(column: str) -> Column:
    """An extract date to compare; none is older than any."""
    return F.coalesce(F.col(column), F.lit("0001-01-01").cast("date"))


def refuse_bare_keys(lake: Lake, table: Table) -> None:
    """An :class:`InputError` where the lake holds HES records of years before 2012-13 under keys without their year, as versions
    before this one wrote them: the same records would be added once more under keys that have it."""
    if lake.version(table) == 0:
        return
    first = label(HES_KEYS_UNIQUE_FROM)
    bare = (F.col("source_system") == "hes") & ~F.col("record_id").like("____-__/%")
    rows = lake.read(table).where((F.col(YEAR) < first) & bare).groupBy(YEAR).count().collect()
    if rows:
        years = ", ".join(sorted(row[YEAR] for row in rows))
        raise InputError(
            f"{table.full_name}: {sum(row['count'] for row in rows):,} HES records of {years} have keys without their year, and "
            "such keys repeat from year to year; nothing was written",
            remedy="run once with `mode: refresh` and the files of these years, then upsert again",
        )


def _withdrawn(lake: Lake, dataset: str, prefix: str) -> DataFrame:
    """The withdrawn keys of a dataset under names of their own."""
    held = lake.read(WITHDRAWN_RECORD).where(F.col("dataset") == dataset)
    return held.select(
        *[F.col(name).alias(f"{prefix}{name}") for name in (*KEY, "extract_date", "source_file")],
    )


def weighed(incoming: DataFrame, lake: Lake, table: Table, dataset: str, orphans: Sequence[str] = ()) -> DataFrame:
    """Canonical records that a submission brings, a row each, with their fate against what the lake holds. What the runs
    ``orphans`` wrote is written again though it is the same: they broke off before they accounted for it."""
    held = lake.read(table).select(
        *[F.col(name).alias(f"_held_{name}") for name in (*KEY, "extract_date", "content", "source_file", "run_id")],
        F.col(YEAR).alias(HELD_YEAR),
    )
    met = incoming.join(held, [F.col(name) == F.col(f"_held_{name}") for name in KEY], "left")
    gone = _withdrawn(lake, dataset, "_gone_")
    met = met.join(gone, [F.col(name) == F.col(f"_gone_{name}") for name in KEY], "left")
    brought, there = extract("extract_date"), extract("_held_extract_date")
    same_day = brought == there
    same = F.col("content").eqNullSafe(F.col("_held_content"))
    orphaned = F.col("_held_run_id").isin(*orphans) if orphans else F.lit(False)
    fate = (
        F.when(F.col("_gone_record_id").isNotNull() & (extract("_gone_extract_date") >= brought), WITHDRAWN)
        .when(F.col("_held_record_id").isNull(), NEW)
        .when(brought < there, OLDER)
        .when(same_day & same & ~orphaned, UNCHANGED)
        .when(same_day & ~same & (F.col("source_file") != F.col("_held_source_file")), CONFLICT)
        .otherwise(NEWER)
    )
    return met.select(*incoming.columns, fate.alias(FATE), HELD_YEAR)


def withdrawn_now(lake: Lake, table: Table, dataset: str) -> DataFrame:
    """(year, system, ``file``) of each record that the lake holds and a list has withdrawn, ``file`` being that list."""
    gone = _withdrawn(lake, dataset, "_gone_")
    on = [*[F.col(name) == F.col(f"_gone_{name}") for name in KEY], _out()]
    return lake.read(table).join(gone, on).select(YEAR, "source_system", F.col("_gone_source_file").alias("file"))


def _out() -> Column:
    return extract("_gone_extract_date") >= extract("extract_date")


def merged(weighed: DataFrame, lake: Lake, table: Table, dataset: str, years: list[str]) -> DataFrame:
    """All records of ``years`` as they should stand: what the lake holds, less what is replaced or withdrawn, and what
    the submission puts. ``years`` are those of either side, so that a record which moves to another year leaves the old
    one."""
    put = weighed.where(F.col(FATE).isin(*PUT)).drop(FATE, HELD_YEAR)
    keys = put.select(*[F.col(name).alias(f"_put_{name}") for name in KEY])
    gone = _withdrawn(lake, dataset, "_gone_")
    kept = (
        lake.read(table)
        .where(F.col(YEAR).isin(*years))
        .join(keys, [F.col(name) == F.col(f"_put_{name}") for name in KEY], "left_anti")
        .join(gone, [*[F.col(name) == F.col(f"_gone_{name}") for name in KEY], _out()], "left_anti")
    )
    return kept.select(*put.columns).unionByName(put)


def note_withdrawn(lake: Lake, listed: DataFrame, stage: str) -> None:
    """Add the keys of withdrawal lists (``source_system``, ``dataset``, ``record_id``, ``extract_date``, ``source_file``)
    to ``silver/withdrawn_record``; of a key that stands there, the later extract counts. Nothing is written when nothing
    is new."""
    held = lake.read(WITHDRAWN_RECORD)
    key = ("source_system", "dataset", "record_id")
    known = held.select(*[F.col(name).alias(f"_held_{name}") for name in (*key, "extract_date")])
    on = [
        *[F.col(name) == F.col(f"_held_{name}") for name in key],
        F.col("_held_extract_date") >= F.col("extract_date"),
    ]
    if listed.join(known, on, "left_anti").isEmpty():
        return
    both = held.unionByName(listed.withColumn("run_id", F.lit(lake.run_id)))
    # One row a key: the latest extract's; of several files the first by name, so that their order changes nothing.
    latest = both.groupBy(*key).agg(F.max("extract_date").alias("_latest"))
    joined = both.join(latest, list(key)).where(F.col("extract_date") == F.col("_latest"))
    one = joined.groupBy(*key, "extract_date").agg(
        F.min("source_file").alias("source_file"), F.min_by("run_id", "source_file").alias("run_id")
    )
    lake.replace(WITHDRAWN_RECORD, one, {}, stage=stage)
