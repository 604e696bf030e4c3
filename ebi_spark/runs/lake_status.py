"""What is in a lake: years and rows, policies, the last stages, quarantined rows, releases. Counts and names only."""

from collections import defaultdict
from datetime import date
from typing import Any

from ebi_spark.geography.code_forms import valid_code
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.policies.reminders import reminders, sources_of
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, quarantine_summary, refused_rows
from ebi_spark.release.current import kept_releases, local_time
from ebi_spark.sources import column_drift
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY, RUN_LOG, UNMAPPED_AREA
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE, QUARANTINE
from ebi_spark.tables.table import YEAR

# The titles of the lists, which are also their names in the JSON of `ebi-spark status`.
QUARANTINE_TITLE = "quarantine"
REFUSED = "rows that the last ingest could not use (it was refused and wrote nothing)"
LOST_CODES = "area codes that count in England only"
SOURCES = "sources of policies to check"
OTHER_RELEASES = "other kept releases"
_SHOWN_STAGES = 10
_LOGGED = ("run_id", "stage", "started_at", "ended_at", "outcome", "rows")


def lake_status(lake: LocalLake, today: date) -> dict[str, list[dict[str, Any]]]:
    """What `ebi-spark status` shows: lists by their titles. Reminders to check a policy's source are those of ``today``."""
    rows: dict[tuple[str, str], int] = {}
    for table in (APC_SPELL, OP_ATTENDANCE, QUARANTINE, ACTIVITY_FLAG):
        if lake.exists(table):
            for row in lake.grouped(table, [YEAR]):
                rows[(table.full_name, row[YEAR])] = row["rows"]
    found: dict[str, list[dict[str, Any]]] = {
        "rows": [{"table": t, "year": y, "rows": n} for (t, y), n in sorted(rows.items())]
    }
    if lake.exists(QUARANTINE):
        found[QUARANTINE_TITLE] = quarantine_summary(lake)
    log = lake.rows_if_there(RUN_LOG, _LOGGED)
    log.sort(key=lambda row: (row["started_at"], row["run_id"]), reverse=True)
    if refused := _refused(lake, log):
        found[REFUSED] = refused
    found["columns"] = column_drift.columns_in_lake(lake)
    if lake.exists(UNMAPPED_AREA):
        found[LOST_CODES] = _lost_codes(lake)
    if lake.exists(POLICY):
        columns = ["policy_id", "revision", "reading", "policy_fingerprint", "title"]
        policies = lake.small_rows(POLICY, [*columns, "definition"])
        policies.sort(key=lambda row: [str(row[name]) for name in columns[:3]])
        found["policies"] = [{name: row[name] for name in columns} for row in policies]
        if due := reminders(sources_of(policies), today):
            found[SOURCES] = [{"policy": name, "why": reason} for name, reason in due]
    if lake.exists(RUN_LOG):
        found["last stages"] = [
            {name: local_time(row[name]) if name.endswith("_at") else row[name] for name in _LOGGED}
            for row in log[:_SHOWN_STAGES]
        ]
    names = ("release_id", "released_at", "disclosure", "coverage", "data_kind", "years")
    releases = kept_releases(lake)
    found["release"] = [{name: row[name] for name in names} for row in releases if row["is_current"]]
    if others := [{name: row[name] for name in names} for row in releases if not row["is_current"]]:
        found[OTHER_RELEASES] = others
    return found


def _lost_codes(lake: LocalLake) -> list[dict[str, Any]]:
    """The codes of ``gold/unmapped_area`` with their years and records, most records first."""
    years: dict[tuple[str, str], set[str]] = defaultdict(set)
    records: dict[tuple[str, str], int] = defaultdict(int)
    for row in lake.grouped(UNMAPPED_AREA, ["code", "reason", YEAR], ["records"]):
        # An earlier version listed any text in the column, not only codes.
        key = (valid_code(row["code"], "commissioner"), row["reason"])
        years[key].add(row[YEAR])
        records[key] += row["records"]
    return [
        {"code": key[0], "reason": key[1], "years": sorted(years[key]), "records": number}
        for key, number in sorted(records.items(), key=lambda item: (-item[1], item[0]))
    ]


def _refused(lake: LocalLake, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The unusable rows of the last ingest where it was refused because of them; else nothing. ``log``: the newest row
    first."""
    last = next((row for row in log if row["stage"] == "ingest"), None)
    if last is None:
        return []
    # The details of one run only: those of an ingest are long.
    of_run = lake.small_rows(RUN_LOG, ["started_at", "details"], {"run_id": [last["run_id"]], "stage": ["ingest"]})
    details = next((row["details"] or {} for row in of_run if row["started_at"] == last["started_at"]), {})
    return refused_rows(details[REFUSED_ROWS]) if REFUSED_ROWS in details else []
