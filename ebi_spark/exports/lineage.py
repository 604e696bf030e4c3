"""OpenLineage events of the run that made a release: a START and an end event for each stage, with the tables that it read
and wrote. They name tables and versions, never a record."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ebi_spark import __version__
from ebi_spark.errors import InputError
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.tables.gold import RUN_LOG
from ebi_spark.tables.schemas import TABLES

PRODUCER = f"ebi-spark/{__version__}"
JOB_NAMESPACE = "ebi-spark"
_LOGGED = ("run_id", "stage", "started_at", "ended_at", "outcome", "rows", "years", "versions_read", "versions_written")
# The user chooses the names of sources, and the events of a run do not need them.
_ENDED = {"done": "COMPLETE", "failed": "FAIL", "broken": "ABORT"}


def write_lineage(target: Path | str, lake: LocalLake, run_id: str) -> int:
    """Send the events of a run to a file (a line of JSON for each event) or to an ``http(s)`` address; returns their number."""
    from openlineage.client import OpenLineageClient
    from openlineage.client.serde import Serde
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    events = lineage_events(lake, run_id)
    if isinstance(target, Path):
        target.write_text("".join(f"{Serde.to_json(event)}\n" for event in events), encoding="utf-8")
    else:
        client = OpenLineageClient(transport=HttpTransport(HttpConfig(url=target)))
        try:
            for event in events:
                client.emit(event)
        except Exception as error:
            raise InputError(
                f"OpenLineage events could not be sent to {target} ({type(error).__name__})",
                remedy="check the address, or export them to a file",
            ) from None
    return len(events)


def lineage_events(lake: LocalLake, run_id: str) -> list[Any]:
    """The events of the stages of a run in order of time."""
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
    from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields

    namespace = str(lake.location)

    def facets(name: str, version: int) -> dict[str, Any]:
        fields = [
            SchemaDatasetFacetFields(name=n, type=kind, description=text) for n, kind, text in TABLES[name].fields()
        ]
        return {
            "schema": SchemaDatasetFacet(fields=fields),
            "version": DatasetVersionDatasetFacet(datasetVersion=str(version)),
        }

    events: list[Any] = []
    rows = lake.small_rows(RUN_LOG, _LOGGED, {"run_id": [run_id]}) if lake.exists(RUN_LOG) else []
    for row in sorted(rows, key=lambda row: row["started_at"]):
        stage_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{namespace}/{run_id}/{row['stage']}/{row['started_at']}")
        run = Run(runId=str(stage_id))
        job = Job(namespace=JOB_NAMESPACE, name=row["stage"])
        inputs = [
            InputDataset(namespace=namespace, name=name, facets=facets(name, version))
            for name, version in sorted((row["versions_read"] or {}).items())
            if name in TABLES
        ]
        outputs = [
            OutputDataset(namespace=namespace, name=name, facets=facets(name, version))
            for name, version in sorted((row["versions_written"] or {}).items())
            if name in TABLES
        ]
        for state, moment in (("START", row["started_at"]), (_ENDED.get(row["outcome"], "OTHER"), row["ended_at"])):
            if moment is not None:
                events.append(
                    RunEvent(
                        eventType=RunState[state],
                        eventTime=datetime.fromtimestamp(moment / 1e6, UTC).isoformat(),
                        run=run,
                        job=job,
                        inputs=inputs,
                        outputs=outputs if state != "START" else [],
                        producer=PRODUCER,
                    )
                )
    return events
