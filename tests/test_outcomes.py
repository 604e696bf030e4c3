"""The care after an operation: hand-worked histories, random ones against a plain reading of the rules, and the curves
against a statistics library."""

import csv
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from statsmodels.stats.proportion import proportion_confint

from ebi_spark.config.shipped_files import resource
from ebi_spark.pathway.after import outcome_steps, outcomes_after
from ebi_spark.pathway.continuous_spells import transfer_warning, transfers_by
from ebi_spark.pathway.definitions import definitions_after
from ebi_spark.pathway.incidence import counts_by_day, incidence_rows
from ebi_spark.policies.code_books import code_books
from ebi_spark.small_frames import small_frame
from ebi_spark.synthetic import histories as made_up
from ebi_spark.tables.monitoring_pathway import PATHWAY, PATHWAY_INCIDENCE, PATHWAY_STEP

START = date(2023, 1, 1)  # the day of the operation, day 0
OPERATION = """policy_id string, source_system string, dataset string, record_id string, person_id string,
    financial_year string, operation_date date, flagged boolean, discharge_date date, discharge_method string,
    diagnosis_codes string, procedure_codes string, data_end date"""
SPELL = """person_id string, source_system string, dataset string, record_id string, financial_year string,
    provider_code string, admission_date date, discharge_date date, admission_method string, discharge_method string,
    admission_source string, discharge_destination string, patient_classification string, primary_diagnosis string,
    dominant_procedure string, diagnosis_codes string, procedure_codes string"""

Spell = dict[str, Any]
Outcome = dict[str, Any]


def day(offset: int | None) -> date | None:
    return None if offset is None else START + timedelta(days=offset)


def spell(start: int | None, end: int | None, method: str | None = "11", **changes: Any) -> Spell:
    return {
        "start": start, "end": end, "method": method, "source": None, "destination": None, "how": "1", "diagnoses": "",
        "procedures": "", "provider": "RX1", "system": "sus_plus", "primary": None, "dominant": None, **changes,
    }  # fmt: skip


def home(start: int, end: int, **changes: Any) -> Spell:
    """An emergency admission from home."""
    return spell(start, end, "21", source="19", **changes)


