"""HES as some platforms deliver it: the codes of episodes or appointments are in a long table of their own.

``apc_diagnoses``, ``apc_procedures``, ``op_diagnoses`` and ``op_procedures`` have a row for each code: the key of its
episode or appointment, the year, the place of the code and the code. Before rows are classified, the codes are collected into the
same lists that numbered columns give. So all later steps are the same for both forms.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.records.cleaning import text_of
from ebi_spark.records.row_status import CORRUPT_LINE, complete_others
from ebi_spark.sources.families import has_code
from ebi_spark.sources.hes_keys import PLACE


def with_codes(rows: DataFrame, ours: str, codes: DataFrame) -> DataFrame:
    """``rows`` of episodes or appointments as read, with the codes from a long table.

    ``ours``: our list of these codes (``diagnosis``, ``operation``). ``codes``: the cleaned rows of its long table, duplicates
    resolved. A row that has codes in columns of its own keeps these. The date of the first procedure becomes ``procedure_date`` where the
    row has none.

    | record_id | rows of the long table (place, code) | → diagnosis        |
    |-----------|--------------------------------------|--------------------|
    | E1        | (1, M545), (2, E119)                 | [M545, E119]       |
    | E2        | (2, E119)                            | [NULL, E119]       |
    | E3        | none                                 | NULL               |
    """
    day = F.col("procedure_date") if "procedure_date" in codes.columns else F.lit(None)
    usable = codes.where("corrupt IS NULL AND NOT conflict AND NOT is_duplicate AND record_id IS NOT NULL").select(
        F.substring_index("record_id", PLACE, 1).alias("_owner"),
        F.struct(
            F.substring_index("record_id", PLACE, -1).try_cast("int").alias("place"),
            "code",
            day.cast("string").alias("day"),
        ).alias("_code"),
    )
    listed = usable.groupBy("_owner").agg(F.array_sort(F.collect_list("_code")).alias("_codes"))
    found = F.col("_codes")
    first = F.get(found, F.lit(0))
    # An empty first place stays empty: a later code does not move up into it.
    nothing = F.array(F.lit(None).cast("string"))
    in_places = F.when(first["place"] > 1, F.concat(nothing, found["code"])).otherwise(found["code"])
    own = has_code(F.concat_ws(",", F.array_join(ours, ","), F.col(f"{ours}_concat")))
    stays = own | found.isNull()
    changed = {
        ours: F.when(stays, F.col(ours)).otherwise(in_places),
        f"{ours}_concat": F.when(stays, F.col(f"{ours}_concat")),
    }
    if ours == "operation" and "procedure_date" in rows.columns:
        of_first = F.when(~own & (first["place"] == 1), first["day"])
        changed["procedure_date"] = F.coalesce(F.col("procedure_date").cast("string"), of_first)
    # A hash join, so that neither side has to be sorted.
    joined = rows.join(listed.hint("shuffle_hash"), text_of("record_id") == F.col("_owner"), "left")
    return joined.withColumns(changed).drop("_owner", "_codes")


def classify_codes(rows: DataFrame, owners: DataFrame) -> DataFrame:
    """Cleaned rows of a long table, one for each code, with their status columns.

    A row is valid if its episode or appointment is among ``owners``, the classified rows of that table without duplicates and
    corrupt lines. Its year is that of the owner; of several owners, the earliest.

    | record_id | owners (year)           | → financial_year | reasons      |
    |-----------|-------------------------|------------------|--------------|
    | E1#1      | E1 (2021-22)            | 2021-22          | []           |
    | E1#2      | E1 (2021-22)            | 2021-22          | []           |
    | E2#1      | none                    | NULL             | [no_episode] |
    """
    known = (
        owners.where("record_id IS NOT NULL AND NOT is_duplicate")
        .where(~F.array_contains("reasons", CORRUPT_LINE))
        .groupBy(F.col("record_id").alias("_owner"))
        .agg(F.min("financial_year").alias("_year"))
    )
    owner = F.substring_index(F.col("record_id"), PLACE, 1)
    return complete_others(rows, known, owner, F.col("_year"), "no_episode")
