"""SUS+ source files made to break rules: every NULL, near miss, padding and separator style, from a seed.

Most rows start from one that the policy flags and then change one field, so that each clause alone decides some; the
rest are drawn at random in every field. Dates are always usable: quarantined rows are not what these files test.
"""

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path

Row = dict[str, str | None]
Draw = Callable[[], str | None]

NOTHING: tuple[str | None, ...] = (None, "", " ", "   ", "NULL", "null", " Null ")

DOMINANT_HITS = ("V382", "V383", "V384", "V385", "V386", "V404")
DOMINANT_MISSES = (
    "V387", "V381", "V388", "V389", "V38", "V3", "V", "V403", "V405", "V40", "V480", "W382", "XV382", "1V404", "V-382",
    "V,382", "V371,V382", "V38Z", "VV38", "-", "&", "V38?", "V38[23456]", "V38%", "U054",
)  # fmt: skip
PRIMARY_HITS = ("M545", "M549", "M5459", "M545D", "M549-", "XM545", "AM549A", "M54M545")
PRIMARY_MISSES = (
    "M546", "M548", "M540", "M544", "M54", "M54X", "M5", "M55", "N545", "M-545", "M54-5", "AC34", "M541", "-", "&",
    "M54[59]", "5M54",
)  # fmt: skip
HARMLESS = (
    "E119", "I10X", "J849", "K869", "I801", "Z921", "E851", "T124", "X403", "Y532", "M544", "M545", "M5456", "M511",
    "G834", "Z966", "R521", "F171", "N179", "Z8643", "M4806",
)  # fmt: skip
# Codes beside those that the exclusions name: no pattern may match them.
BESIDE = (
    "M403", "M404", "M405", "M40", "M416", "M417", "M41", "M422", "M428", "M42", "M432", "M434", "M436", "M437", "M43",
    "M870", "M871", "M873", "M87", "M878", "D50", "D509", "D500", "D49", "D49X", "D36", "D369", "D35", "D300", "D4", "D",
    "D3", "C7A", "C7A0", "CA12", "C", "C1", "CC1", "C-12", "B99X", "D649", "D1", "D100", "O162", "-", "&", "--", "D-0",
    "NULL", "C[0-9][0-9]", "D3[789]", "M41[0",
)  # fmt: skip
DEFORMITY = (
    "M400", "M401", "M402", "M410", "M411", "M412", "M413", "M414", "M415", "M418", "M419", "M420", "M421", "M429",
    "M430", "M431", "M435", "M438", "M439", "M872", "M4015", "M401-", "M410A", "M872D", "XM401", "ZZM872",
)  # fmt: skip
CANCER = (
    "C00", "C349", "C34", "C61X", "C509", "C999", "C7A11C22", "C349D", "C349-", "AC34", "XC619", "D000", "D05", "D059",
    "D0", "D099", "1D05", "D37", "D371", "D38", "D39", "D390", "ZD371", "D40", "D400", "D410", "D42", "D43", "D44",
    "D45X", "D46", "D47", "D480", "D48", "D489A", "XD480",
)  # fmt: skip
IMAGING_ALONE = ("U054", "U055", "U054D", "XU055", "U0541")
IMAGING_SITED = ("U132", "U133", "U135", "U136", "U211", "U212", "U216", "U217", "XU133", "U1359")
SITES = ("Z665", "O162", "Z665A", "ZO162", "XZ665")
IMAGING_BESIDE = (
    "U05", "U053", "U056", "U051", "U131", "U134", "U137", "U13", "U214", "U215", "U213", "U218", "U21", "U221", "V054",
    "U-054", "U04",
)  # fmt: skip
SITES_BESIDE = ("Z664", "Z666", "Z66", "O161", "O163", "O16", "0162", "Z6", "Z943", "Y981", "-", "&")
AGES = (
    "19", "120", "18", "121", "7001", "7007", "6999", "-1", "0", "1", "45", "64", "119", "20", " 45 ", "045", "45.0",
    "18.9", "120.0", "forty", "19-", "999", "1e9", "99999999999", "-45",
)  # fmt: skip
GOOD_AGES = ("19", "20", "33", "45", "45.0", " 61 ", "078", "119", "120")
METHODS_KEPT = ("11", "12", "13", "31", "32", "81", "82", "83", "99", "X2", "1", "82 ", " 11")
METHODS = ("21", "22", "25", "28", "2A", "2a", "2D", "2d", " 2B", "2c ", "2X", "20", "2", *METHODS_KEPT)
CATEGORIES_KEPT = ("01", "03", "04", "1", "3", "4", "98", " 01", "04 ", "x", "0A", "002", "020")
CATEGORIES = ("02", "2", " 02", "02 ", " 2 ", *CATEGORIES_KEPT)

