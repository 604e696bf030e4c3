"""Published tables of monitoring: prior approval, the care around operations, what changed, and case-note audits.

All of them are national: of national policies, in each policy's default reading (an audit: in the reading of its draw). They are made
on the driver from grouped counts of gold, one query for each table, and never from records. This module reads the counts; each
table is made in a module that is named after it. What is withheld, and why it cannot be worked out, is in
:mod:`ebi_spark.release.one_way_suppression` and ``docs/disclosure.md``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ebi_spark.config.settings import RunConfig
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.lake.conditions import Where
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


class _Gold:
    """What the published tables are made of: rows and grouped counts of national policies, and the rows of kept releases."""

    def __init__(self, lake: LocalLake) -> None:
        self._lake = lake
        policies = lake.small_rows(POLICY, ["policy_id", "boards", "reading", "is_default_reading"])
        self._default = {(row["policy_id"], row["reading"]) for row in policies if row["is_default_reading"]}
        self._national = {row["policy_id"] for row in policies if row["boards"] is None}
        kept = lake.rows_if_there(RELEASE, ["release_id"])
        self._releases = [row["release_id"] for row in kept]

    def earlier(self, table: Table) -> Earlier:
        """The rows that kept releases have of a published table."""
        where = {"release_id": self._releases}
        return Earlier(self._lake.rows_if_there(table, table.names(), where) if self._releases else ())

    def grouped(self, table: Table, by: Sequence[str]) -> list[Row]:
        """The numbers of rows by the columns ``by``."""
        return self._of_national(self._lake.grouped(table, by))

    def rows(self, table: Table, where: Where | Sequence[Where] = ()) -> list[Row]:
        """All rows of a small table, or those that are meant."""
        return self._of_national(self._lake.small_rows(table, table.names(), where))

    def audit_estimates(self) -> list[Row]:
        """The estimates of audits of England. One reading only: audits by two readings would be two tables of the same patients."""
        estimates = [row for row in self.rows(AUDIT_ESTIMATE) if (row["policy_id"], row["reading"]) in self._default]
        if not estimates:
            return []
        sampled = self.grouped(AUDIT_SAMPLE, ["audit_id", "policy_id", YEAR, "provider_code"])
        rated = self._lake.grouped(
            ACTIVITY_RATE, ["policy_id", YEAR, "area_code"], where={"area_type": ["provider"], "period_years": [1]}
        )
        of_england = audits_of_england(sampled, rated)
        return [row for row in estimates if row["audit_id"] in of_england]

    def _of_national(self, rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if row["policy_id"] in self._national]


def published_monitoring(
    lake: LocalLake, config: RunConfig, rule: Mapping[str, Any], geography: str
) -> dict[Table, list[Row]]:
    """The rows of each published table of monitoring, without ``release_id``. Empty under partial coverage.

    ``geography``: the version of the areas, whose boards are all boards of England.
    """
    found: dict[Table, list[Row]] = {table: [] for table in PUBLISHED_MONITORING}
    if config.coverage == "partial":
        return found
    gold, thresholds = _Gold(lake), Thresholds.from_rule(dict(rule))
    every_board = {row["icb_code"] for row in read_geography(geography).areas.values()}
    operation = ["policy_id", "revision", "reading", YEAR]
    matched = gold.grouped(APPROVAL_MATCH, [*operation, "board", "match_class"])
    found[APPROVAL_SUMMARY] = approval_summary(matched, gold.earlier(APPROVAL_SUMMARY), every_board, thresholds)
    kept_pathways = gold.earlier(PATHWAY_SUMMARY)
    found[PATHWAY_SUMMARY] = pathway_summary(
        gold.grouped(PATHWAY, [*operation, *CLASSES]),
        gold.grouped(PATHWAY_STEP, ["policy_id", YEAR, "step_id", "window", "state"]),
        gold.rows(PATHWAY_INCIDENCE),
        kept_pathways,
        thresholds,
    )
    found[PUBLISHED_ACTIVITY_CHANGE] = activity_change(
        gold.rows(ACTIVITY_CHANGE, {"area_type": ["england"]}), gold.earlier(PUBLISHED_ACTIVITY_CHANGE), thresholds
    )
    found[MEASURE_SUMMARY] = _measures(gold, matched, [*found[PATHWAY_SUMMARY], *kept_pathways.rows], thresholds)
    if estimates := gold.audit_estimates():
        found[PUBLISHED_AUDIT_ESTIMATE] = audit_estimate(estimates, gold.earlier(PUBLISHED_AUDIT_ESTIMATE), thresholds)
    return {table: [row | {"disclosure": config.disclosure} for row in rows] for table, rows in found.items()}


def _measures(
    gold: _Gold, matched: Sequence[Row], pathways: Sequence[Mapping[str, Any]], rule: Thresholds
) -> list[Row]:
    """The rows of ``measure_summary``. ``matched``: counts of matched operations. ``pathways``: the rows of ``pathway_summary``
    in this release and in kept ones."""
    kept = gold.earlier(MEASURE_SUMMARY)
    of_year: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in matched:
        of_year[row["policy_id"], row[YEAR]].append(row)
    use = [row for row in gold.rows(CODE_USE) if (row["policy_id"], row[YEAR]) in of_year]
    of_operations = {key: definition_of(rows) for key, rows in of_year.items()}
    return [
        *code_use(use, of_operations, [*definitions()["primary_diagnosis"]["codes"]], kept, rule),
        *equality(gold.rows(EQUALITY_RATE), kept, rule),
        *linked(gold.rows(LINKED_MEASURE), kept, rule, sums_of_withheld_years(pathways)),
    ]
