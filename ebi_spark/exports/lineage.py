"""OpenLineage events of the run that made a release: a START and an end event for each stage, with the tables that it read
and wrote. They name tables and versions, never a record."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ebi_spark import __version__
from ebi_spark.errors import InputError
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.tables.gold import RUN_LOG
from ebi_spark.tables.schemas import TABLES

# OpenLineage asks for a URI: this is a package URL (https://github.com/package-url/purl-spec).
PRODUCER = f"pkg:generic/ebi-spark@{__version__}"
JOB_NAMESPACE = "ebi-spark"
_LOGGED = ("run_id", "stage", "started_at", "ended_at", "outcome", "rows", "years", "versions_read", "versions_written")
# The user chooses the names of sources, and the events of a run do not need them.
_ENDED = {"done": "COMPLETE", "failed": "FAIL", "broken": "ABORT"}


# Where OpenLineage servers take events, below their address.
ENDPOINT = "api/v1/lineage"
# How long to wait for an answer, and how often a failed connection or an answer that the server is busy is tried again.
ANSWER_SECONDS, RETRIES = 5.0, 2


def write_lineage(target: Path | str, lake: LocalLake, run_id: str) -> int:
    """Send the events of a run to a file (a line of JSON for each event) or to an ``http(s)`` address; returns their number.

    An :class:`InputError` if the server does not take all of them. It says how many it took; sending them again is safe,
    because the events have the same ids.
    """
    from openlineage.client.serde import Serde

    events = lineage_events(lake, run_id)
    if isinstance(target, Path):
        target.write_text("".join(f"{Serde.to_json(event)}\n" for event in events), encoding="utf-8")
    else:
        _send(target, events)
    return len(events)


class RedirectedError(Exception):
    """The server sent us to another page."""


_REASONS = {
    "ConnectionError": "no connection, or no answer in time",
    "RetryError": "it answers that it is busy or has failed",
    "RedirectedError": "it answers with another page, such as one for signing in",
}


def _send(address: str, events: list[Any]) -> None:
    from openlineage.client.transport.http import HttpConfig, HttpTransport
    from openlineage.client.transport.http_common import DEFAULT_RETRY_CONFIG

    base = f"{address.rstrip('/').removesuffix(f'/{ENDPOINT}')}/"
    retry = DEFAULT_RETRY_CONFIG | {"total": RETRIES, "read": RETRIES, "connect": RETRIES}
    sent = 0
    try:
        # The transport alone: a client would add environment variables, and sends nothing where OPENLINEAGE_DISABLED is set.
        transport = HttpTransport(HttpConfig(url=base, endpoint=ENDPOINT, timeout=ANSWER_SECONDS, retry=retry))
        for event in events:
            answer = transport.emit(event)
            if answer.request.method != "POST":  # a redirect, such as to a page for signing in, does not take the event
                raise RedirectedError
            sent += 1
    except Exception as error:
        # The text of the error can have the password of an address.
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"HTTP status {status}" if status else _REASONS.get(type(error).__name__, type(error).__name__)
        raise InputError(
            f"OpenLineage events could not be sent to {without_password(address)} ({reason}): the server took {sent} of "
            f"{len(events)}; the release is not affected",
            remedy="check the address, or export them to a file",
        ) from None


def without_password(address: str) -> str:
    """An address as it may be shown: without a user and password."""
    host = urlsplit(address).netloc
    return address.replace(host, host.rpartition("@")[2], 1) if "@" in host else address


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
    rows = lake.rows_if_there(RUN_LOG, _LOGGED, {"run_id": [run_id]})
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
