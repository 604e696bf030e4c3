"""What the words of a coding page say: lists of codes under their headings, the coding logic, ranges, ages."""

import re
from dataclasses import dataclass

from ebi_spark.clinical_policy.page import Page

_CODE = r"[A-Z]\d{2}(?:\.?\d)?X?"
_LISTED = re.compile(r"^\W*([A-Z]\d{2})\.?(\d|X)?\s*([A-Za-z(\[].*)$")
_IN_TEXT = re.compile(rf"(?<![A-Za-z0-9])({_CODE})(?![A-Za-z0-9])")
_RANGE = re.compile(rf"(?<![A-Za-z0-9])({_CODE})\s*(?:-|–|—|to)\s*({_CODE})(?![A-Za-z0-9])")
_HEADINGS = (
    (re.compile(r"(?i)\bcoding logic\b"), "logic"),
    (re.compile(r"(?i)^\W*(?:.*\s)?exclusion(?:s| codes?)?\b.{0,20}$"), "exclude"),
    (re.compile(r"(?i)^\W*procedure codes?\b"), "procedure"),
    (re.compile(r"(?i)^\W*diagnos[ie]s codes?\b"), "diagnosis"),
    (
        re.compile(r"(?i)^\W*(?:any other criteria|will the procedure|estimated activity|sql|code script|references)"),
        "",
    ),
)
_AGE_FROM = (
    re.compile(r"(?i)(?:>=|≥|over or equal to)\s*(\d{1,3})"),
    re.compile(r"(?i)\bage[ds]?\s+(\d{1,3})\s*(?:years?)?\s*(?:and|or)\s*(?:over|above|older)"),
)
_AGE_SPAN = re.compile(r"(?i)\b(\d{1,3})\s*(?:-|–|to|and)\s*(\d{1,3})\b")
_AGES = re.compile(r"(?i)\bage(?:s|d)?\b|\badults?\b|\bchildren\b")


@dataclass(frozen=True)
class Listed:
    """A code of the page's lists. ``system`` is procedure, diagnosis, or empty where the heading does not say."""

    line: int
    code: str
    kind: str  # require or exclude
    system: str


@dataclass(frozen=True)
class Logic:
    """One condition of the coding logic in words."""

    line: int
    text: str
    codes: tuple[str, ...]
    kind: str
    system: str
    position: str  # dominant, primary, any or empty


@dataclass(frozen=True)
class AgeWords:
    """An age that the words name: from, and to where they have an end."""

    line: int
    low: int
    high: int | None


@dataclass(frozen=True)
class Words:
    """The words of the coding section."""

    lines: dict[int, str]
    listed: tuple[Listed, ...]
    logic: tuple[Logic, ...]
    ranges: tuple[tuple[str, str], ...]
    ages: tuple[AgeWords, ...]

    def says(self, pattern: str) -> int | None:
        """The first line on which the words match, ignoring case."""
        return next((n for n, text in self.lines.items() if re.search(pattern, text, re.IGNORECASE)), None)


def plain_code(text: str) -> str:
    """A code without its dot."""
    return text.replace(".", "")


def codes_in(text: str) -> list[str]:
    """The codes that a text names, without dots; the ends of ranges are not among them."""
    return [plain_code(match[1]) for match in _IN_TEXT.finditer(_RANGE.sub(" ", text))]


def ranges_in(text: str) -> list[tuple[str, str]]:
    """The ranges of codes that a text names, both ends included, without dots."""
    return [(plain_code(match[1]), plain_code(match[2])) for match in _RANGE.finditer(text)]


def words_of(page: Page) -> Words:
    """The words of the page's coding section; of the whole page where no line says ``Coding``."""
    numbers = sorted(page.words)
    start = max(
        (n for n in numbers if page.words[n].lower().rstrip(":") == "coding" and n < page.parts[0].line), default=0
    )
    ends = [
        n for n in numbers if n > page.parts[-1].line and re.match(r"(?i)references?\b|how up to date", page.words[n])
    ]
    lines = {n: page.words[n] for n in numbers if start <= n < min(ends, default=numbers[-1] + 1)}
    listed: list[Listed] = []
    logic_lines: dict[int, str] = {}
    heading = ""
    for n, text in lines.items():
        found = _LISTED.match(text)
        is_code = bool(found) and not re.fullmatch(r"(?i)(?:or|and)\W*", found[3]) if found else False
        if not is_code and (named := _heading(text)) is not None and not (heading == "logic" and named == "exclude"):
            heading = named
            continue
        if heading == "logic":
            logic_lines[n] = text
        elif found and heading:
            kind = "exclude" if heading == "exclude" else "require"
            listed.append(Listed(n, found[1] + (found[2] or ""), kind, heading if kind == "require" else ""))
    return Words(
        lines=lines,
        listed=tuple(listed),
        logic=tuple(_logic(logic_lines)),
        ranges=tuple(span for text in lines.values() for span in ranges_in(text)),
        ages=tuple(age for n, text in lines.items() for age in _ages(n, text)),
    )


def _heading(text: str) -> str | None:
    return next((name for form, name in _HEADINGS if form.search(text)), None)


def _logic(lines: dict[int, str]) -> list[Logic]:
    """The conditions of the coding logic: parted by lines that say AND."""
    groups: list[dict[int, str]] = [{}]
    for n, text in lines.items():
        if re.fullmatch(r"(?i)\W*and\W*", text):
            groups.append({})
        else:
            groups[-1][n] = text
    found = []
    for group in groups:
        if not group:
            continue
        text = re.sub(r"\s+", " ", " ".join(group.values()))
        position = re.search(r"(?i)\b(dominant|primary|any)\b", text)
        found.append(
            Logic(
                line=min(group),
                text=text,
                codes=tuple(codes_in(text)),
                kind="exclude" if re.search(r"(?i)\b(?:not|exclud\w*)\b", text) else "require",
                system=next((name for name in ("procedure", "diagnosis") if name in text.lower()), ""),
                position=position[1].lower() if position else "",
            )
        )
    return found


def _ages(line: int, text: str) -> list[AgeWords]:
    if not _AGES.search(text) or "rate" in text.lower() or "'" in text:
        return []
    spans = [AgeWords(line, int(m[1]), int(m[2])) for m in _AGE_SPAN.finditer(text) if int(m[1]) < int(m[2]) <= 120]
    if spans:
        return spans
    return [AgeWords(line, int(m[1]), None) for form in _AGE_FROM for m in [form.search(text)] if m][:1]
