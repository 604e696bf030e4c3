"""Published tables of monitoring: prior approval, the care around operations, what changed, and case-note audits.

All of them are national: of national policies, in each policy's default reading (an audit: in the reading of its draw). They are made
on the driver from grouped counts of gold, one query for each table, and never from records. This module reads the counts; each
table is made in a module that is named after it. What is withheld, and why it cannot be worked out, is in
:mod:`ebi_spark.release.one_way_suppression` and ``docs/disclosure.md``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ebi_spark.config.settings import RunConfig
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.rates.activity_change import definitions
from ebi_spark.release.approval_summary import approval_summary
from ebi_spark.release.kept_releases import Earlier
from ebi_spark.release.measure_summary import code_use, equality, linked, sums_of_withheld_years
from ebi_spark.release.one_way_suppression import definition_of
from ebi_spark.release.pathway_summary import CLASSES, pathway_summary
from ebi_spark.release.published_activity_change import activity_change
from ebi_spark.release.published_audit_estimate import audit_estimate, audits_of_england
from ebi_spark.release.suppression import Thresholds
from ebi_spark.tables.gold import ACTIVITY_RATE, POLICY
from ebi_spark.tables.monitoring import PUBLISHED_MONITORING
from ebi_spark.tables.monitoring_approvals import APPROVAL_MATCH, APPROVAL_SUMMARY
from ebi_spark.tables.monitoring_audit import AUDIT_ESTIMATE, AUDIT_SAMPLE, PUBLISHED_AUDIT_ESTIMATE
from ebi_spark.tables.monitoring_changes import (
    ACTIVITY_CHANGE,
    CODE_USE,
    EQUALITY_RATE,
    LINKED_MEASURE,
    MEASURE_SUMMARY,
    PUBLISHED_ACTIVITY_CHANGE,
)
from ebi_spark.tables.monitoring_pathway import PATHWAY, PATHWAY_INCIDENCE, PATHWAY_STEP, PATHWAY_SUMMARY
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.table import YEAR, Table

Row = dict[str, Any]


def published_monitoring(
    lake: LocalLake, config: RunConfig, rule: Mapping[str, Any], geography: str
) -> dict[Table, list[Row]]:
    """The rows of each published table of monitoring, without ``release_id``. Empty under partial coverage.

    ``geography``: the version of the areas, whose boards are all boards of England.
    """
    found: dict[Table, list[Row]] = {table: [] for table in PUBLISHED_MONITORING}
    if config.coverage == "partial":
        return found
    thresholds = Thresholds.from_rule(dict(rule))
    policies = lake.small_rows(POLICY, ["policy_id", "boards", "reading", "is_default_reading"])
    default = {(row["policy_id"], row["reading"]) for row in policies if row["is_default_reading"]}
    national = {row["policy_id"] for row in policies if row["boards"] is None}
    every_board = {row["icb_code"] for row in read_geography(geography).areas.values()}
    releases = [row["release_id"] for row in lake.small_rows(RELEASE, ["release_id"])] if lake.exists(RELEASE) else []

    def earlier(table: Table) -> Earlier:
        if not releases or not lake.exists(table):
            return Earlier()
        return Earlier(lake.small_rows(table, table.names(), {"release_id": releases}))

    def grouped(table: Table, by: Sequence[str]) -> list[Row]:
        return [row for row in lake.grouped(table, by) if row["policy_id"] in national]

    def small(table: Table) -> list[Row]:
        return [row for row in lake.small_rows(table, table.names()) if row["policy_id"] in national]

    operation = ["policy_id", "revision", "reading", YEAR]
    matched = grouped(APPROVAL_MATCH, [*operation, "board", "match_class"])
    found[APPROVAL_SUMMARY] = approval_summary(matched, earlier(APPROVAL_SUMMARY), every_board, thresholds)
    found[PATHWAY_SUMMARY] = pathway_summary(
        grouped(PATHWAY, [*operation, *CLASSES]),
        grouped(PATHWAY_STEP, ["policy_id", YEAR, "step_id", "window", "state"]),
        small(PATHWAY_INCIDENCE),
        earlier(PATHWAY_SUMMARY),
        thresholds,
    )
    changes = lake.small_rows(ACTIVITY_CHANGE, ACTIVITY_CHANGE.names(), {"area_type": ["england"]})
    found[PUBLISHED_ACTIVITY_CHANGE] = activity_change(
        [row for row in changes if row["policy_id"] in national], earlier(PUBLISHED_ACTIVITY_CHANGE), thresholds
    )
    kept = earlier(MEASURE_SUMMARY)
    of_year: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in matched:
        of_year[row["policy_id"], row[YEAR]].append(row)
    found[MEASURE_SUMMARY] = [
        *code_use(
            [row for row in small(CODE_USE) if (row["policy_id"], row[YEAR]) in of_year],
            {key: definition_of(rows) for key, rows in of_year.items()},
            [*definitions()["primary_diagnosis"]["codes"]],
            kept,
            thresholds,
        ),
        *equality(small(EQUALITY_RATE), kept, thresholds),
        *linked(
            small(LINKED_MEASURE),
            kept,
            thresholds,
            sums_of_withheld_years([*found[PATHWAY_SUMMARY], *earlier(PATHWAY_SUMMARY).rows]),
        ),
    ]
    # One reading only: audits by two readings would be two tables of the same patients.
    estimates = [
        row
        for row in lake.small_rows(AUDIT_ESTIMATE, AUDIT_ESTIMATE.names())
        if row["policy_id"] in national and (row["policy_id"], row["reading"]) in default
    ]
    if estimates:
        sampled = grouped(AUDIT_SAMPLE, ["audit_id", "policy_id", YEAR, "provider_code"])
        rated = lake.grouped(
            ACTIVITY_RATE, ["policy_id", YEAR, "area_code"], where={"area_type": ["provider"], "period_years": [1]}
        )
        of_england = audits_of_england(sampled, rated)
        found[PUBLISHED_AUDIT_ESTIMATE] = audit_estimate(
            [row for row in estimates if row["audit_id"] in of_england],
            earlier(PUBLISHED_AUDIT_ESTIMATE),
            thresholds,
        )
    name = config.disclosure
    return {table: [row | {"disclosure": name} for row in rows] for table, rows in found.items()}
