"""Local policies on top of a national one, each decision flipped alone, a hundred policies at once: by hand, and beside a
plain evaluation of every clause.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import answer_of
from clauses import passes
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.flags.apply_policies import _distinct_tests, apply_policies, scope_totals
from ebi_spark.flags.attrition import attrition
from ebi_spark.flags.sensitivity import comparison, sensitivity
from ebi_spark.geography.boards import EVER, NEVER, members
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.code_books import SYSTEM_OF, code_books
from ebi_spark.policies.code_prefilter import CodePrefilter, code_prefilter
from ebi_spark.policies.compile import compile_test
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.policies.model import Policy, parse_test
from ebi_spark.policies.patterns import one_of
from ebi_spark.policies.reminders import reminders, review_day
from ebi_spark.policies.simplify import leaves
from ebi_spark.rates.activity import activity_rates, prepare_flags
from ebi_spark.rates.periods import Period
from ebi_spark.rates.population import read_population
from ebi_spark.small_frames import small_frame
from ebi_spark.stages.flag import Flag
from ebi_spark.stages.run_context import RunContext
from ebi_spark.tables.gold import POLICY_COMPARISON
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE
from jobs import policy as job

NATIONAL, DERBY, MERSEY = "2Y_back_pain_fusion", "DDICB_back_pain_fusion", "CMICB_Clin087"
HUMBER = "HNYICB_back_pain_fusion"
CONFIG = RunConfig(lake=LakeLocation())
AREAS = Lookups(practices=None, lsoas=None, known_codes=("15M", "01F", "02P"), order=("commissioner",))


call = partial(answer_of, job.main)


# What local policies are


def test_shipped_local_policies_extend_the_national_one() -> None:
    policies = {policy.id: policy for policy in load_policies()}
    earlier, later = policies[NATIONAL].revisions
    autumn = date(2024, 9, 1)
    for name, board, number, national, start, end, dated in (
        (DERBY, "QJ2", 0, later, autumn, None, "inferred"),
        (HUMBER, "QOQ", 0, later, autumn, None, "inferred"),
        # It follows the national policy, so its one revision is split. A passed review date is no end.
        (MERSEY, "QYG", 0, earlier, date(2024, 3, 1), autumn, "month"),
        (MERSEY, "QYG", 1, later, autumn, None, "month"),
    ):
        policy, revision = policies[name], policies[name].revisions[number]
        assert (policy.extends, policy.boards, policy.dataset) == (NATIONAL, (board,), "apc")
        # The end of prior approval is a day of the regime.
        assert (revision.start, revision.end, revision.dated) == (start, end, dated)
        for reading, above in national.readings.items():
            own = {clause.id: clause for clause in revision.readings[reading].clauses}
            assert all(
                (own[c.id].kind, own[c.id].test, own[c.id].missing) == (c.kind, c.test, c.missing)
                for c in above.clauses
            )
            added = [clause for clause in own.values() if clause.id not in {c.id for c in above.clauses}]
            assert all(clause.source_text and clause.coding for clause in added)
    assert policies[DERBY].revisions[0].regime == (
        (date(2024, 3, 18), "Prior approval ended; the policy itself did not"),
    )
    assert [revision.name for revision in policies[MERSEY].revisions] == ["2024-03", "2024-03+2024-09"]
    assert str(policies[MERSEY].source["review"]).startswith("2029-03")
    assert all(policy.source["last_checked"] and policy.source["review"] for policy in policies.values())
    codings = {c.id: c.coding for c in policies[MERSEY].revisions[0].readings["as_published"].clauses}
    assert (codings["congenital_anomaly"], codings["technology_appraisal"]) == ("not_applicable", "not_codable")
    listed = {item["id"]: item for item in call("list")["policies"]}
    assert listed[DERBY]["boards"] == ["QJ2"] and listed[NATIONAL]["boards"] == []


# What must stand in the official title of every code that a clause looks for: taken from its words, not from the codes.
TITLES = {
    "lower_limb_pain": "sciatica|radiculopathy|nerve root",
    "inflammatory": "spondylitis|sacroiliitis|inflammatory",
    "neoplasm": "neoplastic", "spinal_metastases": "neoplastic",
    "infection": "osteomyelitis|infecti|discitis|tuberculosis",
    "osteoporotic_collapse": "osteoporosis.* pathological fracture|fracture of vertebra|collapsed",
    "pregnancy": "pregnancy", "sacroiliac": "sacro", "somatic_dysfunction": "dysfunction",
    "adjacent_segment": "arthrodesis", "failed_back_surgery": "postlaminectomy|arthrodesis",
    "symptomatic_deformity": "flatback|lordosis|kyphosis|scoliosis|correction|instrument|spinal growing",
    "scoliosis_surgery": "scoliosis|correction|instrument|spinal growing",
    "instability": "instabilit", "trauma": "fracture|dislocation|traumatic", "spinal_injury": "fracture|dislocation|traumatic",
    "nerve_compression": "stenosis", "cord_compression": "cord compression", "cauda_equina": "cauda equina",
    "decompression_adjunct": "decompression|foraminotomy|facetectomy|corpectomy|intervertebral disc|fracture of spine",
}  # fmt: skip


def test_official_titles_say_what_the_clauses_say() -> None:
    books, seen = code_books(), set()
    for policy in load_policies():
        for clause in {c for r in policy.revisions for reading in r.readings.values() for c in reading.deciding}:
            for leaf in leaves(clause.test) if clause.test and clause.id in TITLES else ():
                for code in leaf.codes:
                    for found in books[SYSTEM_OF[leaf.field]].found(leaf.operator, code, leaf.left):
                        assert re.search(TITLES[clause.id], found.title, re.IGNORECASE), (clause.id, found)
                        seen.add(clause.id)
    assert seen == set(TITLES)


def test_the_national_revision_of_september_2024() -> None:
    """The coding of August 2022 is carried over; only the words of guidance_coded are those of the excerpt."""
    [policy] = load_policies(only=[NATIONAL])
    earlier, later = policy.revisions
    assert (earlier.end, later.start, later.dated) == (date(2024, 9, 1), date(2024, 9, 1), "month")
    for reading in ("as_published", "as_intended"):
        assert later.readings[reading].clauses == earlier.readings[reading].clauses
        assert later.readings[reading].definition["coding_seen"] is False
    before, after = (revision.readings["guidance_coded"] for revision in (earlier, later))
    assert after.definition["words_seen"] == "excerpt" and "words_seen" not in before.definition
    ids = [{clause.id for clause in reading.deciding} for reading in (before, after)]
    not_seen = {"inflammatory", "pregnancy", "adjacent_segment", "failed_back_surgery", "symptomatic_deformity",
                "instability", "trauma"}  # fmt: skip
    assert ids[0] - ids[1] == not_seen
    assert ids[1] - ids[0] == {"lower_limb_pain", "scoliosis_surgery", "nerve_compression"}
    # Each of them is a decision that no reading makes: made alone, from any reading, it adds the clause of August 2022, and is counted.
    flips = {(flip.base, flip.clause): flip for flip in later.flips if flip.decision.endswith("_not_seen_in_excerpt")}
    assert {clause for _, clause in flips} == not_seen and len(flips) == 21
    of_2022 = {clause.id: clause.outcome_parts for clause in before.clauses}
    for (_, clause), flip in flips.items():
        assert (flip.source, flip.undone) == ("sensitivity", False)
        assert flip.clauses[:-1] == later.readings[flip.base].clauses
        assert flip.clauses[-1].outcome_parts == of_2022[clause]
    # Spondylolisthesis stays excluded in every reading.
    for revision in policy.revisions:
        for reading in revision.readings.values():
            assert any("M431" in leaf.codes for c in reading.deciding if c.test for leaf in leaves(c.test))


FOLLOWS = """id: made_up
title: A national policy with three revisions
dataset: apc
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - {revision: a, in_force: {from: 2020-04-01, to: 2021-04-01}, clauses: [&scope {id: s, scope: true, words: S,
     require: {field: dominant_procedure, starts_with: [V382]}}, {id: old, words: O, exclude: {field: sex, in: ["1"]}}]}
  - {revision: b, in_force: {from: 2021-04-01, to: 2022-04-01}, clauses: [*scope, {id: new, words: N, exclude: {field: sex, in: ["2"]}}]}
  - {revision: c, in_force: {from: 2023-04-01}, clauses: [*scope, {id: last, words: L, exclude: {field: sex, in: ["9"]}}]}
