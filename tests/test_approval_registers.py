"""Registers of approvals: how they are configured and read, what they cover, and when they make monitoring due."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calling import bad_input_page
from pyspark.sql import SparkSession
from source_rows import APCS, DER, derived, spell, write
from test_recompute import _NoLake

from ebi_spark.approvals.before_and_after import before_and_after
from ebi_spark.approvals.coverage import COUNTED_BY, entries_by_board, register_coverage, register_warnings
from ebi_spark.approvals.regimes import (
    Coverage,
    RegimeChange,
    boards_shown,
    read_regimes,
    regime_changes,
    stated_coverage,
)
from ebi_spark.approvals.register import classify_entries, read_registers
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.lake.storage import Lake
from ebi_spark.runs.checks_before_start import check_before_start
from ebi_spark.runs.due import differences
from ebi_spark.runs.stage_inputs import stage_inputs
from ebi_spark.small_frames import small_frame
from ebi_spark.sources.reader import read_sources
from ebi_spark.stages.monitor import Monitor
from ebi_spark.stages.run_context import RunContext
from ebi_spark.statistics.counts import exact_poisson
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY
from ebi_spark.tables.monitoring_approvals import (
    APPROVAL_MATCH,
    APPROVAL_UNUSED,
    PRIOR_APPROVAL,
    PRIOR_APPROVAL_QUARANTINE,
    REGIME_CHANGE,
)
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE

SHOWN = boards_shown(read_geography("icb_2026", ()))
POLICIES = ("2Y_back_pain_fusion", "DDICB_back_pain_fusion")
# The register's own names for our columns.
NAMES = {
    "approval_id": "Ref", "person_id": "Pseudonym", "policy_id": "Policy", "procedure_codes": "Procedures", "route": "Kind",
    "requested_on": "Asked", "decided_on": "Answered", "decision": "Answer", "valid_from": "Start", "valid_to": "Finish",
    "board": "Board", "provider_code": "Hospital", "criteria": "Criteria", "extract_date": "Taken",
}  # fmt: skip
USUAL = {
    "person_id": "1", "policy_id": "2Y_back_pain_fusion", "route": "prior_approval", "requested_on": "2024-01-02",
    "decided_on": "2024-01-10", "decision": "approved", "board": "QJ2", "criteria": "age; pain", "extract_date": "2024-04-30",
}  # fmt: skip
# The day of the run is 30 November 2026.
PLAUSIBLE = date(1989, 4, 1), date(2026, 11, 30)
# Case → the row or rows, as they differ from the usual one.
CASES: dict[str, list[dict[str, str]]] = {
    "as it should be": [{}],
    "that is pending, without a day of decision": [{"decision": "pending", "decided_on": ""}],
    "that was withdrawn, without a day of decision": [{"decision": "withdrawn", "decided_on": "NULL"}],
    "that names procedures instead of a policy": [{"policy_id": "", "procedure_codes": "v38.2; V38.3"}],
    "that names no board": [{"board": ""}],
    "with a policy, route and decision in other capital or small letters": [
        {"policy_id": "2y_BACK_pain_fusion", "route": "Prior approval", "decision": "APPROVED"}
    ],
    "with the day before the month": [{"requested_on": "02/01/2024", "decided_on": "10/01/2024"}],
    "with 9999-12-31 as its last day": [{"valid_to": "9999-12-31"}],
    "approved from a day before the decision": [{"valid_from": "2024-01-04"}],
    "for a person without a record in silver": [{"person_id": "999"}],
    "that appears twice": [{}, {}],
    "that appears twice, different in a column that nothing reads": [{"Note": "a"}, {"Note": "b"}],
    "that a later extract replaces": [
        {"decision": "pending", "decided_on": "", "extract_date": "2024-01-31"}, {"extract_date": "2024-02-29"},
    ],
    "whose key is also in another row, with other content": [{}, {"valid_to": "2025-01-10"}],
    "without a key": [{"approval_id": " "}],
    "without a person": [{"person_id": ""}],
    "without policy and procedures": [{"policy_id": ""}],
    "with a policy that does not exist": [{"policy_id": "2Z_nothing"}],
    "with a board that does not exist": [{"board": "QQQ"}],
    "with a route that is in no list": [{"route": "telephone"}],
    "without a decision": [{"decision": ""}],
    "with a decision that is in no list": [{"decision": "perhaps"}],
    "with a date in words": [{"valid_to": "next spring"}],
    "with a date that does not exist (30 February)": [{"decided_on": "2024-02-30"}],
    "requested before there were such records": [{"requested_on": "1024-01-02"}],
    "requested on 1 April 1989": [{"requested_on": "1989-04-01"}],
    "decided on the day of the run": [{"decided_on": "2026-11-30"}],
    "decided after the day of the run": [{"decided_on": "2026-12-01"}],
    "that ends long after the day of the run": [{"valid_to": "2099-12-31"}],
    "decided before it was requested": [{"requested_on": "2024-01-11"}],
    "that ends before it begins": [{"valid_from": "2024-02-02", "valid_to": "2024-02-01"}],
    "that ends before its decision, without a first day": [{"valid_to": "2024-01-09"}],
    "approved, without a day of decision": [{"decided_on": ""}],
    "declined, with 1900-01-01 as its day of decision": [
        {"decision": "declined", "decided_on": "1900-01-01", "requested_on": ""}
    ],
    "with several faults": [{"person_id": "", "policy_id": "2Z", "route": "fax"}],
    "with too few fields": [{"short": "x"}],
}  # fmt: skip


def write_register(path: Path) -> None:
    names = [*NAMES.values(), "Note", "Case"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for number, (case, rows) in enumerate(CASES.items()):
            for changes in rows:
                cells = {"approval_id": f"A{number}"} | USUAL | {"provider_code": f"RX{number:03d}"} | changes
                line = [cells.get(ours, "") for ours in NAMES] + [changes.get("Note", ""), case]
                writer.writerow(line[:9] if "short" in changes else line)


def registers(*paths: Path, columns: dict[str, str] | None = None) -> RunConfig:
    sources = tuple(
        Source(
            path.stem, "local", {"prior_approval": TableSource("prior_approval", (str(path),), columns=columns or {})}
        )
        for path in paths
    )
    return RunConfig(lake=LakeLocation(folder=Path("/none")), sources=sources)


def test_the_page_lists_every_bad_row() -> None:
    assert list(bad_input_page("Registers of approvals")) == list(CASES)


def test_rows_of_registers(spark: SparkSession, tmp_path: Path) -> None:
    """A register in CSV with names of its own, and one in Parquet with ours and dates that have their type."""
    write_register(tmp_path / "derby.csv")
    typed = {name: pa.array([USUAL.get(name)], pa.string()) for name in NAMES if name != "extract_date"}
    typed |= {
        "approval_id": pa.array([7], pa.int64()), "requested_on": pa.array([date(2024, 1, 2)]),
        "decided_on": pa.array([date(2024, 1, 10)]),
    }  # fmt: skip
    pq.write_table(pa.table(typed), tmp_path / "york.parquet")
    config = registers(tmp_path / "derby.csv", columns=NAMES)
    config = replace(config, sources=(*config.sources, *registers(tmp_path / "york.parquet").sources))
    rows = read_registers(spark, config)
    assert rows is not None
    found = [
        row.asDict() for row in classify_entries(rows, POLICIES, {"QJ2": "QJ2", "QOQ": "QOQ"}, PLAUSIBLE).collect()
    ]

    (york,) = [row for row in found if row["register"] == "york"]
    assert york | {"source_file": ""} == {
        "register": "york", "approval_id": "7", "person_id": "1", "policy_id": "2Y_back_pain_fusion", "procedure_codes": None,
        "route": "prior_approval", "requested_on": date(2024, 1, 2), "decided_on": date(2024, 1, 10), "decision": "approved",
        "valid_from": date(2024, 1, 10), "valid_to": None, "board": "QJ2", "provider_code": None, "criteria": ["age", "pain"],
        "source_file": "", "reasons": [], "raw": None,
    }  # fmt: skip
    of_derby = [row for row in found if row["register"] == "derby"]
    for number, (case, gets) in enumerate(bad_input_page("Registers of approvals").items()):
        mine = [
            row for row in of_derby if row["provider_code"] == f"RX{number:03d}" or (row["raw"] and case in row["raw"])
        ]
        if case == "with too few fields":
            mine = [row for row in of_derby if "corrupt_line" in row["reasons"]]
            assert '"line"' in mine[0]["raw"]
        reasons = sorted(re.findall(r"`(\w+)`", gets))
        assert [sorted(row["reasons"]) for row in mine] == [reasons] * (2 if gets.endswith("both") else 1), case
        assert all((row["raw"] is None) == (not reasons) for row in mine)
    by_case = {case: row for number, case in enumerate(CASES) for row in of_derby if row["approval_id"] == f"A{number}"}
    assert by_case["that names procedures instead of a policy"]["procedure_codes"] == ",V382,V383,"
    assert by_case["with 9999-12-31 as its last day"]["valid_to"] is None
    assert by_case["approved from a day before the decision"]["valid_from"] == date(2024, 1, 4)
    assert by_case["with the day before the month"]["decided_on"] == date(2024, 1, 10)
    assert by_case["that a later extract replaces"]["decision"] == "approved"
    other = by_case["with a policy, route and decision in other capital or small letters"]
    assert (other["policy_id"], other["route"], other["decision"]) == (POLICIES[0], "prior_approval", "approved")
    # Ingest reads none of it.
    assert read_sources(spark, config) == []


YAML = """
lake: ./lake
sources:
  admitted: {system: sus_plus, tables: {apcs: apcs.csv, apcs_der: der.csv}}
  derby:
    system: local
    tables: {prior_approval: {path: register.csv, columns: {approval_id: Ref}}}
