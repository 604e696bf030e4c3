"""The tables of monitoring, silver and gold first, then published. Each theme has its tables in a module of its own."""

from ebi_spark.tables.monitoring_approvals import (
    APPROVAL_MATCH,
    APPROVAL_SUMMARY,
    APPROVAL_UNUSED,
    PRIOR_APPROVAL,
    PRIOR_APPROVAL_QUARANTINE,
    REGIME_CHANGE,
)
from ebi_spark.tables.monitoring_audit import (
    AUDIT_ESTIMATE,
    AUDIT_RESULT,
    AUDIT_SAMPLE,
    PUBLISHED_AUDIT_ESTIMATE,
)
from ebi_spark.tables.monitoring_changes import (
    ACTIVITY_CHANGE,
    ACTIVITY_COUNT,
    CODE_USE,
    EQUALITY_RATE,
    LINKED_MEASURE,
    MEASURE_SUMMARY,
    PUBLISHED_ACTIVITY_CHANGE,
)
from ebi_spark.tables.monitoring_pathway import (
    PATHWAY,
    PATHWAY_INCIDENCE,
    PATHWAY_STEP,
    PATHWAY_SUMMARY,
)

# In the order in which they are made.
MONITORING_TABLES = (
    PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE, APPROVAL_MATCH, APPROVAL_UNUSED, REGIME_CHANGE, PATHWAY, PATHWAY_STEP,
    PATHWAY_INCIDENCE, LINKED_MEASURE, CODE_USE, ACTIVITY_COUNT, ACTIVITY_CHANGE, EQUALITY_RATE, AUDIT_SAMPLE, AUDIT_RESULT, AUDIT_ESTIMATE,
)  # fmt: skip
PUBLISHED_MONITORING = (
    APPROVAL_SUMMARY, PATHWAY_SUMMARY, PUBLISHED_ACTIVITY_CHANGE, MEASURE_SUMMARY, PUBLISHED_AUDIT_ESTIMATE,
)  # fmt: skip
