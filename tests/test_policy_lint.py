"""Policies checked against the code books: what is reported, what to change, and no false alarm on what ships."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from calling import answer_of

from ebi_spark.errors import InputError
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.lines import PolicyLines
from ebi_spark.policies.patterns import canonical, why_not_a_code, written_out
from jobs import policy as job

POLICY = """id: made_up
title: Made up
dataset: apc
source: {{publisher: Nobody, page: None}}
default_reading: as_published
revisions:
  - revision: one
    in_force: {{from: {start}}}
    clauses:
      - {{id: procedure, scope: true, require: {{field: dominant_procedure, starts_with: ["W852"]}}}}
      - {{id: tried, words: "{words}", {clause}}}
"""


call = partial(answer_of, job.main)


def linted(folder: Path, clause: str, words: str = "", start: str = "2016-04-01", *options: str) -> dict[str, Any]:
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "made_up.yml").write_text(POLICY.format(start=start, words=words, clause=clause))
    return call("lint", "made_up", "--policies-dir", str(policies), *options)


def test_what_ships_has_nothing_to_change() -> None:
    answer = call("lint")
    assert (answer["exit"], answer["findings"]) == (0, [])
    assert set(answer["policies"]) >= {"2S_lower_back_imaging", "2Y_back_pain_fusion"}
    assert answer["patterns"] > 100


@pytest.mark.parametrize(
    ("clause", "words", "kind", "pattern", "what"),
    [
        ('exclude: {field: any_diagnosis, contains: ["M547"]}', "", "dead", "M547", "M540"),
        ('exclude: {field: any_diagnosis, contains: ["U216"]}', "", "wrong system", "U216", "any_procedure"),
        ('exclude: {field: any_procedure, contains: ["M545"]}', "", "wrong system", "M545", "primary_diagnosis"),
        ('exclude: {field: treatment_function, in: ["M545"]}', "", "wrong field", "M545", "any_diagnosis"),
        ('exclude: {field: any_diagnosis, contains: ["M41[0-9]"]}', "", "part-dead class", "M41[0-9]",
         "M410, M411, M412, M413, M414, M415, M418, M419"),
        ('exclude: {field: any_diagnosis, contains: ["C[0-9][0-9]"]}', "cancer", "part-dead class", "C[0-9][0-9]", "class"),
        ('exclude: {field: any_diagnosis, contains: ["M45"]}', "", "category without X", "M45", "M45X"),
        ('exclude: {field: primary_diagnosis, in: ["C61"]}', "", "category without X", "C61", "C61X"),
        ('exclude: {field: primary_diagnosis, in: ["M54"]}', "", "dead", "M54", "starts_with"),
        ('exclude: {field: any_procedure, contains: ["A515"]}', "", "came into use", "A515", "2020-21"),
        ('exclude: {field: any_procedure, contains: ["M164"]}', "", "went out of use", "M164", "M164"),
        ('require: {field: primary_diagnosis, starts_with: ["M17"]}', "M17.0 and M17.1 only", "more than the words name",
         "M17", "narrow"),
        ('require: {none_of: [{field: any_diagnosis, contains: ["M547"]}]}', "", "dead", "M547", "M54"),
    ],
)  # fmt: skip
def test_findings(clause: str, words: str, kind: str, pattern: str, what: str, tmp_path: Path) -> None:
    answer = linted(tmp_path, clause, words)
    assert (answer["exit"], answer["outcome"]) == (1, "failed"), answer
    assert [(f["kind"], f["pattern"]) for f in answer["findings"]] == [(kind, pattern)]
    finding = answer["findings"][0]
    assert (finding["policy"], finding["revision"], finding["clause"]) == ("made_up", "one", "tried")
    assert what in finding["change"] + finding["text"] and finding["change"]


@pytest.mark.parametrize(
    ("clause", "words", "start"),
    [
        ('exclude: {field: any_diagnosis, contains: ["C[0-9][0-9]", "D0", "D3[789]", "D4[0-8]"]}',
         "C00-C99, D00-D09 and D37-D48", "2016-04-01"),
        ('exclude: {field: any_diagnosis, contains: ["M45X", "T08X"]}', "", "2016-04-01"),
        # In use before and throughout the revision; a category that was there takes its new codes in.
        ('exclude: {field: any_procedure, contains: ["A515"]}', "", "2021-04-01"),
        ('exclude: {field: any_procedure, contains: ["V44", "A51"]}', "", "2016-04-01"),
        # Used too seldom for a year without it to mean anything.
        ('exclude: {field: any_diagnosis, contains: ["A001"]}', "", "2016-04-01"),
        ('require: {field: primary_diagnosis, starts_with: ["M170", "M171"]}', "M17.0-M17.1", "2016-04-01"),
        ('require: {field: admission_method, in: ["11", "2A"]}', "", "2016-04-01"),
    ],
)  # fmt: skip
def test_no_false_alarm(clause: str, words: str, start: str, tmp_path: Path) -> None:
    assert linted(tmp_path, clause, words, start)["findings"] == []


def test_a_code_book_of_ones_own(tmp_path: Path) -> None:
    clause = 'exclude: {field: any_diagnosis, contains: ["M547"]}'
    book = tmp_path / "mine.csv"
    book.write_text("system,code,title,first_year,last_year\nicd10,M54.7,Made up,2012-13,2023-24\n")
    assert linted(tmp_path, clause, "", "2016-04-01", "--codes", str(book))["findings"] == []
    for text, words in [
        ("code,title,first_year,last_year\nM547,x,2012-13,2023-24\n", ["line 2", "system"]),
        ("code,title\nM547,x\n", ["first_year"]),
        ("system,code,title,first_year,last_year\nicd10,M547,x,2012,2023-24\n", ["line 2", "financial years"]),
    ]:
        book.write_text(text)
        answer = linted(tmp_path, clause, "", "2016-04-01", "--codes", str(book))
        assert answer["exit"] == 2
        assert all(word in f"{answer['error']['message']} {answer['error']['remedy']}" for word in [str(book), *words])
    assert linted(tmp_path, clause, "", "2016-04-01", "--codes", str(tmp_path / "none.csv"))["exit"] == 2


def test_the_code_books_are_as_published() -> None:
    books = code_books()
    # Rows of conf/reference/README.md's sources, less their headers; U05.5 is MRI of spine.
    assert {system: len(book.codes) for system, book in books.items()} == {"icd10": 12379, "opcs4": 9857}
    assert books["opcs4"].codes["U055"].title == "Magnetic resonance imaging of spine"
    assert (books["icd10"].first_year, books["icd10"].last_year) == ("2012-13", "2023-24")


@pytest.mark.parametrize(
    ("pattern", "codes"),
    [
        ("M54[59]", ["M545", "M549"]),
        ("V3[5-7]", ["V35", "V36", "V37"]),
        ("[AB]0", ["A0", "B0"]),
        ("M17[^0]", ["M17[^0]"]),
    ],
)
def test_patterns_written_out(pattern: str, codes: list[str]) -> None:
    assert written_out(pattern) == codes


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("M1[1-36]", "M1[1236]"),
        ("C[0-9]", "C[0-9]"),
        ("C[0123456789]", "C[0-9]"),
        ("A[7]", "A7"),
        ("M[^0-2]", "M[^012]"),
    ],
)
def test_canonical_patterns(pattern: str, form: str) -> None:
    assert canonical(pattern) == form


@pytest.mark.parametrize("code", ["M545", "C[0-9][0-9]", "D0", "M45X", "T08X", "C", "M54595", "M17[^0]", "M_7"])
def test_codes(code: str) -> None:
    assert why_not_a_code(code) is None


@pytest.mark.parametrize("code", ["5M45", "MM45", "M5X4", "M545999", "[0-9]54", "M54[A-C]", ""])
def test_no_codes(code: str) -> None:
    assert why_not_a_code(code)


def test_an_unknown_policy(tmp_path: Path) -> None:
    answer = call("lint", "2Y_back_pain_fusoin")
    assert answer["exit"] == 2 and "2Y_back_pain_fusion" in answer["error"]["remedy"]
    with pytest.raises(InputError):
        code_books((tmp_path / "none.csv",))


FAULTY = """id: faulty
titel: Made up
dataset: apc
source: {publisher: Nobody, page: None}
default_reading: as_publshed
revisions:
  - revision: one
    in_force: {from: 2020-04-31}
    clauses:
      - {id: procedure, scope: true, require: {field: dominant_procedure, starts_with: ["W852"]}}
      - {id: age, require: {field: age, between: [120, 19]}}
      - {use: global_cancr}
      - {id: empty}
      - {id: age, exclude: {field: sex, in: ["1"]}}
