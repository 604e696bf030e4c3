"""The tables of a lake: what a row is, which columns it has, how the table is partitioned, and which layer it is in.

Other programs rely on these columns. ``silver`` and ``gold`` have patients' records and are restricted; ``published``
has only figures that may be shared. Every column is nullable in Delta, because the error for a broken NOT NULL
constraint would print a patient's row. Columns that must not be null are listed in ``required``, and validation checks
them.
"""

from ebi_spark.tables.gold import (
    ACTIVITY_FLAG,
    ACTIVITY_MONTH,
    ACTIVITY_RATE,
    BATCH,
    POLICY,
    POLICY_ATTRITION,
    POLICY_COMPARISON,
    POLICY_SENSITIVITY,
    PROVIDER_MONTH,
    RATE_VARIATION,
    RECORD_QUALITY,
    RUN_LOG,
    STAGE_INPUT,
    UNMAPPED_AREA,
)
from ebi_spark.tables.monitoring import MONITORING_TABLES, PUBLISHED_MONITORING
from ebi_spark.tables.published import (
    ATTRITION,
    COMPLETENESS,
    DAYS_BETWEEN,
    PUBLISHED_ACTIVITY_MONTH,
    PUBLISHED_POLICY,
    QUALITY,
    RATE,
    READING_EFFECT,
    RELEASE,
    SENSITIVITY,
    VARIATION,
)
from ebi_spark.tables.silver import (
    APC_SPELL,
    INGEST_AUDIT,
    OP_ATTENDANCE,
    POPULATION,
    QUARANTINE,
    REPEATED_ROW,
    WITHDRAWN_RECORD,
)
from ebi_spark.tables.star import STAR_TABLES
from ebi_spark.tables.table import Table

TABLES: dict[str, Table] = {
    table.full_name: table
    for table in (
        *MONITORING_TABLES,
        APC_SPELL, OP_ATTENDANCE, QUARANTINE, REPEATED_ROW, WITHDRAWN_RECORD, INGEST_AUDIT, POPULATION,
        ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POLICY_SENSITIVITY, POLICY_COMPARISON, ACTIVITY_RATE, RATE_VARIATION,
        ACTIVITY_MONTH, PROVIDER_MONTH, UNMAPPED_AREA, RECORD_QUALITY, RUN_LOG, BATCH, STAGE_INPUT,
        RATE, VARIATION, ATTRITION, READING_EFFECT, SENSITIVITY, QUALITY, PUBLISHED_ACTIVITY_MONTH, DAYS_BETWEEN,
        COMPLETENESS, *PUBLISHED_MONITORING, PUBLISHED_POLICY, *STAR_TABLES, RELEASE,
    )
}  # fmt: skip
