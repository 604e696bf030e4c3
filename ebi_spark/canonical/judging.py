"""What becomes of a source row: valid, a further copy, of a year not asked for, or set aside with its reasons.

A *judged* frame has a row a source row: the canonical columns as far as known, ``reasons`` (``array<string>``, empty
when usable), ``is_duplicate``, ``financial_year`` (NULL when unknown), ``year_disagrees``, and the lineage columns of
:class:`ebi_spark.acquire.tables.SourceTable`.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

VALID, QUARANTINED, DUPLICATE, OUTSIDE = "valid", "quarantined", "duplicate", "outside_years"


def reasons(**conditions: Column) -> Column:
    """``array<string>`` of the names of the conditions that hold."""
    return F.array_compact(F.array(*[F.when(held, F.lit(name)) for name, held in conditions.items()]))


def disposition(years: tuple[str, ...] | None) -> Column:
    """What becomes of a judged row under the years asked for (None: all)."""
    outside = F.col("financial_year").isNotNull() & ~F.col("financial_year").isin(*years) if years else F.lit(False)
    return (
        F.when(outside, F.lit(OUTSIDE))
        .when(F.size("reasons") > 0, F.lit(QUARANTINED))
        .when(F.col("is_duplicate"), F.lit(DUPLICATE))
        .otherwise(F.lit(VALID))
    )


def keep(rows: DataFrame, fate: str, years: tuple[str, ...] | None) -> DataFrame:
    """The judged rows of one fate.

    The row number, which is not kept, stops Spark from pushing the condition below the cleaning: pushed down, every
    column it rests on would be put in place of its name, stage upon stage, until planning runs out of memory, and every
    value would be cleaned twice.
    """
    marked = rows.withColumns({"_fate": disposition(years), "_row": F.monotonically_increasing_id()})
    return marked.where((F.col("_fate") == fate) & (F.col("_row") >= 0)).drop("_fate", "_row")


def resolve_duplicates(rows: DataFrame, key: str = "record_id") -> DataFrame:
    """``rows`` with ``is_duplicate`` (a copy to leave out) and ``conflict`` (one key, different content).

    Identical rows count once. One key with different content keeps the rows of its latest ``extract_date`` where every
    row has one and that date has one content; else all rows of the key conflict. Only keys that occur more than once
    are sorted and compared.
    """
    usable = rows.where(F.col(key).isNotNull() & F.col("corrupt").isNull())
    repeated = usable.groupBy(key).count().where("count > 1").select(F.col(key).alias("_repeated"))
    if repeated.isEmpty():
        return rows.withColumns({"is_duplicate": F.lit(False), "conflict": F.lit(False)})
    marked = rows.join(repeated, (F.col(key) == F.col("_repeated")) & F.col("corrupt").isNull(), "left")
    alone = marked.where("_repeated IS NULL").withColumns({"is_duplicate": F.lit(False), "conflict": F.lit(False)})
    same_key = Window.partitionBy("_repeated")
    latest = F.max("extract_date").over(same_key)
    contents = F.size(F.collect_set("content").over(same_key))
    latest_contents = F.size(
        F.collect_set(F.when(F.col("extract_date") == F.col("_latest"), F.col("content"))).over(same_key)
    )
    undated = F.max(F.col("extract_date").isNull()).over(same_key)
    first = F.row_number().over(same_key.orderBy(F.col("extract_date").desc_nulls_last(), "source_file", "content"))
    several = (
        marked.where("_repeated IS NOT NULL")
        .withColumn("_latest", latest)
        .withColumn("conflict", (contents > 1) & (undated | (latest_contents > 1)))
        .withColumn("is_duplicate", ~F.col("conflict") & (first > 1))
        .drop("_latest")
    )
    return alone.unionByName(several).drop("_repeated")
