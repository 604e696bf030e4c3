"""What `explain` says of a record, against sentences written by hand from the policies' pages. No session is needed."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError
from ebi_spark.flags.explain import NOT_IN_SCOPE, explain_row, in_one_sentence, record_facts, result_name, with_name
from ebi_spark.flags.explain_in_lake import provider_names
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.load import load_policies, with_fixed_revision
from ebi_spark.policies.model import Policy
from ebi_spark.tables.star import DIM_AREA

POLICIES = {policy.id: policy for policy in load_policies()}
BOOKS = code_books()
FUSION, IMAGING, LOCAL = "2Y_back_pain_fusion", "2S_lower_back_imaging", "DDICB_back_pain_fusion"
SPELL: dict[str, Any] = {
    "source_system": "sus_plus", "dataset": "apc", "record_id": "4711", "financial_year": "2022-23",
    "_day": date(2022, 9, 3), "activity_date": date(2022, 9, 7), "admission_date": date(2022, 9, 3),
    "discharge_date": date(2022, 9, 7), "provider_code": "RRV", "dominant_procedure": "V382",
    "primary_diagnosis": "M545", "diagnosis_codes": ",M545,Z981,|,M545,", "procedure_codes": ",V382,Z998,",
    "age": 54, "age_years": 54, "sex": "2", "admission_method": "11", "discharge_method": "1",
    "patient_classification": "1", "administrative_category": "01", "treatment_function": "108",
}  # fmt: skip
IS = "Spell 4711 (SUS+, admitted 3 September 2022, discharged 7 September 2022, provider RRV)"
TITLE = "the policy 2Y_back_pain_fusion (Fusion surgery for mechanical axial low back pain)"
OPERATION = "V382 (Primary posterior interlaminar fusion of joint of lumbar spine)"
HERE = f"{IS} is in the scope of {TITLE} with {OPERATION}, but is not flagged: "


def row_of(
    policy: Policy, record: dict[str, Any], failed: dict[str, bool | None], *, scope: bool = True
) -> dict[str, Any]:
    """A record with the results of its clauses: true but for those in ``failed``."""
    results = {result_name(number): scope for number in range(len(policy.revisions))}
    for number, revision in enumerate(policy.revisions):
        for reading in revision.readings.values():
            for clause in reading.deciding:
                results[result_name(number, reading.reading, clause.id)] = failed.get(clause.id, True)
    return record | results


@pytest.mark.parametrize(
    ("record", "failed", "sentence"),
    [
        ({}, {}, f"{IS} is flagged by {TITLE}: {OPERATION} is in its scope, and every clause is met."),
        (
            {"diagnosis_codes": ",M545,M419,"},
            {"deformity": False},
            f"{HERE}1 of 6 clauses is not met (deformity, because it has M419 (Scoliosis, unspecified)).",
        ),
        (
            {"primary_diagnosis": "M480", "age": 17},
            {"primary_diagnosis": False, "age": False},
            f"{HERE}2 of 6 clauses are not met (primary_diagnosis, because it has none of the codes asked for; age, because "
            "age is 17).",
        ),
        (
            {"admission_method": "21", "administrative_category": "02"},
            {"non_elective": False, "private_patient": False},
            f"{HERE}2 of 6 clauses are not met (non_elective, because admission method is 21; private_patient, because "
            "administrative category is 02).",
        ),
        (
            {"diagnosis_codes": None},
            {"deformity": None},
            f"{HERE}1 of 6 clauses is not met (deformity, because any diagnosis is missing).",
        ),
        (
            {"_day": date(2021, 9, 3), "admission_date": date(2021, 9, 3), "discharge_date": date(2021, 9, 7)},
            {},
            f"{IS.replace('2022', '2021')} is flagged by {TITLE}, by revision 2022-08, which came into force later: "
            f"{OPERATION} is in its scope, and every clause is met.",
        ),
    ],
    ids=["flagged", "an excluded code", "a code and an age", "a code without titles", "undecided", "before the policy"],
)  # fmt: skip
def test_a_spell_in_one_sentence(record: dict[str, Any], failed: dict[str, bool | None], sentence: str) -> None:
    policy = POLICIES[FUSION]
    row = row_of(policy, SPELL | record, failed)
    assert len(policy.revisions[0].readings["as_published"].deciding) == 6
    assert in_one_sentence(row, policy, explain_row(row, policy), BOOKS) == sentence


def test_a_spell_by_the_revision_that_the_configuration_fixes() -> None:
    """The record is of September 2022: the revision of that day is 2022-08."""
    config = RunConfig(lake=LakeLocation(), basis="fixed", fixed_revisions={FUSION: "2024-09"})
    policy = with_fixed_revision(POLICIES[FUSION], config)
    row = row_of(policy, SPELL, {})
    readings = explain_row(row, policy)
    assert {(item["revision"], item["in_force"], item["why"]) for item in readings} == {("2024-09", True, "")}
    flagged = f"{IS} is flagged by {TITLE}: {OPERATION} is in its scope, and every clause is met."
    assert in_one_sentence(row, policy, readings, BOOKS) == flagged
    with pytest.raises(InputError, match="has no revision '2024-9'"):
        with_fixed_revision(policy, replace(config, fixed_revisions={FUSION: "2024-9"}))


def test_a_spell_that_is_not_in_scope() -> None:
    policy = POLICIES[FUSION]
    row = row_of(policy, SPELL | {"dominant_procedure": "W852", "provider_code": None}, {}, scope=False)
    readings = explain_row(row, policy)
    assert {item["outcome"] for item in readings} == {NOT_IN_SCOPE}
    assert in_one_sentence(row, policy, readings, BOOKS) == (
        f"{IS.replace(', provider RRV', '')} is not in the scope of {TITLE}: its dominant procedure is W852 "
        "(Endoscopic irrigation of knee joint)."
    )
    row = row_of(policy, SPELL | {"dominant_procedure": None}, {}, scope=False)
    assert in_one_sentence(row, policy, explain_row(row, policy), BOOKS).endswith(": it has no dominant procedure.")


def test_a_patient_of_another_board() -> None:
    policy = POLICIES[LOCAL]
    row = row_of(policy, SPELL | {"_day": date(2024, 10, 1)}, {})
    sentence = in_one_sentence(row, policy, explain_row(row, policy, {FUSION}), BOOKS)
    assert "is only for patients of QJ2" in sentence and "not in the scope of the policy DDICB" in sentence
    assert "is flagged by" in in_one_sentence(row, policy, explain_row(row, policy, {LOCAL}), BOOKS)


def test_an_attendance_in_one_sentence() -> None:
    policy = POLICIES[IMAGING]
    record = SPELL | {"dataset": "op", "procedure_codes": ",U055,Z99,", "_day": date(2024, 1, 9)}
    record |= {
        "activity_date": date(2024, 1, 9),
        "attendance_status": "5",
        "first_attendance": "1",
        "referral_source": "03",
    }
    for name in ("admission_date", "discharge_date", "dominant_procedure", "primary_diagnosis"):
        del record[name]
    row = row_of(policy, record, {})
    sentence = in_one_sentence(row, policy, explain_row(row, policy), BOOKS)
    assert sentence.startswith("Attendance 4711 (SUS+, 9 January 2024, provider RRV) is flagged by the policy ")
    assert "U055 (Magnetic resonance imaging of spine) is in its scope" in sentence
    row = row_of(policy, record | {"procedure_codes": ",U135,O162,"}, {})
    assert in_one_sentence(row, policy, explain_row(row, policy), BOOKS).endswith(
        ": U135 (Plain x-ray of bone) and O162 (Spine NEC) are in its scope, and every clause is met."
    )
    row = row_of(policy, record | {"procedure_codes": ",O162,U135,"}, {"site_after_imaging": False})
    assert in_one_sentence(row, policy, explain_row(row, policy), BOOKS).endswith(
        "(site_after_imaging, because O162 (Spine NEC) and U135 (Plain x-ray of bone) are not in the order asked for)."
    )
    row = row_of(policy, record | {"procedure_codes": ",A521,"}, {}, scope=False)
    assert "none of its procedures is one that the policy is about" in in_one_sentence(
        row, policy, explain_row(row, policy), BOOKS
    )


def test_the_codes_of_a_record_have_titles() -> None:
    facts = record_facts(SPELL | {"diagnosis_codes": ",M545,C61,M5459,|,Q9999,M545,V382,"}, BOOKS)
    assert (facts["discharge_date"], facts["provider_code"]) == (date(2022, 9, 7), "RRV")
    assert facts["provider_name"] is None
    assert [(item["role"], item["code"], item["title"]) for item in facts["codes"]] == [
        ("dominant procedure", "V382", "Primary posterior interlaminar fusion of joint of lumbar spine"),
        ("primary diagnosis", "M545", "Low back pain"),
        ("procedure", "Z998", "Specified intervertebral disc NEC"),
        ("diagnosis", "C61", "Malignant neoplasm of prostate"),  # the book has it as C61X
        ("diagnosis", "M5459", "Low back pain"),  # with a character more than the book has
        ("diagnosis", "Q9999", "Chromosomal abnormality, unspecified"),
        ("diagnosis", "V382", BOOKS["icd10"].codes["V382"].title),  # an accident; the operation has the same code
    ]


def test_a_provider_has_the_name_that_the_release_gives() -> None:
    policy = POLICIES[FUSION]
    row = row_of(policy, SPELL, {}) | {"provider_name": "A TRUST"}
    sentence = in_one_sentence(row, policy, explain_row(row, policy), BOOKS)
    assert sentence.startswith(f"{IS.replace('RRV', 'RRV (A TRUST)')} is flagged by ")
    facts = record_facts(row, BOOKS)
    assert (facts["provider_name"], with_name(facts)) == ("A TRUST", "RRV (A TRUST)")


def test_names_are_those_of_the_release_and_of_the_configured_lookup(tmp_path: Path) -> None:
    """A provider without a name in the release has its code there. The lookup decides, also before the first release."""
    lookup = tmp_path / "providers.csv"
    lookup.write_text("provider_code,provider_name\nrx1,ANOTHER TRUST\nRRV,ITS NEW NAME\n", encoding="utf-8")
    (tmp_path / "silver").mkdir()
    lake = LocalLake(LakeLocation(folder=tmp_path))
    assert provider_names(lake) == {}
    named = {"RX1": "ANOTHER TRUST", "RRV": "ITS NEW NAME"}
    assert provider_names(lake, lookup) == named
    areas = [
        ("provider", "RRV", "A TRUST"),
        ("provider", "RX1", "RX1"),
        ("provider", "RX2", "A THIRD"),
        ("icb", "QYG", "A BOARD"),
    ]
    columns = zip(("area_type", "ods_code", "area_name"), zip(*areas, strict=True), strict=True)
    path = tmp_path / "published" / DIM_AREA.name
    path.mkdir(parents=True)
    write_deltalake(str(path), pa.table({name: pa.array(values) for name, values in columns}))
    assert provider_names(lake) == {"RRV": "A TRUST", "RX2": "A THIRD"}
    assert provider_names(lake, lookup) == named | {"RX2": "A THIRD"}