"""

EXTENDED = """id: extended
title: Made up
extends: faulty
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - revision: one
    in_force: {from: 2020-04-30}
    clauses:
      - {id: men, exclude: {field: sex, in: ["1"]}}
"""


def test_all_faults_of_all_files_are_listed_with_their_lines(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yml").write_text(FAULTY)
    (folder / "b.yml").write_text("id: [\n")
    (folder / "c.yml").write_text(EXTENDED)
    clause = 'exclude: {field: any_diagnosis, contains: ["M545", "M547"]}'
    (folder / "d.yml").write_text(POLICY.format(start="2016-04-01", words="", clause=clause))
    answer = call("lint", "--policies-dir", str(folder))
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    faults = [(Path(item["file"]).name, item["line"], item["problem"]) for item in answer["faults"]]
    assert faults == [
        ("a.yml", 2, "unknown key 'titel', did you mean 'title'?"),
        ("a.yml", 5, "default_reading: 'as_publshed' is not one of the choices"),
        ("a.yml", 8, "'2020-04-31' is not a date"),
        ("a.yml", 11, "an impossible age: [120, 19]"),
        ("a.yml", 12, "revision one: there is no shared clause 'global_cancr'"),
        ("a.yml", 13, "revision one: the clause empty has no test"),
        ("a.yml", 14, "the clause id 'age' appears twice"),
        ("b.yml", 2, faults[7][2]),
    ]  # the policy that extends the faulty one has no fault of its own
    assert all(item["remedy"] for item in answer["faults"])
    # Codes are checked in the files that can be loaded.
    assert [(item["policy"], item["pattern"], item["line"]) for item in answer["findings"]] == [("made_up", "M547", 11)]
    assert answer["findings"][0]["file"].endswith("d.yml")
    message = call("list", "--policies-dir", str(folder))["error"]["message"]
    assert "a.yml, line 2: unknown key 'titel', did you mean 'title'? Also wrong: line 5: default_reading" in message
    assert message.endswith("; and 1 more. 1 more file has faults: `ebi-spark policy lint` lists all")


def test_a_fault_that_revisions_share_is_listed_once(tmp_path: Path) -> None:
    """Both revisions have the clauses of the first by an alias."""
    text = POLICY.format(start="2016-04-01", words="", clause="missing: fals, coding: not_codable")
    text = text.replace("from: 2016-04-01", "from: 2016-04-01, to: 2020-04-01")
    text += "  - revision: two\n    in_force: {from: 2020-04-01}\n    clauses: *clauses\n"
    (tmp_path / "a.yml").write_text(text.replace("    clauses:\n", "    clauses: &clauses\n"))
    [fault] = call("lint", "--policies-dir", str(tmp_path))["faults"]
    assert "'fals' is not one of the choices" in fault["problem"] and "revisions.0" in fault["problem"]


def test_yaml_that_is_not_closed_says_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text('id: x\ntitle: "abc\ndataset: apc\n')
    (tmp_path / "b.yml").write_text("\tid: x\n")
    faults = call("lint", "--policies-dir", str(tmp_path))["faults"]
    assert [fault["line"] for fault in faults] == [4, 1]
    assert faults[0]["problem"].endswith("which begins in line 2") and "begins" not in faults[1]["problem"]
    assert all("spaces instead of tabs" in fault["remedy"] for fault in faults)


def test_two_files_of_one_id(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(POLICY.format(start="2016-04-01", words="", clause="coding: not_codable"))
    [fault] = call("lint", "--policies-dir", str(tmp_path))["faults"]
    assert (Path(fault["file"]).name, fault["line"]) == ("b.yml", 1) and "a.yml" in fault["problem"]


def test_the_line_of_a_code(tmp_path: Path) -> None:
    path = tmp_path / "lines.yml"
    path.write_text("""id: x
revisions:
  - revision: one
    clauses: &clauses
      - id: back
        words: M547
        exclude:
          field: any_diagnosis
          contains:
            - M545
            - M547
    readings:
      as_intended:
        decisions:
          - id: more
            add:
              id: added
              exclude: {field: any_diagnosis, contains: ["M548"]}
  - revision: two
    clauses: *clauses
""")
    lines = PolicyLines(path)
    places = [("one", "back", "M545"), ("one", "added", "M548"), ("one+other", "back", "M545"), ("one", "back", "Z00"),
              ("two", "back", "M545"), ("one", "other", "M545"), ("three", "back", "M545")]  # fmt: skip
    assert [lines.find(*place) for place in places] == [10, 18, 10, 5, 10, None, None]
    assert PolicyLines("").find("one", "back", "M545") is None
