"""Continuous inpatient spells: the spells of a person from admission to the first discharge that was not a transfer.

Dates have no time of day. So a spell that starts on the day of another one's discharge may follow it or may have come first,
and the order of spells on one day has to be fixed: see :func:`continuous_spells`.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.pathway.definitions import PERSON, definitions_after, listed_codes
from ebi_spark.pathway.operations import is_emergency


def continuous_spells(spells: DataFrame) -> DataFrame:
    """The spells of persons, each with the continuous inpatient spell that it belongs to.

    ``spells`` has one row for each spell: the record's key, ``person_id``, ``admission_date``, ``discharge_date``,
    ``admission_method``, ``admission_source`` and ``discharge_destination``. A spell without a person or without any date is
    left out. Adds:

    - ``starts_on``, ``ends_on``: the two dates. A missing one is replaced by the other; a discharge before the admission by
      the admission.
    - ``place``: 1 for the person's first spell, and so on. The order is that of admission, then discharge. Where both are
      equal, a transfer comes after other spells, an emergency after planned ones, then the record's key decides.
    - ``continuous_spell``: 1 for the person's first continuous inpatient spell, and so on; ``continuous_end``: its last day.
    - ``begins``: the spell is the first of its continuous spell; ``emergency``: it was an emergency admission.

    A spell joins the ones before it if it starts 0 or 1 day after their last day and is a transfer
    (``conf/pathway_after.yml``, ``transfer``), or if it starts before their last day: then the patient had not been
    discharged, and the spell is a part of the stay whatever its method. If sources or destinations are missing, the other
    columns decide; :func:`transfer_warning` warns of it.

    | record_id | admission  | discharge  | method | source | → place | continuous_spell | continuous_end |
    |-----------|------------|------------|--------|--------|---------|------------------|----------------|
    | a         | 2024-03-01 | 2024-03-05 | 11     | 19     | 1       | 1                | 2024-03-09     |
    | b         | 2024-03-05 | 2024-03-09 | 81     | 51     | 2       | 1                | 2024-03-09     |
    | c         | 2024-03-10 | 2024-03-11 | 21     | 19     | 3       | 2                | 2024-03-11     |
    """
    starts = F.coalesce("admission_date", "discharge_date")
    dated = spells.where(F.col("person_id").isNotNull() & starts.isNotNull()).withColumns(
        {
            "starts_on": starts,
            "ends_on": F.greatest(starts, "discharge_date"),
            "emergency": is_emergency(F.col("admission_method")),
            "_arrives": arrives_by_transfer(),
            "_leaves": leaves_by_transfer(),
        }
    )
    in_order = Window.partitionBy(*PERSON).orderBy(
        "starts_on", "ends_on", "_arrives", "emergency", "dataset", "record_id"
    )
    placed = dated.withColumn("place", F.row_number().over(in_order))
    # The latest day of all earlier spells, and where that spell discharged the patient to.
    so_far = F.max(F.struct("ends_on", "place", "_leaves")).over(in_order.rowsBetween(Window.unboundedPreceding, -1))
    days = F.date_diff("starts_on", F.col("_before.ends_on"))
    follows = (days <= definitions_after()["transfer"]["days"]) & (F.col("_arrives") | F.col("_before._leaves"))
    joins = F.coalesce((days < 0) | follows, F.lit(False))
    joined = placed.withColumn("_before", so_far).withColumn("begins", ~joins)
    numbered = joined.withColumn("continuous_spell", F.sum(F.col("begins").cast("int")).over(in_order).cast("int"))
    whole = Window.partitionBy(*PERSON, "continuous_spell")
    return numbered.withColumn("continuous_end", F.max("ends_on").over(whole)).drop("_before", "_arrives", "_leaves")


def arrives_by_transfer() -> Column:
    """Whether a patient was admitted from another hospital, by method or source; false where neither is known."""
    transfer = definitions_after()["transfer"]
    source = transfer["admission_sources"]
    method = F.coalesce(F.col("admission_method"), F.lit(""))
    by_source = F.coalesce(F.col("admission_source").isin(*listed_codes(source["codes"])), F.lit(False))
    return method.isin(*listed_codes(transfer["admission_methods"]["codes"])) | (
        by_source & ~method.isin(*listed_codes(source.get("except_methods", [])))
    )


def leaves_by_transfer() -> Column:
    """Whether a patient was discharged to another hospital; false where the destination is not known."""
    destinations = listed_codes(definitions_after()["transfer"]["discharge_destinations"]["codes"])
    return F.coalesce(F.col("discharge_destination").isin(*destinations), F.lit(False))


def transfers_by(sources: int, destinations: int) -> tuple[str, ...]:
    """The columns that decide what a transfer is, from the numbers of spells with an admission source and with a discharge
    destination."""
    counts = {"admission_source": sources, "discharge_destination": destinations}
    return ("admission_method", *(name for name, count in counts.items() if count))


def transfer_warning(sources: int, destinations: int) -> str | None:
    """A warning about continuous spells, from the numbers of spells with an admission source and with a discharge destination.

    None if both columns have values.
    """
    deciding_columns = transfers_by(sources, destinations)
    empty = [name for name in ("admission_source", "discharge_destination") if name not in deciding_columns]
    if not empty:
        return None
    deciding = (
        "the admission method alone decides" if len(empty) == 2 else "the admission method and the other one decide"
    )
    return (
        f"continuous inpatient spells: no spell has a value in {' or '.join(empty)}, so {deciding} what a transfer is; "
        "supply these columns to find every transfer (docs/monitoring-outcomes.md)"
    )
