"""How far the data follow the algorithm of the article on fusion, and what is missing to decide it."""

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.pathway.at_operation import AT_OPERATION
from ebi_spark.pathway.definitions import CANNOT_BE_SEEN, OPERATION, SEEN, definitions

CONFIRM, CONSERVATIVE_CARE, REASSESS, PROCEED = "confirm", "conservative_care", "reassess", "proceed"
_LONGEST = "12_months"


def step_reached(step_rows: DataFrame, levels: DataFrame) -> DataFrame:
    """One row for each operation: ``algorithm_step``, the last step of the algorithm that the data show, and
    ``missing_to_decide``.

    ``step_rows`` has rows of ``gold/pathway_step``, ``levels`` the operations with their ``levels``. ``missing_to_decide`` lists the
    steps of care that cannot be seen and that decide the step reached, the steps before it or the next one.

    | seen                                                   | → algorithm_step  |
    |--------------------------------------------------------|-------------------|
    | nothing                                                | confirm           |
    | supervised physiotherapy                               | conservative_care |
    | the same, and a spinal clinic three months later       | reassess          |
    | the same, and one level operated on                    | proceed           |
    | spondylolisthesis, whatever else                       | proceed           |
    """
    items = {item["id"]: item for item in definitions()["algorithm"]}
    care, again, proceed = items[CONSERVATIVE_CARE], items[REASSESS], items[PROCEED]
    relevant = step_rows.where(F.col("window").isin(AT_OPERATION, _LONGEST))
    state, step = F.col("state"), F.col("step_id")

    def seen_one_of(names: list[str]) -> Column:
        return F.bool_or((state == SEEN) & step.isin(*names))

    states = relevant.groupBy(*OPERATION).agg(
        seen_one_of(care["any_of"]).alias("_care"),
        seen_one_of(proceed["indications"]).alias("_indicated"),
        F.min(F.when(step.isin(*care["any_of"]), F.col("first_day"))).alias("_begun"),
        F.max(F.when(step.isin(*again["any_of"]), F.col("last_day"))).alias("_again"),
        *[_unseen(item).alias(f"_missing_{name}") for name, item in items.items()],
    )
    joined = levels.select(*OPERATION, "levels").join(states, list(OPERATION), "left")
    later = F.coalesce(F.col("_again") >= F.add_months("_begun", again["months"]), F.lit(False))
    one_level = F.col("levels") == proceed["levels"]
    reached = (
        F.when(F.col("_indicated") | (F.col("_care") & later & one_level), PROCEED)
        .when(F.col("_care") & later, REASSESS)
        .when(F.col("_care"), CONSERVATIVE_CARE)
        .otherwise(CONFIRM)
    )
    found = joined.withColumn("algorithm_step", reached)
    names = list(items)
    missing = F.array().cast("array<string>")
    for number in reversed(range(len(names))):
        needed = F.concat(*[F.col(f"_missing_{name}") for name in names[: number + 2]])
        missing = F.when(F.col("algorithm_step") == names[number], F.array_sort(F.array_distinct(needed))).otherwise(
            missing
        )
    return found.select(*OPERATION, "algorithm_step", missing.alias("missing_to_decide"))


def _unseen(item: dict[str, Any]) -> Column:
    """The steps that one step of the algorithm needs and that cannot be seen in any window that decides it."""
    state, step = F.col("state"), F.col("step_id")
    needed = step.isin(*item["needs"])
    unseen = F.collect_set(F.when(needed & (state == CANNOT_BE_SEEN), step))
    shown = F.collect_set(F.when(needed & (state == SEEN), step))
    return F.array_except(unseen, shown)
