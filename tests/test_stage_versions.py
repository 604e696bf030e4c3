"""The results of each stage on a small fixed lake, kept with the version of the stage's logic.

A stage whose results change without a new version would leave old figures in every lake. When a test here fails:

- the stage's figures are meant to change: raise its number in ``ebi_spark/runs/stage_versions.py``, say so in ``CHANGELOG.md``;
- only a file in ``conf/`` has changed (lakes notice that by themselves): leave the number;
- neither: the change of figures is a fault.

Then ``EBI_SPARK_KEEP_RESULTS=1 .venv/bin/python -m pytest tests/test_stage_versions.py`` writes the new results down.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import call, delta_rows, duckdb_on_delta
from source_rows import DER, attendance, derived, spell, write

from ebi_spark.runs.stage_versions import STAGE_VERSIONS
from ebi_spark.stages.flag import Flag
from ebi_spark.stages.ingest import Ingest
from ebi_spark.stages.monitor import Monitor
from ebi_spark.stages.publish import Publish
from ebi_spark.stages.rate import Rate
from ebi_spark.stages.validate import Validate
from ebi_spark.tables.schemas import TABLES
from jobs import run

pytestmark = pytest.mark.usefixtures("one_session")

KEPT = Path(__file__).parent / "fixtures" / "stage_results.json"
WRITTEN_BY = {
    "ingest": ("silver/apc_spell", "silver/op_attendance", "silver/quarantine", "silver/ingest_audit"),
    "flag": ("gold/activity_flag", "gold/policy_attrition", "gold/policy_sensitivity", "gold/policy_comparison"),
    "rate": ("gold/activity_rate", "gold/rate_variation", "gold/activity_month", "gold/provider_month",
             "gold/unmapped_area", "gold/record_quality"),
    "monitor": ("gold/approval_match", "gold/pathway", "gold/pathway_step", "gold/pathway_incidence", "gold/linked_measure",
                "gold/code_use", "gold/activity_count", "gold/activity_change"),
    "publish": ("published/rate", "published/variation", "published/attrition", "published/reading_effect",
                "published/sensitivity", "published/quality", "published/activity_month", "published/days_between",
                "published/completeness", "published/pathway_summary", "published/measure_summary",
                "published/activity_change"),
}  # fmt: skip
# Differ between two runs of the same rows.
OF_A_RUN = {"run_id", "release_id", "source_file", "file_bytes", "file_modified", "written_at", "rows_checksum", "raw"}
PROVIDERS = ("RX1", "RTG", "RM3")
COMMISSIONERS = ("15M", "15N", "00L", "16C")


@pytest.fixture(scope="module")
def lake(empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over rows made by rule: every code, category, age and fault comes at its own beat, so that they meet."""
    folder = tmp_path_factory.mktemp("fixed")
    empty_lake(folder / "lake")
    spells, of_spells, attendances = [], [], []
    for number in range(240):
        year, key = 2020 + number % 3, f"S{number:04d}"
        spells.append(
            spell(
                key, year,
                Admission_Method=("11", "12", "13", "21", "", "31")[number % 6],
                Administrative_Category=("01", "1", "02", "")[number % 4],
                Age_At_Start_of_Spell_SUS=str((17, 45, 7001, 121, 68)[number % 5]),
                Der_Diagnosis_All=("||M545 ,Z981", "", "M545,C61X", "m54.9||M431", "X999")[number % 5],
                Extract_Date=f"{year + 1}-05-31" if number % 7 else "",
                Discharge_Date=("", f"{year}-06-{number % 28 + 1:02d}", "1900-01-01")[(number % 29 > 0) + (number % 31 == 0)],
            )
            | {"Sex": "12X"[number % 3], "Der_Provider_Code": PROVIDERS[number % 3],
               "Der_Commissioner_Code": COMMISSIONERS[number % 4], "Der_Pseudo_NHS_Number": str(number // 2),
               "Source_of_Admission": ("19", "51", "")[number % 3], "Discharge_Destination": ("19", "51")[number % 2],
               "Hospital_Spell_No": f"H{number}"}
        )  # fmt: skip
        of_spells.append(derived(key, Spell_Dominant_Procedure=("V382", "V404", "W371", "V386")[number % 4],
                                 Spell_Primary_Diagnosis=("M545", "M549", "M431")[number % 3]))  # fmt: skip
        attendances.append(
            attendance(
                f"A{number:04d}",
                Appointment_Date=f"{year}-{number % 12 + 1:02d}-15" if number % 23 else "",
                Der_Financial_Year=f"{year}-{year % 100 + 1}",
                Der_Procedure_All=("U055", "U133,Z665", "U212", "")[number % 4],
                Der_Diagnosis_All=("", "M545", "C349")[number % 3],
            )
            | {"Der_Commissioner_Code": COMMISSIONERS[number % 4], "Sex": "21"[number % 2]}
        )
    spells += [spells[5], spells[8] | {"Admission_Method": "28"}]  # a copy, and a conflict
    write(
        folder / "in/apcs.csv",
        spells,
        [*spells[0]],
    )
    write(folder / "in/der.csv", [*of_spells, derived("nobody")], DER)
    write(folder / "in/opa.csv", attendances, [*attendances[0]])
    (folder / "run.yml").write_text(
        "lake: ./lake\nmax_quarantine_share: 0.5\nsources:\n"
        "  admitted: {system: sus_plus, tables: {apcs: in/apcs.csv, apcs_der: in/der.csv}}\n"
        "  outpatient: {system: sus_plus, tables: {opa: in/opa.csv}}\n"
    )
    done = call(run.main, folder)
    assert done["exit"] == 0, done["error"]
    return folder / "lake"


def results_of(lake: Path, table: str) -> dict[str, Any]:
    """How many rows a table has, and a checksum of them in any order, by DuckDB."""
    columns = []
    for name, kind, _ in TABLES[table].fields():
        if name not in OF_A_RUN:
            # The order of a map's entries has no meaning.
            column = f'"{name}"'
            shown = f"list_sort(map_entries({column}))" if kind.startswith("map") else column
            columns.append(f"round({column}, 9)" if kind == "double" else shown)
    with duckdb_on_delta() as reader:
        rows = reader.execute(
            f"SELECT coalesce(sort_key, '') FROM (SELECT to_json([{', '.join(f'{c}::VARCHAR' for c in columns)}])::VARCHAR "
            f"AS sort_key FROM delta_scan('{lake / table}'))"
        ).fetchall()
        listed = sorted(row[0] for row in rows)
        checksum = reader.execute("SELECT md5(?)", ["\n".join(listed)]).fetchall()[0][0]
    return {"rows": len(listed), "checksum": checksum}


@pytest.mark.parametrize("stage", WRITTEN_BY)
def test_results_change_only_with_the_version_of_their_stage(stage: str, lake: Path) -> None:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    now = {"version": STAGE_VERSIONS[stage], "tables": {table: results_of(lake, table) for table in WRITTEN_BY[stage]}}
    assert all(found["rows"] for table, found in now["tables"].items() if "days_between" not in table), (
        "a table is empty"
    )
    if os.environ.get("EBI_SPARK_KEEP_RESULTS"):
        KEPT.write_text(json.dumps(kept | {stage: now}, indent=2) + "\n")
        return
    assert kept[stage] == now, __doc__


@pytest.mark.parametrize("stage", [Ingest, Flag, Rate, Monitor, Validate, Publish], ids=lambda stage: stage.name)
def test_a_stage_names_what_it_reads_and_writes(stage: Any, lake: Path) -> None:
    """By the run log, which records what the lake was asked for."""
    logged = delta_rows(lake / "gold/run_log", "versions_read, versions_written", f"stage = '{stage.name}'")
    ((read, written),) = logged
    named = {table.full_name for table in stage.writes}
    assert set(stage.reads) <= set(read)
    # Not written: a table whose rows would be the same, one that only an upsert writes, those of registers, which this lake has not.
    unwritten = {"silver/withdrawn_record", "silver/repeated_row", "silver/prior_approval", "silver/prior_approval_quarantine",
                 "gold/approval_unused", "gold/regime_change"}  # fmt: skip
    assert set(written) <= named and named - set(written) <= unwritten


def test_every_stage_that_writes_tables_has_its_results_here() -> None:
    assert {*WRITTEN_BY, "validate"} == {*STAGE_VERSIONS}
