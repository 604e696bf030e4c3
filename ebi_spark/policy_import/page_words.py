"""Read the words of a coding page: the lists of codes under their headings, the coding logic, ranges and ages."""

import re
from dataclasses import dataclass, field

from ebi_spark.policies.codes_in_words import codes_in, further_codes, ranges_in
from ebi_spark.policy_import.page import Page

# A code at the start of a line, and what may follow it: a digit that ends a range (M050-9), more last digits
# (M000, 1,2 &9), more codes (V38.2, V38.3), or the last code of a range (V38.2-V38.6).
_FIRST = re.compile(r"^\W*([A-Z]\d{2})\.?(\d|X)?(?![\d.])")
_TO_DIGIT = re.compile(r"\s*[-–—]\s*(\d)(?![\w.])")
_NEXT_DIGIT = re.compile(r"\s*(?:,|&|/|\band\b)\s*(\d)(?![\w.])")
_TO_CODE = re.compile(r"\s*(?:[-–—]|to\b)\s*([A-Z]\d{2})\.?(\d|X)?(?![\w.])")
_NEXT_CODE = re.compile(r"\s*(?:,|&|/|\band\b)\s*([A-Z]\d{2})\.?(\d|X)?(?![\d.])")
# What may follow the words of a heading: the code system, a remark in brackets, a colon.
_TAIL = r"(?:\s*[-–—(]?\s*(?:opcs|icd)[\w. -]*\)?)?\s*(?:\([^()]{1,60}\))?\W*$"
_HEADINGS = (
    (re.compile(rf"(?i)^\W*(?:the )?coding logic{_TAIL}"), "logic"),
    (re.compile(r"(?i)^\W*(?:[\w-]+\s+){0,4}exclusion(?:s| codes?)?\b.{0,20}$"), "exclude"),
    (re.compile(rf"(?i)^\W*(?:procedures?(?: codes?)?|opcs[\w. -]*codes?){_TAIL}"), "procedure"),
    (re.compile(rf"(?i)^\W*(?:diagnos[ie]s(?: codes?)?|icd[\w. -]*codes?){_TAIL}"), "diagnosis"),
    (
        re.compile(r"(?i)^\W*(?:any other criteria|will the procedure|estimated activity|sql|code script|references)"),
        "",
    ),
)
# A sentence that contains the words of a heading is not a heading.
_SENTENCE = re.compile(r"(?i)^\W*note\b|\b(?:is|are|was|were|has|have|should|must)\b|\.\s*$")
_FOR_INFORMATION = re.compile(
    r"(?i)\bfor information\b|\binformational\b|\binformation only\b|\bfor reference only\b"
    r"|\b(?:not|nor)\b.{0,30}\b(?:part of|used in|included in|in)\b.{0,20}\b(?:coding logic|logic|sql|code script)\b"
)
_AGE_FROM = (
    re.compile(r"(?i)(?:>=|≥|over or equal to)\s*(\d{1,3})"),
    re.compile(r"(?i)\bage[ds]?\s+(\d{1,3})\s*(?:years?)?\s*(?:and|or)\s*(?:over|above|older)"),
)
_AGE_SPAN = re.compile(r"(?i)\b(\d{1,3})\s*(?:-|–|to|and)\s*(\d{1,3})\b")
_AGES = re.compile(r"(?i)\bage(?:s|d)?\b|\badults?\b|\bchildren\b")


@dataclass(frozen=True)
class Listed:
    """A code in one of the page's lists. ``system`` is procedure, diagnosis, or empty if the heading does not say."""

    line: int
    code: str
    kind: str  # require or exclude
    system: str


@dataclass(frozen=True)
class Series:
    """The codes and ranges at the start of a line, and the text after them, which is their title."""

    codes: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    title: str


@dataclass(frozen=True)
class Logic:
    """One condition of the coding logic, as the words state it."""

    line: int
    text: str
    codes: tuple[str, ...]
    kind: str
    system: str
    position: str  # dominant, primary, any, or empty if the words name none


@dataclass(frozen=True)
class AgeWords:
    """A range of ages that the words name; ``high`` is None if it has no upper limit."""

    line: int
    low: int
    high: int | None


@dataclass(frozen=True)
class Words:
    """The words of the coding section, and what was read from them."""

    lines: dict[int, str]
    listed: tuple[Listed, ...]
    logic: tuple[Logic, ...]
    ranges: tuple[tuple[str, str], ...]
    ages: tuple[AgeWords, ...]
    informational: tuple[Listed, ...] = ()  # codes that the page marks "for information": the rule need not have them
    titles: dict[int, str] = field(default_factory=dict)  # the titles of codes, by the line that lists them

    def says(self, pattern: str) -> int | None:
        """The number of the first line that matches the pattern, ignoring case; None if no line does. On a line that lists
        codes, only remarks in brackets count, because the title of a code is not a criterion."""
        for number, text in self.lines.items():
            criterion = " ".join(re.findall(r"\([^()]*\)", text)) if number in self.titles else text
            if re.search(pattern, criterion, re.IGNORECASE):
                return number
        return None