APCS = (
    "APCS_Ident", "Der_Pseudo_NHS_Number", "Sex", "Der_Provider_Code", "Der_Commissioner_Code", "GP_Practice_Code",
    "Der_Postcode_LSOA_2011_Code", "Administrative_Category", "Der_Diagnosis_All", "Der_Procedure_All",
    "Der_Financial_Year", "Der_Activity_Month", "Age_At_Start_of_Spell_SUS", "Der_Age_at_CDS_Activity_Date",
    "Admission_Method", "Patient_Classification", "Admission_Date", "Discharge_Date", "Der_Spell_LoS",
    "Der_Admit_Treatment_Function_Code",
)  # fmt: skip
DERIVED = ("APCS_Ident", "Spell_Dominant_Procedure", "Spell_Primary_Diagnosis", "Spell_Secondary_Diagnosis")
OPA = (
    "OPA_Ident", "Der_Pseudo_NHS_Number", "Sex", "Der_Provider_Code", "Der_Commissioner_Code", "GP_Practice_Code",
    "Der_Postcode_LSOA_2011_Code", "Administrative_Category", "Der_Diagnosis_All", "Der_Procedure_All",
    "Der_Financial_Year", "Der_Activity_Month", "Age_at_Start_of_Episode_SUS", "Der_Age_at_CDS_Activity_Date",
    "Appointment_Date", "Attendance_Status", "First_Attendance", "Treatment_Function_Code",
)  # fmt: skip


