"""Published coding pages read into policies: what is read, what is found, what is refused, by the page's own lines."""

import json
import re
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from calling import answer_of
from test_policy_property import Maker

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.policies.load import load_policies, load_policy, revision_periods, shared_clauses
from ebi_spark.policies.model import ALL_OPERATORS, HasCode, document_of, parse_test
from ebi_spark.policies.simplify import normal_test
from ebi_spark.policy_import.import_page import Imported, import_page, write_imported
from ebi_spark.policy_import.page_words import series_of
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
    return draft.kind, document_of(draft.test), draft.missing


def findings_of(imported: Imported, kind: str) -> str:
    return "\n".join(f"{f.line} {f.clause} {f.text}" for f in imported.findings if f.kind == kind)


# The two pages


@pytest.mark.parametrize("policy_id", PAGES)
def test_the_published_pages_give_the_shipped_clauses(policy_id: str, tmp_path: Path) -> None:
    _, _, policy = write_imported(import_page(PAGES[policy_id]), tmp_path)
    shipped = load_policies(only=[policy_id])[0]
    assert (policy.id, policy.title, policy.dataset) == (shipped.id, shipped.title, shipped.dataset)
    mine = policy.revisions[0]
    [theirs] = [revision for revision in shipped.revisions if revision.name == mine.name]
    assert mine.start == theirs.start
    # Order decides the waterfall only; the shipped imaging policy asks the cheap clause first.
    clauses = [
        sorted((c.kind, repr(c.test and normal_test(c.test)), c.missing) for c in clauses)
        for clauses in (mine.readings["as_published"].clauses, theirs.readings["as_published"].clauses)
    ]
    assert clauses[0] == clauses[1]
    assert mine.readings["as_published"].clauses[0].kind == "scope"


def test_what_the_fusion_page_does_not_agree_on() -> None:
    imported = import_page(PAGES["2Y_back_pain_fusion"])
    assert "private_patient" in findings_of(imported, "in the SQL, not in the words")
    nulls = findings_of(imported, "missing values")
    assert "excluded_diagnosis" in nulls and "global_cancer lets it through" in nulls
    assert "global_cancer a record" not in nulls  # it has its OR … IS NULL
    assert "OR" in findings_of(imported, "precedence")
    assert "19 to 120 in the SQL, 19 and over" in findings_of(imported, "narrower than the words")
    assert findings_of(imported, "wider than the words") == ""
    assert not any("is excluded in words only" in f.text or "is required" in f.text for f in imported.findings)


def test_what_the_imaging_page_does_not_agree_on() -> None:
    imported = import_page(PAGES["2S_lower_back_imaging"])
    assert "apcs" in findings_of(imported, "unbound alias") and "read as opa" in findings_of(imported, "unbound alias")
    assert "secondary to one of the codes above" in findings_of(imported, "in the words, not in the SQL")
    assert "global_cancer" in findings_of(imported, "missing values")
    repaired = findings_of(imported, "repaired")
    assert "curly quotes" in repaired and "a dash that opens a comment" in repaired
    assert findings_of(imported, "wider than the words") + findings_of(imported, "narrower than the words") == ""


@pytest.mark.parametrize("policy_id", PAGES)
def test_what_is_read_from_the_pages_lints_clean(policy_id: str, tmp_path: Path) -> None:
    write_imported(import_page(PAGES[policy_id], "read_again"), tmp_path)
    answer = call("lint", "read_again", "--policies-dir", str(tmp_path))
    assert (answer["exit"], answer["findings"]) == (0, [])


