"""The forms of an audit: what they ask, the files of a draw, and which returned forms are taken."""

import csv
import html
import json
import re
import stat
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from calling import answer_of
from deltalake import write_deltalake

from ebi_spark.case_audit.forms import FORM_COLUMNS, refuse_folder, write_files
from ebi_spark.case_audit.questions import NOTES_FOUND, VERDICT, form_texts
from ebi_spark.case_audit.returns import REASONS, Key, read_forms, validate
from ebi_spark.errors import InputError
from ebi_spark.policies.load import load_policies
from ebi_spark.synthetic import case_notes
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY
from ebi_spark.tables.monitoring_audit import AUDIT_SAMPLE
from ebi_spark.tables.silver import APC_SPELL
from ebi_spark.tables.table import RECORD_KEY
from jobs import audit

AUDIT, VERSION = "2Y_back_pain_fusion-1-0123456789", "aaaaaaaaaaaaaaaa"


def policy_of(name: str) -> list[dict[str, Any]]:
    """As rows of gold/policy have it."""
    (policy,) = load_policies(only=[name])
    return [
        {"policy_id": policy.id, "revision": revision.name, "reading": reading.reading, "title": policy.title,
         "publisher": policy.source["publisher"], "source": policy.source["page"],
         "definition": json.dumps(reading.definition)}
        for revision in policy.revisions for reading in revision.readings.values()
    ]  # fmt: skip


TEXT = form_texts(policy_of("2Y_back_pain_fusion"), "as_published")["2022-08"]


def test_a_form_asks_for_every_clause_in_the_words_of_the_policy() -> None:
    ids = [question.id for question in TEXT.questions]
    assert (ids[0], ids[1], ids[-1]) == (NOTES_FOUND, "procedure", VERDICT)
    assert len({(q.kind, q.words, q.asked) for q in TEXT.questions}) == len(ids), "no question is asked twice"
    assert {"deformity", "global_cancer", "inflammatory", "viscera"} <= set(ids), "also clauses of other readings only"
    words = {question.id: question.words for question in TEXT.questions}
    assert words["primary_diagnosis"] == "The diagnosis code in primary position is: M54.5 OR M54.9"
    assert {TEXT.clauses[name] for name in ("procedure", "primary_diagnosis", "deformity", "viscera")} == {
        "scope", "require", "exclude", "note",
    }  # fmt: skip


def test_a_form_leaves_out_what_another_clause_asks_and_what_no_record_can_answer() -> None:
    text = next(iter(form_texts(policy_of("CMICB_Clin087"), "as_published").values()))
    assert not {"low_back_pain_only", "urgent"} & set(text.clauses)
    assert "technology_appraisal" in text.clauses


def drawn(number: int, provider: str = "RXX", twice: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "source_system": "sus_plus", "dataset": "apc", "record_id": f"0{number}", "provider_code": provider,
        "revision": "2022-08", "policy_fingerprint": VERSION, "read_twice": twice, "admission_date": date(2022, 8, 3),
        "discharge_date": date(2022, 8, 5), "provider_spell_number": f"SP{number}", "stratum": "flagged",
    } | more  # fmt: skip


ROWS = [drawn(1), drawn(2, twice=True), drawn(3), drawn(4), drawn(5), drawn(6, provider="RYY")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_files(tmp_path / "audit", ROWS, {"2022-08": TEXT}, AUDIT)
    return tmp_path / "audit"


def test_the_files_of_a_draw_are_restricted_and_say_nothing_of_the_flags(out: Path) -> None:
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [f"{p}/{name}" for p in ("RXX", "RYY") for name in ("forms.csv", "forms.html", "worklist.csv")]
    for path in (out, *out.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
        if path.is_file():
            assert not re.search("flagged|stratum|near.miss", path.read_text(encoding="utf-8")), path
    with (out / "RYY" / "worklist.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"source_system": "sus_plus", "dataset": "apc", "record_id": "06", "provider_code": "RYY",
             "provider_spell_number": "SP6", "admission_date": "2022-08-03", "discharge_date": "2022-08-05", "readers": "1"}
        ]  # fmt: skip


def test_the_page_to_print_has_a_form_for_each_record_and_reader(out: Path) -> None:
    page = (out / "RXX" / "forms.html").read_text(encoding="utf-8")
    assert page.count('<section class="form"') == 6, "five records, one of them read twice"
    assert page.startswith("<!DOCTYPE html>") and 'lang="en-GB"' in page
    for question in TEXT.questions:
        assert str(html.escape(question.words, quote=False)).replace('"', "&#34;")[:20] in page
    assert not re.search(r"<script|src=|href=", page), "the page loads nothing"


def test_names_from_records_do_no_harm(tmp_path: Path) -> None:
    hostile = [
        drawn(1, provider="../../x", provider_spell_number="=cmd()"),
        drawn(2, provider="<b>", record_id="<i>9</i>"),
    ]
    folders = write_files(tmp_path / "audit", hostile, {"2022-08": TEXT}, AUDIT)
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == folders
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in folders)
    texts = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.csv"))
    assert "'=cmd()" in texts
    page = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html"))
    assert "<i>9</i>" not in page and "&lt;i&gt;9" in page


