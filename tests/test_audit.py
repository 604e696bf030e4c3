"""A case-note audit from end to end: draw, fill by a known truth, import with bad forms among them, estimate."""

import csv
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from calling import answer_of, delta_rows

from ebi_spark.flags.policy_table import policy_rows
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.load import load_policies
from ebi_spark.small_frames import small_frame
from ebi_spark.synthetic import case_notes
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY
from ebi_spark.tables.monitoring_audit import AUDIT_RESULT
from ebi_spark.tables.silver import APC_SPELL
from jobs import audit

pytestmark = pytest.mark.usefixtures("one_session")

POLICY_FILE = """
id: audited
title: A policy to be audited
dataset: apc
source: {publisher: A publisher, page: A page}
default_reading: as_published
revisions:
  - revision: 2018-04
    in_force: {from: 2018-04-01}
    clauses:
      - id: procedure
        scope: true
        words: The dominant procedure is V38.2
        require: {field: dominant_procedure, starts_with: ["V382"]}
      - id: diagnosis
        words: The primary diagnosis is M54.5
        require: {field: primary_diagnosis, starts_with: ["M545"]}
      - id: deformity
        words: Not with a deformity
        exclude: {field: any_diagnosis, contains: ["M400"]}
    readings:
      as_intended:
        decisions:
          - {id: unknown_kept, clause: deformity, missing: passes, because: A test.}
      guidance_coded:
        extends: as_intended
        decisions:
          - id: viscera
            because: A test.
            add: {id: viscera, words: Diseases of the viscera, coding: not_codable}
"""
SEED, SIZE, SHARE = 1, 90, 0.5
# By record: what the notes would say of the policy as a whole. Half of the flags at RYY are wrong.
Record = dict[str, Any]