def test_a_draft_is_refused_by_runs_and_accepted_once_completed(tmp_path: Path) -> None:
    path, report, policy = write_imported(import_page(PAGES["2Y_back_pain_fusion"], "fusion_again"), tmp_path)
    assert "TO COMPLETE" in path.read_text() and report.read_text().startswith("# fusion_again")
    with pytest.raises(InputError, match=r"fusion_again .* is a draft.*in_force"):
        revision_periods([policy], RunConfig(lake=LakeLocation()))
    done = "".join(line for line in path.read_text().splitlines(True) if not line.startswith(("to_complete", '  - "')))
    path.write_text(done)
    assert len(revision_periods([load_policy(path, shared_clauses())], RunConfig(lake=LakeLocation()))) == 1


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
        ("left(left(der.Spell_Primary_Diagnosis,5),3) = 'M17'", "require",
         {"field": "primary_diagnosis", "starts_with": ["M17"]}, "fails"),
        ("left(substring(der.Spell_Primary_Diagnosis,1,3),5) = 'M17'", "require",
         {"field": "primary_diagnosis", "starts_with": ["M17"]}, "fails"),
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
    assert imported.drafts[0].test == HasCode("dominant_procedure", "contains", ("H01", "H02"))
    assert "spaces around underscores" in findings_of(imported, "repaired")
    with pytest.raises(InputError, match="no name") as refused:
        import_page(written(tmp_path, rule))
    assert "--id" in refused.value.remedy


def test_lost_then_and_lost_brackets(tmp_path: Path) -> None:
    imported = import_page(written(tmp_path, f"WHEN {APC}\nAND apcs.Admission_Method not like ('2%'\n'1N_example'"))
    assert imported.policy_id == "1N_example"
    assert imported.drafts[1].test == HasCode("admission_method", "starts_with", ("2",))
    assert "a missing THEN" in findings_of(imported, "repaired") and "a missing closing bracket" in findings_of(
        imported, "repaired"
    )


def test_a_bracket_that_could_stand_in_two_places_is_refused(tmp_path: Path) -> None:
    rule = f"WHEN {APC}\nAND (apcs.Sex = '1' OR apcs.Sex = '2' AND apcs.Admission_Method = '11'\nTHEN 'x_y'"
    with pytest.raises(InputError, match=r"line 6: unbalanced brackets: one is never closed.*has 3 meanings"):
        import_page(written(tmp_path, rule))


def test_the_other_datasets_twin_is_not_taken_over(tmp_path: Path) -> None:
    after = (
        "Global exclusion\nAPC\nAND apcs.Administrative_Category <> '02'\n"
        "Outpatients\nAND opa.Administrative_Category <> '02'\n"
    )
    imported = import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", after=after))
    assert [d.id for d in imported.drafts] == ["procedure", "private_patient"]
    assert "Outpatients" in findings_of(imported, "not taken over")


def test_wider_and_narrower_than_the_lists(tmp_path: Path) -> None:
    words = "Procedure codes\nW85.2 Endoscopic irrigation of knee joint\nDiagnosis codes\nM17.0 Primary gonarthrosis\nM23 Derangement\n"
    rule = f"WHEN {APC}\nAND der.Spell_Primary_Diagnosis like 'M17%'\nAND isnull(apcs.Sex,'') = '1'\nTHEN 'x_y'"
    imported = import_page(written(tmp_path, rule, words))
    wider = findings_of(imported, "wider than the words")
    assert "M171" in wider and "M170" not in wider and "W85" not in wider
    assert "M23" in findings_of(imported, "in the words, not in the SQL")
    narrow = rule.replace("like 'M17%'", "in ('M170','M230')")
    assert "the words name M23" in findings_of(import_page(written(tmp_path, narrow, words)), "narrower than the words")


