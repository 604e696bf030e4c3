"""Implements ``mode: upsert``: a submission inserts or updates records by key and extract date.

A later extract wins. A file that arrives late does not overwrite data of a later extract, and does not restore a
record that was withdrawn since. The same file read again changes nothing; a corrected file under the same name
replaces what it said before. Two files of one extract that say different things about one record conflict: the lake
keeps its record, and the row that came later is quarantined. A record without an extract date counts as older than
any with one.

Withdrawn keys come as lists (roles ``apcs_withdrawn``, ``opa_withdrawn``, ``op_withdrawn``). A record of the same
extract or an earlier one is removed, and stays out.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.financial_years import HES_KEYS_UNIQUE_FROM, label
from ebi_spark.lake.storage import Lake
from ebi_spark.tables.silver import OP_ATTENDANCE, RECORD_TABLES, WITHDRAWN_RECORD
from ebi_spark.tables.table import YEAR

# The outcomes of a record that a submission brings, and of one that a list withdraws.
NEW, NEWER, UNCHANGED, OLDER, CONFLICT = "new", "newer", "unchanged", "older", "contradicting"
WITHDRAWN, TAKEN_OUT = "withdrawn since", "taken out"
WRITTEN = (NEW, NEWER)
# The outcome of an incoming record, and the year in which the lake already has its key.
OUTCOME, EXISTING_YEAR = "_outcome", "_existing_year"

KEY = ("source_system", "record_id")


def extract(column: str) -> Column:
    """An extract date that can be compared: a missing one is older than any other."""
    return F.coalesce(F.col(column), F.lit("0001-01-01").cast("date"))


def refuse_bare_keys(lake: Lake) -> None:
    """Raise :class:`InputError` where the lake has HES appointments of years before 2012-13 under keys without their year,
    as earlier versions wrote them. The same records would be added a second time under keys with the year."""
    if lake.version(OP_ATTENDANCE) == 0:
        return
    first = label(HES_KEYS_UNIQUE_FROM)
    bare = (F.col("source_system") == "hes") & ~F.col("record_id").like("____-__/%")
    rows = lake.read(OP_ATTENDANCE).where((F.col(YEAR) < first) & bare).groupBy(YEAR).count().collect()
    if rows:
        years = ", ".join(sorted(row[YEAR] for row in rows))
        raise InputError(
            f"{OP_ATTENDANCE.full_name}: {sum(row['count'] for row in rows):,} HES records of {years} have keys without their year, and "
            "such keys repeat from year to year; nothing was written",
            remedy="run once with `mode: refresh` and the files of these years, then upsert again",
        )


def _same_key(prefix: str) -> list[Column]:
    """Whether a row has the key of the joined row, whose columns have the ``prefix``."""
    return [F.col(name) == F.col(f"{prefix}{name}") for name in KEY]


def _withdrawn(lake: Lake, dataset: str) -> DataFrame:
    """The withdrawn keys of a dataset, with column names that begin with ``_withdrawn_``."""
    existing = lake.read(WITHDRAWN_RECORD).where(F.col("dataset") == dataset)
    return existing.select(
        *[F.col(name).alias(f"_withdrawn_{name}") for name in (*KEY, "extract_date", "source_file")],
    )


def compared_with_lake(incoming: DataFrame, lake: Lake, dataset: str, orphans: Sequence[str]) -> DataFrame:
    """The records of a submission, one row each, compared with what the lake has: ``_outcome``, and the year in which the lake has
    their key (``_existing_year``; NULL if it has none). Records that the runs ``orphans`` wrote are written again even if they
    are the same, because these runs stopped before they wrote their audit.

    | record_id | extract_date | in the lake                                          | → _outcome    |
    |-----------|--------------|------------------------------------------------------|---------------|
    | A         | 2022-02-10   | not at all                                           | new           |
    | B         | 2022-02-10   | from 2022-01-10                                      | newer         |
    | C         | 2022-02-10   | same extract and content                             | unchanged     |
    | D         | 2022-02-10   | other content, from another file of the same extract | contradicting |
    """
    existing = lake.read(RECORD_TABLES[dataset]).select(
        *[
            F.col(name).alias(f"_existing_{name}")
            for name in (*KEY, "extract_date", "content", "source_file", "run_id")
        ],
        F.col(YEAR).alias(EXISTING_YEAR),
    )
    joined = incoming.join(existing, _same_key("_existing_"), "left")
    joined = joined.join(_withdrawn(lake, dataset), _same_key("_withdrawn_"), "left")
    incoming_day, existing_day = extract("extract_date"), extract("_existing_extract_date")
    same_day = incoming_day == existing_day
    same = F.col("content").eqNullSafe(F.col("_existing_content"))
    orphaned = F.col("_existing_run_id").isin(*orphans) if orphans else F.lit(False)
    outcome = (
        F.when(F.col("_withdrawn_record_id").isNotNull() & _is_withdrawn(), WITHDRAWN)
        .when(F.col("_existing_record_id").isNull(), NEW)
        .when(incoming_day < existing_day, OLDER)
        .when(same_day & same & ~orphaned, UNCHANGED)
        .when(same_day & ~same & (F.col("source_file") != F.col("_existing_source_file")), CONFLICT)
        .otherwise(NEWER)
    )
    return joined.select(*incoming.columns, outcome.alias(OUTCOME), EXISTING_YEAR)


def withdrawn_now(lake: Lake, dataset: str) -> DataFrame:
    """(system, key, year, ``file``) of each record that the lake has and a list has withdrawn; ``file`` is that list.

    | record_id | extract_date in the lake | extract_date of the list | → record_id | file    |
    |-----------|--------------------------|--------------------------|-------------|---------|
    | A         | 2022-01-10               | 2022-02-10               | A           | out.csv |
    | B         | 2022-03-10               | 2022-02-10               | no row      |         |
    | C         | NULL                     | 2022-02-10               | C           | out.csv |
    """
    on = [*_same_key("_withdrawn_"), _is_withdrawn()]
    existing = lake.read(RECORD_TABLES[dataset])
    return existing.join(_withdrawn(lake, dataset), on).select(
        *KEY, YEAR, F.col("_withdrawn_source_file").alias("file")
    )


def _is_withdrawn() -> Column:
    return extract("_withdrawn_extract_date") >= extract("extract_date")


def merged(compared: DataFrame, lake: Lake, dataset: str, years: list[str]) -> DataFrame:
    """All records of ``years`` as they should be: what the lake has, less what is replaced or withdrawn, plus what the
    submission writes (``compared``, from :func:`compared_with_lake`). ``years`` include those of both sides, so
    that a record that moves to another year leaves the old one.

    | record_id | in the lake | ``_outcome`` | on a list of withdrawn keys | → content         |
    |-----------|-------------|--------------|-----------------------------|-------------------|
    | A         | yes         | newer        | no                          | of the submission |
    | B         | yes         | older        | no                          | of the lake       |
    | C         | yes         | (not in it)  | yes                         | no row            |
    """
    written = compared.where(F.col(OUTCOME).isin(*WRITTEN)).drop(OUTCOME, EXISTING_YEAR)
    keys = written.select(*[F.col(name).alias(f"_written_{name}") for name in KEY])
    kept = (
        lake.read(RECORD_TABLES[dataset])
        .where(F.col(YEAR).isin(*years))
        .join(keys, _same_key("_written_"), "left_anti")
        .join(_withdrawn(lake, dataset), [*_same_key("_withdrawn_"), _is_withdrawn()], "left_anti")
    )
    return kept.select(*written.columns).unionByName(written)


def note_withdrawn(lake: Lake, listed: DataFrame) -> None:
    """Add the keys of withdrawal lists to ``silver/withdrawn_record``.

    ``listed`` has ``source_system``, ``dataset``, ``record_id``, ``extract_date`` and ``source_file``. Where a key
    is already in the table, the later extract counts. Nothing is written when nothing is new.

    | record_id | extract_date in the table | extract_date in ``listed`` | → extract_date |
    |-----------|---------------------------|----------------------------|----------------|
    | A         | 2022-01-10                | 2022-02-10                 | 2022-02-10     |
    | B         | 2022-02-10                | 2022-01-10                 | 2022-02-10     |
    | C         | (not in it)               | 2022-01-10                 | 2022-01-10     |
    """
    existing = lake.read(WITHDRAWN_RECORD)
    key = ("source_system", "dataset", "record_id")
    known = existing.select(*[F.col(name).alias(f"_existing_{name}") for name in (*key, "extract_date")])
    on = [
        *[F.col(name) == F.col(f"_existing_{name}") for name in key],
        F.col("_existing_extract_date") >= F.col("extract_date"),
    ]
    if listed.join(known, on, "left_anti").isEmpty():
        return
    both = existing.unionByName(listed.withColumn("run_id", F.lit(lake.run_id)))
    # One row for each key: that of the latest extract; of several files, the first by name, so that their order does
    # not matter.
    latest = both.groupBy(*key).agg(F.max("extract_date").alias("_latest"))
    joined = both.join(latest, list(key)).where(F.col("extract_date") == F.col("_latest"))
    first = joined.groupBy(*key, "extract_date").agg(
        F.min("source_file").alias("source_file"), F.min_by("run_id", "source_file").alias("run_id")
    )
    lake.replace(WITHDRAWN_RECORD, first, {}, stage="ingest")
