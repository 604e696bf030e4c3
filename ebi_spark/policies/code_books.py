"""The code books of ICD-10 and OPCS-4: codes, titles, years of use and national counts, and a search by pattern."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.policies.patterns import as_regex
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
    """One code, the first and last financial year in which it was recorded, and its largest count in a year (``uses``; 0
    if no count is known)."""

    code: str
    title: str
    first_year: str
    last_year: str
    uses: int


@dataclass(frozen=True)
class CodeBook:
    """The codes of one system. Nothing is known of years before ``first_year`` or after ``last_year``."""

    system: str
    codes: dict[str, Code]

    @cached_property
    def first_year(self) -> str:
        """The first financial year in which any code was recorded."""
        return min(code.first_year for code in self.codes.values())

    @cached_property
    def last_year(self) -> str:
        """The last financial year in which any code was recorded."""
        return max(code.last_year for code in self.codes.values())

    def title(self, code: str) -> str:
        """The title of a record's code; empty if the book has no such code. A code with more characters than those of the book
        (M5456, Z98.1A) has the title of the code that it begins with. A category without X has the title of the code with X."""
        for known in (code, f"{code}X", code[:4], f"{code[:3]}X", code[:3]):
            if known in self.codes:
                return self.codes[known].title
        return ""

    @cached_property
    def _searched(self) -> dict[tuple[str, str, int | None], list[Code]]:
        return {}

    def found(self, operator: str, pattern: str, left: int | None = None) -> list[Code]:
        """The codes that a test with this operator and this one pattern matches; results are kept for later calls."""
        query = (operator, pattern, left)
        if query not in self._searched:
            self._searched[query] = self._search(operator, pattern, left)
        return self._searched[query]

    def _search(self, operator: str, pattern: str, left: int | None) -> list[Code]:
        plain = as_regex(pattern)
        regex = re.compile({"starts_with": f"^{plain}", "contains": plain, "in": f"^{plain}$"}[operator])
        return [code for text, code in self.codes.items() if regex.search(text[:left])]


def code_books(files: tuple[Path, ...] = ()) -> dict[str, CodeBook]:
    """The code book of each system. A system that appears in ``files`` uses the codes of these files only; the others use
    the shipped book.

    A file is CSV with the columns code, title, first_year and last_year, and ``system`` (icd10 or opcs4) unless the file's
    name contains one of these. Other columns whose names start with ``uses`` hold counts by year. An :class:`InputError`
    names the file, the line where there is one, and the remedy.
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
            f"codes: {path} cannot be read ({type(error).__name__})", remedy="give a CSV file in UTF-8"
        ) from None
    missing = [name for name in _REQUIRED if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"codes: {path}: the column {missing[0]} is missing, or the file has no rows",
            remedy=f"give the columns {', '.join(_REQUIRED)} and at least one row",
        )
    system_in_name = next((system for system in SYSTEMS if system in path.name.lower()), None)
    books: dict[str, dict[str, Code]] = {}
    for number, row in enumerate(rows, start=2):
        system = (row.get("system") or system_in_name or "").strip().lower()
        if system not in SYSTEMS:
            raise InputError(
                f"codes: {path}, line {number}: neither the row nor the file's name says which code system this is",
                remedy="add a column system (icd10 or opcs4), or begin the file's name with one of them: icd10….csv",
            )
        code = (row["code"] or "").strip().upper().replace(".", "")
        years = [(row[name] or "").strip() for name in ("first_year", "last_year")]
        if not code or not all(_YEAR.fullmatch(year) for year in years):
            raise InputError(
                f"codes: {path}, line {number}: the row has no code, or first_year and last_year are not both financial years",
                remedy="give a code and both years, written as 2021-22",
            )
        counts = [int(value) for name, value in row.items() if name and name.startswith("uses") and _digits(value)]
        books.setdefault(system, {})[code] = Code(code, row["title"] or "", years[0], years[1], max(counts, default=0))
    return books


def _digits(value: str | None) -> bool:
    return bool(value) and str(value).strip().isdigit()


def is_covered(code: str, named: Iterable[str], ranges: Iterable[tuple[str, str]]) -> bool:
    """Whether a code is in ``named``, is a subdivision of a code in it (M54 covers M545), or is in one of the ranges (both
    ends included)."""
    return any(code.startswith(name) for name in named) or any(
        first <= code[: len(first)] and code[: len(last)] <= last for first, last in ranges
    )