FUSION = spell(0, 5, procedures="V385")
# Each history: its spells, the operation among them (the first unless said), the last day of the data, what follows. Days
# count from the operation. What is not given is: the spell ends on day 5, alive, and nothing else is seen.
HISTORIES: dict[str, tuple[list[Spell], dict[str, Any]]] = {
    "nothing follows": ([FUSION], {}),
    "readmitted on day 30": ([FUSION, home(35, 36)], {"readmitted_after": 30}),
    "readmitted on day 31": ([FUSION, home(36, 37)], {"readmitted_after": 31}),
    "same-day transfer": ([FUSION, spell(5, 9, "81")], {"spell_end": 9}),
    "same-day emergency": ([FUSION, home(5, 7)], {"readmitted_after": 0}),
    "next-day emergency by another route": ([FUSION, home(6, 8)], {"readmitted_after": 1}),
    "next-day transfer by source": ([FUSION, spell(6, 9, "21", source="51")], {"spell_end": 9}),
    "transfer from a private hospital": ([FUSION, spell(6, 9, "11", source="87")], {"spell_end": 9}),
    "transfer by destination": ([{**FUSION, "destination": "51"}, spell(6, 9, "12")], {"spell_end": 9}),
    "discharged to a care home, not a hospital": ([{**FUSION, "destination": "54"}, home(6, 9)], {"readmitted_after": 1}),
    "transfer two days later": ([FUSION, spell(7, 9, "81", source="51")], {}),
    "emergency transfer two days later": ([FUSION, spell(7, 9, "2B")], {"readmitted_after": 2}),
    "chain of three, readmitted on day 30 after it": (
        [FUSION, spell(5, 8, "81"), spell(9, 12, "2B"), home(42, 43)], {"spell_end": 12, "readmitted_after": 30},
    ),
    "day case of the chain on one day": ([FUSION, spell(5, 5, "81"), spell(5, 9, "81")], {"spell_end": 9}),
    "through an emergency department, not admitted there": (
        [FUSION, spell(6, 8, "2A", source="51")], {"readmitted_after": 1},
    ),
    "day case elsewhere during the stay": ([FUSION, spell(2, 2, "13"), home(10, 11)], {"readmitted_after": 5}),
    "emergency elsewhere before the discharge": ([FUSION, home(4, 8), home(20, 21)],
                                                 {"spell_end": 8, "readmitted_after": 12}),
    "operation as a day case, emergency on the day": (
        [spell(0, 0, procedures="V385"), home(0, 1)], {"spell_end": 0, "readmitted_after": 0},
    ),
    "readmitted elsewhere": ([FUSION, home(35, 36, provider="RY2")], {"readmitted_after": 30}),
    "planned readmission is none": ([FUSION, spell(20, 21, "12")], {}),
    "a chain that begins planned is no emergency": ([FUSION, spell(20, 22, "11"), spell(22, 25, "2B")], {}),
    "spell without its admission": ([FUSION, spell(None, 40, "21")], {"readmitted_after": 35}),
    "died in the spell": ([{**FUSION, "how": "4"}, home(20, 21)], {"died_in_hospital": True, "death_after": 5}),
    "died after a transfer": (
        [FUSION, spell(5, 9, "81", how="4")], {"spell_end": 9, "died_in_hospital": True, "death_after": 9},
    ),
    "died later, data end before the windows": (
        [FUSION, spell(40, 45, how="4")], {"data_end": 60, "death_after": 45},
    ),
    "stillbirth is another's death": ([{**FUSION, "how": "5"}], {}),
    "data end a day early": ([FUSION], {"data_end": 34}),
    "data end on the last day": ([FUSION], {"data_end": 35}),
    "data end early, readmission found": ([FUSION, home(15, 16)], {"data_end": 20, "readmitted_after": 10}),
    "missing person": ([{**FUSION, "diagnoses": "M545,T814"}, home(10, 11)], {"person": None}),
    "missing person who died": ([{**FUSION, "how": "4"}], {"person": None, "died_in_hospital": True, "death_after": 5}),
    "operation not among the spells": ([FUSION, home(10, 11)], {"unlinked": True}),
    "the same number in another source": ([FUSION, home(10, 11, system="hes")], {}),
    "two operations": ([FUSION, spell(100, 105, procedures="V384")], {"further_fusion_after": 100}),
    "two operations, the second": (
        [FUSION, spell(100, 105, procedures="V384")], {"operation": 1, "operation_date": 101, "spell_end": 105},
    ),
    "staged": ([FUSION, spell(20, 25, "12", procedures="V333")], {"possible_staged_after": 15}),
    "staged on day 30": ([FUSION, spell(35, 38, procedures="V343")], {"possible_staged_after": 30}),
    "anterior on day 31": ([FUSION, spell(36, 38, procedures="V343")], {"further_fusion_after": 36}),
    "anterior in an emergency": (
        [FUSION, home(20, 25, procedures="V333")], {"readmitted_after": 15, "further_fusion_after": 20},
    ),
    "staged, then a further fusion": (
        [FUSION, spell(20, 25, procedures="V333"), spell(200, 205, procedures="V404")],
        {"possible_staged_after": 15, "further_fusion_after": 200},
    ),
    "fusion in the same continuous spell": ([FUSION, spell(5, 9, "81", procedures="V385")], {"spell_end": 9}),
    "the date of the operation is wrong": (
        [FUSION, spell(50, 52, procedures="V405")], {"operation_date": 60, "removal_after": 0},
    ),
    "revision on day 365": ([FUSION, spell(365, 370, procedures="V394")], {"revision_after": 365}),
    "revision on day 366": ([FUSION, spell(366, 370, procedures="V394")], {"revision_after": 366}),
    "removal": ([FUSION, spell(50, 52, procedures="V405")], {"removal_after": 50}),
    "removal with a new fusion": ([FUSION, spell(50, 52, procedures="V405,V385")], {"further_fusion_after": 50}),
    "removal with an unspecified fusion": ([FUSION, spell(50, 52, procedures="V465,V388")], {}),
    "removal, then a fusion after a transfer": (
        [FUSION, spell(50, 52, procedures="V465"), spell(52, 60, "81", procedures="V404")], {"further_fusion_after": 52},
    ),
    "infection in the spell": ([{**FUSION, "diagnoses": "M545,T814"}], {}),
    "infection after a transfer": ([FUSION, spell(5, 9, "81", diagnoses="T846")], {"spell_end": 9}),
    "infection before the transfer to the operation": (
        [home(-5, 0, diagnoses="T814"), spell(0, 5, "81", procedures="V385")], {"operation": 1},
    ),
    "embolism on day 90": ([FUSION, home(95, 99, diagnoses="I269")], {"readmitted_after": 90}),
    "embolism on day 91": ([FUSION, home(96, 99, diagnoses="I269")], {"readmitted_after": 91}),
    "blood patch": ([FUSION, spell(12, 12, procedures="A523")], {}),
    "main codes that are not in the lists": (
        [FUSION, spell(60, 62, primary="T848", dominant="V404"), spell(70, 71, dominant="V405", primary="T810")],
        {"further_fusion_after": 60, "removal_after": 70},
    ),
    "the end of the data is not known": ([FUSION, home(15, 16)], {"data_end": None, "readmitted_after": 10}),
    "two codes, one of five characters": ([FUSION, spell(12, 12, diagnoses="T8121,G978,T8121")], {}),
}  # fmt: skip
# States that differ from the usual ones of a history without events, with data to day 1000.
STATES: dict[str, dict[tuple[str, str], Any]] = {
    "readmitted on day 30": {("emergency_readmission", "30_days"): ["21"]},
    "emergency transfer two days later": {("emergency_readmission", "30_days"): ["2B"]},
    "died later, data end before the windows": {
        ("death_in_hospital", "90_days"): ["4"], ("death_in_hospital", "1_year"): ["4"],
    },
    "data end a day early": {
        ("emergency_readmission", "30_days"): None, ("possible_staged", "30_days"): None,
        ("death_in_hospital", "90_days"): None, ("death_in_hospital", "1_year"): None,
        **{(step, "90_days"): None for step in ("infection", "haemorrhage", "dural_tear", "device", "thromboembolism")},
        **{(step, window): None for step in ("further_fusion", "revision", "removal") for window in ("1_year", "2_years")},
    },
    "two operations": {("further_fusion", "1_year"): ["V384"], ("further_fusion", "2_years"): ["V384"]},
    "staged": {("possible_staged", "30_days"): ["V333"]},
    "revision on day 365": {("revision", "1_year"): ["V394"], ("revision", "2_years"): ["V394"]},
    "revision on day 366": {("revision", "2_years"): ["V394"]},
    "removal": {("removal", "1_year"): ["V405"], ("removal", "2_years"): ["V405"]},
    "removal with an unspecified fusion": {},
    "infection in the spell": {("infection", "index_spell"): ["T814"]},
    "infection after a transfer": {("infection", "index_spell"): ["T846"]},
    "infection before the transfer to the operation": {},
    "embolism on day 90": {("thromboembolism", "90_days"): ["I269"]},
    "embolism on day 91": {},
    "main codes that are not in the lists": {
        ("device", "90_days"): ["T848"], ("haemorrhage", "90_days"): ["T810"],
        **{("further_fusion", window): ["V404"] for window in ("1_year", "2_years")},
        **{("removal", window): ["V405"] for window in ("1_year", "2_years")},
    },
    "blood patch": {("dural_tear", "90_days"): ["A523"]},
    "two codes, one of five characters": {("dural_tear", "90_days"): ["G978", "T8121"]},
    "nothing follows": {},
}  # fmt: skip
NO_OUTCOME: Outcome = dict.fromkeys(
    ("spell_end", "died_in_hospital", "follow_up_days", "readmitted_after", "possible_staged_after", "further_fusion_after",
     "revision_after", "removal_after", "death_after")
)  # fmt: skip


