"""What versions before ``gold/batch`` kept in the run log: a copy of that form, to make such a lake from one of today."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.runs.state import RunState, StageRecord
from ebi_spark.tables.gold import BATCH, RUN_LOG, STAGE_INPUT


def as_details(
    record: StageRecord, inputs: Mapping[str, str], outcomes: Mapping[str, Mapping[str, str]] | None
) -> dict[str, str]:
    """The column ``details`` of a stage that was done."""
    details = {}
    for key, value in inputs.items():
        kind, _, name = key.partition(":")
        earlier = {"policy": f"part:{name}", "wording": "definitions"}.get(kind, f"uses:{key}")
        details[earlier] = value
    assert record.day is not None
    details["day"] = record.day.isoformat()
    if record.stage == "ingest":
        details["asked"] = "every year" if record.every_year else "named years"
        details["as_they_were"] = json.dumps(record.years_unchanged)
        details["found"] = json.dumps(record.years_found)
        details["verdicts"] = json.dumps(outcomes)
        details["due_from"] = json.dumps(record.due_from, default=str)
    if record.stage == "flag":
        details["whole"] = str(record.whole).lower()
    if record.stage == "publish":
        details["keep_releases"] = str(record.keep_releases)
    return details | {f"years:{layer}": json.dumps(years) for layer, years in record.years_by_layer.items()}


def make_earlier(lake: Path) -> None:
    """Turn a lake into what an earlier version would have left: all in the run log, without the tables of today."""
    state = RunState(LocalLake(LakeLocation(folder=lake)))
    details = {
        record.key: as_details(record, state.inputs(record.inputs), state.outcomes(record)) for record in state.records
    }
    path = lake / RUN_LOG.full_name
    log = DeltaTable(path).to_pyarrow_table()
    keys = zip(
        log["run_id"].to_pylist(), log["stage"].to_pylist(), log["started_at"].cast(pa.int64()).to_pylist(), strict=True
    )
    column = pa.array([list(details.get(key, {}).items()) for key in keys], type=log.schema.field("details").type)
    log = log.set_column(log.schema.get_field_index("details"), "details", column)
    write_deltalake(path, log, mode="overwrite")
    for table in (BATCH, STAGE_INPUT):
        shutil.rmtree(lake / table.full_name)
