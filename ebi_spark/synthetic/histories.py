"""Made-up histories: patients with a lumbar fusion whose care before and after it is known, one patient a case.

All other made-up records are drawn by chance, so that nothing can be said of what follows a fusion. These few are written
out, with what is true of them, so that a demo shows every case and tests know what has to be found. Days count from the
operation.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ebi_spark.financial_years import label, starts_in
from ebi_spark.synthetic import shares
from ebi_spark.synthetic.places import SMALL_AREAS, places, practice_code

# Keys and pseudonyms that no other made-up record has.
_FIRST_KEY, _FIRST_PERSON, _FIRST_EPISODE = 800_000_000_000, 5_000_000_000_000, 90_000_000_000
_AGE = 50


@dataclass(frozen=True)
class Stay:
    """A spell. ``elsewhere``: at another provider than the operation."""

    start: int
    end: int
    method: str = "11"
    source: str = "19"
    destination: str = "19"
    ended: str = "1"
    diagnoses: tuple[str, ...] = ("M545",)
    procedures: tuple[str, ...] = ()
    elsewhere: bool = False


@dataclass(frozen=True)
class Visit:
    """An outpatient appointment."""

    on: int
    function: str
    first: bool = False
    attended: bool = True
    diagnoses: tuple[str, ...] = ()
    procedures: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """A patient: spells, the operation first, and appointments.

    ``outcomes`` is what is true after the operation, by the columns of ``gold/pathway``: what it does not name did not happen.
    ``steps`` are the steps after the operation that are seen, as (step, window), and ``before`` those before or at it.
    ``described``: other columns of ``gold/pathway``. ``late``: the operation is 11 days before the end of the last year.
    ``september``: it is on 15 September of the middle year, because its days are calendar months before that day. ``known``:
    the records have the person.
    """

    case: str
    stays: tuple[Stay, ...]
    visits: tuple[Visit, ...] = ()
    outcomes: Mapping[str, Any] = field(default_factory=dict)
    steps: frozenset[tuple[str, str]] = frozenset()
    before: frozenset[tuple[str, str]] = frozenset()
    described: Mapping[str, Any] = field(default_factory=dict)
    late: bool = False
    september: bool = False
    known: bool = True


def _operation(**changes: Any) -> Stay:
    return Stay(0, 4, **{"procedures": ("V385", "V552", "Z993"), **changes})


def _emergency(start: int, end: int, **changes: Any) -> Stay:
    return Stay(start, end, **{"method": "21", "diagnoses": ("R51X",), **changes})


def _transfer(start: int, end: int, **changes: Any) -> Stay:
    return Stay(start, end, **{"method": "81", "source": "51", "elsewhere": True, **changes})


def _seen(step: str, *windows: str) -> frozenset[tuple[str, str]]:
    return frozenset((step, window) for window in windows)


_WINDOWS = ("3_months", "6_months", "12_months")
_READMITTED = _seen("emergency_readmission", "30_days")

HISTORIES: tuple[History, ...] = (
    History("nothing follows", (_operation(),)),
    History("readmitted on day 30", (_operation(), _emergency(34, 36)), outcomes={"readmitted_after": 30}, steps=_READMITTED),
    History("readmitted on day 31", (_operation(), _emergency(35, 36)), outcomes={"readmitted_after": 31}),
    History(
        "readmitted elsewhere", (_operation(), _emergency(14, 16, elsewhere=True)),
        outcomes={"readmitted_after": 10}, steps=_READMITTED,
    ),
    History("transferred on the day", (_operation(destination="51"), _transfer(4, 9)), outcomes={"spell_end": 9}),
    History(
        "emergency on the day of discharge", (_operation(), _emergency(4, 6)),
        outcomes={"readmitted_after": 0}, steps=_READMITTED,
    ),
    History(
        "emergency on the day after", (_operation(), _emergency(5, 7)), outcomes={"readmitted_after": 1}, steps=_READMITTED
    ),
    History(
        "three transfers, then readmitted",
        (_operation(), _transfer(5, 8), _transfer(8, 9, method="2B"), _transfer(10, 15), _emergency(45, 46)),
        outcomes={"spell_end": 15, "readmitted_after": 30}, steps=_READMITTED,
    ),
    History(
        "a haematoma in planned care",
        (_operation(), Stay(20, 20, "12", diagnoses=("H269", "T810"), procedures=("C751",))),
        steps=_seen("haemorrhage", "90_days"),
    ),
    History(
        "died in the spell", (_operation(ended="4", destination="79"),),
        outcomes={"died_in_hospital": True, "death_after": 4},
        steps=_seen("death_in_hospital", "index_spell", "30_days", "90_days", "1_year"),
    ),
    History(
        "died after a transfer", (_operation(), _transfer(4, 12, ended="4", destination="79")),
        outcomes={"spell_end": 12, "died_in_hospital": True, "death_after": 12},
        steps=_seen("death_in_hospital", "index_spell", "30_days", "90_days", "1_year"),
    ),
    History(
        "readmitted and died", (_operation(), _emergency(50, 60, ended="4", destination="79")),
        outcomes={"readmitted_after": 46, "death_after": 60}, steps=_seen("death_in_hospital", "90_days", "1_year"),
    ),
    History(
        "possible second stage", (_operation(), Stay(18, 22, "12", procedures=("V333", "V551"))),
        outcomes={"possible_staged_after": 14}, steps=_seen("possible_staged", "30_days"),
    ),
    History(
        "fused again and revised",
        (_operation(), Stay(200, 204, diagnoses=("M480",), procedures=("V386", "V551", "V394"))),
        outcomes={"further_fusion_after": 200, "revision_after": 200},
        steps=_seen("further_fusion", "1_year", "2_years") | _seen("revision", "1_year", "2_years"),
    ),
    History(
        "revised in the second year", (_operation(), Stay(400, 405, diagnoses=("T842",), procedures=("V394", "V551"))),
        outcomes={"revision_after": 400}, steps=_seen("revision", "2_years"),
    ),
    History(
        "instruments removed", (_operation(), Stay(300, 302, diagnoses=("T848",), procedures=("V405",))),
        outcomes={"removal_after": 300}, steps=_seen("removal", "1_year", "2_years"),
    ),
    History("infection in the spell", (_operation(diagnoses=("M545", "T814")),), steps=_seen("infection", "index_spell")),
    History(
        "infection after the discharge", (_operation(), _emergency(20, 30, diagnoses=("T846",), procedures=("V465",))),
        outcomes={"readmitted_after": 16, "removal_after": 20},
        steps=_READMITTED | _seen("infection", "90_days") | _seen("removal", "1_year", "2_years"),
    ),
    History("haemorrhage", (_operation(diagnoses=("M545", "T810")),), steps=_seen("haemorrhage", "index_spell")),
    History(
        "dural tear", (_operation(diagnoses=("M545", "G978")), Stay(12, 12, "12", diagnoses=("G960",), procedures=("A523",))),
        steps=_seen("dural_tear", "index_spell", "90_days"),
    ),
    History(
        "loose screw", (_operation(), Stay(80, 82, diagnoses=("T842",))),
        steps=_seen("device", "90_days"),
    ),
    History(
        "embolism", (_operation(), _emergency(25, 31, diagnoses=("I269", "I802"))),
        outcomes={"readmitted_after": 21}, steps=_READMITTED | _seen("thromboembolism", "90_days"),
    ),
    History("the data end early", (_operation(),), late=True),
    History(
        "the data end early, readmitted before", (_operation(), _emergency(8, 9)), late=True,
        outcomes={"readmitted_after": 4}, steps=_READMITTED,
    ),
    History("no person", (_operation(),), known=False),
    # Care before the operation: 92, 184 and 365 days are three, six and twelve months before 15 September.
    History(
        "physiotherapy over 42 days", (_operation(),),
        (Visit(-80, "650", first=True), Visit(-60, "650"), Visit(-38, "650")),
        before=_seen("physiotherapy_supervised", *_WINDOWS),
    ),
    History("physiotherapy over 41 days", (_operation(),), (Visit(-79, "650", first=True), Visit(-38, "650"))),
    History("physiotherapy without a first contact", (_operation(),), (Visit(-80, "650"), Visit(-30, "650"))),
    History(
        "physiotherapy not attended", (_operation(),), (Visit(-80, "650", first=True), Visit(-30, "650", attended=False))
    ),
    History("physiotherapy long before", (_operation(),), (Visit(-420, "650", first=True), Visit(-366, "650"))),
    History(
        "on the first day of each window", (_operation(),),
        (Visit(-365, "410", first=True), Visit(-184, "191", first=True), Visit(-92, "656", first=True)),
        before=_seen("rheumatology", "12_months") | _seen("pain_management", "6_months", "12_months")
        | _seen("psychology", *_WINDOWS), september=True,
    ),
    History(
        "a day before each window", (_operation(),),
        (Visit(-366, "410", first=True), Visit(-185, "191", first=True), Visit(-93, "656", first=True)),
        before=_seen("pain_management", "12_months") | _seen("psychology", "6_months", "12_months"), september=True,
    ),
    History(
        "surgeons", (_operation(),),
        (Visit(-250, "110", first=True), Visit(-120, "150", first=True), Visit(-1, "108", first=True), Visit(0, "191")),
        before=_seen("orthopaedics", "12_months") | _seen("neurosurgery", "6_months", "12_months")
        | _seen("spinal_surgery", *_WINDOWS),
    ),
    History(
        "imaging, injection, operation", (_operation(), Stay(-60, -60, procedures=("V544", "Z675"))),
        (Visit(-150, "108", first=True, procedures=("U055",)),),
        before=_seen("facet_injection", *_WINDOWS) | _seen("imaging_then_injection", "12_months")
        | frozenset(
            (step, window)
            for step in ("spinal_surgery", "lumbar_imaging", "lumbar_imaging_flagged")
            for window in ("6_months", "12_months")
        ),
    ),
    History(
        "epidural and denervation",
        (
            _operation(), Stay(-100, -100, procedures=("A521", "Z063", "A577")),
            Stay(-50, -50, procedures=("V485", "Z675", "A573", "A735", "Z073")),
        ),
        before=_seen("epidural_injection", "6_months", "12_months") | _seen("facet_denervation", *_WINDOWS)
        | _seen("nerve_root_injection", "6_months", "12_months") | _seen("nerve_root_destruction", *_WINDOWS)
        | _seen("peripheral_nerve", *_WINDOWS),
    ),
    History(
        "blood patch and leg pain before",
        (_operation(), Stay(-30, -30, diagnoses=("G971", "M511", "M480", "M213"), procedures=("A523",))),
        before=frozenset((step, "12_months") for step in ("radiculopathy", "stenosis", "foot_drop")),
    ),
    # Other reasons to operate, and how.
    History(
        "spondylolisthesis", (_operation(diagnoses=("M545", "M431")),), before=_seen("spondylolisthesis", "at_operation")
    ),
    History("deformity", (_operation(diagnoses=("M545", "M419")),), before=_seen("deformity", "at_operation")),
    History(
        "stenosis and instability", (_operation(diagnoses=("M545", "M480", "M532")),),
        before=frozenset((step, "at_operation") for step in ("stenosis", "instability", "stenosis_with_instability")),
    ),
    History(
        "stenosis alone", (_operation(diagnoses=("M545", "M480")),),
        before=frozenset((step, "at_operation") for step in ("stenosis", "stenosis_without_instability")),
    ),
    History("leg pain", (_operation(diagnoses=("M545", "M511")),), before=_seen("radiculopathy", "at_operation")),
    History(
        "cauda equina", (_operation(diagnoses=("M545", "G834", "M471", "M213", "N319")),),
        before=frozenset(
            (step, "at_operation") for step in ("neurological_deficit", "myelopathy", "foot_drop", "neurogenic_bladder")
        ),
    ),
    History(
        "three levels with decompression, and a complication of the implant",
        (_operation(diagnoses=("M545", "T843"), procedures=("V385", "V553", "V254")),),
        described={"levels": "three_or_more", "decompression": True}, steps=_seen("device", "index_spell"),
    ),
    History(
        "combined approach, and an embolism", (_operation(diagnoses=("M545", "I269"), procedures=("V385", "V551", "V333")),),
        described={"levels": "one", "approach": "combined"}, steps=_seen("thromboembolism", "index_spell"),
    ),
    History("levels not stated", (_operation(procedures=("V385", "Z993")),), described={"levels": "not_stated"}),
)  # fmt: skip


def operation_day(history: History, starts: Sequence[int]) -> date:
    """The day of the operation. Operations are spread over the years, and all of each history is within them.

    ``starts`` are the calendar years that the financial years begin in. If the years are too short for a history, its
    operation is on 15 September of the middle year.
    """
    if history.late:
        return date(starts[-1] + 1, 3, 20)
    usual = date(starts[(len(starts) - 1) // 2], 9, 15)
    days = [day for stay in history.stays for day in (stay.start, stay.end)] + [visit.on for visit in history.visits]
    first = date(starts[0], 4, 1) - timedelta(days=min(days))
    room = (date(starts[-1] + 1, 3, 31) - timedelta(days=max(days)) - first).days
    if history.september or room < 0:
        return usual
    # Neighbours in the list are far apart, because 17 and the number of histories have no common factor.
    place = HISTORIES.index(history) * 17 % len(HISTORIES)
    return first + timedelta(days=room * place // len(HISTORIES))


def write_histories(
    folder: Path, system: str, starts: Sequence[int], columns: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Write a file ``ROLE_histories.csv`` into ``folder/ROLE`` for each role. Returns the number of rows of each.

    ``columns`` has the columns of each role's other files. Records of years that are not in ``starts`` are left out.
    """
    make = {"sus_plus": _sus_plus, "hes": _hes}[system]
    rows: dict[str, list[dict[str, Any]]] = {role: [] for role in columns}
    for role, row in make(starts):
        rows[role].append(row)
    for role, listed in rows.items():
        with (folder / role / f"{role}_histories.csv").open("w", encoding="utf-8", newline="") as file:
            # A column that a history does not need is empty; one that the layout does not have is an error.
            writer = csv.DictWriter(file, columns[role], restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(listed)
    return {role: len(listed) for role, listed in rows.items()}


@dataclass(frozen=True)
class _Record:
    """One spell or appointment with what both systems say of it."""

    number: int
    person: int
    known: bool
    year: int
    first_day: date
    last_day: date
    provider: str
    place: int


def _records(starts: Sequence[int]) -> Iterator[tuple[_Record, Stay | Visit]]:
    """Every spell and appointment in the years, numbered."""
    known, number = places(), 0
    for person, history in enumerate(HISTORIES):
        day, place = operation_day(history, starts), person * 7 % len(known.locations)
        items: list[Stay | Visit] = [*history.stays, *history.visits]
        for item in items:
            number += 1
            days = (item.start, item.end) if isinstance(item, Stay) else (item.on, item.on)
            first, last = (day + timedelta(days=offset) for offset in days)
            elsewhere = isinstance(item, Stay) and item.elsewhere
            provider = known.providers[(place + elsewhere) % len(known.providers)]
            year = starts_in(last)
            if year in starts:
                yield _Record(number, person, history.known, year, first, last, provider, place), item


def _sus_plus(starts: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    for record, item in _records(starts):
        key = _FIRST_KEY + record.number
        both = {
            "Der_Pseudo_NHS_Number": _FIRST_PERSON + record.person if record.known else "",
            "Sex": "2",
            "Der_Provider_Code": record.provider,
            "Der_Commissioner_Code": f"{places().locations[record.place]}00"[:5],
            "GP_Practice_Code": practice_code(places().practice_starts[record.place]),
            "Der_Postcode_LSOA_2011_Code": f"E019{record.place * SMALL_AREAS:05d}",
            "Der_Age_at_CDS_Activity_Date": _AGE,
            "Administrative_Category": "01",
            "Der_Diagnosis_All": _listed(item.diagnoses),
            "Der_Procedure_All": _listed(item.procedures),
            "Der_Financial_Year": label(record.year),
            "Der_Activity_Month": f"{record.last_day:%Y%m}",
        }
        if isinstance(item, Visit):
            yield (
                "opa",
                both
                | {
                    "OPA_Ident": key,
                    "Age_at_Start_of_Episode_SUS": _AGE,
                    "Appointment_Date": record.last_day,
                    "Attendance_Status": "5" if item.attended else "3",
                    "First_Attendance": "1" if item.first else "2",
                    "Treatment_Function_Code": item.function,
                    "Referral_Source": "03",
                },
            )
            continue
        yield (
            "apcs",
            both
            | {
                "APCS_Ident": key,
                "Age_At_Start_of_Spell_SUS": _AGE,
                "Admission_Method": item.method,
                "Source_of_Admission": item.source,
                "Discharge_Method": item.ended,
                "Discharge_Destination": item.destination,
                "Patient_Classification": _classification(item),
                "Admission_Date": record.first_day,
                "Discharge_Date": record.last_day,
                "Der_Spell_LoS": item.end - item.start,
                "Der_Admit_Treatment_Function_Code": "108",
                "Hospital_Spell_No": f"H{record.number:011d}",
            },
        )
        yield (
            "apcs_der",
            {
                "APCS_Ident": key,
                "Spell_Dominant_Procedure": next(iter(item.procedures), ""),
                "Spell_Primary_Diagnosis": next(iter(item.diagnoses), ""),
                "Spell_Secondary_Diagnosis": next(iter(item.diagnoses[1:]), ""),
            },
        )


def _hes(starts: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    for record, item in _records(starts):
        both = {
            "SUSRECID": _FIRST_KEY + record.number,
            "PSEUDO_HESID": f"{_FIRST_PERSON + record.person:032X}" if record.known else "",
            "FYEAR": f"{record.year % 100:02d}{(record.year + 1) % 100:02d}",
            "SEX": "2",
            "ADMINCAT": "01",
            "PROCODE3": record.provider,
            "PROCODET": record.provider,
            "CCG_RESPONSIBILITY": places().locations[record.place],
            "GPPRAC": practice_code(places().practice_starts[record.place]),
            "LSOA11": f"E019{record.place * SMALL_AREAS:05d}",
            "DIAG_4_CONCAT": ",".join(item.diagnoses),
            "OPERTN_4_CONCAT": ",".join(item.procedures) or "-   ",
            "OPERTN_4_01": "-",
            **{f"DIAG_4_{n:02d}": code for n, code in enumerate(item.diagnoses, 1)},
            **{f"OPERTN_4_{n:02d}": code for n, code in enumerate(item.procedures, 1)},
        }
        long = record.year >= shares.FIRST_LONG_KEY_YEAR
        key = f"{'150000003' if long else '5'}{_FIRST_EPISODE + record.number:011d}"
        if isinstance(item, Visit):
            yield (
                "op",
                both
                | {
                    "ATTENDKEY": key,
                    "APPTAGE": _AGE,
                    "APPTAGE_CALC": _AGE,
                    "APPTDATE": record.last_day,
                    "ATTENDED": "5" if item.attended else "3",
                    "FIRSTATT": "1" if item.first else "2",
                    "REFSOURC": "03",
                    "TRETSPEF": item.function,
                },
            )
            continue
        yield (
            "apc",
            both
            | {
                "EPIKEY": key,
                "STARTAGE": _AGE,
                "STARTAGE_CALC": _AGE,
                "ADMIDATE": record.first_day,
                "ADMIMETH": item.method,
                "ADMISORC": item.source,
                "CLASSPAT": _classification(item),
                "DISDATE": record.last_day,
                "DISMETH": item.ended,
                "DISDEST": item.destination,
                "EPIORDER": "1",
                "EPISTART": record.first_day,
                "EPIEND": record.last_day,
                "EPISTAT": "3",
                "EPITYPE": "1",
                "SPELBGIN": "2",
                "SPELEND": "Y",
                "SPELDUR": item.end - item.start,
                "PROVSPNOPS": f"H{record.number:011d}",
                "TRETSPEF": "108",
                **dict.fromkeys(("FCE", "FAE", "FDE"), "1"),
            },
        )


def _classification(stay: Stay) -> str:
    return "2" if stay.start == stay.end and not stay.method.startswith("2") else "1"


def _listed(codes: Sequence[str]) -> str:
    return f"||{','.join(codes)}" if codes else ""