class Maker:
    """Draws fields; one instance a file."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, options: Sequence[str | None]) -> str | None:
        return self.random.choice(options)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def nothing(self) -> str | None:
        return self.one(NOTHING)

    def styled(self, code: str) -> str:
        """One code as sources write it: lower case, with its dot, padded."""
        if self.chance(0.2) and len(code) > 3 and code.isalnum():
            code = f"{code[:3]}.{code[3:]}"
        if self.chance(0.2):
            code = code.lower()
        if self.chance(0.2):
            code = code.ljust(5) if self.chance(0.7) else f" {code}"
        return code

    def listed(self, codes: Sequence[str]) -> str:
        """Codes concatenated over one to four episodes in one of the styles."""
        comma = self.one((",", " ,", ", ", " , ", ",,", "\t,", ",-   ,"))
        bars = self.one(("||", " ||", "|| ", " || ", "|", "||||", ",||,"))
        cuts = sorted(self.random.randrange(len(codes) + 1) for _ in range(self.random.choice((0, 0, 1, 3))))
        episodes = [codes[a:b] for a, b in zip((0, *cuts), (*cuts, len(codes)), strict=True)]
        text = str(bars).join(str(comma).join(map(self.styled, episode)) for episode in episodes)
        return f"{self.one(('||', '', '||', ' ||', ','))}{text}{self.one(('', '', ' ', ',', '||', ' ,'))}"

    def mixed(self, *chosen: str | None, fill: Sequence[str] = HARMLESS) -> str:
        """A list of the codes chosen among harmless ones."""
        codes = [str(self.one(fill)) for _ in range(self.random.choice((0, 0, 1, 2, 5)))]
        for code in chosen:
            codes.insert(self.random.randrange(len(codes) + 1), str(code))
        return self.listed(codes or [str(self.one(fill))])

    def long(self) -> str:
        return self.listed([str(self.one(HARMLESS)) for _ in range(700)])[:4000]

    def split(self) -> str:
        """A code that only reading across a separator would see."""
        code = str(self.one((*DEFORMITY[:20], "C349", "D059", "D371", "D480", "U054", "Z665")))
        at = self.random.randrange(1, len(code))
        return self.listed([code[:at], code[at:]])

    def diagnoses(self) -> str | None:
        return self.random.choice(
            (
                self.nothing,
                self.mixed,
                lambda: self.mixed(self.one(BESIDE), self.one(BESIDE)),
                lambda: self.mixed(self.one(DEFORMITY)),
                lambda: self.mixed(self.one(CANCER)),
                lambda: self.mixed(self.one(CANCER), self.one(DEFORMITY)),
                self.split,
                self.long,
            )
        )()

    def harmless(self) -> str | None:
        return self.mixed(self.one(BESIDE)) if self.chance(0.5) else self.mixed()

    def code_from(self, *pools: Sequence[str]) -> str | None:
        return self.styled(str(self.one([code for pool in pools for code in pool])))

    def when(self) -> tuple[str, str]:
        """A day in one of the spellings, and its year as some source would state it."""
        year = self.random.choice((2021, 2022, 2023, 2024))
        month, day = self.random.choice(((4, 1), (8, 1), (7, 31), (12, 1), (11, 30), (3, 31), (1, 15)))
        calendar = year + (month < 4)
        stamp = self.random.choice(
            (
                f"{calendar}-{month:02d}-{day:02d}",
                f"{day:02d}/{month:02d}/{calendar}",
                f"{calendar}{month:02d}{day:02d}",
                f"{calendar}-{month:02d}-{day:02d} 00:00:00",
                f" {calendar}-{month:02d}-{day:02d}",
            )
        )
        end = (year + 1) % 100
        return stamp, self.random.choice((f"{year}-{end}", f"{year}/{end}", f"{year}{end}"))


def _common(maker: Maker, number: int) -> Row:
    return {
        "Der_Pseudo_NHS_Number": None if maker.chance(0.05) else str(10**9 + number // 2),
        "Sex": maker.one(("1", "2", "0", "9", "X", *NOTHING)),
        "Der_Provider_Code": maker.one(("RXX", "RYY01", None)),
        "Der_Commissioner_Code": maker.one(("15M00", "QJ2", None)),
        "GP_Practice_Code": maker.one(("C81001", None)),
        "Der_Postcode_LSOA_2011_Code": maker.one(("E01000001", None)),
    }


def _vary(maker: Maker, good: dict[str, Draw], wild: dict[str, Draw]) -> Row:
    """Every field good; or one of them wild; or all."""
    kind = maker.random.random()
    changed = set(wild) if kind > 0.8 else {maker.random.choice(sorted(wild))} if kind > 0.3 else set()
    return {name: (wild if name in changed else good)[name]() for name in good}


def write_spells(folder: Path, rows: int, seed: int) -> tuple[Path, Path]:
    """``apcs.csv`` and ``apcs_der.csv`` of ``rows`` spells; one in forty has no derived row."""
    maker = Maker(seed)
    good: dict[str, Draw] = {
        "Spell_Dominant_Procedure": lambda: maker.code_from(DOMINANT_HITS, ("V382D", "V4041", "V386-")),
        "Spell_Primary_Diagnosis": lambda: maker.code_from(PRIMARY_HITS),
        "Der_Diagnosis_All": maker.harmless,
        "Age_At_Start_of_Spell_SUS": lambda: maker.one(GOOD_AGES),
        "Der_Age_at_CDS_Activity_Date": lambda: maker.one((*AGES, None)),
        "Admission_Method": lambda: maker.one(METHODS_KEPT),
        "Administrative_Category": lambda: maker.one(CATEGORIES_KEPT),
    }
    wild: dict[str, Draw] = {
        "Spell_Dominant_Procedure": lambda: (
            maker.nothing() if maker.chance(0.2) else maker.code_from(DOMINANT_HITS, DOMINANT_MISSES)
        ),
        "Spell_Primary_Diagnosis": lambda: (
            maker.nothing() if maker.chance(0.2) else maker.code_from(PRIMARY_HITS, PRIMARY_MISSES, PRIMARY_MISSES)
        ),
        "Der_Diagnosis_All": maker.diagnoses,
        "Age_At_Start_of_Spell_SUS": lambda: maker.nothing() if maker.chance(0.4) else maker.one(AGES),
        "Admission_Method": lambda: maker.one((*METHODS, *NOTHING)),
        "Administrative_Category": lambda: maker.one((*CATEGORIES, *CATEGORIES[:5], *NOTHING)),
    }
    with (
        (folder / "apcs.csv").open("w", newline="", encoding="utf-8") as spells,
        (folder / "apcs_der.csv").open("w", newline="", encoding="utf-8") as derived,
    ):
        spell_file = csv.DictWriter(spells, APCS, extrasaction="ignore", lineterminator="\n")
        derived_file = csv.DictWriter(derived, DERIVED, extrasaction="ignore", lineterminator="\n")
        spell_file.writeheader()
        derived_file.writeheader()
        for number in range(rows):
            discharged, year = maker.when()
            row = (
                _common(maker, number)
                | _vary(maker, good, wild)
                | {
                    "APCS_Ident": str(700_000_000 + number),
                    "Der_Procedure_All": maker.mixed(maker.one(DOMINANT_HITS))
                    if maker.chance(0.9)
                    else maker.nothing(),
                    "Der_Financial_Year": year,
                    "Patient_Classification": maker.one(("1", "2", None)),
                    "Admission_Date": discharged if maker.chance(0.9) else None,
                    "Discharge_Date": discharged,
                    "Der_Admit_Treatment_Function_Code": maker.one(("108", "110", None)),
                }
            )
            spell_file.writerow(row | {"APCS_Ident": f" {row['APCS_Ident']}"} if maker.chance(0.02) else row)
            if number % 40:
                derived_file.writerow(row | {"APCS_Ident": f"{row['APCS_Ident']} "} if maker.chance(0.02) else row)
        for number in range(rows // 200):  # derived rows of no spell
            derived_file.writerow(
                {"APCS_Ident": str(900_000_000 + number), "Spell_Dominant_Procedure": "V382",
                 "Spell_Primary_Diagnosis": "M545"}
            )  # fmt: skip
    return folder / "apcs.csv", folder / "apcs_der.csv"


def write_attendances(folder: Path, rows: int, seed: int) -> Path:
    """``opa.csv`` of ``rows`` attendances."""
    maker = Maker(seed)

    def imaged() -> str:
        if maker.chance(0.4):
            return maker.mixed(maker.one(IMAGING_ALONE), fill=IMAGING_BESIDE + SITES_BESIDE)
        pair = [maker.one(IMAGING_SITED), maker.one(SITES)]
        maker.random.shuffle(pair)
        return maker.mixed(*pair, fill=IMAGING_BESIDE + SITES_BESIDE)

    def nearly() -> str | None:
        return maker.random.choice(
            (
                maker.nothing,
                imaged,
                lambda: maker.mixed(maker.one(IMAGING_SITED), maker.one(SITES_BESIDE), fill=SITES_BESIDE),
                lambda: maker.mixed(maker.one(IMAGING_BESIDE), maker.one(SITES), fill=IMAGING_BESIDE),
                lambda: maker.mixed(maker.one(IMAGING_BESIDE), maker.one(SITES_BESIDE), fill=HARMLESS),
                maker.split,
                maker.long,
            )
        )()

    good: dict[str, Draw] = {
        "Der_Procedure_All": imaged,
        "Der_Diagnosis_All": maker.harmless,
        "Age_at_Start_of_Episode_SUS": lambda: maker.one(GOOD_AGES),
        "Der_Age_at_CDS_Activity_Date": lambda: maker.one((*AGES, None)),
        "Administrative_Category": lambda: maker.one(CATEGORIES_KEPT),
    }
    wild: dict[str, Draw] = {
        "Der_Procedure_All": nearly,
        "Der_Diagnosis_All": maker.diagnoses,
        "Age_at_Start_of_Episode_SUS": lambda: maker.nothing() if maker.chance(0.4) else maker.one(AGES),
        "Administrative_Category": lambda: maker.one((*CATEGORIES, *CATEGORIES[:5], *NOTHING)),
    }
    path = folder / "opa.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, OPA, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for number in range(rows):
            seen, year = maker.when()
            writer.writerow(
                _common(maker, number)
                | _vary(maker, good, wild)
                | {
                    "OPA_Ident": f"{10**19 + number}",
                    "Der_Financial_Year": year,
                    "Appointment_Date": seen if maker.chance(0.95) else None,
                    "Attendance_Status": maker.one(("5", "6", "7", "3", None)),
                    "First_Attendance": maker.one(("1", "2", None)),
                    "Treatment_Function_Code": maker.one(("110", "650", "812", None)),
                }
            )
    return path
