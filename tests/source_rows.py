"""Made-up rows of SUS+ source tables as files, and a table of a lake as another engine reads it."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from calling import delta_rows

OPA = ["OPA_Ident", "Appointment_Date", "Age_at_Start_of_Episode_SUS", "Administrative_Category", "Der_Diagnosis_All",
       "Der_Procedure_All", "Der_Financial_Year", "Extract_Date"]  # fmt: skip
APCS = ["APCS_Ident", "Discharge_Date", "Admission_Date", "Admission_Method", "Administrative_Category",
        "Age_At_Start_of_Spell_SUS", "Der_Diagnosis_All", "Der_Procedure_All", "Der_Financial_Year",
        "Extract_Date"]  # fmt: skip
DER = ["APCS_Ident", "Spell_Dominant_Procedure", "Spell_Primary_Diagnosis", "Extract_Date"]
Row = dict[str, str]


def attendance(key: str, **changes: str) -> Row:
    """A row of OPA."""
    return dict(zip(OPA, (key, "2021-05-01", "45", "01", "", "U055", "2021-22", ""), strict=True)) | changes


def spell(key: str, year: int = 2021, **changes: str) -> Row:
    """A row of APCS."""
    text = f"{year}-{year % 100 + 1:02d}"
    day = f"{year}-06-01"
    return dict(zip(APCS, (key, day, day, "11", "01", "45", "M545", "V382", text, ""), strict=True)) | changes


def derived(key: str, **changes: str) -> Row:
    """A row of APCS_Der."""
    return dict(zip(DER, (key, "V382", "M545", ""), strict=True)) | changes


def write(path: Path, rows: Iterable[Row], columns: list[str] = OPA) -> str:
    """The rows as a CSV file; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def state(folder: Path, table: str, columns: str) -> list[tuple[Any, ...]]:
    """All rows of a table of the lake in a folder, sorted."""
    return delta_rows(folder / "lake" / table, columns)