def test_files_are_not_written_where_something_is_or_where_others_read(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for name in ("published/rate", "docs", "gold"):
        (lake / name).mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "link").symlink_to(lake / "published")
    for place in (tmp_path / "full", lake / "published" / "audit", lake / "docs" / "a", tmp_path / "link" / "a"):
        with pytest.raises(InputError) as refused:
            refuse_folder(place, lake)
        assert "--out" in refused.value.message and refused.value.remedy
    refuse_folder(lake / "gold" / "audit", lake)
    refuse_folder(tmp_path / "new", lake)


# Returned forms: each case changes the forms of one record, and says what becomes of it.

Rows = list[dict[str, str]]
SAMPLE: dict[Key, dict[str, Any]] = {
    (AUDIT, *(row[name] for name in RECORD_KEY)): {
        "policy_fingerprint": VERSION, "clauses": TEXT.clauses, "read_twice": row["read_twice"],
    }
    for row in ROWS
}  # fmt: skip
NOT_DRAWN = (AUDIT, "sus_plus", "apc", "77")


def filled(out: Path, record: str, answer: Callable[[str], tuple[str, str, str]]) -> Rows:
    """The rows of one record's form, filled."""
    with next(out.glob("*/forms.csv")).open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["record_id"] == record]
    for row in rows:
        row["first"], row["second"], row["adjudicated"] = answer(row["clause_id"])
    return rows


def once(clause: str) -> tuple[str, str, str]:
    return ("Yes" if clause in (NOTES_FOUND, "procedure", VERDICT) else "no", "", "")


def twice(clause: str) -> tuple[str, str, str]:
    first = once(clause)[0]
    return (first, "No", "cannot tell") if clause == VERDICT else (first, first, "")


def not_found(clause: str) -> tuple[str, str, str]:
    return ("no" if clause == NOTES_FOUND else "", "", "")


def changed(rows: Rows, clause: str, **cells: str) -> Rows:
    return [row | cells if row["clause_id"] == clause else row for row in rows]


