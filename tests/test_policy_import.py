"""Published coding pages read into policies: what is read, what is told, what is refused, by the page's own lines."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from calling import answer_of

from ebi_spark.clinical_policy.forms import normal_test
from ebi_spark.clinical_policy.import_page import Imported, import_page, write_imported
from ebi_spark.clinical_policy.load import load_policies, load_policy, shared_clauses, units
from ebi_spark.errors import InputError
from ebi_spark.settings import LakeLocation, RunConfig
from jobs import policy as job

FIXTURES = Path(__file__).parent / "fixtures"
PAGES = {
    "2Y_back_pain_fusion": FIXTURES / "2Y_back_pain_fusion_2022-08.page.txt",
    "2S_lower_back_imaging": FIXTURES / "2S_lower_back_imaging_2023-12.page.txt",
}
APC = "left(der.Spell_Dominant_Procedure,4) like '%W852%'"
OP = "opa.Der_Procedure_All like '%U05[45]%'"


def written(folder: Path, rule: str, before: str = "", after: str = "") -> Path:
    path = folder / "page.txt"
    path.write_text(f"Made up\nCoding\n{before}\nSQL code\n{rule}\n{after}", encoding="utf-8")
    return path


def read(folder: Path, condition: str, first: str = APC) -> tuple[str, dict[str, Any], str]:
    """Kind, test and missing of the one clause beside the scope."""
    imported = import_page(written(folder, f"WHEN {first}\nAND {condition}\nTHEN 'x_example'"))
    assert len(imported.drafts) == 2, imported.drafts
    draft = imported.drafts[1]
    return draft.kind, draft.test, draft.missing


def told(imported: Imported, kind: str) -> str:
    return "\n".join(f"{f.line} {f.clause} {f.text}" for f in imported.findings if f.kind == kind)


# The two pages


@pytest.mark.parametrize("policy_id", PAGES)
def test_the_published_pages_give_the_shipped_clauses(policy_id: str, tmp_path: Path) -> None:
    _, _, policy = write_imported(import_page(PAGES[policy_id]), tmp_path)
    shipped = load_policies(only=[policy_id])[0]
    assert (policy.id, policy.title, policy.dataset) == (shipped.id, shipped.title, shipped.dataset)
    mine, theirs = policy.revisions[0], shipped.revisions[-1]
    assert (mine.name, mine.start) == (theirs.name, theirs.start)
    # Order decides the waterfall only; the shipped imaging policy asks the cheap clause first.
    clauses = [
        sorted((c.kind, json.dumps(normal_test(c.test or {}), sort_keys=True), c.missing) for c in clauses)
        for clauses in (mine.readings["as_published"].clauses, theirs.readings["as_published"].clauses)
    ]
    assert clauses[0] == clauses[1]
    assert mine.readings["as_published"].clauses[0].kind == "scope"


def test_what_the_fusion_page_does_not_agree_on() -> None:
    imported = import_page(PAGES["2Y_back_pain_fusion"])
    assert "private_patient" in told(imported, "in the SQL, not in the words")
    nulls = told(imported, "missing values")
    assert "excluded_diagnosis" in nulls and "global_cancer has let it through" in nulls
    assert "global_cancer a record" not in nulls  # it has its OR … IS NULL
    assert "OR" in told(imported, "precedence")
    assert "19 to 120 in the SQL, 19 and over" in told(imported, "narrower than the words")
    assert told(imported, "wider than the words") == ""
    assert not any("is excluded in words only" in f.text or "is asked for" in f.text for f in imported.findings)


def test_what_the_imaging_page_does_not_agree_on() -> None:
    imported = import_page(PAGES["2S_lower_back_imaging"])
    assert "apcs" in told(imported, "unbound alias") and "read as opa" in told(imported, "unbound alias")
    assert "secondary to one of the codes above" in told(imported, "in the words, not in the SQL")
    assert "global_cancer" in told(imported, "missing values")
    mended = told(imported, "mended")
    assert "curly quotes" in mended and "a dash that opens a comment" in mended
    assert told(imported, "wider than the words") + told(imported, "narrower than the words") == ""


@pytest.mark.parametrize("policy_id", PAGES)
def test_what_is_read_from_the_pages_lints_clean(policy_id: str, tmp_path: Path) -> None:
    write_imported(import_page(PAGES[policy_id], "read_again"), tmp_path)
    answer = call("lint", "read_again", "--policies-dir", str(tmp_path))
    assert (answer["exit"], answer["findings"]) == (0, [])


def test_a_draft_is_refused_by_runs_and_accepted_once_completed(tmp_path: Path) -> None:
    path, report, policy = write_imported(import_page(PAGES["2Y_back_pain_fusion"], "fusion_again"), tmp_path)
    assert "TO COMPLETE" in path.read_text() and report.read_text().startswith("# fusion_again")
    with pytest.raises(InputError, match=r"fusion_again .* is a draft.*in_force"):
        units([policy], RunConfig(lake=LakeLocation()))
    done = "".join(line for line in path.read_text().splitlines(True) if not line.startswith(("to_complete", '  - "')))
    path.write_text(done)
    assert len(units([load_policy(path, shared_clauses())], RunConfig(lake=LakeLocation()))) == 1


# The grammar of the pages


@pytest.mark.parametrize(
    ("condition", "kind", "test", "missing"),
    [
        ("der.Spell_Primary_Diagnosis like '%M54[59]%'", "require",
         {"field": "primary_diagnosis", "contains": ["M545", "M549"]}, "fails"),
        ("left(der.Spell_Primary_Diagnosis,3) in ('M17','M16')", "require",
         {"field": "primary_diagnosis", "starts_with": ["M17", "M16"]}, "fails"),
        ("LEFT(der.Spell_Primary_Diagnosis,3) NOT IN ('M17')", "exclude",
         {"field": "primary_diagnosis", "starts_with": ["M17"]}, "fails"),
        ("left(der.Spell_Primary_Diagnosis,4) like '%M17%'", "require",
         {"field": "primary_diagnosis", "left": 4, "contains": ["M17"]}, "fails"),
        ("substring(der.Spell_Primary_Diagnosis,1,4) = 'm170'", "require",
         {"field": "primary_diagnosis", "starts_with": ["M170"]}, "fails"),
        ("der.Spell_Primary_Diagnosis like 'M17[^0]%'", "require",
         {"field": "primary_diagnosis", "starts_with": ["M17[^0]"]}, "fails"),
        ("der.Spell_Primary_Diagnosis like 'M1[1-36]_%'", "require",
         {"field": "primary_diagnosis", "starts_with": ["M1[1236]_"]}, "fails"),
        ("APCS.Admission_Method not like ('2%')", "exclude", {"field": "admission_method", "starts_with": ["2"]}, "fails"),
        ("apcs.Admission_Method in ('11','12','13')", "require",
         {"field": "admission_method", "in": ["11", "12", "13"]}, "fails"),
        ("apcs.Discharge_Method <> '4'", "exclude", {"field": "discharge_method", "in": ["4"]}, "fails"),
        ("apcs.Patient_Classification is null", "require", {"field": "patient_classification", "is_null": True}, "fails"),
        ("apcs.Patient_Classification is not null", "require",
         {"field": "patient_classification", "is_null": False}, "fails"),
        ("(apcs.der_diagnosis_all not like '%S83%' or apcs.der_diagnosis_all is null)", "exclude",
         {"field": "any_diagnosis", "contains": ["S83"]}, "passes"),
        ("(apcs.der_diagnosis_all is null or (apcs.der_diagnosis_all like '%S83%' or apcs.der_diagnosis_all like '%M23%'))",
         "require", {"field": "any_diagnosis", "contains": ["S83", "M23"]}, "passes"),
        ("isnull(apcs.der_diagnosis_all,'') not like '%S83%'", "exclude",
         {"all_of": [{"field": "any_diagnosis", "is_null": False}, {"field": "any_diagnosis", "contains": ["S83"]}]},
         "fails"),
        ("not (apcs.der_diagnosis_all like '%S83%' and apcs.der_procedure_all like '%W822%')", "exclude",
         {"all_of": [{"field": "any_diagnosis", "contains": ["S83"]}, {"field": "any_procedure", "contains": ["W822"]}]},
         "fails"),
        ("apcs.der_diagnosis_all not like '%S83%' and apcs.der_diagnosis_all not like '%M23[0-2]%'", "exclude",
         {"field": "any_diagnosis", "contains": ["S83", "M230", "M231", "M232"]}, "fails"),
        ("isnull(apcs.Age_At_Start_of_Spell_SUS, apcs.Der_Age_at_CDS_Activity_Date) >= 19", "require",
         {"field": "age", "at_least": 19}, "fails"),
        ("coalesce(apcs.Age_At_Start_of_Spell_SUS, apcs.Der_Age_at_CDS_Activity_Date) < 19", "require",
         {"field": "age", "at_most": 18}, "fails"),
        ("18 < apcs.Age_At_Start_of_Spell_SUS", "require", {"field": "age", "at_least": 19}, "fails"),
        ("apcs.Sex = 1", "require", {"field": "sex", "in": ["1"]}, "fails"),
    ],
)  # fmt: skip
def test_conditions(condition: str, kind: str, test: dict[str, Any], missing: str, tmp_path: Path) -> None:
    assert read(tmp_path, condition) == (kind, test, missing)


def test_attendances(tmp_path: Path) -> None:
    kind, test, _ = read(tmp_path, "opa.Attendance_Status in ('5','6')", OP)
    assert (kind, test) == ("require", {"field": "attendance_status", "in": ["5", "6"]})


def test_what_typesetting_did_is_undone(tmp_path: Path) -> None:
    # The form of the programme's own coding page: no WHEN, no THEN, blanks round underscores, curly quotes.
    rule = (
        "Der.spell _ dominant _ procedure like ‘%H0[12]%’\n"
        "and APCS.Admission _ Method not like ('2%')\n"
        "Global cancer exclusion\nAPC\n"
        "(apcs.der _ diagnosis _ all not like '%C[0-9][0-9]%'\nand apcs.der _ diagnosis _ all not like '%D0%'\n"
        "and apcs.der _ diagnosis _ all not like '%D3[789]%'\n"
        "and apcs.der _ diagnosis _ all not like '%D4[012345678]%' or apcs.der _ diagnosis _ all IS NULL)"
    )
    imported = import_page(written(tmp_path, rule), "appendix")
    assert [(d.id, d.missing) for d in imported.drafts] == [
        ("procedure", "fails"), ("admission_method", "fails"), ("global_cancer", "passes")
    ]  # fmt: skip
    assert imported.drafts[0].test == {"field": "dominant_procedure", "contains": ["H01", "H02"]}
    assert "spaces round underscores" in told(imported, "mended")
    with pytest.raises(InputError, match="no name") as refused:
        import_page(written(tmp_path, rule))
    assert "--id" in refused.value.remedy


def test_lost_then_and_lost_brackets(tmp_path: Path) -> None:
    imported = import_page(written(tmp_path, f"WHEN {APC}\nAND apcs.Admission_Method not like ('2%'\n'1N_example'"))
    assert imported.policy_id == "1N_example"
    assert imported.drafts[1].test == {"field": "admission_method", "starts_with": ["2"]}
    assert "a lost THEN" in told(imported, "mended") and "a lost closing bracket" in told(imported, "mended")


def test_a_bracket_that_could_stand_in_two_places_is_refused(tmp_path: Path) -> None:
    rule = f"WHEN {APC}\nAND (apcs.Sex = '1' OR apcs.Sex = '2' AND apcs.Admission_Method = '11'\nTHEN 'x_y'"
    with pytest.raises(InputError, match=r"line 6: unbalanced brackets: one is never closed.*read differently"):
        import_page(written(tmp_path, rule))


def test_the_other_datasets_twin_is_not_taken_over(tmp_path: Path) -> None:
    after = (
        "Global exclusion\nAPC\nAND apcs.Administrative_Category <> '02'\n"
        "Outpatients\nAND opa.Administrative_Category <> '02'\n"
    )
    imported = import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", after=after))
    assert [d.id for d in imported.drafts] == ["procedure", "private_patient"]
    assert "Outpatients" in told(imported, "not taken over")


def test_wider_and_narrower_than_the_lists(tmp_path: Path) -> None:
    words = "Procedure codes\nW85.2 Endoscopic irrigation of knee joint\nDiagnosis codes\nM17.0 Primary gonarthrosis\nM23 Derangement\n"
    rule = f"WHEN {APC}\nAND der.Spell_Primary_Diagnosis like 'M17%'\nAND isnull(apcs.Sex,'') = '1'\nTHEN 'x_y'"
    imported = import_page(written(tmp_path, rule, words))
    wider = told(imported, "wider than the words")
    assert "M171" in wider and "M170" not in wider and "W85" not in wider
    assert "M23" in told(imported, "in the words, not in the SQL")
    narrow = rule.replace("like 'M17%'", "in ('M170','M230')")
    assert "of M23 in the words" in told(import_page(written(tmp_path, narrow, words)), "narrower than the words")


def test_words_that_the_sql_leaves_out(tmp_path: Path) -> None:
    words = (
        "Any other criteria\nAdults aged 19 years and over\nExclude any non-elective admission\n"
        "Note: cancer diagnoses are a global exclusion\n"
        "Coding logic\nWhere the procedure code in any position is:\nW85.2\nAND\nAPCS.Admission_Method not like (‘2%’)\n"
    )
    lost = told(import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", words)), "in the words, not in the SQL")
    for word in ("aged 19", "non-elective", "global_cancer", "APCS.Admission_Method"):
        assert word in lost, lost
    assert "any position" in told(import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", words)), "position")


def test_an_or_outside_brackets_is_read_as_sql_reads_it_and_told(tmp_path: Path) -> None:
    imported = import_page(
        written(tmp_path, f"WHEN {APC}\nOR {APC.replace('W852', 'W853')} AND apcs.Sex = '1'\nTHEN 'x_y'")
    )
    assert imported.drafts[0].test == {
        "any_of": [
            {"field": "dominant_procedure", "starts_with": ["W852"]},
            {"all_of": [{"field": "dominant_procedure", "starts_with": ["W853"]}, {"field": "sex", "in": ["1"]}]},
        ]
    }
    assert "parts the whole rule" in told(imported, "precedence")


# Bad input: one message with line and remedy, nothing written

BAD = {
    "no SQL": ("Words only.", "holds no SQL"),
    "two rules": (f"WHEN {APC} THEN 'x_y'\nWHEN {APC} THEN 'x_z'", "lines 5 and 6: the page holds 2 rules"),
    "unbalanced brackets": (f"WHEN {APC}\nAND apcs.Sex = '1') OR (apcs.Sex = '2'\nTHEN 'x_y'", "line 6: unbalanced"),
    "unknown field": (f"WHEN {APC}\nAND apcs.Admision_Metod = '11'\nTHEN 'x_y'", "line 6: unknown field"),
    "unknown spell field": (f"WHEN {APC}\nAND der.Spell_Secondary_Diagnosis like '%M54%'\nTHEN 'x_y'", "unknown field"),
    "impossible age": (f"WHEN {APC}\nAND apcs.Age_At_Start_of_Spell_SUS between 19 and 1200\nTHEN 'x_y'", "line 6: an imp"),
    "backward ages": (f"WHEN {APC}\nAND apcs.Age_At_Start_of_Spell_SUS between 120 and 19\nTHEN 'x_y'", "impossible age"),
    "a code that is no code": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%54M%'\nTHEN 'x_y'", "line 6: a code that"),
    "a blank in a pattern": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%M5 4%'\nTHEN 'x_y'", "is no code"),
    "too long a code": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%M5455555%'\nTHEN 'x_y'", "is no code"),
    "left too short": ("WHEN left(der.Spell_Dominant_Procedure,3) like '%W852%'\nTHEN 'x_y'", "line 5: the first 3 char"),
    "tied to the end of a list": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like 'M54%'\nTHEN 'x_y'", "list of codes"),
    "list compared whole": (f"WHEN {APC}\nAND apcs.der_diagnosis_all = 'M545'\nTHEN 'x_y'", "list of codes"),
    "negated class in a list": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%M54[^5]%'\nTHEN 'x_y'", "separator"),
    "a stray word": (f"WHEN {APC}\nAND apcs.Sex = '1' male\nTHEN 'x_y'", "line 6"),
    "a function": (f"WHEN {APC}\nAND len(apcs.Sex) = 1\nTHEN 'x_y'", "line 6: the function LEN"),
    "a subquery": (f"WHEN {APC}\nAND apcs.Sex in (select 1)\nTHEN 'x_y'", "line 6: IN takes"),
    "codes by size": (f"WHEN {APC}\nAND der.Spell_Primary_Diagnosis between 'M10' and 'M19'\nTHEN 'x_y'", "ages only"),
    "an open quote": (f"WHEN {APC}\nAND apcs.Sex = '1\nTHEN 'x_y'", "line 6"),
    "both datasets": (f"WHEN {APC}\nAND opa.Sex = '1'\nTHEN 'x_y'", "both tables"),
    "no procedure": ("WHEN apcs.Sex = '1'\nTHEN 'x_y'", "nothing can be the scope"),
    "OR after words": (f"WHEN {APC}\nTHEN 'x_y'\nExclusions\nOR apcs.Sex = '1'", "opens with OR"),
    "OR that would part the rule": (
        f"WHEN {APC}\nTHEN 'x_y'\nExclusions\nAND apcs.Sex = '1'\nOR apcs.Sex = '2'", "line 8: a part that goes on"
    ),
    "half SQL": (f"WHEN {APC}\nTHEN 'x_y'\nExclusions\nnot like '%C[0-9]%'", "looks like SQL"),
    "a bad label": (f"WHEN {APC}\nTHEN 'x y'", "--id"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_pages(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    page = written(tmp_path, text)
    answer = call("import", str(page), "--out", str(tmp_path / "out"))
    assert (answer["exit"], answer["outcome"]) == (2, "refused"), answer
    said = f"{answer['error']['message']} {answer['error']['remedy']}"
    assert message in said, said
    assert str(page) in said and answer["error"]["remedy"]
    assert not (tmp_path / "out").exists()


call = partial(answer_of, job.main)


def test_the_command_writes_both_files_once(tmp_path: Path) -> None:
    page, out = str(PAGES["2S_lower_back_imaging"]), str(tmp_path / "policies")
    answer = call("import", page, "--out", out, "--id", "imaging_read")
    assert answer["exit"] == 0 and answer["policy"]["id"] == "imaging_read"
    assert [Path(name).name for name in answer["files"]] == ["imaging_read.yml", "imaging_read.reconciliation.md"]
    assert {finding["kind"] for finding in answer["reconciliation"]} >= {"missing values", "unbound alias"}
    again = call("import", page, "--out", out, "--id", "imaging_read")
    assert again["exit"] == 2 and "is there already" in again["error"]["message"]
    listed = call("list", "--policies-dir", out)
    assert {policy["id"]: bool(policy["to_complete"]) for policy in listed["policies"]} == {
        "2S_lower_back_imaging": False, "2Y_back_pain_fusion": False, "CMICB_Clin087": False,
            "DDICB_back_pain_fusion": False, "imaging_read": True,
    }  # fmt: skip
    for missing in ("no/such/page.txt", str(tmp_path)):
        assert call("import", missing, "--out", out)["exit"] == 2


# The same of policy files

FILE = """id: made_up
title: Made up
dataset: apc
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - revision: one
    in_force: {from: 2020-04-01, to: 2022-04-01}
    clauses:
      - {id: procedure, scope: true, require: {field: dominant_procedure, starts_with: ["W852"]}}
      - {id: age, require: {field: age, between: [19, 120]}}
  - revision: two
    in_force: {from: 2022-04-01}
    clauses:
      - {id: procedure, scope: true, require: {field: dominant_procedure, starts_with: ["W852"]}}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[19, 120]", "[120, 19]", ["line 11", "impossible age"]),
        ("[19, 120]", "[19, 1200]", ["line 11", "impossible age"]),
        ("to: 2022-04-01", "to: 2022-05-01", ["line 13", "overlap", "to: 2022-04-01"]),
        ("id: age", "id: procedure", ["line 11", "'procedure' stands twice"]),
        ('"W852"]}}\n      - {id: age', '"85W2"]}}\n      - {id: age', ["line 10", "no code"]),
        ("field: age,", "field: attendance_status,", ["line 11", "attendance_status"]),
        ("between: [19, 120]", 'in: ["19"]', ["line 11", "in cannot be asked of age"]),
        ("between: [19, 120]", "between: [19, 120], at_least: 19", ["line 11", "asks 2 things"]),
        ("field: age, between: [19, 120]", 'field: any_diagnosis, contains: ["M17[^0]"]', ["line 11", "comma"]),
        ("field: age, between: [19, 120]", 'field: any_diagnosis, left: 3, contains: ["M17"]', ["line 11", "left"]),
        ("field: age, between: [19, 120]", 'field: sex, in: ["[12]"]', ["line 11", "whole codes"]),
        ("2020-04-01", "2020-04-31", ["line 8", "no date"]),
    ],
)
def test_bad_policy_files(old: str, new: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "made_up.yml"
    path.write_text(FILE)
    load_policy(path, {})
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(InputError) as refused:
        load_policy(path, {})
    for word in (str(path), *words):
        assert word in f"{refused.value.message} {refused.value.remedy}", refused.value.message