def test_words_that_the_sql_leaves_out(tmp_path: Path) -> None:
    words = (
        "Any other criteria\nAdults aged 19 years and over\nExclude any non-elective admission\n"
        "Note: cancer diagnoses are a global exclusion\n"
        "Coding logic\nWhere the procedure code in any position is:\nW85.2\nAND\nAPCS.Admission_Method not like (‘2%’)\n"
    )
    lost = findings_of(import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", words)), "in the words, not in the SQL")
    for word in ("aged 19", "non-elective", "global_cancer", "APCS.Admission_Method"):
        assert word in lost, lost
    assert "any position" in findings_of(import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", words)), "position")


def test_an_or_outside_brackets_is_read_as_sql_reads_it_and_told(tmp_path: Path) -> None:
    imported = import_page(
        written(tmp_path, f"WHEN {APC}\nOR {APC.replace('W852', 'W853')} AND apcs.Sex = '1'\nTHEN 'x_y'")
    )
    assert document_of(imported.drafts[0].test) == {
        "any_of": [
            {"field": "dominant_procedure", "starts_with": ["W852"]},
            {"all_of": [{"field": "dominant_procedure", "starts_with": ["W853"]}, {"field": "sex", "in": ["1"]}]},
        ]
    }
    assert "splits the whole rule" in findings_of(imported, "precedence")


# What pages are like beyond the two that were published

IMAGING_PAGE = """Made-up imaging of the ankle

How up to date is this information?

Published May 2021 | Last reviewed November 2024

Coding

Estimated activity
— 23,456 attendances during 2019/20
— Age/sex std rate per 100,000 – 31.5
— Reduction opportunity based on 25th percentile: 4,321 attendances.
— CCG Variation (age/sex std rates):
— N-fold – 3.1
— 10th percentile – 14.2
— 90th percentile – 44.0
— counted by hand

Codes

Procedure codes
U133: Magnetic resonance imaging of bone
U216 - Ultrasound scan NEC
Z856: Ankle joint

Diagnosis codes
M190: Primary arthrosis of other joints
M050-3 seropositive disease
M000, 1,2 &9 infection

Note: these diagnosis codes are for information and are no part of the coding logic, nor of the SQL below.

Coding logic

The record has (U133 OR U216) AND Z856

Age 19 and over

SQL code
WHEN (opa.Der _ Procedure _ All like '%U133%' or opa.Der _ Procedure _ All like '%U216%')
AND opa.Der _ Procedure _ All like '%Z856%'
{join}ISNULL(opa.Age_at_Start_of_Episode_SUS,opa.Der_Age_at_CDS_Activity_Date) between 19 AND 120
THEN 'made_up_ankle_imaging'
"""
METHOD_PAGE = """Estimated activity
• 987 episodes in 2018-19
• Age/sex std rate per 100,000 – 1.7

Made-up removal of a plate

Codes

Procedure codes
W28.3 Removal of internal fixation from bone NEC
V38.2 Emergency fusion, as an elective title would echo

Coding logic
Dominant procedure code is:
W28.3 OR
V38.2

SQL code
Der.spell _ dominant _ procedure like ‘%W283%’{gap}APCS.Admission _ Method not like ('2%')
"""


def page_of(folder: Path, text: str) -> Path:
    path = folder / "page.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_imaging_page_with_a_note_and_a_baseline(tmp_path: Path) -> None:
    imported = import_page(page_of(tmp_path, IMAGING_PAGE.replace("{join}", "AND ")))
    page = imported.page
    assert (page.title, imported.dataset) == ("Made-up imaging of the ankle", "op")
    assert [draft.id for draft in imported.drafts] == ["procedure", "procedure_2", "age"]
    assert page.revised == date(2024, 11, 1) and "2021-05" not in imported.policy_yaml
    assert page.baseline == {
        "records": 23_456, "unit": "attendances", "year": "2019-20", "standardised_rate": 31.5,
        "opportunity": "4,321 attendances", "n_fold": 3.1, "p10": 14.2, "p90": 44.0, "other": ["counted by hand"],
    }  # fmt: skip
    # Nothing is said of codes that are there for information, and a code before a colon counts as named.
    assert {finding.kind for finding in imported.findings} == {"narrower than the words", "repaired"}
    assert "19 to 120 in the SQL, 19 and over" in findings_of(imported, "narrower than the words")
    assert "M050, M051, M052, M053" in imported.reconciliation and "M000, M001, M002, M009" in imported.reconciliation
    # The page's own figures are in the policy, and change no verdict.
    _, _, policy = write_imported(imported, tmp_path / "out")
    assert policy.revisions[0].baseline == page.baseline
    bare = import_page(
        page_of(tmp_path, re.sub("Estimated(.|\n)*?\nCodes", "Codes", IMAGING_PAGE).replace("{join}", "AND "))
    )
    _, _, other = write_imported(bare, tmp_path / "bare")
    assert other.revisions[0].baseline == {}
    prints = [p.revisions[0].readings["as_published"].fingerprint for p in (policy, other)]
    assert prints[0] == prints[1]


def test_a_codes_title_is_no_criterion_and_a_sections_name_no_title(tmp_path: Path) -> None:
    imported = import_page(page_of(tmp_path, METHOD_PAGE.replace("{gap}", "\nand ")), "plate")
    assert imported.page.title == "Made-up removal of a plate"
    assert imported.page.baseline == {"records": 987, "unit": "episodes", "year": "2018-19", "standardised_rate": 1.7}
    assert "admission_method" in findings_of(imported, "in the SQL, not in the words")
    # In the words of the page, or in a remark after a title, the criterion is one.
    for words in ("Exclude any non-elective admission", "W28.4 Removal of a pin (emergency admissions only)"):
        page = METHOD_PAGE.replace("{gap}", "\nand ").replace("\nCoding logic", f"{words}\n\nCoding logic")
        assert "name no methods" in findings_of(import_page(page_of(tmp_path, page), "plate"), "read as")


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\n-- a remark\n", "\n\n-- a remark\n", " "])
def test_a_lost_and_is_never_read_as_one(gap: str, tmp_path: Path) -> None:
    line = METHOD_PAGE[: METHOD_PAGE.index("{gap}")].count("\n") + 1 + gap.count("\n")
    with pytest.raises(InputError, match=rf"line {line}: AND or OR is missing before (?:this line|'APCS')") as refused:
        import_page(page_of(tmp_path, METHOD_PAGE.replace("{gap}", gap)), "plate")
    assert "write the AND or OR" in refused.value.remedy
    joined = import_page(page_of(tmp_path, METHOD_PAGE.replace("{gap}", f"{gap}and ")), "plate")
    assert [draft.id for draft in joined.drafts] == ["procedure", "admission_method"]
    with pytest.raises(InputError, match="AND or OR is missing before this line"):
        import_page(page_of(tmp_path, IMAGING_PAGE.replace("{join}", "")))


def test_random_rules_that_lost_an_and_are_refused(tmp_path: Path) -> None:
    maker, page, refused = Maker(26), tmp_path / "page.txt", 0
    for number in range(24):
        conditions, _ = maker.rule("apc" if number % 2 else "op")
        text = maker.page("x_y", conditions, [])
        page.write_text(text, encoding="utf-8")
        import_page(page)
        places = [match.start() for match in re.finditer("(?m)^AND ", text)]
        if places:
            at = maker.one(places)
            page.write_text(text[:at] + maker.one(("", "\n")) + text[at + 4 :], encoding="utf-8")
            with pytest.raises(InputError, match="AND or OR is missing before"):
                import_page(page)
            refused += 1
    assert refused > 15


@pytest.mark.parametrize(
    ("line", "codes", "title"),
    [
        ("U133: MRI of bone or joint:", ("U133",), "MRI of bone or joint:"),
        ("U13.3:", ("U133",), ""),
        ("M050-9 seropositive", tuple(f"M05{n}" for n in range(10)), "seropositive"),
        ("M05-M09 arthritis", (), "arthritis"),
        ("M000, 1,2, 8 &9 infection", ("M000", "M001", "M002", "M008", "M009"), "infection"),
        ("V38.2, V38.3 and V38.5 – fusion", ("V382", "V383", "V385"), "fusion"),
        ("W37.1 2 components", None, None),
        ("V382 OR", ("V382",), "OR"),
        ("12 codes", None, None),
    ],
)
def test_codes_at_the_start_of_a_line(line: str, codes: tuple[str, ...] | None, title: str | None) -> None:
    series = series_of(line)
    assert (series.codes, series.title) == (codes, title) if series else codes is None
    if line.startswith("M05-M09"):
        assert series is not None and series.ranges == (("M05", "M09"),)


def test_a_mention_of_a_heading_is_no_heading(tmp_path: Path) -> None:
    words = (
        "Procedure codes\nThe coding logic below is that of the programme.\nW85.2 Endoscopic irrigation of knee joint\n"
        "Cancer is a global exclusion.\nW85.3 Endoscopic drilling of lesion of knee joint\n"
    )
    imported = import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", words))
    lost = findings_of(imported, "in the words, not in the SQL")
    assert "W853" in lost and "is required in words only" in lost and "W852" not in lost


def test_a_code_is_looked_up_in_its_own_systems_book(tmp_path: Path) -> None:
    # The heading of the diagnoses is missing; M17.0 is a code of OPCS-4 too, M23 of ICD-10 alone, and X97 of neither sense.
    words = (
        "Procedure codes\nW85.2 Endoscopic irrigation of knee joint\nM17.0 Primary gonarthrosis, bilateral\n"
        "M23 Internal derangement of knee\n"
    )
    rule = f"WHEN {APC}\nAND der.Spell_Primary_Diagnosis in ('M170')\nTHEN 'x_y'"
    imported = import_page(written(tmp_path, rule, words))
    assert "OPCS-4" not in imported.reconciliation
    assert "M23" in findings_of(imported, "in the words, not in the SQL")
    both = "Coding logic\nThe procedure is W85.2 and the primary diagnosis M17.0 or M23.1\n"
    assert "OPCS-4" not in import_page(written(tmp_path, rule, both)).reconciliation


def test_each_condition_of_a_line_of_sql_among_the_words_is_looked_for(tmp_path: Path) -> None:
    rule = f"WHEN {APC}\nAND apcs.Discharge_Method <> '4'\nTHEN 'x_y'"
    found, lost = "apcs.Discharge_Method <> '4'", "apcs.Admission_Method not like '2%'"
    for line, expected in ((found, False), (f"{found} AND {lost}", True), (f"{lost} AND {found}", True)):
        imported = import_page(written(tmp_path, rule, f"Coding logic\nAND {line}"))
        assert (line in findings_of(imported, "in the words, not in the SQL")) == expected, line


@pytest.mark.parametrize(
    ("lines", "month"),
    [
        ("How up to date is this information?\nPublished March 2021 | Last reviewed October 2024", date(2024, 10, 1)),
        ("Last reviewed October 2024 | Published March 2021", date(2024, 10, 1)),
        ("Published March 2021", date(2021, 3, 1)),
        ("Last revised 4 May 2023", date(2023, 5, 1)),
        (
            "How up to date is this information?\nLast revised May 2023\nChanges\nMay 2022 - Coding updated",
            date(2022, 5, 1),
        ),
        ("Nothing is said", None),
    ],
)
def test_the_month_of_a_page(lines: str, month: date | None, tmp_path: Path) -> None:
    assert import_page(written(tmp_path, f"WHEN {APC}\nTHEN 'x_y'", lines)).page.revised == month


def test_several_rules_are_named(tmp_path: Path) -> None:
    labelled = f"WHEN {APC} THEN 'a_knee'\nWHEN {APC} THEN 'b_knee'\nWHEN {APC}\nTHEN 'c_knee'"
    with pytest.raises(InputError, match=r"has 3 rules: a_knee \(line 5\), b_knee \(line 6\), c_knee \(line 7\)"):
        import_page(written(tmp_path, labelled))
    two = METHOD_PAGE.replace("{gap}", "\nand ")
    pages = page_of(tmp_path, two + two.replace("removal of a plate", "insertion of a plate"))
    with pytest.raises(
        InputError, match=r"2 rules: Made-up removal of a plate \(line 19\), Made-up insertion of a plate"
    ):
        import_page(pages)


# Bad input: one message with line and remedy, nothing written

BAD = {
    "no SQL": ("Words only.", "contains no SQL"),
    "two rules": (f"WHEN {APC} THEN 'x_y'\nWHEN {APC} THEN 'x_z'", "lines 5 and 6: the page has 2 rules"),
    "unbalanced brackets": (f"WHEN {APC}\nAND apcs.Sex = '1') OR (apcs.Sex = '2'\nTHEN 'x_y'", "line 6: unbalanced"),
    "unknown field": (f"WHEN {APC}\nAND apcs.Admision_Metod = '11'\nTHEN 'x_y'", "line 6: unknown field"),
    "unknown spell field": (f"WHEN {APC}\nAND der.Spell_Secondary_Diagnosis like '%M54%'\nTHEN 'x_y'", "unknown field"),
    "impossible age": (f"WHEN {APC}\nAND apcs.Age_At_Start_of_Spell_SUS between 19 and 1200\nTHEN 'x_y'", "line 6: an imp"),
    "backward ages": (f"WHEN {APC}\nAND apcs.Age_At_Start_of_Spell_SUS between 120 and 19\nTHEN 'x_y'", "impossible age"),
    "a code that is no code": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%54M%'\nTHEN 'x_y'", "line 6: an invalid code"),
    "a blank in a pattern": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%M5 4%'\nTHEN 'x_y'", "an invalid code"),
    "too long a code": (f"WHEN {APC}\nAND apcs.der_diagnosis_all like '%M5455555%'\nTHEN 'x_y'", "an invalid code"),
    "left too short": ("WHEN left(der.Spell_Dominant_Procedure,3) like '%W852%'\nTHEN 'x_y'", "line 5: the first 3 char"),
    "first digits of two ages": (
        f"WHEN {APC}\nAND left(isnull(apcs.Age_At_Start_of_Spell_SUS,der.Der_Age_at_CDS_Activity_Date),1) >= 5\nTHEN 'x_y'",
        "line 6: left() of age",
    ),
    "first characters of one of two columns": (
        f"WHEN {APC}\nAND left(isnull(apcs.Sex,apcs.Administrative_Category),1) = '1'\nTHEN 'x_y'",
        "line 6: ISNULL of two columns",
    ),
    "two ages or blank text": (
        f"WHEN {APC}\nAND isnull(isnull(apcs.Age_At_Start_of_Spell_SUS,der.Der_Age_at_CDS_Activity_Date),'') >= 5\nTHEN 'x_y'",
        "line 6: an age cannot be blank",
    ),
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
        f"WHEN {APC}\nTHEN 'x_y'\nExclusions\nAND apcs.Sex = '1'\nOR apcs.Sex = '2'", "line 8: a part that continues"
    ),
    "half SQL": (f"WHEN {APC}\nTHEN 'x_y'\nExclusions\nnot like '%C[0-9]%'", "looks like SQL"),
    "a bad label": (f"WHEN {APC}\nTHEN 'x y'", "--id"),
    "a lost AND at the end of a line": (f"WHEN {APC}\napcs.Sex = '1'\nTHEN 'x_y'", "line 6: AND or OR is missing before"),
    "a lost AND at a blank line": (f"{APC}\n\napcs.Sex = '1'", "line 7: AND or OR is missing before this line"),
    "a lost AND after the label": (f"WHEN {APC}\nTHEN 'x_y'\n\napcs.Sex = '1'", "line 8: AND or OR is missing before"),
    "a lost AND within a line": (f"WHEN {APC}\nAND (apcs.Sex = '1' apcs.Sex = '2')\nTHEN 'x_y'", "before 'apcs'"),
    "a line of 5,000 characters": (f"WHEN {APC}\nAND {'a' * 5_000}\nTHEN 'x_y'", "line 6: the line has 5,004 characters"),
    "1,000 nested brackets": (f"WHEN {APC}\nAND {'(' * 1_000}apcs.Sex = '1'{')' * 1_000}\nTHEN 'x_y'", "nested too deeply"),
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


def test_the_page_of_bad_input_lists_these() -> None:
    text = (Path(__file__).parent.parent / "docs" / "bad-input.md").read_text(encoding="utf-8")
    section = text.split("## Published pages\n")[1].split("\n## ")[0]
    rows = [re.fullmatch(r"\| (.+?) \| (.+) \|", line) for line in section.splitlines() if line.startswith("| ")]
    listed = {row[1]: re.findall("`(.+?)`", row[2]) for row in rows[1:] if row}
    assert list(listed) == list(BAD)
    for name, said in listed.items():
        assert said and all(part in BAD[name][1] for part in said), name


def test_the_command_writes_both_files_once(tmp_path: Path) -> None:
    page, out = str(PAGES["2S_lower_back_imaging"]), str(tmp_path / "policies")
    answer = call("import", page, "--out", out, "--id", "imaging_read")
    assert answer["exit"] == 0 and answer["policy"]["id"] == "imaging_read"
    assert [Path(name).name for name in answer["files"]] == ["imaging_read.yml", "imaging_read.reconciliation.md"]
    assert {finding["kind"] for finding in answer["reconciliation"]} >= {"missing values", "unbound alias"}
    again = call("import", page, "--out", out, "--id", "imaging_read")
    assert again["exit"] == 2 and "already exists" in again["error"]["message"]
    listed = call("list", "--policies-dir", out)
    assert {policy["id"]: bool(policy["to_complete"]) for policy in listed["policies"]} == {
        "2S_lower_back_imaging": False, "2Y_back_pain_fusion": False, "CMICB_Clin087": False,
            "DDICB_back_pain_fusion": False, "HNYICB_back_pain_fusion": False, "imaging_read": True,
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


def test_the_schema_and_the_model_know_the_same_operators() -> None:
    schema = json.loads(resource("conf", "policy.schema.json").read_text(encoding="utf-8"))
    besides = {"field", "left", "directly", "any_of", "all_of", "none_of"}
    assert {*schema["$defs"]["test"]["properties"]} - besides == {*ALL_OPERATORS}


@pytest.mark.parametrize(
    "document",
    [
        {"field": "any_diagnosis", "contains": ["M5[45]", "M17"]},
        {"field": "primary_diagnosis", "left": 4, "starts_with": ["M545"]},
        {"field": "sex", "in": ["1"]},
        {"field": "any_procedure", "followed_by": {"first": ["U13"], "then": ["Z66", "O16"]}},
        {"field": "any_procedure", "followed_by": {"first": ["U13"], "then": ["Z66"]}, "directly": False},
        {"field": "any_procedure", "followed_by": {"first": ["U13"], "then": ["Z66"]}, "directly": True},
        {"field": "age", "between": [0, 120]},
        {"field": "age", "at_least": 0},
        {"field": "age", "at_most": 0},
        {
            "none_of": [
                {"field": "age", "is_null": False},
                {"all_of": [{"any_of": [{"field": "age", "is_null": True}]}]},
            ]
        },
    ],
)
def test_a_definition_stores_a_test_as_the_file_has_it(document: dict[str, Any]) -> None:
    """Otherwise fingerprints would change, and old runs could not be replayed."""
    assert document_of(parse_test(document)) == document


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[19, 120]", "[120, 19]", ["line 11", "impossible age"]),
        ("[19, 120]", "[19, 1200]", ["line 11", "impossible age"]),
        ("to: 2022-04-01", "to: 2022-05-01", ["line 13", "overlap", "to: 2022-04-01"]),
        ("id: age", "id: procedure", ["line 11", "'procedure' appears twice"]),
        ('"W852"]}}\n      - {id: age', '"85W2"]}}\n      - {id: age', ["line 10", "invalid code"]),
        ("field: age,", "field: attendance_status,", ["line 11", "attendance_status"]),
        ("between: [19, 120]", 'in: ["19"]', ["line 11", "in cannot be used with age"]),
        ("between: [19, 120]", "between: [19, 120], at_least: 19", ["line 11", "has 2 operators"]),
        ("field: age, between: [19, 120]", 'field: any_diagnosis, contains: ["M17[^0]"]', ["line 11", "comma"]),
        ("field: age, between: [19, 120]", 'field: any_diagnosis, left: 3, contains: ["M17"]', ["line 11", "left"]),
        ("field: age, between: [19, 120]", 'field: sex, in: ["[12]"]', ["line 11", "whole codes"]),
        ("field: age, between: [19, 120]", "field: age, at_least: 19, left: 4", ["line 11", "left cannot be used"]),
        ("between: [19, 120]", "at_least: 19, directly: false", ["line 11", "directly cannot be used"]),
        (
            "field: age, between: [19, 120]",
            'field: primary_diagnosis, followed_by: {first: ["M51"], then: ["M54"]}',
            ["line 11", "followed_by cannot be used with primary_diagnosis", "any_diagnosis or any_procedure"],
        ),
        (
            "field: age, between: [19, 120]",
            "any_of: [{field: age, at_least: 19}], at_most: 64",
            ["line 11", "not two of these"],
        ),
        ("scope: true, require: {", "scope: true, exclude: {", ["revision one", "scope procedure has no `require`"]),
        ("scope: true, require: {", "scope: true, coding: not_codable, because: x}  # {", ["no `require`"]),
        ("2020-04-01", "2020-04-31", ["line 8", "not a date"]),
        ("clauses:", "regime: [{day: 2021-02-30, words: x}]\n    clauses:", ["line 9", "'2021-02-30' is not a date"]),
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