def expected(name: str) -> Outcome:
    """The outcome of a history, put together from what it says."""
    given = {
        key: value
        for key, value in HISTORIES[name][1].items()
        if key not in ("operation", "operation_date", "data_end")
    }
    if "unlinked" in given:
        return NO_OUTCOME
    if "person" in given:
        return {**NO_OUTCOME, **{key: value for key, value in given.items() if key != "person"}}
    found = {**NO_OUTCOME, "spell_end": 5, "died_in_hospital": False, **given}
    if not found["died_in_hospital"]:
        data_end = HISTORIES[name][1].get("data_end", 1000)
        found["follow_up_days"] = None if data_end is None else data_end - found["spell_end"]
    return found


def codes(text: str) -> str | None:
    return f",{text}," if text else None


def spell_row(person: str, number: int, item: Spell) -> dict[str, Any]:
    return {
        "person_id": person, "source_system": item["system"], "dataset": "apc", "record_id": f"{person}/{number}",
        "financial_year": "2022-23", "provider_code": item["provider"], "admission_date": day(item["start"]),
        "discharge_date": day(item["end"]), "admission_method": item["method"], "discharge_method": item["how"],
        "admission_source": item["source"], "discharge_destination": item["destination"],
        "diagnosis_codes": codes(item["diagnoses"]), "procedure_codes": codes(item["procedures"]),
        "primary_diagnosis": item["primary"], "dominant_procedure": item["dominant"],
    }  # fmt: skip


def operation_row(
    person: str, number: int, item: Spell, data_end: int | None, on: int, known: bool = True
) -> dict[str, Any]:
    row = spell_row(person, number, item)
    return {
        "policy_id": "P", "flagged": number == 0, "operation_date": day(on), "data_end": day(data_end),
        **{name: row[name] for name in ("source_system", "dataset", "record_id", "financial_year", "discharge_date",
                                        "discharge_method", "diagnosis_codes", "procedure_codes")},
        "person_id": person if known else None,
    }  # fmt: skip


# The random histories, and a plain reading of the rules for them.
METHODS = ("11", "12", "13", "21", "22", "2A", "2B", "81", None)
DIAGNOSES = ("", "", "M545", "T814", "T847,M545", "I269", "G978,T812", "T843")
PROCEDURES = ("", "", "", "T812", "V385", "V333", "V394", "V405", "V405,V389", "V465,W371", "A523", "V254")


def random_history(draw: random.Random) -> list[Spell]:
    found, last = [], 0
    for _ in range(draw.randint(1, 7)):
        start = max(-20, last + draw.choice([-3, -1, 0, 0, 1, 1, 2, 10, 29, 30, 31, 32, 90, 91, 200, 364]))
        end = start + draw.choice([0, 0, 1, 3, 6, 20])
        last = end
        found.append(
            spell(
                start, end, draw.choice(METHODS), source=draw.choice([None, "19", "51", "87"]),
                destination=draw.choice([None, None, "19", "51", "54"]), how=draw.choice("1111111111114"),
                diagnoses=draw.choice(DIAGNOSES), procedures=draw.choice(PROCEDURES),
            )
        )  # fmt: skip
    return found