def written(path: Path, rows: Rows, **options: Any) -> Path:
    with path.open("w", encoding=options.pop("encoding", "utf-8"), newline="") as file:
        writer = csv.DictWriter(file, FORM_COLUMNS, **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


# Case: (what changes in the forms, how many are taken, the reasons of the others).
CASES: dict[str, tuple[Callable[[Path], Rows], int, list[str]]] = {
    "as it should be": (lambda out: filled(out, "01", once), 1, []),
    "not filled": (lambda out: filled(out, "01", lambda _: ("", "", "")), 0, []),
    "that says that the notes were not found": (lambda out: filled(out, "01", not_found), 1, []),
    "of a record that is read twice, with the difference adjudicated": (lambda out: filled(out, "02", twice), 1, []),
    "of a record that no policy has in scope": (
        lambda out: [row | {"record_id": "999"} for row in filled(out, "01", once)], 0, ["unknown_record"]),
    "whose key a spreadsheet has rounded": (
        lambda out: [row | {"record_id": "1.23E+17"} for row in filled(out, "01", once)], 0, ["unknown_record"]),
    "of a record that was never drawn": (
        lambda out: [row | {"record_id": "77"} for row in filled(out, "01", once)], 0, ["never_drawn"]),
    "of an audit that the lake does not have": (
        lambda out: [row | {"audit_id": "x"} for row in filled(out, "01", once)], 0, ["unknown_audit"]),
    "filled twice": (
        lambda out: filled(out, "01", once) + filled(out, "03", once) + filled(out, "01", once), 1, ["filled_twice"] * 2),
    "with a question left empty": (
        lambda out: changed(filled(out, "01", once), "deformity", first=""), 0, ["half_filled"]),
    "with a line deleted": (lambda out: filled(out, "01", once)[:-1], 0, ["half_filled"]),
    "of a record that is read twice, with one reader only": (
        lambda out: filled(out, "02", once), 0, ["half_filled"]),
    "of another version of the policy": (
        lambda out: [row | {"policy_version": "b" * 16} for row in filled(out, "01", once)], 0, ["other_policy_version"]),
    "with a clause that the policy does not have": (
        lambda out: changed(filled(out, "01", once), "deformity", clause_id="deformty"), 0, ["unknown_clause"]),
    "with an answer that cannot be read": (
        lambda out: changed(filled(out, "01", once), "deformity", first="perhaps"), 0, ["unreadable_value"]),
    "that cannot tell whether the notes were found": (
        lambda out: changed(filled(out, "01", once), NOTES_FOUND, first="cannot tell"), 0, ["unreadable_value"]),
    "with answers although the notes were not found": (
        lambda out: changed(filled(out, "01", once), NOTES_FOUND, first="no"), 0, ["answers_without_notes"]),
    "whose readers differ and nobody decided": (
        lambda out: changed(filled(out, "02", twice), VERDICT, adjudicated=""), 0, ["not_adjudicated"]),
    "with a decision where the readers agree": (
        lambda out: changed(filled(out, "02", twice), "procedure", adjudicated="no"), 0, ["nothing_to_adjudicate"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_returned_forms(case: str, out: Path, tmp_path: Path) -> None:
    change, taken, reasons = CASES[case]
    forms, unreadable = read_forms([written(tmp_path / "back.csv", change(out))])
    found = validate(forms, SAMPLE, {NOT_DRAWN}, {})
    assert unreadable == []
    assert (len(found.taken), [form.reason for form in found.rejected]) == (taken, reasons)
    assert found.empty == (case == "not filled")
    for form in found.rejected:
        assert (form.file, form.words != "") == ("back.csv", True)
        assert not re.search(r"sus_plus|\b01\b|999|E\+17", form.words), "a message names no record"


def test_every_case_is_in_the_page_of_bad_input() -> None:
    page = (Path(__file__).parents[1] / "docs" / "bad-input.md").read_text(encoding="utf-8")
    section = page.split("## Forms of a case-note audit")[1].split("\n## ")[0]
    for case, (_, taken, reasons) in CASES.items():
        becomes = f"rejected as `{reasons[0]}`" if reasons else "taken" if taken else "counted as not returned"
        assert f"| {case} | {becomes}" in section, case
    assert set(re.findall(r"rejected as `(\w+)`", section)) == set(REASONS)


@pytest.mark.parametrize(
    "options", [{"delimiter": ";"}, {"delimiter": "\t"}, {"encoding": "utf-8-sig"}, {"encoding": "cp1252"}]
)
def test_files_that_spreadsheets_save(options: dict[str, str], out: Path, tmp_path: Path) -> None:
    rows = changed(filled(out, "01", once), "deformity", words="“spine” – naïve")
    forms, unreadable = read_forms([written(tmp_path / "back.csv", rows, **options)])
    assert (len(validate(forms, SAMPLE, (), {}).taken), unreadable) == (1, [])


def test_files_that_are_no_forms(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"audit_id\0,x\n")
    (tmp_path / "b.csv").write_text("audit_id,first\nx,yes\n")
    (tmp_path / "c.csv").write_text("")
    forms, rejected = read_forms([tmp_path / name for name in ("a.csv", "b.csv", "c.csv")])
    assert forms == []
    assert [(item.file, item.reason) for item in rejected] == [
        ("a.csv", "unreadable_file"), ("b.csv", "missing_column"), ("c.csv", "missing_column"),
    ]  # fmt: skip
    with pytest.raises(InputError):
        read_forms([tmp_path / "d.csv"])


def test_a_form_of_an_earlier_import_is_taken_again_but_not_changed_unless_asked(out: Path, tmp_path: Path) -> None:
    forms, _ = read_forms([written(tmp_path / "back.csv", filled(out, "01", once))])
    before = validate(forms, SAMPLE, (), {}).taken
    assert validate(forms, SAMPLE, (), before).taken == before
    other, _ = read_forms([written(tmp_path / "back.csv", changed(filled(out, "01", once), VERDICT, first="no"))])
    assert [form.reason for form in validate(other, SAMPLE, (), before).rejected] == ["imported_before"]
    assert validate(other, SAMPLE, (), before, replace=True).rejected == []


def test_answers_of_readers_and_the_adjudicated_one_are_kept_apart(out: Path, tmp_path: Path) -> None:
    forms, _ = read_forms([written(tmp_path / "back.csv", filled(out, "02", twice))])
    ((_, rows),) = validate(forms, SAMPLE, (), {}).taken.items()
    answers = {(row["reader"], row["clause_id"]): row["found"] for row in rows}
    assert (answers["first", VERDICT], answers["second", VERDICT]) == ("yes", "no")
    assert answers["adjudicated", VERDICT] == "cannot_tell"
    assert ("adjudicated", "procedure") not in answers


@pytest.mark.usefixtures("no_session")
def test_calls_that_are_wrong_start_no_session(tmp_path: Path) -> None:
    (tmp_path / "lake" / "silver").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    lake = ["--lake", str(tmp_path / "lake")]
    draw = ["draw", *lake, "--policy", "2Y_back_pain_fusion", "--years", "2021-22", "--size"]
    filled = tmp_path / "filled"
    (filled / "silver").mkdir(parents=True)
    for table, row in (
        (POLICY, {"policy_id": "audited", "revision": "1", "reading": "as_published", "is_default_reading": True}),
        (ACTIVITY_FLAG, {"policy_id": "audited", "record_id": "1", "financial_year": "2021-22"}),
        (AUDIT_SAMPLE, {"policy_id": "audited", "audit_id": "a-1"}),
    ):
        rows = pa.Table.from_pylist([row])
        write_deltalake(
            filled / table.full_name, rows, partition_by=[n for n in table.partition_by if n in row] or None
        )
    full = ["--lake", str(filled)]
    mine = ["draw", *full, "--out", str(tmp_path / "new"), "--size", "9"]
    for call, words in (
        ([*draw, "9", "--out", str(tmp_path / "full")], "not empty"),
        ([*draw, "9", "--out", str(tmp_path / "lake" / "published" / "a")], "others can read"),
        ([*draw, "0", "--out", str(tmp_path / "new")], "--size 0"),
        ([*draw, "9", "--double-share", "1.5", "--out", str(tmp_path / "new")], "--double-share"),
        (["import", *lake, str(tmp_path / "none.csv")], "there is no file"),
        (["import", "--lake", str(tmp_path / "nowhere"), str(tmp_path / "full" / "x")], "there is no lake"),
        (["estimate", *lake], "--policy"),
        ([*draw, "9", "--out", str(tmp_path / "new")], "the lake has no policy '2Y_back_pain_fusion'"),
        ([*mine, "--policy", "audite", "--years", "2021-22"], "the lake has no policy 'audite'"),
        ([*mine, "--policy", "audited", "--years", "2021-22", "--reading", "as_meant"], "has no reading 'as_meant'"),
        ([*mine, "--policy", "audited", "--years", "2019-20"], "no flags of 2019-20"),
        (["estimate", *full, "--policy", "audite"], "no sample was drawn for 'audite'"),
        (["estimate", *full, "--policy", "audited", "--audit", "a-2"], "audited has no audit 'a-2'"),
        (["estimate", *full, "--policy", "audited", "--precision", "0.7"], "--precision 0.7"),
        (["estimate", "--lake", str(tmp_path / "nowhere"), "--policy", "audited"], "there is no lake"),
    ):
        answer = {}
        try:
            answer = answer_of(audit.main, *call)
        except SystemExit as ended:  # arguments that argparse refuses
            assert ended.code == 2
            continue
        assert (answer["exit"], answer["outcome"]) == (2, "refused"), answer
        assert words in answer["error"]["message"], answer["error"]
    assert not (tmp_path / "new").exists() and not (tmp_path / "nowhere").exists()
    # What is right comes as far as the session.
    for call in ([*mine, "--policy", "audited", "--years", "2021-22"], ["estimate", *full, "--policy", "audited"]):
        assert "AssertionError" in answer_of(audit.main, *call)["error"]["message"]


# Made-up answers


def lake_with_a_draw(
    folder: Path, rows: list[dict[str, Any]], audit_id: str, providers: tuple[str | None, ...]
) -> Path:
    """A lake with the spells of some providers, and a sample."""
    clauses = pa.map_(pa.string(), pa.string())
    sample = pa.table(
        {
            "audit_id": [audit_id] * len(rows), "record_id": [row["record_id"] for row in rows],
            "stratum": [row["stratum"] for row in rows],
            "clauses": pa.array([list(TEXT.clauses.items())] * len(rows), clauses),
        }
    )  # fmt: skip
    write_deltalake(str(folder / AUDIT_SAMPLE.full_name), sample, mode="append")
    write_deltalake(
        str(folder / APC_SPELL.full_name),
        pa.table({"provider_code": pa.array(providers, pa.string())}),
        mode="overwrite",
    )
    return folder


def fill(lake: Path, forms: Path, out: Path) -> int:
    return case_notes.main(["--lake", str(lake), "--forms", str(forms), "--out", str(out)])


def test_made_up_answers_follow_the_strata_of_their_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        drawn(n, "RIA" if n % 3 else "NVB", twice=n % 2 == 0, stratum="flagged" if n % 4 else "rest")
        for n in range(100, 220)
    ]
    write_files(tmp_path / "audit", rows, {"2022-08": TEXT}, AUDIT)
    # Another audit drew the same records in other strata. Nothing of it may be used.
    others = [row | {"stratum": "rest"} for row in rows]
    lake = lake_with_a_draw(tmp_path / "lake", others, "2Y_back_pain_fusion-2-0", ("RIA", "NVB", None, "RXX"))
    lake_with_a_draw(lake, rows, AUDIT, ("RIA", "NVB", None, "RXX"))
    assert fill(lake, tmp_path / "audit", tmp_path / "back") == 0
    files = sorted((tmp_path / "back").iterdir())
    assert [path.name for path in files] == ["NVB.csv", "RIA.csv"]
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files)
    forms, unreadable = read_forms(files)
    sample = {
        (AUDIT, *(row[name] for name in RECORD_KEY)): {
            "policy_fingerprint": VERSION, "clauses": TEXT.clauses, "read_twice": row["read_twice"],
        }
        for row in rows
    }  # fmt: skip
    found = validate(forms, sample, (), {})
    assert (unreadable, found.rejected) == ([], [])
    assert capsys.readouterr().out.startswith(f"{len(found.taken)} forms are filled")
    assert 0 < found.empty == len(rows) - len(found.taken) < 20
    strata = {row["record_id"]: row["stratum"] for row in rows}
    verdicts: dict[str, list[bool]] = {"flagged": [], "rest": []}
    differing = 0
    for key, answers in found.taken.items():
        by_reader = {(row["reader"], row["clause_id"]): row["found"] for row in answers}
        if by_reader["first", NOTES_FOUND] == "no":
            assert set(by_reader.values()) == {"no"}
            continue
        final = {clause: found_ for (reader, clause), found_ in by_reader.items() if reader == "first"}
        final |= {clause: found_ for (reader, clause), found_ in by_reader.items() if reader == "adjudicated"}
        confirmed = final[VERDICT] == "yes"
        verdicts[strata[key[-1]]].append(confirmed)
        differing += ("adjudicated", VERDICT) in by_reader
        # What supports the flag: conditions are met, exclusions and what no code can express are not there.
        against = [
            clause
            for clause, kind in TEXT.clauses.items()
            if (final[clause] == "yes") != (kind in ("scope", "require"))
        ]
        assert len(against) == (0 if confirmed else 1), "one clause says why a record is not confirmed"
    assert differing > 0
    # The shares that the answers are made from: 76% of flagged records, 3% of the rest.
    assert sum(verdicts["flagged"]) / len(verdicts["flagged"]) == pytest.approx(0.76, abs=0.12)
    assert sum(verdicts["rest"]) / len(verdicts["rest"]) < 0.2


def test_made_up_answers_are_refused_for_real_data_and_for_forms_of_another_lake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [drawn(1, "RXX"), drawn(2, "RYY")]
    write_files(tmp_path / "audit", rows, {"2022-08": TEXT}, AUDIT)
    real = lake_with_a_draw(tmp_path / "real", rows, AUDIT, ("RXX", "RYY", "RIA"))
    other = lake_with_a_draw(tmp_path / "other", rows, "2Y_back_pain_fusion-9-0", ("RIA", "RIB"))
    (tmp_path / "nothing").mkdir()
    for lake, forms, words in (
        (real, "audit", "does not have made-up data"),
        (other, "audit", "no forms of a sample that was drawn in this lake"),
        (other, "nothing", "no forms of a sample that was drawn in this lake"),
    ):
        assert fill(lake, tmp_path / forms, tmp_path / "back") == 2
        shown = capsys.readouterr()
        assert words in shown.err and "what to do: " in shown.err and shown.out == ""
        assert not (tmp_path / "back").exists()