def series_of(text: str) -> Series | None:
    """The codes at the start of a line of a list; None if the line starts otherwise, or if the codes are not followed by a
    title or a colon."""
    first = _FIRST.match(text)
    if first is None:
        return None
    codes, ranges = [first[1] + (first[2] or "")], []
    at = first.end()
    while True:
        if match := _TO_DIGIT.match(text, at):
            codes += further_codes(codes[-1], match[1], True)
        elif match := _NEXT_DIGIT.match(text, at):
            codes += further_codes(codes[-1], match[1], False)
        elif match := _TO_CODE.match(text, at):
            ranges.append((codes.pop(), match[1] + (match[2] or "")))
            codes.append(ranges[-1][1])
        elif match := _NEXT_CODE.match(text, at):
            codes.append(match[1] + (match[2] or ""))
        else:
            break
        at = match.end()
    rest = re.match(r"\s*([:–—-]?)\s*(.*)$", text[at:])
    title = rest[2] if rest else ""
    if not (re.match(r"[A-Za-z(\[]", title) or (rest and rest[1] == ":" and not title)):
        return None
    ends = {end for _, end in ranges}
    return Series(tuple(code for code in codes if code not in ends), tuple(ranges), title)


def read_words(page: Page) -> Words:
    """The words of the page's coding section, or of the whole page if it has no line ``Coding``."""
    numbers = sorted(page.words)
    start = max(
        (n for n in numbers if page.words[n].lower().rstrip(":") == "coding" and n < page.parts[0].line), default=0
    )
    ends = [
        n for n in numbers if n > page.parts[-1].line and re.match(r"(?i)references?\b|how up to date", page.words[n])
    ]
    lines = {n: page.words[n] for n in numbers if start <= n < min(ends, default=numbers[-1] + 1)}
    listed: list[Listed] = []
    informational: list[Listed] = []
    titles: dict[int, str] = {}
    listed_ranges: list[tuple[str, str]] = []
    logic_lines: dict[int, str] = {}
    heading, since = "", 0  # the current heading, and how many codes were listed before it
    promised = ""  # the heading under which codes that follow are for information
    for n, text in lines.items():
        if _FOR_INFORMATION.search(text) and series_of(text) is None:
            own = next((name for name in ("diagnosis", "procedure") if re.search(rf"(?i)\b{name[:7]}", text)), None)
            chosen = [item for item in listed if item.system == own] if own else listed[since:]
            informational += chosen
            listed = [item for item in listed if item not in chosen]
            promised = own or ("" if chosen else heading)
            continue
        series = series_of(text)
        is_code = series is not None and not re.fullmatch(r"(?i)(?:or|and)\W*", series.title)
        if not is_code and (named := _heading(text)) is not None and not (heading == "logic" and named == "exclude"):
            heading, since = named, len(listed)
            continue
        if heading == "logic":
            logic_lines[n] = text
        elif series is not None:
            titles[n] = series.title
            if heading:
                kind = "exclude" if heading == "exclude" else "require"
                into = informational if promised and promised == heading else listed
                into += [Listed(n, code, kind, heading if kind == "require" else "") for code in series.codes]
                listed_ranges += series.ranges
    return Words(
        lines=lines,
        listed=tuple(listed),
        logic=tuple(_logic(logic_lines)),
        ranges=tuple(dict.fromkeys([*(span for text in lines.values() for span in ranges_in(text)), *listed_ranges])),
        ages=tuple(age for n, text in lines.items() if n not in titles for age in _ages(n, text)),
        informational=tuple(informational),
        titles=titles,
    )


def _heading(text: str) -> str | None:
    found = next((name for form, name in _HEADINGS if form.search(text)), None)
    return None if found and _SENTENCE.search(text) else found


def _logic(lines: dict[int, str]) -> list[Logic]:
    """The conditions of the coding logic. A line that only says AND starts a new one, and so does a line that names an age
    but no codes."""
    groups: list[dict[int, str]] = [{}]
    for n, text in lines.items():
        if re.fullmatch(r"(?i)\W*and\W*", text):
            groups.append({})
        elif groups[-1] and _AGES.search(text) and not codes_in(text):
            groups.append({n: text})
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
                system=_system(text),
                position=position[1].lower() if position else "",
            )
        )
    return found


def _system(text: str) -> str:
    """Whether a condition in words is about procedures or diagnoses; empty if it names both, or neither."""
    named = [
        name
        for name, form in (("procedure", "procedure"), ("diagnosis", "diagnos[ie]s"))
        if re.search(f"(?i){form}", text)
    ]
    return named[0] if len(named) == 1 else ""


def _ages(line: int, text: str) -> list[AgeWords]:
    if not _AGES.search(text) or "rate" in text.lower() or "'" in text:
        return []
    spans = [AgeWords(line, int(m[1]), int(m[2])) for m in _AGE_SPAN.finditer(text) if int(m[1]) < int(m[2]) <= 120]
    if spans:
        return spans
    return [AgeWords(line, int(m[1]), None) for form in _AGE_FROM for m in [form.search(text)] if m][:1]
