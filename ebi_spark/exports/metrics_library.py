"""National figures by month and quarter in the form of NHS England's Central Metrics Library (CML), as Parquet files.

The longest period of the library is the quarter, and a metric must have a value. So suppressed figures are left out, and so are
provisional months and quarters with a missing or provisional month. The shapes are the `StructType`s of `cml-schemas`.
"""

import hashlib
import json
from collections import defaultdict
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ebi_spark.exports.release_data import ReleaseData
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.report.rows import Row

_MEASURES = {
    "activity": ("flagged", "flagged records", "Records of hospital activity that meet the policy's rule."),
    "in_scope": ("in_scope", "records in scope", "Records with a procedure of the policy, flagged or not."),
}
_TYPES = {"string": pa.string(), "timestamp": pa.timestamp("us", tz="UTC"), "int": pa.int32(), "float": pa.float32(), "boolean": pa.bool_()}  # fmt: skip


def write_metrics_library(folder: Path, release: ReleaseData) -> dict[str, int]:
    """Write ``metric``, ``metadata`` and ``source`` as Parquet files; returns their numbers of rows."""
    from cml_schemas import spark_schemas

    shapes = {
        "metric": (spark_schemas.METRIC_SCHEMA, metrics(release)),
        "metadata": (spark_schemas.METADATA_SCHEMA, metadata(release)),
        "source": (spark_schemas.SOURCE_SCHEMA, sources(release)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, rows) in shapes.items():
        schema = pa.schema(
            [pa.field(field.name, _TYPES[field.dataType.simpleString()], field.nullable) for field in shape]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"cml_{name}.parquet")
    return {name: len(rows) for name, (_, rows) in shapes.items()}


def _metric_id(policy_id: str, measure: str) -> str:
    return f"ebi_{policy_id}_{_MEASURES[measure][0]}".lower()


def _months(release: ReleaseData) -> list[Row]:
    """National months that are complete, in the default reading of each policy. A month that appears under two financial
    years is added up."""
    found: dict[tuple[str, date], Row] = {}
    for row in release.of_default_readings("activity_month"):
        if row["month"] is None or row["provisional"]:
            continue
        month = row["month"].date() if isinstance(row["month"], datetime) else row["month"]
        so_far = found.setdefault(
            (row["policy_id"], month), {"policy_id": row["policy_id"], "month": month, "activity": 0, "in_scope": 0}
        )
        for measure in _MEASURES:
            so_far[measure] += row[measure]
    return [found[key] for key in sorted(found)]


def metrics(release: ReleaseData) -> list[dict[str, Any]]:
    """One row for each policy, measure and complete month or calendar quarter. A quarter with fewer than three complete months has
    no row.

    | month      | activity | → reporting_grain | start      | metric_value |
    |------------|----------|-------------------|------------|--------------|
    | 2021-04-01 | 10       | monthly           | 2021-04-01 | 10           |
    | 2021-05-01 | 12       | monthly           | 2021-05-01 | 12           |
    | 2021-06-01 | 9        | monthly           | 2021-06-01 | 9            |
    |            |          | quarterly         | 2021-04-01 | 31           |
    """
    by_period: dict[tuple[str, str, date], dict[str, int]] = {}
    months_of: dict[tuple[str, date], int] = defaultdict(int)
    for row in _months(release):
        month: date = row["month"]
        by_period[row["policy_id"], "monthly", month] = {name: row[name] for name in _MEASURES}
        quarter = month.replace(month=month.month - (month.month - 1) % 3)
        months_of[row["policy_id"], quarter] += 1
        total = by_period.setdefault((row["policy_id"], "quarterly", quarter), dict.fromkeys(_MEASURES, 0))
        for name in _MEASURES:
            total[name] += row[name]
    published = _moment(release.manifest["released_at"])
    rows = []
    for (policy_id, grain, start), values in sorted(by_period.items()):
        if grain == "quarterly" and months_of[policy_id, start] < 3:
            continue
        for measure, value in values.items():
            key = [_metric_id(policy_id, measure), grain, ENGLAND_ONS, start.isoformat()]
            rows.append(
                {
                    "datapoint_id": hashlib.sha256("|".join(key).encode()).hexdigest()[:32],
                    "metric_id": key[0],
                    "dimension_id": None,
                    "reporting_grain": grain,
                    "location_id": ENGLAND_ONS,
                    "location_type": "National",
                    "reporting_period_start_datetime": _moment(start),
                    "publication_datetime": published,
                    "metric_value": value,
                    "additional_metric_values": json.dumps({"release_id": release.release_id}),
                }
            )
    return rows


def metadata(release: ReleaseData) -> list[dict[str, Any]]:
    """One row for each policy and measure that has a metric: what it measures, for whom and from what. None where CML's field does
    not apply."""
    used = {row["metric_id"] for row in metrics(release)}
    found = []
    for policy_id, policy in release.policies.items():
        for measure, (_, short, description) in _MEASURES.items():
            if _metric_id(policy_id, measure) not in used:
                continue
            found.append(
                {
                    "metric_family_id": f"ebi_{policy_id}".lower(),
                    "metric_id": _metric_id(policy_id, measure),
                    "metric_status": "Active",
                    "metric_state": "Published",
                    "metric_title": f"{policy['title']}: {short}",
                    "metric_start_date": _moment(
                        min(row["month"] for row in _months(release) if row["policy_id"] == policy_id)
                    ),
                    "metric_end_date": None,
                    "available_metric_category": "Count",
                    "available_reporting_grain": "monthly|quarterly",
                    "available_location_types": "National",
                    "available_dimension_types": None,
                    "business_area": "Elective care",
                    "business_sub_area": "Evidence-Based Interventions",
                    **_source_of(policy),
                    "metric_owner": policy["publisher"],
                    "metric_short_name": short,
                    "metric_description": description,
                    "calculation": f"Count of records, reading {policy['reading']}, revision {policy['revision']}.",
                    "metric_purpose": "To see how often the intervention is done for the reason that the policy advises against.",
                    "unit": "records",
                    "format": "integer",
                    "target": None,
                    "frequency_of_refresh": "With each release",
                    "aggregation": "sum",
                    "statistical_disclosure_control_flag": "N",
                    "statistical_disclosure_control_description": "National counts; smaller areas are not in this export.",
                    "interpretation": "A flag is no judgement of a patient's care.",
                    "inclusion_exclusion_rules": policy["source"],
                }
            )
    return found


def sources(release: ReleaseData) -> list[dict[str, Any]]:
    """One row for each data set that a metric is made from, with the first and last month of the release and the time at which
    it was made. Empty if the release has no complete month."""
    months = [row["month"] for row in _months(release)]
    if not months:
        return []
    used = {row["metric_id"] for row in metrics(release)}
    names = {
        tuple(_source_of(policy).items())
        for policy_id, policy in release.policies.items()
        if _metric_id(policy_id, "activity") in used
    }
    released = _moment(release.manifest["released_at"])
    return [
        dict(name)
        | {
            "first_record_timestamp": _moment(min(months)),
            "last_record_timestamp": _moment(max(months)),
            "last_ingest_timestamp": released,
            "version_release_date": released,
            "version_release": 1,
        }
        for name in sorted(names)
    ]


def _source_of(policy: Row) -> dict[str, str]:
    name = "Hospital records: admitted patient care" if policy["dataset"] == "apc" else "Hospital records: outpatients"
    return {"numerator_source_name": name, "denominator_source_name": name}


def _moment(value: date | datetime) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.combine(value, time(), UTC)