---
id: board
extends: made_up
boards: [QJ2]
title: A board
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - revision: x
    in_force: {from: 2020-07-01, to: 2023-10-01}
    follow_national: true
    clauses: [{id: own, words: Own, coding: not_codable}]
  - revision: y
    in_force: {from: 2023-10-01}
    clauses: [{id: own, words: Own, coding: not_codable}]
"""


def test_a_local_revision_that_follows_is_split_where_the_national_policy_changes(tmp_path: Path) -> None:
    national, board = FOLLOWS.split("---\n")
    (tmp_path / "made_up.yml").write_text(national)
    (tmp_path / "board.yml").write_text(board)

    def parts() -> list[tuple[str, str, str, str]]:
        [policy] = load_policies([tmp_path], only=["board"])
        return [(r.name, str(r.start), str(r.end), r.readings["as_published"].clauses[1].id) for r in policy.revisions]

    # From April 2022 to March 2023 no national revision is in force, so the local policy has none to read records with.
    assert parts() == [
        ("x", "2020-07-01", "2021-04-01", "old"), ("x+b", "2021-04-01", "2022-04-01", "new"),
        ("x+c", "2023-04-01", "2023-10-01", "last"), ("y", "2023-10-01", "None", "last"),
    ]  # fmt: skip
    (tmp_path / "board.yml").write_text(board.replace("    follow_national: true\n", ""))
    assert parts() == [("x", "2020-07-01", "2023-10-01", "old"), ("y", "2023-10-01", "None", "last")]
    # A national revision that has ended without a successor is not inherited.
    for text, line in ((board.replace("2020-07-01", "2022-05-01"), 9), (board.replace("from: 2023-10-01", "from: 2022-10-01")
                       .replace("to: 2023-10-01", "to: 2022-10-01"), 13)):  # fmt: skip
        (tmp_path / "board.yml").write_text(text)
        error = call("show", "board", "--policies-dir", str(tmp_path))["error"]
        assert f"line {line}: made_up has no revision in force on 2022-" in error["message"], error
        assert "its revision b ended on 2022-04-01" in error["message"] and "correct `from`" in error["remedy"]
    (tmp_path / "made_up.yml").write_text(
        national.replace("clauses: [*scope", "follow_national: true, clauses: [*scope", 1)
    )
    error = call("show", "made_up", "--policies-dir", str(tmp_path))["error"]
    assert "only for a policy that extends another" in error["message"]


def test_reminders_of_sources() -> None:
    sources = {
        "old": {"last_checked": "2025-01-31", "review": "none (the page says so)"},
        "late": {"last_checked": "2026-01-01", "review": "2026-02 (at the latest)"},
        "fresh": {"last_checked": "2026-03-01", "review": "2026-03"},
        "unmarked": {"review": "March 2020"},
    }
    assert [tuple(found) for found in reminders(sources, date(2026, 3, 1))] == [
        ("late", "the review that its source announces was due by 2026-02-28"),
        ("old", "its source was last checked on 2025-01-31, more than a year ago"),
    ]
    # The last day of the month, and a year to the day, are in time.
    assert reminders({"a": {"last_checked": "2025-03-01", "review": "2026-03-31"}}, date(2026, 3, 1)) == []
    assert len(reminders({"a": {"last_checked": "2025-03-01", "review": "2026-03"}}, date(2026, 4, 1))) == 2
    assert review_day("2028-02 (…)") == date(2028, 2, 29)
    assert [review_day(text) for text in ("2026-13", "2026-02-31", "none", "", "2026")] == [None] * 5


# What is refused, with file, line and remedy, and nothing written


OVERLAY = """id: local
extends: 2Y_back_pain_fusion
boards: [QJ2]
title: Local
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - revision: "1"
    in_force: {from: 2024-04-01}
    clauses:
      - {id: stenosis, words: Stenosis, exclude: {field: any_diagnosis, contains: ["M480"]}, missing: passes}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "remedy"),
    [
        ("2Y_back_pain_fusion", "2Y_back_pain_fusoin", 2, "there is no policy '2Y_back_pain_fusoin'", "2Y_back_pain_fusion"),
        ("extends: 2Y_back_pain_fusion", "extends: local", 2, "in a circle: local → local", "remove one"),
        ("[QJ2]", "[QJ22]", 3, "no integrated care board 'QJ22'", "did you mean QJ2 (NHS Derby"),
        ("id: stenosis", "id: age", 11, "'age' appears twice: 2Y_back_pain_fusion", "different id"),
        ("M480", "MM80", 11, "an invalid code", "correct"),
        ("title: Local", "title: Local\ndataset: op", 5, "has the dataset apc", "leave `dataset` out"),
        ("extends: 2Y_back_pain_fusion\n", "", 1, "'dataset' is missing", "add `dataset"),
        ("exclude: {field: any_diagnosis, contains: [\"M480\"]}", "require: {field: age, between: [19, 300]}", 11,
         "an impossible age", "0 to 120"),
        (', missing: passes}\n', ', missing: passes}\n  - revision: "2"\n    in_force: {from: 2023-04-01, to: 2024-05-01}\n'
         '    clauses: [{id: x, words: X, coding: not_codable}]\n', 9, "overlap", "end 2 with"),
        ("missing: passes}", "missing: passes}\n      - {id: y, words: Y, covered_by: nothing}", 12, "not a clause with a test",
         "did you mean"),
        ("missing: passes}", "missing: passes}\n      - {id: y, words: Y, covered_by: y}", 12, "not a clause with a test", "did you mean"),
        ("missing: passes}", "missing: passes}\n    sensitivities: [{id: z, words: Z, because: Z, clause: nothing, missing: fails}]",
         12, "there is no clause 'nothing'", "did you mean"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, old: str, new: str, line: int, message: str, remedy: str) -> None:
    assert old in OVERLAY
    (tmp_path / "local.yml").write_text(OVERLAY.replace(old, new, 1))
    error = call("show", "local", "--policies-dir", str(tmp_path))["error"]
    assert message in error["message"] and remedy in error["remedy"], error
    assert f"local.yml, line {line}" in error["message"], error
    assert [path.name for path in tmp_path.iterdir()] == ["local.yml"]


def test_a_circle_of_two_and_a_chain_of_three(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(OVERLAY.replace("2Y_back_pain_fusion", "second"))
    (tmp_path / "b.yml").write_text(OVERLAY.replace("id: local", "id: second").replace("2Y_back_pain_fusion", "local"))
    error = call("list", "--policies-dir", str(tmp_path))["error"]
    assert "in a circle: local → second → local" in error["message"]
    second = OVERLAY.replace("id: local", "id: second").replace("id: stenosis", "id: other")
    (tmp_path / "b.yml").write_text(second)
    policy = load_policies([tmp_path], ["local"])[0]
    ids = [clause.id for clause in policy.revisions[0].readings["as_published"].clauses]
    assert ids[-2:] == ["other", "stenosis"] and ids[0] == "procedure"


def test_members_of_a_board_over_time() -> None:
    derby = {code: (since, until) for code, since, until in members("QJ2")}
    # The sub-ICB location, and the group of the same code before it.
    assert derby == {"15M": (EVER, NEVER)}
    assert len(members("QJ2")) == 1
    mersey = {code for code, _, _ in members("QYG") if len(code) == 3}
    assert mersey == {"01F", "01J", "01T", "01V", "01X", "02E", "12F", "27D", "99A"}
    assert ("D4U1Y", EVER, date(2026, 4, 1)) in members("QNQ")  # ended with its board's old shape


# Records, judged by hand

BASE: dict[str, Any] = {
    "source_system": "sus_plus", "dataset": "apc", "financial_year": "2024-25", "activity_date": date(2024, 9, 3),
    "admission_date": date(2024, 9, 1), "dominant_procedure": "V382", "dominant_procedure_4": "V382",
    "primary_diagnosis": "M545", "diagnosis_codes": ",M545,", "procedure_codes": ",V382,", "age": 45, "age_years": 45,
    "admission_method": "11", "administrative_category": "01", "commissioner_code": "15M00", "sex": "1",
    "provider_code": "RXX",
}  # fmt: skip
# What differs from BASE; then, as published, the clauses that keep the local policy from flagging it (None: not judged by
# Derby's), and the decisions that alone would turn the national outcome from as_published and from as_intended.
CASES: list[tuple[dict[str, Any], list[str] | None, set[str], set[str]]] = [
    ({}, [], set(), set()),
    ({"diagnosis_codes": ",M545,M543,"}, ["lower_limb_pain"], {"lower_limb_pain_excluded"}, {"lower_limb_pain_excluded"}),
    ({"diagnosis_codes": ",M545,M461,"}, ["inflammatory", "sacroiliac"],
     {"inflammatory_not_seen_in_excerpt", "sacroiliac_excluded"}, {"inflammatory_not_seen_in_excerpt", "sacroiliac_excluded"}),
    ({"diagnosis_codes": ",M545,G550,M480,"}, ["neoplasm", "nerve_compression"],
     {"neoplasm_excluded", "nerve_compression_excluded"}, {"neoplasm_excluded", "nerve_compression_excluded"}),
    ({"procedure_codes": ",V382,V413,"}, ["symptomatic_deformity"],
     {"scoliosis_surgery_excluded", "symptomatic_deformity_not_seen_in_excerpt"},
     {"scoliosis_surgery_excluded", "symptomatic_deformity_not_seen_in_excerpt"}),
    ({"diagnosis_codes": None}, ["deformity"], {"unknown_diagnosis_kept"}, {"unknown_diagnosis_kept"}),
    ({"administrative_category": None}, ["private_patient"], {"missing_category_kept"}, {"missing_category_kept"}),
    ({"admission_method": None}, ["non_elective"], {"missing_method_kept"}, {"missing_method_kept"}),
    ({"admission_method": "31"}, [], {"elective_methods_only"}, {"elective_methods_only"}),
    ({"age": 121, "age_years": None}, ["age"], {"ages_over_120_kept"}, {"ages_over_120_kept", "unknown_age_kept"}),
    ({"age": 7003, "age_years": 0}, ["age"], {"baby_codes_read_as_years"}, {"baby_codes_read_as_years"}),
    ({"age": None, "age_years": None}, ["age"], {"unknown_age_kept"}, {"unknown_age_kept"}),
    # Two decisions would have to be made at once: neither alone turns anything.
    ({"administrative_category": None, "admission_method": None}, ["non_elective", "private_patient"], set(), set()),
    ({"commissioner_code": "02P00"}, None, set(), set()),
    ({"commissioner_code": None}, None, set(), set()),
    # Before there were boards: the group of the same code.
    ({"activity_date": date(2022, 6, 30), "admission_date": date(2022, 6, 30), "financial_year": "2022-23"}, [], set(),
     set()),
    ({"dominant_procedure": "V383", "dominant_procedure_4": "V383", "commissioner_code": "01F00",
      "diagnosis_codes": ",M545,S320,"}, None, {"trauma_not_seen_in_excerpt"}, {"trauma_not_seen_in_excerpt"}),
]  # fmt: skip


def test_local_policies_and_single_decisions_by_hand(spark: SparkSession) -> None:
    policies = load_policies(only=[NATIONAL, DERBY, MERSEY])
    chosen = revision_periods(policies, CONFIG)
    records = small_frame(
        spark, [BASE | change | {"record_id": str(n)} for n, (change, *_) in enumerate(CASES)], APC_SPELL.schema
    )
    judged = apply_policies(records, "apc", chosen, AREAS)
    rows = judged.collect()
    found = {(int(row["record_id"]), row["policy_id"], row["reading"]): row for row in rows}
    assert len(found) == len(rows)
    for number, (change, local, published, intended) in enumerate(CASES):
        row = found.get((number, DERBY, "as_published"))
        assert (row and row["failed_clauses"]) == local, change
        if row:
            assert row["back_cast"] == ("activity_date" in change or BASE["admission_date"] < date(2024, 9, 1))
        for reading, decisions in (("as_published", published), ("as_intended", intended)):
            turned = found[number, NATIONAL, reading]["decisive_decisions"]
            assert (len(turned), set(turned)) == (len(decisions), decisions), (change, reading)
        # What the excerpt no longer shows is decisive for the guidance too, unless another clause of it already fails.
        assert found[number, NATIONAL, "guidance_coded"]["decisive_decisions"] == (
            ["trauma_not_seen_in_excerpt"] if number == len(CASES) - 1 else []
        )
    assert {number for number, policy, _ in found if policy == MERSEY} == {len(CASES) - 1}
    assert found[len(CASES) - 1, MERSEY, "as_published"]["failed_clauses"] == ["trauma"]

    flags = small_frame(spark, [row.asDict() for row in rows], judged.schema).withColumn("run_id", F.lit("r"))
    totals = scope_totals(records, "apc", chosen)
    steps = attrition(flags, totals, chosen)
    compared = {
        (row["policy_id"], row["financial_year"], row["direction"], row["clause_id"]): row
        for row in comparison(flags, steps, chosen).where("reading = 'as_published'").collect()
    }

    def of(policy: str, year: str, clause: str) -> tuple[int, ...]:
        row = compared[policy, year, "national_only", clause]
        return row["records"], row["records_alone"], row["records_differing"], row["records_compared"]

    assert of(DERBY, "2024-25", "lower_limb_pain") == (1, 1, 4, 13)
    assert of(DERBY, "2024-25", "inflammatory") == (1, 0, 4, 13)
    assert of(DERBY, "2024-25", "deformity") == (0, 0, 4, 13)
    assert of(DERBY, "2022-23", "lower_limb_pain") == (0, 0, 0, 1)
    assert of(MERSEY, "2024-25", "trauma") == (1, 1, 1, 1)
    assert {key[2] for key in compared} == {"national_only"}
    effects = {
        (row["policy_id"], row["base_reading"], row["financial_year"], row["decision"]): row
        for row in sensitivity(flags, steps, chosen).collect()
    }

    def moved(decision: str, base: str = "as_published") -> tuple[Any, ...]:
        row = effects[NATIONAL, base, "2024-25", decision]
        return row["added"], row["removed"], row["flagged"], row["flagged_flipped"], row["direction"]

    assert moved("missing_category_kept") == (1, 0, 9, 10, "made")
    assert moved("elective_methods_only") == (0, 1, 9, 8, "made")
    assert moved("elective_methods_only", "as_intended") == (1, 0, 9, 10, "undone")
    assert moved("unknown_diagnosis_kept", "as_intended") == (0, 1, 9, 8, "undone")
    assert moved("pregnancy_not_seen_in_excerpt") == (0, 0, 9, 9, "made")
    guided = [(number, row) for (number, policy, reading), row in found.items()
              if (policy, reading, row["financial_year"]) == (NATIONAL, "guidance_coded", "2024-25")]  # fmt: skip
    still = sum(row["outcome"] == "flagged" for _, row in guided)
    assert moved("trauma_not_seen_in_excerpt", "guidance_coded") == (0, 1, still, still - 1, "made")
    assert moved("inflammatory_not_seen_in_excerpt", "guidance_coded") == (0, 0, still, still, "made")
    # The coding of August 2022 was seen whole, so nothing is added to its guidance.
    assert not [key for key in effects if key[1:3] == ("guidance_coded", "2022-23")]
    assert effects[NATIONAL, "as_published", "2022-23", "missing_category_kept"]["added"] == 0

    boards = {policy.id: list(policy.boards) for policy in policies if policy.boards}
    keys = steps.where("step = 0").select("policy_id", "revision", "reading", "financial_year").collect()
    periods = [Period(*key[:3], (key[3],)) for key in keys]
    population = read_population(CONFIG, ["2022-23", "2024-25"])
    placed = prepare_flags(flags, population.geography)
    rates = activity_rates(placed, periods, population, partial=False, boards=boards)
    shown = {
        (row["policy_id"], row["area_type"], row["area_code"]): (row["activity"], row["in_scope"], row["expected"], row["notes"])
        for row in rates.where("reading = 'as_published' AND financial_year = '2024-25'").collect()
    }  # fmt: skip
    derby = {key[1:]: value[:3] for key, value in shown.items() if key[0] == DERBY}
    assert derby == {
        ("icb", "QJ2"): (2, 13, None), ("sub_icb", "15M"): (2, 13, None), ("provider", "RXX"): (2, 13, None),
    }  # fmt: skip
    assert len([key for key in shown if key[0] == MERSEY]) == 1 + 9 + 1
    assert shown[NATIONAL, "england", "E92000001"][:2] == (9, 16)
    assert "local_policy" in shown[DERBY, "icb", "QJ2"][3] and "local_policy" not in shown[NATIONAL, "icb", "QJ2"][3]


def test_policies_applied_one_after_the_other_are_compared_as_if_together(
    lake_at: Callable[[Path], Lake], tmp_path: Path
) -> None:
    def compared(name: str, *runs: tuple[str, ...]) -> list[dict[str, Any]]:
        lake = lake_at(tmp_path / name)
        records = [BASE | change | {"record_id": str(n)} for n, (change, *_) in enumerate(CASES)]
        lake.replace(APC_SPELL, records, {}, stage="ingest")
        for number, policies in enumerate(runs, start=1):
            config = RunConfig(lake=lake.location, policies=policies)
            summary = Flag(RunContext(config, lake, f"run-{number}")).run()
            assert {policy for policy, _, _ in summary.outcomes} == {*policies}
        rows = lake.small_rows(POLICY_COMPARISON, [n for n in POLICY_COMPARISON.names() if n != "run_id"])
        return sorted(rows, key=str)

    together = compared("together", (NATIONAL, DERBY))
    assert any(row["records_compared"] for row in together)
    assert compared("apart", (DERBY,), (NATIONAL,)) == together


# What a scope needs


@pytest.mark.parametrize(
    ("test", "column", "keys"),
    [
        ({"field": "dominant_procedure", "starts_with": ["V382", "V404"]}, "dominant_procedure_4", ("V382", "V404")),
        ({"field": "any_procedure", "contains": ["U05[45]", "U211"]}, "procedure_codes", ("U05", "U21")),
        ({"all_of": [{"field": "age", "at_least": 19}, {"field": "any_diagnosis", "starts_with": ["M17"]}]},
         "diagnosis_codes", ("M17",)),
        ({"field": "any_procedure", "followed_by": {"first": ["W37"], "then": ["Z84"]}}, "procedure_codes", ("W37",)),
        ({"any_of": [{"field": "any_procedure", "contains": ["U05"]}, {"field": "any_diagnosis", "contains": ["M17"]}]}, None, ()),
        ({"field": "any_diagnosis", "contains": ["D0"]}, None, ()),
        ({"none_of": [{"field": "any_procedure", "contains": ["U05"]}]}, None, ()),
        ({"field": "any_procedure", "is_null": False}, None, ()),
    ],
)  # fmt: skip
def test_codes_that_a_scope_needs(test: dict[str, Any], column: str | None, keys: tuple[str, ...]) -> None:
    dataset = "apc"
    found = code_prefilter(parse_test(test), dataset)
    assert (found and (found.column, found.keys)) == (column and (column, keys))
    assert found is None or isinstance(found, CodePrefilter)


@pytest.mark.parametrize(
    "codes", [("U054", "U055", "U213"), ("V382", "V383"), ("V38", "V382"), ("W37",), ("A01", "U05", "V38")]
)
def test_the_quick_look_at_a_list_of_codes(spark: SparkSession, codes: tuple[str, ...]) -> None:
    texts = ["", "U", "V3", "W36,V37", "U054", "X99,U2131", "V381,V382", "A010", "Y53,W371,Z846", "U055,A01", "B02"]
    frame = small_frame(spark, [(text,) for text in [None, *texts]], "procedure_codes string")
    look = CodePrefilter("procedure_codes", codes, whole=False).may_match
    found = {row["procedure_codes"]: row["found"] for row in frame.withColumn("found", look).collect()}
    assert found.pop(None) is None  # undecided, not false: a scope that cannot be decided is counted
    assert found == {text: any(code in text for code in codes) for text in texts}
    assert set(found.values()) == {True, False}


@pytest.mark.parametrize(
    "patterns",
    [
        ["U054", "U055", "U13", "U132", "V382", "V383", "W3"],
        ["U05[45]", "V[0-9][0-9]", "W3[1-3]9", "W31"],
        ["T_5", "U1[^0]2", "V38"],
        ["U1[^0]2"],
        ["[T-X][0-9][0-9][0-9]", "W3"],
        # So many branches that a look ahead stands before them, at the letter and at the first digit.
        ["T054", "U12", "U205", "U33", "U4[1-3]", "V382", "W3", "X99"],
    ],
)
def test_one_expression_for_many_codes(patterns: list[str]) -> None:
    made = re.compile(one_of(patterns))
    plain = re.compile("|".join(pattern.replace("_", ".") for pattern in patterns))
    texts = [f"{letter}{n:03d}" for letter in "TUVWX" for n in range(0, 1000)]
    found = [text for text in texts if made.match(text)]
    assert found == [text for text in texts if plain.match(text)] and found


# Many policies


def _made_up(folder: Path, number: int) -> list[Path]:
    """Policies that vary the codes of the shipped ones: some scopes shared, some lists of codes, one without any code;
    some with so many more clauses that their tests take two words, among which those of others stand too."""
    paths = []
    for n in range(number):
        source = resource("conf", "policies") / f"{NATIONAL if n % 2 else '2S_lower_back_imaging'}.yml"
        document = yaml.safe_load(re.sub(r": (\d{4}-\d{2}-\d{2})\b", r': "\1"', source.read_text(encoding="utf-8")))
        document["id"] = f"made_up_{n:02d}"
        document["revisions"] = document["revisions"][:1]
        document["revisions"][0]["in_force"].pop("to", None)
        clauses = document["revisions"][0]["clauses"]
        if n % 2:
            clauses[0]["require"]["starts_with"] = [["V382", "V383"], ["V383", "V404"], ["V384"]][n // 2 % 3]
            if n % 5 == 0:
                clauses[0]["require"] = {"field": "dominant_procedure", "starts_with": ["V38"]}
        else:
            codes = [["U05"], ["U054", "U13[25]"], ["U133", "U217", "U0[45]4"]][n // 2 % 3]
            clauses[0]["require"] = {"field": "any_procedure", "contains": codes}
            if n % 8 == 0:
                clauses[0]["require"] = {
                    "any_of": [{"field": "any_procedure", "contains": ["U054"]}, {"field": "age", "at_least": 60}]
                }
        clauses += _aged(n % 3 * 16)
        path = folder / f"{document['id']}.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        paths.append(path)
    return paths


def _aged(number: int) -> list[dict[str, Any]]:
    """Clauses with as many different tests: some of them fail at 18, some at 60."""
    return [
        {"id": f"aged_{n}", "words": "older", "require": {"field": "age", "at_least": 5 + 2 * n}} for n in range(number)
    ]


def test_many_policies_judge_as_each_alone(spark: SparkSession, tmp_path: Path) -> None:
    """The pass over all against the clauses of each evaluated plainly, one policy at a time, on the same records."""
    _made_up(tmp_path, 24)
    policies = [policy for policy in load_policies([tmp_path]) if policy.id.startswith("made_up")]
    spells = [
        BASE | {"record_id": f"{d}{x}{a}", "dominant_procedure": d, "dominant_procedure_4": d and d[:4], "age": a,
                "age_years": a, "diagnosis_codes": x}
        for d in ("V382", "V383", "V3841", "V404", "V381", None) for x in (",M545,", ",M545,M431,", None)
        for a in (18, 60)
    ]  # fmt: skip
    seen = {k: v for k, v in BASE.items() if k in OP_ATTENDANCE.names()} | {"dataset": "op", "procedure_codes": None}
    attended = [
        seen | {"record_id": f"{p}{x}{a}", "procedure_codes": p, "age": a, "age_years": a, "diagnosis_codes": x}
        for p in (",U054,", ",XU054,", ",U133,U054,", ",U132,Z665,", ",Z665,U217,", ",U056,", ",E119,", None)
        for x in (",M545,", None) for a in (18, 60)
    ]  # fmt: skip
    judged: list[tuple[Any, ...]] = []
    plain: list[tuple[Any, ...]] = []
    for dataset, rows, table in (("apc", spells, APC_SPELL), ("op", attended, OP_ATTENDANCE)):
        records = small_frame(spark, rows, table.schema).repartition(2)
        chosen = revision_periods(policies, CONFIG)
        flags = apply_policies(records, dataset, chosen, AREAS)
        judged += flags.select("policy_id", "reading", "record_id", F.array_join("failed_clauses", ",")).collect()
        assert flags.where("(outcome = 'flagged') <> (size(failed_clauses) = 0)").isEmpty()
        assert {len(_distinct_tests(unit).clauses) // 32 for unit in chosen if unit.policy.dataset == dataset} == {0, 1}
        plain += _plainly([p for p in policies if p.dataset == dataset], dataset, records)
    assert len(judged) == len(set(judged)) > 500
    assert {tuple(row) for row in judged} == set(plain)


def test_a_policy_with_more_tests_than_a_mask_has_bits(spark: SparkSession, tmp_path: Path) -> None:
    """63 are judged, down to the last; 64 are refused with the way out."""
    [path] = _made_up(tmp_path, 1)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    clauses = document["revisions"][0]["clauses"]
    records = small_frame(
        spark,
        [
            {k: v for k, v in BASE.items() if k in OP_ATTENDANCE.names()}
            | {"dataset": "op", "procedure_codes": ",U054,", "record_id": f"{age}", "age": age, "age_years": age}
            for age in (45, None)
        ],
        OP_ATTENDANCE.schema,
    )

    def judged(more: int) -> list[Any]:
        document["revisions"][0]["clauses"] = clauses + _aged(more)
        path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        chosen = revision_periods(load_policies([tmp_path], only=[document["id"]]), CONFIG)
        return (
            apply_policies(records, "op", chosen, AREAS).where("reading = 'as_published'").sort("record_id").collect()
        )

    most = 63 - len(
        _distinct_tests(revision_periods(load_policies([tmp_path], only=[document["id"]]), CONFIG)[0]).clauses
    )
    known, unknown = judged(most)
    assert known["failed_clauses"] == [f"aged_{n}" for n in range(most) if 5 + 2 * n > 45]
    assert known["missing_clauses"] == []
    assert [c for c in unknown["failed_clauses"] if c.startswith("aged")] == [f"aged_{n}" for n in range(most)]
    assert unknown["missing_clauses"] == unknown["failed_clauses"]
    with pytest.raises(InputError, match="64 different tests; a revision can have at most 63") as refused:
        judged(most + 1)
    assert "any_of" in str(refused.value.remedy)


def _plainly(policies: list[Policy], dataset: str, records: Any) -> list[tuple[Any, ...]]:
    verdicts = []
    for policy in policies:
        revision = policy.revisions[0]
        for name, reading in revision.readings.items():
            failed = [F.when(~passes(clause, dataset, name), clause.id) for clause in reading.deciding]
            scope = compile_test(revision.scope_test, dataset)
            line = F.concat_ws("|", F.lit(policy.id), F.lit(name), F.concat_ws(",", *failed))
            verdicts.append(F.when(scope, line))
    rows = records.select("record_id", F.array_compact(F.array(*verdicts)).alias("lines")).collect()
    return [
        (policy, reading, row["record_id"], failed)
        for row in rows
        for policy, reading, failed in (line.split("|") for line in row["lines"])
    ]
