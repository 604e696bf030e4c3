"""Every code, bound and NULL decision of the shipped policies matters: each mutant of a clause changes some verdict.

The records are flagged ones with one thing changed at a time: each code of the books near those that policies name, each
age, each value of the short lists, and nothing at all. All mutants are applied in one Spark action.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

from clauses import passes
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.load import load_policies
from ebi_spark.policies.model import Clause, Policy, PolicyReading, document_of, parse_test
from ebi_spark.policies.patterns import as_regex, written_out
from ebi_spark.small_frames import small_frame

Mutation = tuple[str, Clause]
LISTS = ("starts_with", "contains", "in")
# Mutants that no record can tell apart, each with the reason; anything else that survives fails the test.
SAME = {
    ("2Y_back_pain_fusion", "inflammatory", "M461 dropped"): "M46.1 is among the sacroiliac ones too",
    ("2Y_back_pain_fusion", "inflammatory", "M461 altered to M462"): "and M46.2 is an infection",
    ("2S_lower_back_imaging", "site_after_imaging", "missing passes"): "without a procedure a record is not in scope",
}


def mutants(clause: Clause) -> Iterator[Mutation]:
    """The clause with one code dropped or altered, one bound moved, one part dropped, or its NULL decided otherwise."""
    for what, test in _mutated(document_of(clause.test)) if clause.test else ():
        yield what, replace(clause, test=parse_test(test))
    if clause.kind != "scope":
        other = "passes" if clause.missing == "fails" else "fails"
        yield f"missing {other}", replace(clause, missing=other)


def _mutated(test: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in ("any_of", "all_of", "none_of"):
        for number, item in enumerate(test.get(key, [])):
            for what, changed in _mutated(item):
                yield what, {**test, key: [*test[key][:number], changed, *test[key][number + 1 :]]}
            if len(test[key]) > 1:
                left = [*test[key][:number], *test[key][number + 1 :]]
                yield f"part {number} of {key} dropped", {**test, key: left}
    for key in LISTS:
        for what, codes in _codes(test.get(key, [])):
            yield what, {**test, key: codes}
    for side in test.get("followed_by", {}):
        for what, codes in _codes(test["followed_by"][side]):
            yield f"{side}: {what}", {**test, "followed_by": {**test["followed_by"], side: codes}}
    if "between" in test:
        low, high = test["between"]
        for bounds in ([low - 1, high], [low + 1, high], [low, high - 1], [low, high + 1]):
            yield f"between {bounds}", {**test, "between": bounds}
    for key in ("at_least", "at_most"):
        for step in (-1, 1) if key in test else ():
            yield f"{key} {test[key] + step}", {**test, key: test[key] + step}


def _codes(codes: list[str]) -> Iterator[tuple[str, list[str]]]:
    for number, pattern in enumerate(codes):
        rest = [*codes[:number], *codes[number + 1 :]]
        for one in written_out(pattern) if len(written_out(pattern)) < 20 else []:
            others = [code for code in written_out(pattern) if code != one]
            # A list without codes finds nothing: a code that no record has is used instead.
            yield f"{one} dropped", [*rest, *others] or ["ZZZZ"]
            altered = _neighbour(one, codes)
            yield f"{one} altered to {altered}", [*rest, *others, altered]
        if len(written_out(pattern)) >= 20:  # C[0-9][0-9]: one member of each class at a time
            for narrowed in (pattern.replace("[0-9]", "[1-9]", 1), pattern[:-5] + "[0-8]", "Q" + pattern[1:]):
                yield f"{pattern} altered to {narrowed}", [*rest, narrowed]


def _neighbour(code: str, codes: list[str]) -> str:
    taken = {one for pattern in codes if len(written_out(pattern)) < 200 for one in written_out(pattern)}
    last = "0123456789"
    start = last.find(code[-1])
    for step in range(1, 10):
        tried = code[:-1] + last[(start + step) % 10]
        if tried not in taken:
            return tried
    return code[:-1] + "Z"


FUSION: dict[str, Any] = {
    "dataset": "apc", "dominant_procedure": "V382", "primary_diagnosis": "M545", "diagnosis_codes": ",M545,E119,",
    "procedure_codes": ",V382,", "age": 50, "age_years": 50, "admission_method": "11", "administrative_category": "01",
}  # fmt: skip
IMAGING: dict[str, Any] = {
    "dataset": "op", "procedure_codes": ",U133,Z665,", "diagnosis_codes": ",M545,", "age": 50, "age_years": 50,
    "administrative_category": "01", "referral_source": "03", "treatment_function": "650",
}  # fmt: skip


def records(policies: list[Policy]) -> list[dict[str, Any]]:
    """The two flagged records and every one-step departure from them."""
    books = code_books()
    named = json.dumps([r.definition["clauses"] for p in policies for v in p.revisions for r in v.readings.values()])
    near = {system: [c for c in book.codes if f'"{c[:2]}' in named or c[0] == "C"] for system, book in books.items()}
    # Codes that are never recorded are asked for too: a pattern may be wrong about those.
    diagnoses = [*near["icd10"], *(f"{letter}{n:02d}5" for letter in "CDM" for n in range(100))]
    procedures = [*near["opcs4"], "U139", "U219", "Z669", "O169", "V389", "U059"]
    numbers = [f"{n:02d}" for n in range(100)]
    made: list[dict[str, Any]] = []
    for base in (FUSION, IMAGING):
        changes: list[dict[str, Any]] = [{}]
        changes += [{"diagnosis_codes": f",M545,{code},"} for code in diagnoses] + [{"diagnosis_codes": None}]
        changes += [{name: age} for name in ("age", "age_years") for age in (*range(0, 125), 7001, None)]
        changes += [{"administrative_category": value} for value in (*numbers, None)]
        if base is FUSION:
            changes += [{"dominant_procedure": code} for code in (*procedures, None)]
            changes += [{"primary_diagnosis": code} for code in (*diagnoses, None) if code is None or code[0] == "M"]
            changes += [{"procedure_codes": f",V382,{code},"} for code in procedures] + [{"procedure_codes": None}]
            changes += [{"admission_method": value} for value in (*numbers, "2A", "2B", None)]
        else:
            changes += [{"referral_source": value} for value in (*numbers, None)]
            changes += [{"treatment_function": str(value)} for value in range(100, 999)] + [
                {"treatment_function": None}
            ]
            for code in procedures:
                pairs = [f",{code},", f",{code},Z665,", f",Z665,{code},", f",U133,{code},", f",{code},O162,"]
                changes += [{"procedure_codes": text} for text in pairs]
            changes += [{"procedure_codes": None}]
        made += [{**base, **change} for change in changes]
    for row in made:
        row["dominant_procedure_4"] = row.get("dominant_procedure") and row["dominant_procedure"][:4]
    return made


SCHEMA = (
    "dataset string, dominant_procedure string, dominant_procedure_4 string, primary_diagnosis string, diagnosis_codes "
    "string, procedure_codes string, age int, age_years int, sex string, admission_method string, discharge_method string, "
    "patient_classification string, administrative_category string, treatment_function string, attendance_status string, "
    "first_attendance string, referral_source string"
)


def _key(clause: Clause) -> str:
    return json.dumps(clause.outcome_parts, sort_keys=True)


def test_every_mutant_changes_a_verdict(spark: SparkSession) -> None:
    policies = load_policies()
    national = {
        _key(clause)
        for policy in policies
        if not policy.boards
        for revision in policy.revisions
        for reading in revision.readings.values()
        for clause in reading.clauses
    }
    readings: list[tuple[Policy, PolicyReading]] = [
        (policy, reading) for policy in policies for r in policy.revisions for reading in r.readings.values()
    ]
    versions: dict[tuple[str, str], tuple[Policy, Clause]] = {
        (policy.id, _key(clause)): (policy, clause)
        for policy, reading in readings
        for clause in reading.clauses
        if clause.test is not None
    }
    names = {key: f"c{number}" for number, key in enumerate(versions)}
    rows = [{name: row.get(name) for name in SCHEMA_NAMES} for row in records(policies)]
    # Shuffled, or the optimizer would evaluate the rows by itself, expression by expression.
    frame = small_frame(spark, rows, SCHEMA).repartition(2)
    applied = frame.select(
        "*",
        *[
            ((F.col("dataset") == policy.dataset) & passes(clause, policy.dataset)).alias(names[key])
            for key, (policy, clause) in versions.items()
        ],
    )
    hits: list[Column] = []
    tried: list[tuple[str, str, str]] = []
    for key, (policy, clause) in versions.items():
        if policy.boards and key[1] in national:
            continue  # what a local policy takes over is tested where it comes from
        # What the other clauses say, under each reading that has this version of the clause.
        others = [
            reduce(
                lambda a, b: a & b,
                [F.col(names[p.id, _key(c)]) for c in reading.clauses if c.test is not None and _key(c) != key[1]],
            )
            for p, reading in readings
            if p is policy and key[1] in map(_key, reading.clauses)
        ]
        decided = reduce(lambda a, b: a | b, others)
        of_dataset = F.col("dataset") == policy.dataset
        for what, mutant in mutants(clause):
            changed = of_dataset & (F.col(names[key]) != passes(mutant, policy.dataset))
            hits.append(decided & changed)
            tried.append((policy.id, clause.id, what))
    flagged = [
        reduce(lambda a, b: a & b, [F.col(names[p.id, _key(c)]) for c in r.clauses if c.test]) for p, r in readings
    ]
    packed = F.concat(*[F.when(hit, "1").otherwise("0") for hit in (*flagged, *hits)])
    found = {row[0] for row in applied.select(packed).distinct().collect()}
    changed_somewhere = [any(text[n] == "1" for text in found) for n in range(len(flagged) + len(hits))]
    assert all(changed_somewhere[: len(flagged)])  # every reading flags something
    assert len(tried) > 300
    survivors = {name for name, hit in zip(tried, changed_somewhere[len(flagged) :], strict=True) if not hit}
    assert survivors == set(SAME), sorted(survivors ^ set(SAME))
    print(f"{len(rows):,} records, {len(tried)} mutants, {len(survivors)} of them the same as the policy")


SCHEMA_NAMES = [part.split()[0] for part in SCHEMA.split(",")]


def test_mutants_differ_from_their_clause() -> None:
    for policy in load_policies(only=["2Y_back_pain_fusion"]):
        for clause in policy.revisions[0].readings["guidance_coded"].clauses:
            before = copy.deepcopy(clause)
            made = list(mutants(clause))
            assert clause == before and all(mutant != clause for _, mutant in made)
            assert len({(m.test, m.missing) for _, m in made}) == len(made)
    assert as_regex("M_7") == "M.7"