def joined(history: list[Spell]) -> list[list[int]]:
    """The numbers of the spells of each continuous inpatient spell, in order."""

    def comes_by_transfer(item: Spell) -> bool:
        return item["method"] in ("81", "2B") or (item["source"] in ("51", "87") and item["method"] != "2A")

    order = sorted(
        range(len(history)),
        key=lambda n: (history[n]["start"], history[n]["end"], comes_by_transfer(history[n]),
                       (history[n]["method"] or "").startswith("2"), n),
    )  # fmt: skip
    stays: list[list[int]] = []
    last = None
    for number in order:
        item = history[number]
        if last is not None and (
            item["start"] < last["end"]
            or (item["start"] - last["end"] < 2 and (comes_by_transfer(item) or last["destination"] == "51"))
        ):
            stays[-1].append(number)
        else:
            stays.append([number])
        if last is None or item["end"] >= last["end"]:
            last = item
    return stays


def plain_outcome(history: list[Spell], number: int, data_end: int) -> tuple[Outcome, dict[tuple[str, str], Any]]:
    """The outcome and the states of the operation in one spell, read one rule after the other."""
    stays = joined(history)
    own_stay = next(n for n, stay in enumerate(stays) if number in stay)
    on = history[number]["start"]
    rest = stays[own_stay][stays[own_stay].index(number) :]
    end = max(history[n]["end"] for n in stays[own_stay])
    deaths = [history[n]["end"] for stay in stays[own_stay + 1 :] for n in stay if history[n]["how"] == "4"]
    deaths += [history[n]["end"] for n in rest if history[n]["how"] == "4"]
    died = any(history[n]["how"] == "4" for n in rest)
    death = min(deaths, default=None)
    later = [
        (stay, n)
        for stay in stays[own_stay + 1 :]
        for n in stay
        if death is None or history[n]["start"] <= death
    ]  # fmt: skip

    def has(n: int, kind: str, *starts: str) -> list[str]:
        return [code for code in history[n][kind].split(",") if code.startswith(starts)]

    def staged(stay: list[int]) -> bool:
        return (
            history[stay[0]]["method"] in ("11", "12", "13")
            and any(has(n, "procedures", "V333") for n in stay)
            and history[stay[0]]["start"] - end <= 30
        )

    fusions = ("V385", "V333")
    events: dict[str, list[tuple[int, list[str]]]] = {
        "emergency_readmission": [
            (history[n]["start"] - end, [history[n]["method"]])
            for stay, n in later
            if n == stay[0] and (history[n]["method"] or "").startswith("2")
        ],
        "possible_staged": [
            (history[stay[0]]["start"] - end, has(n, "procedures", "V333"))
            for stay, n in later
            if staged(stay) and has(n, "procedures", "V333")
        ],
    }
    for step, codes_of_it in (("further_fusion", fusions), ("revision", ("V394",)), ("removal", ("V405", "V465"))):
        events[step] = [
            (history[n]["start"] - on, has(n, "procedures", *codes_of_it))
            for stay, n in later
            if has(n, "procedures", *codes_of_it)
            and not staged(stay)
            and not (step == "removal" and any(has(m, "procedures", *fusions, "V394", "V389") for m in stay))
        ]
    complications: dict[str, dict[str, tuple[str, ...]]] = {
        "infection": {"diagnoses": ("T814", "T846", "T847")},
        "haemorrhage": {"diagnoses": ("T810",)},
        "dural_tear": {"diagnoses": ("G960", "G978", "T812"), "procedures": ("A523",)},
        "device": {"diagnoses": ("T842", "T843", "T848")},
        "thromboembolism": {"diagnoses": ("I26", "I801", "I802", "I828", "I829")},
    }

    def shown(n: int, wanted: dict[str, tuple[str, ...]]) -> list[str]:
        return [code for kind, starts in wanted.items() for code in has(n, kind, *starts)]

    in_stay = {step: [code for n in rest for code in shown(n, wanted)] for step, wanted in complications.items()}
    for step, wanted in complications.items():
        events[step] = [(history[n]["start"] - end, shown(n, wanted)) for _, n in later]

    def first(step: str) -> int | None:
        return min((days for days, _ in events[step]), default=None)

    outcome = {
        "spell_end": end, "died_in_hospital": died, "follow_up_days": None if died else max(0, data_end - end),
        "readmitted_after": first("emergency_readmission"), "possible_staged_after": first("possible_staged"),
        "further_fusion_after": first("further_fusion"), "revision_after": first("revision"),
        "removal_after": first("removal"), "death_after": None if death is None else death - on,
    }  # fmt: skip

    states: dict[tuple[str, str], Any] = {}

    def put(step: str, window: str, found: list[str], last: int) -> None:
        covered = (last if death is None or window == "index_spell" else min(last, death)) <= data_end
        states[step, window] = sorted(set(found)) or ([] if covered else None)

    def within(step: str, days: int) -> list[str]:
        return [code for after, listed in events[step] if after <= days for code in listed]

    for step in complications:
        put(step, "index_spell", in_stay[step], end)
        if not died:
            put(step, "90_days", within(step, 90), end + 90)
    if not died:
        for step in ("emergency_readmission", "possible_staged"):
            put(step, "30_days", within(step, 30), end + 30)
    for step in ("further_fusion", "revision", "removal"):
        put(step, "1_year", within(step, 365), on + 365)
        put(step, "2_years", within(step, 730), on + 730)
    put("death_in_hospital", "index_spell", ["4"] if died else [], end)
    for window, days in (("30_days", 30), ("90_days", 90), ("1_year", 365)):
        put("death_in_hospital", window, ["4"] if death is not None and death - on <= days else [], on + days)
    return outcome, states


