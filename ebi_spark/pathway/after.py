"""The care after an operation. Not looked at yet: every outcome is unknown."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.tables.monitoring import PATHWAY, PATHWAY_STEP
from ebi_spark.tables.table import RECORD_KEY

_OUTCOMES = (
    "spell_end", "died_in_hospital", "follow_up_days", "readmitted_after", "possible_staged_after", "further_fusion_after",
    "revision_after", "removal_after", "death_after",
)  # fmt: skip


def outcomes_after(operations: DataFrame, linked_spells: DataFrame, data_end: date | Column) -> DataFrame:
    """A row an operation: ``policy_id``, the record's key and the columns of ``gold/pathway`` that say what came after."""
    kinds = {name: kind for name, kind, _ in PATHWAY.fields()}
    return operations.select(
        "policy_id", *RECORD_KEY, *[F.lit(None).cast(kinds[name]).alias(name) for name in _OUTCOMES]
    )


def outcome_steps(operations: DataFrame, linked_spells: DataFrame, data_end: date | Column) -> DataFrame:
    """Rows of ``gold/pathway_step`` for the windows after an operation."""
    names = [(name, kind) for name, kind, _ in PATHWAY_STEP.fields() if name != "run_id"]
    return operations.select(*[F.lit(None).cast(kind).alias(name) for name, kind in names]).limit(0)