def made_up() -> list[Record]:
    """120 records at three providers, of every stratum."""
    kinds = ["flagged", "readings_disagree", "near_miss:diagnosis", "near_miss:deformity", "rest"]
    records = []
    for number in range(120):
        provider = (None, "RXX", "RYY")[min(2, number % 5)]
        stratum = kinds[0] if number % 2 else kinds[1 + (number // 2) % 4]
        records.append(
            {
                "record_id": str(1000 + number), "provider": provider, "stratum": stratum,
                "true": (number % 3 > 0 if provider != "RYY" else number % 4 > 1) if stratum == "flagged" else number % 16 == 0,
            }
        )  # fmt: skip
    return records


RECORDS = made_up()
BY_ID = {record["record_id"]: record for record in RECORDS}


@pytest.fixture(scope="module")
def lake(spark: Any, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "policies").mkdir()
    (folder / "policies" / "audited.yml").write_text(POLICY_FILE)
    policies = load_policies([folder / "policies"], ["audited"])
    from ebi_spark.config.lake_location import LakeLocation

    path = empty_lake(folder / "lake")
    made = Lake(spark, LakeLocation(folder=path), "test")
    made.replace(POLICY, policy_rows(policies, "test"), {}, stage="test")
    spells, flags = [], []
    for number, record in enumerate(RECORDS):
        discharged = date(2021, 6, 1) + timedelta(days=number)
        key = {
            "source_system": "sus_plus",
            "dataset": "apc",
            "record_id": record["record_id"],
            "financial_year": "2021-22",
        }
        spells.append(
            key | {"provider_code": record["provider"], "admission_date": discharged - timedelta(days=2),
                   "discharge_date": discharged, "activity_date": discharged, "provider_spell_number": f"SP{number}"}
        )  # fmt: skip
        stratum = record["stratum"]
        failed = {
            "flagged": [], "readings_disagree": ["deformity"], "near_miss:diagnosis": ["diagnosis"],
            "near_miss:deformity": ["deformity"], "rest": ["diagnosis", "deformity"],
        }[stratum]  # fmt: skip
        for reading in policies[0].revisions[0].readings.values():
            kept = reading.reading != "as_published" and stratum == "readings_disagree"
            own = [] if kept else failed
            flags.append(
                key | {"policy_id": "audited", "revision": "2018-04", "reading": reading.reading,
                       "policy_fingerprint": reading.fingerprint, "provider_code": record["provider"],
                       "activity_date": discharged, "outcome": "not_flagged" if own else "flagged", "failed_clauses": own,
                       "missing_clauses": [], "near_miss": len(own) == 1}
            )  # fmt: skip
        # A record of another year is not in the frame.
        if number == 0:
            flags.append(flags[-1] | {"record_id": "5000", "financial_year": "2019-20", "reading": "as_published"})
    made.replace(APC_SPELL, small_frame(spark, spells, APC_SPELL.schema), {}, stage="test")
    made.replace(ACTIVITY_FLAG, small_frame(spark, flags, ACTIVITY_FLAG.schema), {}, stage="test")
    return path


def draw(lake: Path, out: Path, *options: str) -> dict[str, Any]:
    common = ["draw", "--lake", str(lake), "--policy", "audited", "--years", "2021-22", "--out", str(out)]
    return answer_of(audit.main, *common, *options)


@pytest.fixture(scope="module")
def drawn(lake: Path) -> dict[str, Any]:
    answer = draw(lake, lake.parent / "files", "--size", str(SIZE), "--seed", str(SEED), "--double-share", str(SHARE))
    assert answer["exit"] == 0, answer["error"]
    found: dict[str, Any] = answer["audit"]
    return found


def rows_of(lake: Path, table: str, columns: str, order: str) -> list[tuple[Any, ...]]:
    return delta_rows(lake / "gold" / table, columns, order=order)


def test_the_sample_is_the_first_by_hash_in_every_stratum_and_provider(lake: Path, drawn: dict[str, Any]) -> None:
    fingerprint = (
        load_policies([lake.parent / "policies"], ["audited"])[0].revisions[0].readings["as_published"].fingerprint
    )

    def place(record: Record, purpose: str) -> str:
        text = f"{SEED}|{purpose}|{fingerprint}|sus_plus|apc|{record['record_id']}"
        return hashlib.sha256(text.encode()).hexdigest()

    cells: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in RECORDS:
        cells[record["stratum"], record["provider"] or "unknown"].append(record)
    columns = (
        "record_id, stratum, provider_code, records_in_stratum, records_drawn, probability, draw_order, read_twice"
    )
    found = rows_of(lake, "audit_sample", columns, "record_id")
    assert len(found) == drawn["drawn"] == SIZE
    assert {row[1:3] for row in found} == set(cells)
    of_stratum: dict[str, list[Record]] = defaultdict(list)
    for record_id, stratum, provider, records, number, probability, order, _ in found:
        cell = sorted(cells[stratum, provider], key=lambda record: place(record, "draw"))
        assert (records, probability) == (len(cell), number / records)
        assert number >= min(2, records)
        assert cell[order - 1]["record_id"] == record_id and order <= number
        of_stratum[stratum].append(BY_ID[record_id])
    wanted = {
        record["record_id"]
        for records in of_stratum.values()
        for record in sorted(records, key=lambda record: place(record, "read twice"))[: math.ceil(SHARE * len(records))]
    }
    assert {row[0] for row in found if row[-1]} == wanted
    assert {name: number for name, number, _ in drawn["strata"]} == Counter(r["stratum"] for r in RECORDS)


def test_the_same_draw_gives_the_same_sample_again(lake: Path, drawn: dict[str, Any]) -> None:
    columns = "* EXCLUDE (drawn_at, run_id)"
    before = rows_of(lake, "audit_sample", columns, "audit_id, record_id")
    options = ["--size", str(SIZE), "--double-share", str(SHARE)]
    again = draw(lake, lake.parent / "again", *options, "--seed", str(SEED))
    assert again["audit"]["audit_id"] == drawn["audit_id"]
    assert rows_of(lake, "audit_sample", columns, "audit_id, record_id") == before
    for name in ("RXX/forms.csv", "RXX/worklist.csv", "unknown/forms.html"):
        assert (lake.parent / "again" / name).read_bytes() == (lake.parent / "files" / name).read_bytes()


REFUSED = {
    "a size that is too small": (["--size", "10"], "smallest size that can be met is 30"),
    "a cap that is too small": (["--size", "60", "--cap", "4"], "smallest cap that can be met is 10"),
    "an unknown reading": (["--size", "60", "--reading", "as_meant"], "as_intended"),
    "a share above 1": (["--size", "60", "--double-share", "2"], "share"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_draws_that_are_refused(case: str, lake: Path) -> None:
    options, words = REFUSED[case]
    answer = draw(lake, lake.parent / "refused", *options)
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    assert words in f"{answer['error']['message']} {answer['error']['remedy']}"
    assert not (lake.parent / "refused").exists()


def answers_for(record: Record, clause: str, number: int) -> tuple[str, str, str]:
    """The truth, read by two people who differ now and then, and decided for the truth."""
    truth = {
        "notes_found": True,
        "procedure": True,
        "diagnosis": True,
        "deformity": not record["true"],
        "viscera": False,
    }
    first = "yes" if truth.get(clause, record["true"]) else "no"
    if not record["twice"]:
        return first, "", ""
    if clause == "verdict" and number % 6 == 0:
        other = "no" if first == "yes" else "yes"
        return (other, first, first) if number % 12 else (first, other, first)
    return first, first, ""


@pytest.fixture(scope="module")
def returned(lake: Path, drawn: dict[str, Any]) -> dict[str, Any]:
    """All forms filled but one that was not returned and one without notes; others spoilt, each in its way."""
    forms: dict[str, list[dict[str, str]]] = defaultdict(list)
    for path in sorted((lake.parent / "files").glob("*/forms.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                forms[row["record_id"]].append(row)
    ids = sorted(forms)
    spare = [name for name in ids if BY_ID[name]["stratum"] == "flagged"]
    for number, name in enumerate(ids):
        record = BY_ID[name] | {"twice": forms[name][0]["readers"] == "2"}
        for row in forms[name]:
            row["first"], row["second"], row["adjudicated"] = answers_for(record, row["clause_id"], number)

    def no_answers(name: str) -> None:
        for row in forms[name]:
            row["first"] = row["second"] = row["adjudicated"] = ""

    no_answers(spare[0])
    no_answers(spare[1])
    forms[spare[1]][0]["first"] = "no"  # the notes were not found
    good = [row for rows in forms.values() for row in rows]
    bad = [row.copy() for row in forms[spare[2]]]
    other_key = next(record["record_id"] for record in RECORDS if record["record_id"] not in forms)
    spoilt = {
        "never_drawn": [row | {"record_id": other_key} for row in bad],
        "unknown_record": [row | {"record_id": "31415"} for row in bad],
        "other_policy_version": [row | {"policy_version": "0" * 16, "record_id": spare[0]} for row in bad],
        "filled_twice": [row.copy() for row in forms[spare[3]]],
        "half_filled": [row | {"record_id": spare[0]} for row in bad][:-1],
    }
    files = []
    for name, rows in {"good": good, **spoilt}.items():
        files.append(lake.parent / f"{name}.csv")
        with files[-1].open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(good[0]))
            writer.writeheader()
            writer.writerows(rows)
    return {"files": files, "spoilt": spoilt, "missing": spare[0], "without_notes": spare[1], "twice": spare[3]}


def test_forms_are_taken_or_rejected_with_the_reason(
    lake: Path, drawn: dict[str, Any], returned: dict[str, Any]
) -> None:
    call = ["import", "--lake", str(lake), *map(str, returned["files"])]
    answer = answer_of(audit.main, *call)
    assert (answer["exit"], answer["outcome"]) == (1, "failed")
    # The form that came twice is rejected in both files; two spoilt forms use a key that had no filled form.
    found = Counter((row["file"], row["reason"]) for row in answer["audit"]["rejected"])
    wanted = {(f"{name}.csv", name): 1 for name in returned["spoilt"]} | {("good.csv", "filled_twice"): 1}
    wanted[("half_filled.csv", "half_filled")] = 0
    two_of_one = {("other_policy_version.csv", "other_policy_version"), ("half_filled.csv", "filled_twice")}
    assert set(found) == {key for key, number in wanted.items() if number} | two_of_one
    assert answer["audit"]["empty"] == 1
    assert answer["audit"]["taken"] == SIZE - 2
    assert all(row["words"] for row in answer["audit"]["rejected"])
    # The same call again changes nothing; the form alone is taken then.
    rows = rows_of(lake, "audit_result", "*", "record_id, reader, clause_id")
    again = answer_of(audit.main, *call)
    assert again["audit"]["unchanged"] == again["audit"]["taken"] == SIZE - 2
    assert rows_of(lake, "audit_result", "*", "record_id, reader, clause_id") == rows
    single = answer_of(audit.main, "import", "--lake", str(lake), str(lake.parent / "filled_twice.csv"))
    assert (single["exit"], single["audit"]["taken"]) == (0, 1)
    assert AUDIT_RESULT.full_name in single["tables"]


def test_estimates_from_the_forms(
    lake: Path, drawn: dict[str, Any], returned: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = answer_of(audit.main, "estimate", "--lake", str(lake), "--policy", "audited")
    assert answer["exit"] == 0, answer["error"]
    rows = {(row["measure"], row["part"]): row for row in answer["audit"]["estimates"]}
    sample = rows_of(lake, "audit_sample", "record_id, stratum, probability", "record_id")
    flagged = [(BY_ID[name], 1 / share) for name, stratum, share in sample if stratum == "flagged"]
    read = [(r, w) for r, w in flagged if r["record_id"] not in (returned["missing"], returned["without_notes"])]
    value = sum(w for r, w in read if r["true"]) / sum(w for _, w in read)
    ppv = rows["positive_predictive_value", "overall"]
    assert ppv["estimate"] == pytest.approx(value)
    assert (ppv["not_returned"], ppv["notes_not_found"], ppv["forms"]) == (1, 1, len(read))
    assert ppv["lower"] < value < ppv["upper"] and ppv["worst"] < value < ppv["best"]
    truth = [record["true"] for record in RECORDS if record["stratum"] == "flagged"]
    assert ppv["lower"] <= sum(truth) / len(truth) <= ppv["upper"]
    others = [(BY_ID[name], 1 / share) for name, stratum, share in sample if stratum != "flagged"]
    missed = sum(w for r, w in others if r["true"]) / sum(w for _, w in others)
    assert rows["missed_cases", "overall"]["estimate"] == pytest.approx(missed)
    share = (value * len(truth) + missed * (120 - len(truth))) / 120
    assert rows["corrected_share", "overall"]["estimate"] == pytest.approx(share)
    assert rows["corrected_records", "overall"]["estimate"] == pytest.approx(share * 120)
    every = [(True, *pair) for pair in read] + [(False, *pair) for pair in others]

    def weight(flagged: bool, true: bool) -> float:
        return sum(w for side, r, w in every if (side, r["true"]) == (flagged, true))

    right = weight(True, True) / (weight(True, True) + weight(False, True))
    others_right = weight(False, False) / (weight(True, False) + weight(False, False))
    assert rows["sensitivity", "overall"]["estimate"] == pytest.approx(right)
    check = (len(truth) / 120 + others_right - 1) / (right + others_right - 1)
    assert rows["rogan_gladen", "overall"]["estimate"] == pytest.approx(check)
    assert abs(check - share) > 1e-4
    assert rows["positive_predictive_value", "clause:deformity"]["estimate"] == pytest.approx(value)
    assert rows["positive_predictive_value", "clause:diagnosis"]["estimate"] == 1
    assert ("missed_cases", "reading:as_intended") in rows
    # Originals, not adjudicated answers, make kappa.
    assert 0 < rows["kappa", "overall"]["estimate"] < 1
    assert rows["kappa", "clause:procedure"]["status"] == "undefined"
    stored = rows_of(lake, "audit_estimate", "measure, part, estimate", "measure, part")
    assert sorted((measure, part, row["estimate"]) for (measure, part), row in rows.items()) == stored
    assert audit.main(["estimate", "--lake", str(lake), "--policy", "audited", "--audit", drawn["audit_id"]]) == 0
    shown = capsys.readouterr().out
    assert "positive_predictive_value" in shown and f"{100 * value:.1f}%" in shown
    assert len(rows_of(lake, "audit_estimate", "*", "measure")) == len(rows), "an estimate again replaces its rows"


def test_an_estimate_without_a_sample_is_refused(lake: Path) -> None:
    answer = answer_of(audit.main, "estimate", "--lake", str(lake), "--policy", "unaudited")
    assert (answer["exit"], answer["outcome"]) == (2, "refused")


def test_an_audit_by_made_up_forms_finds_the_truth_that_they_were_made_from(lake: Path) -> None:
    """The example of docs/monitoring-audit.md: draw, fill by a known truth, import, estimate."""
    folder = lake.parent / "made up"
    drawn = draw(lake, folder, "--size", "100", "--seed", "20260401", "--double-share", "0.4")["audit"]
    sample = [row for row in rows_of(lake, "audit_sample", "audit_id, record_id, stratum, probability, clauses", "record_id")
              if row[0] == drawn["audit_id"]]  # fmt: skip
    strata = {record: stratum for _, record, stratum, *_ in sample}
    clauses = dict(sample[0][4])
    filled = case_notes.fill_forms(folder.glob("*/forms.csv"), strata, clauses, lake.parent / "filled")
    files = sorted((lake.parent / "filled").glob("*.csv"))
    assert {path.stem for path in files} == {"RXX", "RYY", "unknown"}
    answer = answer_of(audit.main, "import", "--lake", str(lake), *map(str, files))
    assert (answer["exit"], answer["audit"]["taken"], answer["audit"]["rejected"]) == (0, filled, [])
    assert answer["audit"]["empty"] == len(sample) - filled > 0
    call = ["estimate", "--lake", str(lake), "--policy", "audited", "--audit", drawn["audit_id"]]
    rows = {(row["measure"], row["part"]): row for row in answer_of(audit.main, *call)["audit"]["estimates"]}
    for measure, flagged in (("positive_predictive_value", True), ("missed_cases", False)):
        row = rows[measure, "overall"]
        truth = [
            case_notes.confirmed(record["record_id"], record["stratum"])
            for record in RECORDS
            if (record["stratum"] == "flagged") is flagged
        ]
        assert row["lower"] <= sum(truth) / len(truth) <= row["upper"], measure
        own = [(name, stratum, 1 / share) for _, name, stratum, share, _ in sample if (stratum == "flagged") is flagged]
        back = [item for item in own if case_notes.returned(item[0])]
        read = [item for item in back if case_notes.notes_found(item[0])]
        assert (row["not_returned"], row["notes_not_found"]) == (len(own) - len(back), len(back) - len(read))
        if flagged:
            yes = sum(weight for name, stratum, weight in read if case_notes.confirmed(name, stratum))
            assert row["estimate"] == pytest.approx(yes / sum(weight for *_, weight in read))
    assert 0.5 < rows["kappa", "overall"]["estimate"] < 1