approvals:
  linkable_share: 0.8
  unused_after_days: 100
  pseudonym: sus_plus
  covers: [{board: QJ2, from: 2022-04-01, to: 2024-03-31}]
  regimes:
    - {board: QOQ, policies: [2Y_back_pain_fusion], kind: criteria_based, from: 2023-01-01, exempts_emergencies: false}
"""


def configured(folder: Path, text: str) -> RunConfig:
    (folder / "run.yml").write_text(text, encoding="utf-8")
    return load_config(folder / "run.yml")


def test_the_configuration_of_registers(tmp_path: Path) -> None:
    config = configured(tmp_path, YAML)
    assert [source.name for source in config.registers] == ["derby"]
    assert [source.name for source in config.record_sources] == ["admitted"]
    assert (config.linkable_share, config.unused_after_days, config.register_pseudonym) == (0.8, 100, "sus_plus")
    assert stated_coverage(config, SHOWN) == [Coverage("QJ2", date(2022, 4, 1), date(2024, 3, 31))]
    own = [regime for regime in read_regimes(config, SHOWN) if regime.board == "QOQ"]
    assert [(regime.kind, regime.since, regime.until, regime.exempts_emergencies) for regime in own] == [
        ("criteria_based", date(2023, 1, 1), None, False)
    ]


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("kind: criteria_based", "kind: strict", "criteria_based"),
        ("from: 2023-01-01", "from: 2023-02-30", "not a date of the calendar"),
        ("board: QOQ", "board: QQQ", "QQQ is not an integrated care board"),
        ("from: 2023-01-01", "from: 2023-01-01, to: 2023-01-01", "ends before it begins"),
        ("to: 2024-03-31}]", "to: 2024-03-31}, {board: QJ2, from: 2024-03-31}]", "two items have the same days"),
        ("to: 2024-03-31}]", "to: 2022-03-31}]", "ends before it begins"),
        ("system: sus_plus, tables: {apcs: apcs.csv, apcs_der: der.csv}", "system: local, tables: {prior_approval: a.csv}",
         "no source has records of care"),
        ("tables: {prior_approval:", "tables: {apcs:", "apcs is not a table of local"),
        ("linkable_share: 0.8", "linkable_share: 8", "linkable_share"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_configuration(was: str, now: str, says: str, tmp_path: Path) -> None:
    assert was in YAML
    with pytest.raises(InputError) as error:
        config = configured(tmp_path, YAML.replace(was, now))
        read_regimes(config, SHOWN)
        stated_coverage(config, SHOWN)
    assert says in f"{error.value.message} {error.value.remedy}"
    assert error.value.remedy


def test_regimes_that_ship_and_regimes_of_the_configuration() -> None:
    config = RunConfig(lake=LakeLocation(folder=Path("/none")))
    shipped = [regime for regime in read_regimes(config, SHOWN) if regime.policy_id == "2Y_back_pain_fusion"]
    assert [(item.board, item.kind, item.since, item.until, item.exempts_emergencies) for item in shipped] == [
        ("QJ2", "prior_approval", None, date(2024, 3, 18), True), ("QJ2", "none", date(2024, 3, 18), None, True),
    ]  # fmt: skip
    assert {item.board for item in read_regimes(config, SHOWN)} == {"QJ2"}
    assert regime_changes(shipped) == [
        RegimeChange("QJ2", "2Y_back_pain_fusion", date(2024, 3, 18), "prior_approval", "none")
    ]
    own: dict[str, Any] = {"board": "QJ2", "policies": ["2Y_back_pain_fusion"], "kind": "ifr_only", "to": "2025-01-01"}
    replaced = read_regimes(replace(config, approval_regimes=(own,)), SHOWN)
    assert [item.kind for item in replaced if item.policy_id == "2Y_back_pain_fusion"] == ["ifr_only"]
    assert [item.kind for item in replaced if item.policy_id != "2Y_back_pain_fusion"] == ["prior_approval", "none"]
    assert [item.after for item in regime_changes(replaced)] == [None, "none"]
    with pytest.raises(InputError, match="two items have the same days"):
        read_regimes(replace(config, approval_regimes=(own, own | {"from": "2024-12-31", "to": "2025-12-31"})), SHOWN)


def test_a_board_is_shown_under_the_code_of_the_same_areas() -> None:
    now = boards_shown(read_geography("icb_2026", ()))
    assert now["QJ2"] == "QJ2"
    geography = read_geography("icb_2026", ())
    current = {row["icb_code"] for row in geography.areas.values()}
    gone = {board for board, shown in now.items() if shown not in current}
    # Boards that were merged or split in April 2026: nobody is linked by what one of them said.
    assert gone and all(now[board] == board for board in gone)
    assert set(boards_shown(read_geography("icb_2024", ())).values()) >= {"QJ2", "QOQ"}


def test_two_codes_of_one_board_cannot_have_the_same_days() -> None:
    """S0E4D followed QU9 in 2026. In the areas of 2024 both are QU9. In those of 2026 QU9 is gone, and is a board of its own."""
    older = boards_shown(read_geography("icb_2024", ()))
    assert (older["QU9"], older["S0E4D"], SHOWN["S0E4D"]) == ("QU9", "QU9", "S0E4D")
    of_policy: dict[str, Any] = {"policies": ["2Y_back_pain_fusion"], "kind": "ifr_only"}
    config = RunConfig(
        lake=LakeLocation(folder=Path("/none")),
        approval_regimes=(of_policy | {"board": "QU9", "to": "2024-02-01"}, of_policy | {"board": "S0E4D", "from": "2024-01-01"}),
        register_covers=({"board": "QU9", "to": "2024-02-01"}, {"board": "S0E4D", "from": "2024-02-01"}),
    )  # fmt: skip
    for read in (read_regimes, stated_coverage):
        with pytest.raises(InputError) as error:
            read(config, older)
        assert "because QU9 and S0E4D have the same areas" in error.value.message
        assert "leave out one of QU9 and S0E4D" in error.value.remedy
        assert {"QU9", "S0E4D"} <= {item.board for item in read(config, SHOWN)}
    apart = replace(
        config, approval_regimes=(config.approval_regimes[0], {**config.approval_regimes[1], "from": "2024-02-01"})
    )
    found = [(item.board, item.since, item.until) for item in read_regimes(apart, older) if item.board != "QJ2"]
    assert found == [("QU9", None, date(2024, 2, 1)), ("QU9", date(2024, 2, 1), None)]


def test_before_and_after_a_regime() -> None:
    change = RegimeChange("QJ2", "P", date(2024, 3, 18), "prior_approval", "none")

    def count(day: date, rows: int, flagged: bool = True, board: str = "QJ2") -> dict[str, Any]:
        return {"policy_id": "P", "board": board, "operation_date": day, "flagged": flagged, "rows": rows}

    counts = [
        count(date(2024, 1, 31), 2), count(date(2024, 1, 31), 3, flagged=False), count(date(2024, 3, 17), 1),
        count(date(2024, 3, 18), 1), count(date(2024, 4, 1), 4), count(date(2024, 4, 2), 9, board="QOQ"),
    ]  # fmt: skip
    data = {date(2023, 12, 30), date(2024, 2, 10), date(2024, 4, 10)}
    rows = before_and_after(counts, [change], data)
    shown = [(r["grain"], r["period_start"], r["side"], r["days"], r["operations"], r["flagged"]) for r in rows]
    assert shown == [
        ("month", date(2023, 12, 1), "before", 2, 0, 0), ("month", date(2024, 1, 1), "before", 31, 5, 2),
        ("month", date(2024, 2, 1), "before", 29, 0, 0), ("month", date(2024, 3, 1), "during", 31, 2, 2),
        ("month", date(2024, 4, 1), "after", 10, 4, 4), ("quarter", date(2023, 10, 1), "before", 2, 0, 0),
        ("quarter", date(2024, 1, 1), "during", 91, 7, 4), ("quarter", date(2024, 4, 1), "after", 10, 4, 4),
    ]  # fmt: skip
    assert {(row["regime_before"], row["regime_after"], row["changed_on"]) for row in rows} == {
        ("prior_approval", "none", date(2024, 3, 18))
    }
    january = rows[1]
    limits = [january[f"{of}_{side}"] for of in ("operations", "flagged") for side in ("lower", "upper")]
    assert limits == pytest.approx([1.623, 11.668, 0.242, 7.225], abs=5e-4), "Garwood's limits of 5 and of 2"
    first_day = replace(change, on=date(2024, 4, 1))
    assert [r["side"] for r in before_and_after(counts, [first_day], data) if r["grain"] == "month"][3:] == [
        "before",
        "after",
    ]
    # A year that the lake does not have is no time without operations.
    gap = before_and_after(counts, [change], {date(2020, 5, 1), date(2020, 5, 2), date(2024, 4, 10)})
    assert [r["period_start"] for r in gap if r["grain"] == "month"][-2:] == [date(2021, 3, 1), date(2024, 4, 1)]
    assert before_and_after([], [change], set()) == []
    # Without any operation, the periods that the data cover have zeros.
    assert [(r["operations"], r["flagged"]) for r in before_and_after([], [change], data)] == [(0, 0)] * 8


def test_exact_limits_of_a_count() -> None:
    """Against a printed table (Garwood's limits, as in OHID's technical guide)."""
    for number, lower, upper in ((0, 0.0, 3.689), (1, 0.025, 5.572), (5, 1.623, 11.668), (9, 4.115, 17.085)):
        assert exact_poisson(number) == pytest.approx((lower, upper), abs=5e-4)


def counted(board: str | None, approved: int, seen: int, **more: Any) -> dict[str, Any]:
    return {
        "board": board, "entries": approved, "absent": approved - seen, "approved": approved, "approved_in_silver": seen,
        "first": date(2023, 1, 1), "last": date(2024, 3, 1), **more,
    }  # fmt: skip


def test_entries_are_counted_by_board() -> None:
    early, late = date(2023, 1, 1), date(2024, 3, 1)
    counts = [
        ("QJ2", "approved", True, early, date(2023, 1, 9), 2), ("QJ2", "approved", False, date(2023, 5, 1), late, 1),
        ("QJ2", "declined", False, None, date(2023, 6, 1), 1), (None, "pending", True, date(2023, 7, 1), None, 3),
        ("QOQ", "withdrawn", True, None, None, 1),
    ]  # fmt: skip
    found = entries_by_board([dict(zip((*COUNTED_BY, "rows"), row, strict=True)) for row in counts])
    assert {tuple(row.values()) for row in found} == {
        ("QJ2", 4, 2, 3, 2, early, late), (None, 3, 0, 0, 0, date(2023, 7, 1), date(2023, 7, 1)), ("QOQ", 1, 0, 0, 0, None, None),
    }  # fmt: skip
    assert list(found[0]) == list(counted("QJ2", 1, 1))


def test_what_registers_cover_and_whether_they_can_be_linked() -> None:
    boards = [counted("QJ2", 10, 5), counted("QOQ", 10, 4), counted("QK1", 0, 0)]
    found = register_coverage(boards, [], 0.5, None)
    assert [(row["board"], row["linkable"]) for row in found] == [("QJ2", True), ("QOQ", False), ("QK1", True)]
    assert {(row["covered_from"], row["covered_to"]) for row in found} == {(date(2023, 1, 1), date(2024, 3, 1))}
    stated = register_coverage(boards, [Coverage("QOQ", None, date(2024, 1, 1))], 0.5, "hes")
    assert stated == [
        {
            "board": "QOQ",
            "covered_from": None,
            "covered_to": date(2024, 1, 1),
            "linkable": False,
            "person_system": "hes",
        }
    ]
    # Entries without a board count for every board.
    assert [r["linkable"] for r in register_coverage([*boards, counted(None, 10, 10)], [], 0.5, None)] == [
        True,
        True,
        True,
    ]
    lines = register_warnings(
        boards, found, [{"reasons": ["no_person", "no_key"], "rows": 2}, {"reasons": ["no_key"], "rows": 1}],
        stated=False, linkable_share=0.5,
    )  # fmt: skip
    assert lines[0].startswith("register_not_linkable: only 40% of the approved entries of QOQ")
    assert "QJ2 2023-01-01 to 2024-03-01" in lines[1]
    assert lines[2] == "11 of 20 entries of the registers have a person that is not in silver"
    assert "3 rows of the registers are quarantined (no_key 3, no_person 2)" in lines[3]
    assert register_warnings([counted("QJ2", 4, 4)], stated, [], stated=True, linkable_share=0.5)[0].startswith(
        "register_not"
    )
    assert "name no board" in register_warnings([counted(None, 4, 4)], [], [], stated=False, linkable_share=0.5)[0]


def test_a_changed_register_makes_monitoring_due_and_no_ingest(tmp_path: Path) -> None:
    for name in ("apcs.csv", "der.csv", "register.csv"):
        (tmp_path / name).write_text("a\n", encoding="utf-8")
    config, lake = configured(tmp_path, YAML), _NoLake()
    before = {stage: stage_inputs(stage, config, lake, "r") for stage in ("ingest", "flag", "monitor")}  # type: ignore[arg-type]
    assert not any(key.endswith("register.csv") for key in (*before["ingest"], *before["flag"]))
    (tmp_path / "register.csv").write_text("another\n", encoding="utf-8")
    reasons = {stage: differences(before[stage], stage_inputs(stage, config, lake, "r")) for stage in before}  # type: ignore[arg-type]
    assert reasons["ingest"] == reasons["flag"] == []
    assert len(reasons["monitor"]) == 1 and "register.csv" in reasons["monitor"][0]
    (tmp_path / "apcs.csv").write_text("another\n", encoding="utf-8")
    assert differences(before["ingest"], stage_inputs("ingest", config, lake, "r")) != []  # type: ignore[arg-type]
    for changed in (
        {"linkable_share": 0.1},
        {"register_covers": ()},
        {"approval_regimes": ()},
        {"unused_after_days": 1},
    ):
        other = replace(config, **changed)
        assert stage_inputs("monitor", other, lake, "r") != stage_inputs("monitor", config, lake, "r")  # type: ignore[arg-type]
        assert stage_inputs("rate", other, lake, "r") == stage_inputs("rate", config, lake, "r")  # type: ignore[arg-type]


def test_a_register_is_checked_before_a_run(tmp_path: Path) -> None:
    write(tmp_path / "apcs.csv", [spell("1")], APCS)
    write(tmp_path / "der.csv", [derived("1")], DER)
    text = YAML.replace("{path: register.csv, columns: {approval_id: Ref}}", "register.csv")
    header = "approval_id,person_id,policy_id,route,decision,decision_date"
    (tmp_path / "register.csv").write_text(header + "\n", encoding="utf-8")
    found = {finding.check: finding for finding in check_before_start(configured(tmp_path, text), "check")}
    assert found["sources.derby.prior_approval"].result == "ok"
    assert found["approvals"].found == "regimes of QJ2, QOQ; registers cover QJ2"
    (tmp_path / "register.csv").write_text(header.replace("decision,", "") + "\n", encoding="utf-8")
    for job, result in (("monitor", ["refused"]), ("ingest", [])):
        findings = check_before_start(configured(tmp_path, text), job)
        assert [f.result for f in findings if f.check == "sources.derby.prior_approval"] == result
    (finding,) = [f for f in check_before_start(configured(tmp_path, text), "check") if f.result == "refused"]
    assert "the column DECISION is missing" in finding.found and "columns: {decision: …}" in finding.remedy


# A lake of seven operations at Derby and one elsewhere, with the class that each must have.
OPERATIONS: dict[str, tuple[str | None, str, str, str]] = {  # record → person, day, area, class
    "approved": ("1", "2024-02-01", "15M", "approved_in_time"),
    "late": ("2", "2024-02-01", "15M", "approved_late"),
    "none": ("3", "2024-03-17", "15M", "none_on_record"),
    "no longer needed": ("4", "2024-03-18", "15M", "not_required"),
    "nobody": (None, "2024-02-01", "15M", "cannot_link"),
    "before the register": ("5", "2022-05-01", "15M", "cannot_link"),
    "elsewhere": ("6", "2024-02-01", "02P", "cannot_link"),
}
OF_DERBY = """approval_id,person_id,policy_id,route,requested_on,decision,decided_on,board
A1,1,2Y_back_pain_fusion,ifr,2024-01-02,approved,2024-01-10,QJ2
A2,2,2Y_back_pain_fusion,prior_approval,2024-01-02,approved,2024-02-10,QJ2
A3,7,2Y_back_pain_fusion,prior_approval,2023-01-02,approved,2023-01-10,QJ2
A4,99,2Y_back_pain_fusion,prior_approval,2024-01-02,declined,2024-01-10,QJ2
A5,3,2S_lower_back_imaging,prior_approval,2023-01-02,approved,2023-01-10,QJ2
A6,3,2Z_nothing,prior_approval,2024-01-02,approved,2024-01-10,QJ2
"""


def lay_out_lake(lake: Lake) -> None:
    policy, reading = "2Y_back_pain_fusion", "as_published"
    flags, spells = [], []
    for record, (person, day, area, _) in OPERATIONS.items():
        at = date.fromisoformat(day)
        key = {"source_system": "sus_plus", "dataset": "apc", "record_id": record, "person_id": person,
               "financial_year": "2023-24" if at > date(2023, 4, 1) else "2022-23"}  # fmt: skip
        flags.append(
            key | {"policy_id": policy, "revision": "r", "reading": reading, "activity_date": at, "area_code": area,
                   "area_date": at, "outcome": "not_flagged" if record == "late" else "flagged"}
        )  # fmt: skip
        spells.append(
            key | {"admission_date": at, "discharge_date": at, "activity_date": at, "admission_method": "11",
                   "procedure_codes": ",V382,",
                   # A date of another year cannot be that of the operation: the day of admission counts.
                   "procedure_date": date(2014, 3, 17) if record == "none" else at if record == "late" else None}
        )  # fmt: skip
    # A patient from outside England is in no figure, and makes no approval ambiguous.
    flags.append(flags[0] | {"record_id": "in Wales", "area_code": None, "area_basis": "outside_england"})
    spells.append(spells[0] | {"record_id": "in Wales"})
    attendance = {
        "source_system": "sus_plus",
        "dataset": "op",
        "record_id": "x",
        "person_id": "7",
        "financial_year": "2023-24",
    }
    described = {"policy_id": policy, "revision": "r", "reading": reading, "is_default_reading": True, "dataset": "apc"}
    for table, rows in (
        (ACTIVITY_FLAG, flags), (APC_SPELL, spells), (OP_ATTENDANCE, [attendance]), (POLICY, [described]),
    ):  # fmt: skip
        lake.replace(table, small_frame(lake.spark, rows, table.schema), {}, stage="flag")


def test_the_stage_over_a_small_lake(
    spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(spark, LakeLocation(folder=empty_lake(tmp_path / "lake")), "r1")
    lay_out_lake(lake)
    (tmp_path / "derby.csv").write_text(OF_DERBY, encoding="utf-8")
    covers = {"board": "QJ2", "from": "2022-06-01", "to": "2024-03-31"}
    config = replace(registers(tmp_path / "derby.csv"), lake=lake.location, register_covers=(covers,))
    summary = Monitor(RunContext(config, lake, "r1")).run()
    key = ["record_id", "match_class", "reason", "regime", "approval_ids", "operation_date", "operation_date_basis"]
    found = {row["record_id"]: row for row in lake.small_rows(APPROVAL_MATCH, key)}
    assert {record: row["match_class"] for record, row in found.items()} == {
        record: expected for record, (*_, expected) in OPERATIONS.items()
    }
    assert [found[record]["reason"] for record in ("nobody", "before the register", "elsewhere")] == [
        "no_person", "register_does_not_cover", "register_does_not_cover",
    ]  # fmt: skip
    assert {record: str(row["operation_date"]) for record, row in found.items()} == {
        record: day for record, (_, day, *_) in OPERATIONS.items()
    }
    assert {record for record, row in found.items() if row["operation_date_basis"] == "procedure_date"} == {"late"}
    assert {row["operation_date_basis"] for row in found.values()} == {"procedure_date", "admission_date"}
    assert (found["late"]["approval_ids"], found["no longer needed"]["regime"]) == (["A2"], "none")
    entries = {row["approval_id"]: row for row in lake.small_rows(PRIOR_APPROVAL, ["approval_id", "person_in_silver"])}
    assert {name: row["person_in_silver"] for name, row in entries.items()} == {
        "A1": True, "A2": True, "A3": True, "A4": False, "A5": True,
    }  # fmt: skip
    assert lake.small_rows(PRIOR_APPROVAL_QUARANTINE, ["approval_id", "reasons"]) == [
        {"approval_id": "A6", "reasons": ["unknown_policy"]}
    ]
    # A5 is for imaging, which is not looked for here; the data end on 18 March 2024.
    assert lake.small_rows(APPROVAL_UNUSED, ["approval_id", "days_waited"]) == [
        {"approval_id": "A3", "days_waited": 433}
    ]
    around = {
        row["period_start"]: (row["side"], row["operations"], row["flagged"])
        for row in lake.small_rows(
            REGIME_CHANGE, ["policy_id", "grain", "period_start", "side", "operations", "flagged"]
        )
        if row["grain"] == "month"
    }
    assert around[date(2024, 2, 1)] == ("before", 3, 2) and around[date(2024, 3, 1)] == ("during", 2, 2)
    assert summary.approvals == {
        "cannot_link": 3, "not_required": 1, "approved_in_time": 1, "approved_late": 1, "none_on_record": 1,
    }  # fmt: skip
    assert [line.split(" ")[0] for line in summary.warnings if "regist" in line or "approv" in line] == ["1", "1"]

    # From here on without the parts of the stage that read no register.
    for part in ("_pathways", "_changes"):
        monkeypatch.setattr(Monitor, part, lambda *_: None)
    # Another pseudonym: nobody is accused.
    (tmp_path / "derby.csv").write_text(re.sub(r",(\d),2Y", r",x\1,2Y", OF_DERBY), encoding="utf-8")
    summary = Monitor(RunContext(replace(config, approval_regimes=()), lake, "r2")).run()
    assert summary.approvals == {"cannot_link": 7}
    assert "register_not_linkable: only 25% of the approved entries of QJ2" in summary.warnings[0]
    assert lake.small_rows(APPROVAL_UNUSED, ["approval_id"]) == []

    # Without a register what boards ask for is shown all the same, and nothing of the old register is left.
    summary = Monitor(RunContext(replace(config, sources=()), lake, "r3")).run()
    assert summary.approvals == {} and not any("regist" in line or "approv" in line for line in summary.warnings)
    assert {row["match_class"] for row in lake.small_rows(APPROVAL_MATCH, ["match_class"])} == {"cannot_link"}
    assert lake.small_rows(PRIOR_APPROVAL, ["approval_id"]) == lake.small_rows(PRIOR_APPROVAL_QUARANTINE, ["raw"]) == []
    assert len(lake.small_rows(REGIME_CHANGE, ["grain"])) > 0