RANDOM: dict[str, tuple[list[Spell], int]] = {}
_draw = random.Random(28)
for _number in range(400):
    RANDOM[f"random {_number}"] = (random_history(_draw), _draw.choice([20, 60, 120, 400, 800]))

# The made-up histories of the demo, in days from the operation. The operation of a late one is 11 days before the end.
MADE_UP = {f"made up: {history.case}": history for history in made_up.HISTORIES}


def as_spells(history: made_up.History) -> list[Spell]:
    return [
        spell(
            stay.start, stay.end, stay.method, source=stay.source, destination=stay.destination, how=stay.ended,
            diagnoses=",".join(stay.diagnoses), procedures=",".join(stay.procedures),
            provider="RY2" if stay.elsewhere else "RX1",
        )
        for stay in history.stays
    ]  # fmt: skip


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Outcomes and states of all histories by record, days counted from day 0: one query each."""
    operations, spells = [], []
    for name, (history, given) in HISTORIES.items():
        number = given.get("operation", 0)
        rows = [spell_row(name, n, item) for n, item in enumerate(history)]
        if "unlinked" in given:
            rows.pop(number)
        known = "person" not in given
        spells += rows if known else [{**row, "person_id": None} for row in rows]
        on = given.get("operation_date", history[number]["start"])
        operations.append(operation_row(name, number, history[number], given.get("data_end", 1000), on, known))
    for name, (history, data_end) in RANDOM.items():
        spells += [spell_row(name, n, item) for n, item in enumerate(history)]
        operations += [operation_row(name, n, item, data_end, item["start"]) for n, item in enumerate(history)]
    for name, made in MADE_UP.items():
        rows = [spell_row(name, n, item) for n, item in enumerate(as_spells(made))]
        spells += rows if made.known else [{**row, "person_id": None} for row in rows]
        data_end = 11 if made.late else 560
        operations.append(operation_row(name, 0, as_spells(made)[0], data_end, 0, made.known))
    random.Random(1).shuffle(spells)
    frames = small_frame(spark, operations, OPERATION), small_frame(spark, spells, SPELL)
    outcomes = {
        row["record_id"]: {
            key: (value - START).days if isinstance(value, date) else value
            for key, value in row.asDict().items()
            if key in NO_OUTCOME
        }
        for row in outcomes_after(*frames, F.col("data_end")).collect()
    }
    states: dict[str, dict[tuple[str, str], Any]] = {}
    for row in outcome_steps(*frames, F.col("data_end")).collect():
        value = row["evidence"]
        assert (row["state"] == "seen") == bool(value)
        states.setdefault(row["record_id"], {})[row["step_id"], row["window"]] = (
            None if row["state"] == "cannot_be_seen" else value
        )
    yield outcomes, states


def test_hand_worked_histories(found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert len(HISTORIES) >= 50
    outcomes, states = found
    for name, (_, given) in HISTORIES.items():
        assert outcomes[f"{name}/{given.get('operation', 0)}"] == expected(name), name
    windows = {(step["id"], window) for step in definitions_after()["steps"] for window in step["windows"]}
    for name, differing in STATES.items():
        here = states[f"{name}/{HISTORIES[name][1].get('operation', 0)}"]
        assert here == {**{window: [] for window in windows}, **differing}, name


def test_what_cannot_be_seen_is_never_a_no(found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    _, states = found
    for name in ("missing person", "operation not among the spells", "missing person who died"):
        here = states[f"{name}/0"]
        seen = {key: value for key, value in here.items() if value}
        assert all(value is None for key, value in here.items() if key not in seen), name
        assert seen == {
            "missing person": {("infection", "index_spell"): ["T814"]},
            "operation not among the spells": {},
            "missing person who died": {("death_in_hospital", window): ["4"]
                                        for window in ("index_spell", "30_days", "90_days", "1_year")},
        }[name]  # fmt: skip
    # Data that end on the 30th day show that nothing happened; a day earlier they do not.
    assert states["data end on the last day/0"]["emergency_readmission", "30_days"] == []
    assert states["data end a day early/0"]["emergency_readmission", "30_days"] is None
    assert states["data end early, readmission found/0"]["emergency_readmission", "30_days"] == ["21"]
    assert states["data end early, readmission found/0"]["possible_staged", "30_days"] is None
    unknown_end = states["the end of the data is not known/0"]
    assert {key for key, value in unknown_end.items() if value is not None} == {("emergency_readmission", "30_days")}


def test_who_was_not_discharged_alive_is_in_no_denominator_of_discharges(
    found: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    here = found[1]["died in the spell/0"]
    assert ("emergency_readmission", "30_days") not in here
    assert ("infection", "90_days") not in here
    assert here["infection", "index_spell"] == here["revision", "2_years"] == []


def test_random_histories_are_as_a_plain_reading_of_the_rules_has_them(
    found: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    outcomes, states = found
    seen: Counter[str] = Counter()
    for name, (history, data_end) in RANDOM.items():
        for number in range(len(history)):
            outcome, steps = plain_outcome(history, number, data_end)
            key = f"{name}/{number}"
            assert outcomes[key] == outcome, (key, history)
            assert states[key] == steps, (key, history)
            seen.update(field for field, value in outcome.items() if value)
    assert min(seen[field] for field in NO_OUTCOME) > 10  # the comparison is of something


def test_made_up_histories_are_found_as_they_are_written(found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    outcomes, states = found
    for name, made in MADE_UP.items():
        outcome = {key: value for key, value in outcomes[f"{name}/0"].items() if key != "follow_up_days"}
        alive = {"spell_end": 4, "died_in_hospital": False} if made.known else {}
        assert outcome == {
            key: value for key, value in {**NO_OUTCOME, **alive, **made.outcomes}.items() if key != "follow_up_days"
        }, name
        here = states[f"{name}/0"]
        assert {key for key, value in here.items() if value} == made.steps, name
        if not made.known:
            assert None in here.values() and [] not in here.values()
        if made.late:
            assert here["infection", "90_days"] is None
    # Together they show every step and window.
    assert set().union(*(made.steps for made in MADE_UP.values())) == {
        (step["id"], window) for step in definitions_after()["steps"] for window in step["windows"]
    }


@pytest.mark.parametrize("step", definitions_after()["steps"], ids=lambda step: step["id"])
def test_codes_have_their_official_titles(step: dict[str, Any]) -> None:
    books = code_books()
    for item in [*step["codes"], *step.get("not_with", [])]:
        assert books[item["system"]].codes[item["code"]].title == item["title"]
    assert set(step.get("not_a_trend", [])) <= {item["code"] for item in step["codes"]}
    assert set(step["windows"]) <= {"index_spell", *definitions_after()["windows"]}


def test_each_step_has_its_codes() -> None:
    listed = {
        step["id"]: {(item["system"], item["code"]) for item in step["codes"]} for step in definitions_after()["steps"]
    }

    def both(icd10: str = "", opcs4: str = "") -> set[tuple[str, str]]:
        return {("icd10", code) for code in icd10.split()} | {("opcs4", code) for code in opcs4.split()}

    # T81.2 is a code of both systems: in OPCS-4 it is a biopsy.
    assert listed["infection"] == both("T814 T846 T847")
    assert listed["haemorrhage"] == both("T810")
    assert listed["dural_tear"] == both("G960 G978 T812", "A523")
    assert listed["device"] == both("T842 T843 T848")
    assert listed["thromboembolism"] == both("I260 I269 I801 I802 I828 I829")
    assert listed["revision"] == both("", "V393 V394 V395 V396 V397")
    assert listed["removal"] == both("", "V405 V465")
    assert listed["further_fusion"] == both(
        "", "V382 V383 V384 V385 V386 V404 V251 V253 V261 V263 V333 V335 V336 V343 V345 V346 V511"
    )
    # A code that is no trend is named, with the counts of the code book.
    infection = next(step for step in definitions_after()["steps"] if step["id"] == "infection")
    assert infection["not_a_trend"] == ["T847"]
    with resource("conf", "reference", "icd10_codes.csv").open(encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["code"] == "T847"]
    for year in ("2018_19", "2023_24"):
        assert f"{int(row[f'uses_{year}']):,} " in infection["note"]
    # Every code of a step is in the code book: I26 has no others.
    assert {code for code in code_books()["icd10"].codes if code.startswith("I26")} == {"I260", "I269"}


# Read in the NHS Data Model and Dictionary: what means another hospital, and what does not.
ADMISSION_SOURCES = {"19": False, "29": False, "39": False, "49": True, "51": True, "52": True, "53": True, "54": False,
                     "65": False, "66": False, "79": False, "85": False, "87": True, "88": False}  # fmt: skip
DESTINATIONS = {"19": False, "29": False, "30": False, "37": False, "38": False, "48": True, "49": True, "50": True,
                "51": True, "52": True, "53": True, "54": False, "65": False, "66": False, "79": False, "84": True,
                "85": False, "87": True, "88": False}  # fmt: skip


def test_another_hospital_is_what_the_data_dictionary_calls_one() -> None:
    transfer = definitions_after()["transfer"]
    for part, known in (("admission_sources", ADMISSION_SOURCES), ("discharge_destinations", DESTINATIONS)):
        listed = transfer[part]["codes"]
        assert {item["code"] for item in listed} == {code for code, hospital in known.items() if hospital}
        assert all("hospital" in item["title"].lower() for item in listed)
        assert transfer[part]["source"] in definitions_after()["sources"]
    assert {item["code"] for item in transfer["admission_methods"]["codes"]} == {"81", "2B"}
    assert all(item["title"].startswith("Transfer") for item in transfer["admission_methods"]["codes"])
    assert definitions_after()["death"]["codes"] == [{"code": "4", "title": "PATIENT died"}]


def test_a_warning_says_what_decides_without_sources_and_destinations() -> None:
    assert transfer_warning(3, 1) is None
    assert "the admission method alone decides" in str(transfer_warning(0, 0))
    assert "no spell has a value in discharge_destination, so" in str(transfer_warning(5, 0))
    assert transfers_by(3, 1) == ("admission_method", "admission_source", "discharge_destination")
    assert (transfers_by(0, 0), transfers_by(5, 0)) == (("admission_method",), ("admission_method", "admission_source"))


# Cumulative incidence


def pathway(stay: int, follow_up: int | None, flagged: bool = False, known: bool = True, **days: int) -> dict[str, Any]:
    return {
        "policy_id": "P", "flagged": flagged, "operation_date": START, "spell_end": day(stay) if known else None,
        "follow_up_days": follow_up, "died_in_hospital": days.get("death_after") == stay, **days,
    }  # fmt: skip


def test_first_events_by_day_are_counted_as_by_hand(spark: SparkSession) -> None:
    rows = [
        pathway(5, 100),  # nothing
        pathway(5, 100, flagged=True, readmitted_after=30),
        pathway(5, 100, readmitted_after=31, death_after=36),  # both on day 31 after the discharge: readmitted first
        pathway(5, 100, death_after=25),  # a planned spell ended with death
        pathway(5, None, death_after=5),  # died before the discharge
        pathway(5, 2000, flagged=True, further_fusion_after=90, revision_after=60, removal_after=400),
        pathway(5, 2000, removal_after=800),  # after the end of the curves
        pathway(5, 10, further_fusion_after=80),  # after a gap in the data
        pathway(0, None, known=False, death_after=3),  # nobody to follow
        pathway(5, 29, readmitted_after=20),  # less than 30 days of data
        pathway(5, None, further_fusion_after=70),  # the end of the data is not known
    ]
    pathways = small_frame(spark, rows, PATHWAY.schema)
    counted: dict[tuple[str, str], dict[tuple[int, str], int]] = {}
    by_day = counts_by_day(pathways).collect()
    for row in by_day:
        counted.setdefault((row["group"], row["history"]), {})[row["day"], row["kind"]] = row["records"]
    assert counted == {
        ("all", "readmission"): {
            (100, "censored"): 1, (30, "readmission"): 1, (31, "readmission"): 1, (20, "death_in_hospital"): 1,
            (730, "censored"): 2, (10, "censored"): 1, (20, "readmission"): 1,
        },
        ("all", "further_operation"): {
            (105, "censored"): 2, (36, "death_in_hospital"): 1, (25, "death_in_hospital"): 1, (5, "death_in_hospital"): 1,
            (60, "further_operation"): 1, (730, "censored"): 1, (15, "censored"): 1, (34, "censored"): 1,
        },
        ("all", "death_in_hospital"): {
            (105, "censored"): 2, (36, "death_in_hospital"): 1, (25, "death_in_hospital"): 1, (5, "death_in_hospital"): 1,
            (730, "censored"): 2, (15, "censored"): 1, (34, "censored"): 1,
        },
        ("flagged", "readmission"): {(30, "readmission"): 1, (730, "censored"): 1},
        ("flagged", "further_operation"): {(105, "censored"): 1, (60, "further_operation"): 1},
        ("flagged", "death_in_hospital"): {(105, "censored"): 1, (730, "censored"): 1},
        # Live discharges with 30 days of data: not who died in the spell, was followed for less, or is not known.
        ("all", "readmission_within_30_days"): {(30, "readmission_within_30_days"): 1, (30, "censored"): 5},
        ("flagged", "readmission_within_30_days"): {(30, "readmission_within_30_days"): 1, (30, "censored"): 1},
    }  # fmt: skip
    curves = {(row["group"], row["event"], row["day"]): row for row in incidence_rows(by_day)}
    assert curves["all", "readmission", 0]["at_risk"] == 8
    # Eight discharges. Day 20: one readmitted and one dead, after one was last seen on day 10. Day 30: one of five.
    assert curves["all", "readmission", 30]["estimate"] == pytest.approx(1 / 7 + 5 / 7 * 1 / 5)
    assert (curves["flagged", "further_operation", 60]["at_risk"], curves["flagged", "further_operation", 60]["estimate"]) == (
        2, 0.5,
    )  # fmt: skip
    within = curves["all", "readmission_within_30_days", 30]
    assert (within["method"], within["at_risk"], within["events"], within["estimate"]) == ("wilson", 6, 1, 1 / 6)
    assert (within["lower"], within["upper"]) == pytest.approx(proportion_confint(1, 6, method="wilson"))
    assert sum(event == "readmission_within_30_days" for _, event, _ in curves) == 2


def counts(history: str, days: list[int], kinds: list[str]) -> list[dict[str, Any]]:
    tally = Counter(zip(days, kinds, strict=True))
    return [
        {"policy_id": "P", "group": "all", "history": history, "day": when, "kind": kind, "records": number}
        for (when, kind), number in tally.items()
    ]


def curve(rows: list[dict[str, Any]], event: str) -> dict[int, dict[str, Any]]:
    return {row["day"]: row for row in rows if row["event"] == event}


def test_kaplan_meier_with_ties_is_that_of_lifelines() -> None:
    draw = random.Random(3)
    days = [draw.randint(0, 60) for _ in range(300)]
    deaths = [draw.choice(["death_in_hospital", "censored", "censored"]) for _ in days]
    further = [draw.choice(["death_in_hospital", "further_operation", "censored", "censored"]) for _ in days]
    rows = incidence_rows(counts("death_in_hospital", days, deaths) + counts("further_operation", days, further))
    for event, kinds in (("death_in_hospital", deaths), ("alive_without_further_operation", further)):
        theirs = KaplanMeierFitter().fit(days, [kind != "censored" for kind in kinds])
        limits, table = theirs.confidence_interval_, theirs.event_table
        found = curve(rows, event)
        assert {row["method"] for row in found.values()} == {"kaplan_meier"}
        checked = 0
        for when, row in found.items():
            if when not in table.index or not row["events"]:
                continue
            value, bounds = float(theirs.predict(when)), [float(limit) for limit in limits.loc[when]]
            if event == "death_in_hospital":
                value, bounds = 1 - value, [1 - bounds[1], 1 - bounds[0]]
            assert row["estimate"] == pytest.approx(value, abs=1e-12)
            if 0 < value < 1:
                assert [row["lower"], row["upper"]] == pytest.approx(bounds, abs=1e-12)
            # lifelines counts everybody as at risk on day 0, its entry; those at risk later are the same.
            assert row["at_risk"] == table.at_risk[when]
            assert row["events"] == table.observed[when]
            checked += 1
        assert checked > 30


def test_aalen_johansen_without_ties_is_that_of_lifelines() -> None:
    draw = random.Random(4)
    days = draw.sample(range(1, 700), 250)
    kinds = [draw.choice(["censored", "readmission", "readmission", "death_in_hospital"]) for _ in days]
    theirs = AalenJohansenFitter(calculate_variance=True).fit(
        days, [{"censored": 0, "readmission": 1, "death_in_hospital": 2}[kind] for kind in kinds], event_of_interest=1
    )
    limits = theirs.confidence_interval_
    found = curve(incidence_rows(counts("readmission", days, kinds)), "readmission")
    assert {row["method"] for row in found.values()} == {"aalen_johansen"}
    for when, row in found.items():
        if row["events"]:
            assert row["estimate"] == pytest.approx(theirs.predict(when), abs=1e-12)
            if row["at_risk"] > 1:  # lifelines divides by 0 where nobody is left
                assert [row["lower"], row["upper"]] == pytest.approx(list(limits.loc[when]), abs=1e-12)
    assert sum(row["events"] for row in found.values()) == kinds.count("readmission") > 50


def test_curves_with_ties_worked_by_hand() -> None:
    # Ten discharges. Day 5: two readmitted, one dead, one last seen. Day 9: one readmitted of six. Day 30: two last seen.
    # Day 90: three last seen.
    kinds = {(5, "readmission"): 2, (5, "death_in_hospital"): 1, (5, "censored"): 1, (9, "readmission"): 1,
             (30, "censored"): 2, (90, "censored"): 3}  # fmt: skip
    rows = incidence_rows(
        {"policy_id": "P", "group": "all", "history": "readmission", "day": when, "kind": kind, "records": number}
        for (when, kind), number in kinds.items()
    )
    found = curve(rows, "readmission")
    assert {when: (row["at_risk"], row["events"], row["estimate"]) for when, row in found.items()} == {
        0: (10, 0, 0),
        5: (10, 2, pytest.approx(0.2)),
        9: (6, 1, pytest.approx(0.2 + 0.7 / 6)),
        30: (5, 0, pytest.approx(0.2 + 0.7 / 6)),
        90: (3, 0, pytest.approx(0.2 + 0.7 / 6)),
        365: (0, 0, None),
        730: (0, 0, None),
    }
    assert found[365]["lower"] is found[365]["upper"] is None
    assert curve(rows, "further_operation") == {}  # nobody has such a history here


def test_without_events_the_estimate_is_known_but_has_no_limits() -> None:
    rows = incidence_rows(counts("further_operation", [400] * 20, ["censored"] * 20))
    assert curve(rows, "further_operation")[365]["estimate"] == 0
    assert curve(rows, "alive_without_further_operation")[365]["estimate"] == 1
    assert curve(rows, "further_operation")[365]["upper"] is None
    assert curve(rows, "further_operation")[730]["estimate"] is None


def test_rows_have_the_columns_of_the_tables() -> None:
    rows = incidence_rows(counts("readmission", [3], ["readmission"]), ("admission_method", "admission_source"))
    assert {row["transfers_by"] for row in rows} == {"admission_method,admission_source"}
    assert set(rows[0]) == set(PATHWAY_INCIDENCE.names()) - {"run_id"}
    assert set(NO_OUTCOME) <= set(PATHWAY.names())
    known = set(definitions_after()["windows"]) | {"index_spell"}
    assert known == {"index_spell", "30_days", "90_days", "1_year", "2_years"}
    window = next(meaning for name, _, meaning in PATHWAY_STEP.fields() if name == "window")
    assert all(name in window for name in known)
