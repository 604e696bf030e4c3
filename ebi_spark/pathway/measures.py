"""Measures over records that are linked by person (``measures`` in ``conf/pathway.yml``): imaging before a fusion, and repeated imaging.

Spark counts in one query. The rows are made from these counts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.pathway.code_lists import steps
from ebi_spark.pathway.coverage import Covered, is_covered
from ebi_spark.pathway.definitions import OPERATION, SEEN, definitions
from ebi_spark.statistics.proportions import wilson
from ebi_spark.tables.table import POLICY_KEY, YEAR

_KEY = (*POLICY_KEY, YEAR, "flagged")
_COUNTS = ("records", "counted", "left_out")


def measure_counts(
    pathways: DataFrame,
    step_rows: DataFrame,
    scans: DataFrame,
    stretches: Iterable[Covered],
    policies_read: Iterable[str],
) -> DataFrame:
    """The counts of all measures by ``measure``, policy, revision, reading, year and ``flagged``.

    ``pathways`` and ``step_rows`` have rows of ``gold/pathway`` and ``gold/pathway_step``, ``scans`` rows of
    ``gold/activity_flag`` in the policies' default readings. ``stretches`` are the days that the data cover. ``policies_read`` are
    the policies that have flags: a step that needs the flags of another policy is not measured.

    ``records`` are those with a known person and data for the whole time before them; ``counted`` are the part of them with what
    the measure counts. All others are ``left_out``, even if they show the step. Otherwise only records that do not show it would
    be missing, and the share would be too high.

    | measure                       | records | counted | left_out |
    |-------------------------------|---------|---------|----------|
    | imaging_before_fusion         | 90      | 60      | 12       |
    | flagged_imaging_before_fusion | 60      | 25      | 5        |
    | repeat_imaging                | 900     | 80      | 210      |
    """
    stretches = list(stretches)
    before = _before_fusions(pathways, step_rows, stretches, set(policies_read))
    repeated = [_repeated(scans, item, stretches) for item in definitions()["measures"] if "policy" in item]
    for frame in repeated:
        before = before.unionByName(frame)
    sums = [F.count_if(F.coalesce(name, F.lit(False))).alias(name) for name in _COUNTS]
    return before.groupBy("measure", *_KEY).agg(*sums)


def _before_fusions(
    pathways: DataFrame, step_rows: DataFrame, stretches: list[Covered], policies_read: set[str]
) -> DataFrame:
    """A row for each fusion and measure of a step before it. Here the measure is ``imaging_before_fusion``:

    | fusion | person_id | scan before | → records | counted | left_out |
    |--------|-----------|-------------|-----------|---------|----------|
    | 1      | A         | yes         | true      | true    | false    |
    | 2      | B         | no          | true      | false   | false    |
    | 3      | NULL      | not known   | false     | false   | true     |
    """
    needs = {step["id"]: step["flagged_by"]["policy"] for step in steps() if "flagged_by" in step}
    items = [
        item
        for item in definitions()["measures"]
        if "step" in item and (item["step"] not in needs or needs[item["step"]] in policies_read)
    ]
    seen = step_rows.groupBy(*OPERATION).agg(
        *[
            F.bool_or(
                (F.col("step_id") == item["step"]) & (F.col("window") == item["window"]) & (F.col("state") == SEEN)
            ).alias(item["id"])
            for item in items
        ]
    )
    last = F.date_sub(F.coalesce("admission_date", "operation_date"), 1)

    def decided(item: Mapping[str, Any]) -> Column:
        first = F.add_months("operation_date", -definitions()["windows"][item["window"]])
        return (
            F.col("person_id").isNotNull()
            & is_covered(stretches, "apc", first, last)
            & is_covered(stretches, "op", first, last)
        )

    rows = []
    for item in items:
        whole = F.col(item["of"]) if "of" in item else F.lit(True)
        rows.append(
            F.struct(
                F.lit(item["id"]).alias("measure"),
                (decided(item) & whole).alias("records"),
                (decided(item) & whole & F.col(item["id"])).alias("counted"),
                (~decided(item) & whole).alias("left_out"),
            )
        )
    joined = pathways.join(seen, list(OPERATION))
    return joined.select(*_KEY, F.inline(F.array(*rows)))


def _repeated(scans: DataFrame, item: Mapping[str, Any], stretches: list[Covered]) -> DataFrame:
    """A row for each record of England in scope of a policy: whether the person had another one in the days before."""
    days, known = item["days"], F.col("person_id").isNotNull()
    in_scope = scans.where(
        (F.col("policy_id") == item["policy"])
        & (F.col("area_basis") != OUTSIDE_ENGLAND)
        & F.col("activity_date").isNotNull()
    )
    # Here each record without a person is a person of its own. Otherwise all of them would be sorted together.
    own = F.when(known, F.concat(F.lit("p"), "person_id")).otherwise(F.concat(F.lit("r"), "record_id"))
    earlier = (
        Window.partitionBy("policy_id", "source_system", own)
        .orderBy(F.unix_date("activity_date"))
        .rangeBetween(-days, -1)
    )
    decided = known & is_covered(stretches, "op", F.date_sub("activity_date", days), F.date_sub("activity_date", 1))
    return in_scope.select(
        *POLICY_KEY,
        YEAR,
        (F.col("outcome") == FLAGGED).alias("flagged"),
        F.lit(item["id"]).alias("measure"),
        decided.alias("records"),
        (decided & (F.count(F.lit(1)).over(earlier) > 0)).alias("counted"),
        (~decided).alias("left_out"),
    )


def measure_rows(counts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``gold/linked_measure`` without the run, from rows of :func:`measure_counts`: for ``all`` records and for the
    ``flagged`` ones. ``share`` is ``counted`` divided by ``records``; it and its 95% limits are NULL where no record counts.

    | flagged | records | counted | left_out | → group | records | counted | left_out | share |
    |---------|---------|---------|----------|---------|---------|---------|----------|-------|
    | true    | 30      | 24      | 2        | all     | 90      | 60      | 12       | 0.667 |
    | false   | 60      | 36      | 10       | flagged | 30      | 24      | 2        | 0.8   |
    """
    totals: dict[tuple[Any, ...], Counter[str]] = {}
    for row in counts:
        for group in ("all", "flagged") if row["flagged"] else ("all",):
            key = (row["measure"], group, *(row[name] for name in (*POLICY_KEY, YEAR)))
            totals.setdefault(key, Counter()).update({name: row[name] for name in _COUNTS})
    rows = []
    for key, found in sorted(totals.items()):
        whole, counted = found["records"], found["counted"]
        limits = wilson(counted / whole, whole)._asdict() if whole else {}
        rows.append(
            dict(zip(("measure", "group", *POLICY_KEY, YEAR), key, strict=True))
            | {name: found[name] for name in _COUNTS}
            | {"share": counted / whole if whole else None, **limits}
        )
    return rows
