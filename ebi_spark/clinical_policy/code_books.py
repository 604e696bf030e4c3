"""ICD-10 and OPCS-4 as they were used: codes, titles, years of use, national counts; what a pattern finds in them."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from ebi_spark.clinical_policy.patterns import as_regex
from ebi_spark.errors import InputError
from ebi_spark.settings import resource
from ebi_spark.small_files import refuse_special

SYSTEMS = {"icd10": "ICD-10", "opcs4": "OPCS-4"}
SYSTEM_OF = {
    "primary_diagnosis": "icd10",
    "any_diagnosis": "icd10",
    "dominant_procedure": "opcs4",
    "any_procedure": "opcs4",
}
_YEAR = re.compile(r"\d{4}-\d{2}")
_REQUIRED = ("code", "title", "first_year", "last_year")


@dataclass(frozen=True)
class Code:
    """One code, the first and last financial year with a use, and its largest count in a year that has one."""

    code: str
    title: str
    first_year: str
    last_year: str
    uses: int


@dataclass(frozen=True)
class CodeBook:
    """The codes of one system. ``first_year`` and ``last_year`` bound what the table can know."""

    system: str
    codes: dict[str, Code]

    @cached_property
    def first_year(self) -> str:
        """The first financial year of the table."""
        return min(code.first_year for code in self.codes.values())

    @cached_property
    def last_year(self) -> str:
        """The last financial year of the table."""
        return max(code.last_year for code in self.codes.values())

    @cached_property
    def _known(self) -> dict[tuple[str, str, int | None], list[Code]]:
        return {}

    def found(self, operator: str, pattern: str, left: int | None = None) -> list[Code]:
        """The codes on which a test with this one pattern holds."""
        asked = (operator, pattern, left)
        if asked not in self._known:
            self._known[asked] = self._search(operator, pattern, left)
        return self._known[asked]

    def _search(self, operator: str, pattern: str, left: int | None) -> list[Code]:
        form = as_regex(pattern)
        regex = re.compile({"starts_with": f"^{form}", "contains": form, "in": f"^{form}$"}[operator])
        return [code for text, code in self.codes.items() if regex.search(text[:left])]


def code_books(files: tuple[Path, ...] = ()) -> dict[str, CodeBook]:
    """Both systems' books: those shipped, or in their place those of ``files``.

    A file is CSV with code, title, first_year, last_year, and ``system`` (icd10 or opcs4) unless its name says that;
    further columns that start with ``uses`` hold counts. An :class:`InputError` names file, line and remedy.
    """
    books: dict[str, dict[str, Code]] = {}
    for path in files:
        for system, codes in _read(path).items():
            books.setdefault(system, {}).update(codes)
    given = {system: CodeBook(system, dict(sorted(codes.items()))) for system, codes in books.items()}
    return {system: given.get(system) or _shipped(system) for system in SYSTEMS}


@cache
def _shipped(system: str) -> CodeBook:
    return CodeBook(system, _read(resource("conf", "reference", f"{system}_codes.csv"))[system])


def _read(path: Path) -> dict[str, dict[str, Code]]:
    refuse_special(path, "codes: ")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"codes: there is no file {path}", remedy="check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"codes: {path} cannot be read ({type(error).__name__})", remedy="give a readable CSV file"
        ) from None
    missing = [name for name in _REQUIRED if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"codes: {path}: the column {missing[0]} is missing, or there is no row",
            remedy=f"give the columns {', '.join(_REQUIRED)}",
        )
    of_name = next((system for system in SYSTEMS if system in path.name.lower()), None)
    books: dict[str, dict[str, Code]] = {}
    for number, row in enumerate(rows, start=2):
        system = (row.get("system") or of_name or "").strip().lower()
        if system not in SYSTEMS:
            raise InputError(
                f"codes: {path}, line {number}: which system the code is of is not told",
                remedy="add a column system (icd10 or opcs4), or name the file so: icd10….csv",
            )
        code = (row["code"] or "").strip().upper().replace(".", "")
        years = [(row[name] or "").strip() for name in ("first_year", "last_year")]
        if not code or not all(_YEAR.fullmatch(year) for year in years):
            raise InputError(
                f"codes: {path}, line {number}: a row needs a code and two financial years",
                remedy="write years as 2021-22",
            )
        counts = [int(value) for name, value in row.items() if name and name.startswith("uses") and _digits(value)]
        books.setdefault(system, {})[code] = Code(code, row["title"] or "", years[0], years[1], max(counts, default=0))
    return books


def _digits(value: str | None) -> bool:
    return bool(value) and str(value).strip().isdigit()


def covered(code: str, named: Iterable[str], ranges: Iterable[tuple[str, str]]) -> bool:
    """Whether a code is one of those named, below one of them (M54 names M545), or in one of the ranges."""
    return any(code.startswith(name) for name in named) or any(
        first <= code[: len(first)] and code[: len(last)] <= last for first, last in ranges
    )
