"""Split a published coding page into its SQL, in parts with the page's line numbers, and its words (all other lines).

Only lines that are certainly SQL are read as SQL. A line that only partly looks like SQL is refused with its line number.
Every line of words between parts of the SQL is listed in the reconciliation.
"""

import calendar
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ebi_spark.errors import InputError
from ebi_spark.policy_import.typography import Repair, plain, repaired_line
from ebi_spark.small_files import refuse_special

LABEL = r"[0-9A-Za-z][0-9A-Za-z_]*"
# Whole words with possessive quantifiers (*+). Without them, the engine would try a long word or a run of blanks again from
# each of its characters.
_WORD = r"\[?[A-Za-z]\w*+\]?"
_NAME = rf"(?<!\w)(?:{_WORD}\s*+\.\s*+)?{_WORD}"
_FUNCTION = r"\b(?:left|right|isnull|coalesce|substring|upper|rtrim|ltrim|trim)\s*\("
_OPERATOR = r"(?:(?:not\s+)?like\b|(?:not\s+)?in\s*\(|(?:not\s+)?between\b|is\s+(?:not\s+)?null\b|<>|!=|[<>]=?|=)"
COMPARISON = re.compile(
    rf"(?i)(?:{_FUNCTION}|(?:{_NAME})\s*+\)*+\s*+{_OPERATOR}\s*[('\d]|{_NAME}\s*+is\s+(?:not\s+)?null\b)"
)
_COLUMN = re.compile(r"(?i)\b[A-Za-z]\w*\s*\.\s*[A-Za-z]\w*_\w+|\b[A-Za-z]+_[A-Za-z]\w*\b|\b[A-Za-z]\w*\.[A-Za-z]\w*")
_JOINED = re.compile(r"(?i)^\s*(?:and|or|where)\b.*'")
_WHEN = re.compile(r"(?i)^\s*(?:case\s+)?when\b")
_THEN = re.compile(rf"(?i)\bthen\b\s*(?:'({LABEL})'|({LABEL})\s*$)")
_LOST_THEN = re.compile(rf"(?i)(?<!like)(?<!in)(?<![=(,<>])\s'({LABEL}_{LABEL})'\s*$")
_END = re.compile(r"(?i)^\s*(?:else\s+(?:null|'')\s*)?end\b(?:\s+as\s+\S+)?\s*$")
_OPENS = re.compile(r"(?i)^\s*(?:and|or|where|not)\b|^\s*[()]")
_ONLY_JOINS = re.compile(r"(?i)\s*(?:where|and|where\s+1\s*=\s*1)\s*")
_CONTINUES = re.compile(r"(?i)(?:\b(?:and|or|not|like|in|between|where|when)|[=<>(,])\s*$")
_CONTINUED = re.compile(r"(?i)^\s*(?:(?:not\s+)?like\b|(?:not\s+)?in\s*\(|between\b|is\s+(?:not\s+)?null|<>|[)=])")
_SQL_HEADING = re.compile(
    r"(?i)^\s*(?:t-?sql|sql(?:\s+(?:code|script))?|code\s+script|script|coding\s+script)\s*:?\s*$"
)
_AFTER = re.compile(r"(?i)^\s*(?:references?|how up to date is this information\??)\s*:?\s*$")
_SUSPECT = re.compile(r"'\s*%|%\s*'|(?i:\b(?:not\s+)?(?:like|in)\s*\(?\s*')|<>|!=|=\s*'|(?i:\bis\s+(?:not\s+)?null\b)")
# The message if two conditions follow each other with nothing between them. They are never assumed to be joined by AND.
LOST_JOIN = "AND or OR is missing before"
LOST_JOIN_REMEDY = "check the published page, and write the AND or OR that joins it to the condition above"
# Names of sections, none of which can be a page's title.
_SECTION = re.compile(
    r"(?i)^\W*(?:skip to .*|home|menu|search|contents|coding|codes?|code definitions?|summary|overview|introduction|guidance"
    r"|recommendations?|rationale.*|references?|changes|estimated activity|procedure codes?.*|diagnos[ie]s codes?.*"
    r"|(?:[\w-]+ ){0,2}exclusions?(?: codes?)?|coding logic|any other criteria.*|will the procedure.*|how up to date.*"
    r"|(?:t-?sql|sql|code|coding)(?: (?:code|script))?|published\b.*|last (?:reviewed|revised|updated)\b.*"
    r"|admitted patient care|inpatients?|out-?patients?(?: care)?|apcs?|opa?)\W*$"
)
# Headings after which codes and criteria follow: the title must be above them.
_CODES_BEGIN = re.compile(
    r"(?i)^\W*(?:codes|procedure codes?.*|diagnos[ie]s codes?.*|coding logic|code definitions?)\W*$"
)
_BULLET = re.compile(r"^\s*(?:[•*–—-]|\d)")
_ACTIVITY = re.compile(r"(?i)^\W*estimated activity\W*$")
_DATE_LINE = re.compile(r"(?i)^\W*(?:published|last (?:reviewed|revised|updated)|(?:reviewed|revised|updated))\b")
_CHANGED_DATE = re.compile(r"(?i)\b(?:reviewed|revised|updated)\b")
# No real page is larger. A larger text could take hours to read.
MOST_BYTES, LONGEST_LINE = 5_000_000, 4_000
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
MONTH = re.compile(rf"(?i)\b({'|'.join(_MONTHS)})\s+(\d{{4}})\b")


@dataclass(frozen=True)
class SqlPart:
    """Consecutive lines of SQL. All parts of a page are joined by AND. ``line`` is the number of the first line."""

    line: int
    text: str
    heading: str  # the nearest line of words or SQL comment above it


@dataclass(frozen=True)
class Page:
    """A page after it has been read. ``words`` are its lines outside the SQL, by line number."""

    path: Path
    title: str
    label: str
    updated: str
    revised: date | None  # first day of the latest month in which the page says that it was changed
    parts: tuple[SqlPart, ...]  # the rule first, then its exclusions
    words: dict[int, str]
    between: dict[int, str]  # words between or after the parts of the SQL
    repairs: tuple[Repair, ...] = field(default=())
    baseline: dict[str, Any] = field(default_factory=dict)  # the page's own figures under "Estimated activity"

    def refusal(self, line: int, message: str, remedy: str) -> InputError:
        """An error that names the page and the line."""
        return InputError(f"page: {self.path}, line {line}: {message}", remedy=remedy)


def read_page(path: Path) -> Page:
    """The page in ``path``. An :class:`InputError` names the line that cannot be read, and the remedy."""
    lines = _lines(path)
    raw = {number: plain(line) for number, line in enumerate(lines, start=1)}
    repaired, repairs = {}, {}
    for number, line in enumerate(lines, start=1):
        repaired[number], repairs[number] = repaired_line(line, number)
    start = _start(path, repaired)
    end = next((n for n in repaired if n > start and _AFTER.match(repaired[n])), len(lines) + 1)
    repaired[start] = _WHEN.sub(lambda match: " " * len(match[0]), repaired[start])
    chosen, label, label_repairs = _rule_lines(repaired, start, end, bool(_WHEN.match(plain(lines[start - 1]))))
    reader = _PartReader(path, start, chosen)
    for n in range(max(chosen, default=start - 1) + 1, end):
        reader.read(n, repaired[n])
    reader.close()
    used = reader.used
    words = {n: text.strip() for n, text in raw.items() if n not in used and text.strip()}
    updated, revised = _updated(words)
    baseline, baseline_lines = _baseline(words)
    return Page(
        path=path,
        title=_title(words, baseline_lines) or path.stem,
        label=label,
        updated=updated,
        revised=revised,
        parts=tuple(reader.parts),
        words=words,
        between={n: text for n, text in words.items() if start < n < end},
        repairs=tuple(repair for n in sorted(used) for repair in repairs[n]) + tuple(label_repairs),
        baseline=baseline,
    )


def _lines(path: Path) -> list[str]:
    refuse_special(path, "page: ", MOST_BYTES)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"page: there is no file {path}", remedy="check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"page: {path} cannot be read ({type(error).__name__})", remedy="save the page as UTF-8 text"
        ) from None
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"page: {path}, line {number}: the line has {len(line):,} characters, more than {LONGEST_LINE:,}",
                remedy="break the line after a condition, or remove text that is not part of the page",
            )
    return lines


def _title(words: dict[int, str], skipped: Iterable[int] = ()) -> str:
    """The first line that is not the name of a section; empty if the codes begin before there is such a line."""
    for number, text in words.items():
        if _CODES_BEGIN.match(text):
            return ""
        if number not in skipped and not _SECTION.match(text) and not _BULLET.match(text):
            return text
    return ""


def _baseline(words: dict[int, str]) -> tuple[dict[str, Any], set[int]]:
    """The figures under "Estimated activity", by name, and the numbers of their lines. A line in an unknown form is kept as
    text under ``other``."""
    numbers = sorted(words)
    first = next((at for at, n in enumerate(numbers) if _ACTIVITY.match(words[n])), None)
    found: dict[str, Any] = {}
    used: set[int] = set()
    if first is None:
        return found, used
    used.add(numbers[first])
    for n in numbers[first + 1 :]:
        if not _BULLET.match(words[n]):
            break
        used.add(n)
        text = words[n].strip(" •*–—-\t")
        named = _figure(text)
        if named is None:
            found.setdefault("other", []).append(text)
        found |= named or {}
    return found, used


def _figure(text: str) -> dict[str, Any] | None:
    """The figure on one line under "Estimated activity"; empty if the line only opens a list, None if its form is unknown."""
    if m := re.match(r"(?i)([\d,]+)\s+([a-z ]+?)\s+(?:during|in)\s+(\d{4})\s*[/-]\s*(\d{2})\b", text):
        return {"records": int(m[1].replace(",", "")), "unit": m[2].lower(), "year": f"{m[3]}-{m[4]}"}
    for name, form in (("opportunity", r"\bopportunity\b[^:]*:\s*(.+?)\.?$"),):
        if m := re.search(f"(?i){form}", text):
            return {name: m[1]}
    for name, form in (("standardised_rate", r"\brate per 100,000"), ("n_fold", r"^N-?\s?fold")):
        if m := re.search(rf"(?i){form}\s*[–—:-]\s*(\d[\d.]*)$", text):
            return {name: _number(m[1])}
    if m := re.match(r"(?i)(\d{1,2})(?:st|nd|rd|th) percentile\s*[–—:-]\s*(\d[\d.]*)$", text):
        return {f"p{m[1]}": _number(m[2])}
    return {} if text.endswith(":") else None


def _number(text: str) -> float:
    return float(text.rstrip("."))


def _start(path: Path, lines: dict[int, str]) -> int:
    """The line on which the SQL starts: the WHEN, or without one the first SQL after a heading such as ``SQL code``."""
    whens = [n for n, text in lines.items() if _WHEN.match(text) and is_sql(text + " " + lines.get(n + 1, ""))]
    thens = [n for n, text in lines.items() if _THEN.search(text) and "'" in text]
    for found in (whens, thens):
        if len(found) > 1:
            raise _several(path, lines, found)
    if whens:
        return whens[0]
    headed = [n + 1 for n, text in lines.items() if _SQL_HEADING.match(text)]
    spans = zip(headed, [*headed[1:], len(lines) + 1], strict=False)
    starts = [first for span in spans if (first := next((n for n in range(*span) if is_sql(lines[n])), 0))]
    if len(starts) > 1:
        raise _several(path, lines, starts)
    if starts:
        return starts[0]
    raise InputError(
        f"page: {path} ({len(lines)} lines) contains no SQL: neither WHEN … THEN nor SQL below a line `SQL code`",
        remedy="give the page including the SQL of its coding section; if it has no SQL, write the policy by hand",
    )


def _several(path: Path, lines: dict[int, str], starts: list[int]) -> InputError:
    """The error for a page with several rules. It names each rule by the label after THEN, or else by the title above it."""
    names = []
    before = 0
    for start, after in zip(starts, [*starts[1:], len(lines) + 1], strict=True):
        label = next((m[1] or m[2] for n in range(start, after) if (m := _THEN.search(lines[n]))), "")
        above = {n: lines[n].strip() for n in range(before + 1, start) if lines[n].strip() and not is_sql(lines[n])}
        names.append(f"{label or _title(above) or 'without a name'} (line {start})")
        before = start
    return InputError(
        f"page: {path}, lines {starts[0]} and {starts[1]}: the page has {len(starts)} rules: {', '.join(names)}",
        remedy="save each rule with its words in a separate file, and import one file at a time",
    )


def is_sql(text: str) -> bool:
    """Whether a line compares a column with something."""
    return bool(COMPARISON.search(text) and (_COLUMN.search(text) or _JOINED.match(text)))


def _rule_lines(
    lines: dict[int, str], start: int, end: int, has_when: bool
) -> tuple[dict[int, str], str, list[Repair]]:
    """The lines between WHEN and THEN, the label, and what was repaired to read it; no lines if no label is found."""
    chosen: dict[int, str] = {}
    for n in range(start, end):
        if found := _THEN.search(lines[n]):
            chosen[n] = lines[n][: found.start()]
            lost = [] if found[1] else [Repair(n, "quotation marks added around the label")]
            return chosen, found[1] or found[2], lost
        chosen[n] = lines[n]
    # No THEN: the label may appear alone at the end of the first lines of SQL.
    chosen = {}
    for n in range(start, end):
        found = _LOST_THEN.search(" " + lines[n])
        if found and has_when:
            chosen[n] = lines[n][: max(found.start() - 1, 0)]
            return chosen, found[1], [Repair(n, "a missing THEN added before the label")]
        if not lines[n].strip() and not _open(chosen):
            break
        chosen[n] = lines[n]
    return {}, "", []


def _open(lines: dict[int, str]) -> bool:
    """Whether the SQL so far is unfinished: it ends with an operator, or a bracket is open."""
    text = "\n".join(_uncommented(line) for line in lines.values()).rstrip()
    return bool(_CONTINUES.search(text)) or depth(text) > 0


def _uncommented(line: str) -> str:
    return re.sub(r"'[^']*'", "''", line).partition("--")[0]


def depth(text: str) -> int:
    """The number of opening brackets minus closing ones, outside quoted texts and comments."""
    bare = "\n".join(_uncommented(line) for line in text.splitlines())
    return bare.count("(") - bare.count(")")


class _PartReader:
    """Collects lines of SQL in a run until words or a blank line close it as a part. ``used``: the lines that belong to the SQL."""

    def __init__(self, path: Path, start: int, rule: dict[int, str]) -> None:
        self._path = path
        self.parts = [SqlPart(start, "\n".join(rule.values()), "")] if rule else []
        self.used = set(rule)
        self._heading = ""
        self._run: dict[int, str] = {}
        self._words_since = bool(rule)  # whether an OR at the start of the next run would have no condition to join
        # Whether words come before the run, so that it is a separate part although it has no AND.
        self._headed = not rule

    def read(self, n: int, text: str) -> None:
        """Read a line. Raises an :class:`InputError` for one that may be SQL but cannot be read as SQL."""
        if not text.strip():
            if not _open(self._run):
                self.close()
        elif _END.match(text):
            self.used.add(n)
        elif text.strip().startswith("--"):
            if not self._run:
                self._heading = text.strip().lstrip("-").strip()
            self._run[n] = text
            self.used.add(n)
        elif is_sql(text) or self._continues(text) or _ONLY_JOINS.fullmatch(text):
            self._run[n] = text
        elif _SUSPECT.search(text):
            raise InputError(
                f"page: {self._path}, line {n}: this looks like SQL but cannot be read as SQL: {text.strip()[:60]}",
                remedy="correct the line, or put `--` before it if it is a comment",
            )
        else:
            self.close()
            self._heading, self._words_since, self._headed = text.strip(), True, True

    def _continues(self, text: str) -> bool:
        """Whether a line that compares nothing belongs to the SQL above it."""
        joined = _open(self._run) or _CONTINUED.match(text) or _OPENS.match(text)
        return bool(self._run and joined) and _looks_like_code(text)

    def close(self) -> None:
        """Make the run a part, or join it to the part before if it opens with OR. A run of comments only is dropped."""
        run, self._run = self._run, {}
        if not any(_uncommented(text).strip() for text in run.values()):
            return
        first = min(run)
        text = "\n".join(run.get(n, "") for n in range(first, max(run) + 1))
        if re.match(r"(?i)\s*or\b", _first_code(text)):
            self._widen(first, text)
        elif not self._headed and not re.match(r"(?i)\s*(?:and|where)\b", _first_code(text)):
            line = next(n for n in run if _uncommented(run[n]).strip())
            raise InputError(f"page: {self._path}, line {line}: {LOST_JOIN} this line", remedy=LOST_JOIN_REMEDY)
        else:
            self.parts.append(SqlPart(first, text, self._heading))
        self.used.update(range(first, max(run) + 1))
        self._words_since = self._headed = False

    def _widen(self, first: int, text: str) -> None:
        """Join SQL that opens with OR to the part before."""
        if self._words_since or not self.parts:
            raise InputError(
                f"page: {self._path}, line {first}: a part of the SQL opens with OR, and it is unclear what the OR joins",
                remedy="write it next to the condition that it widens, with brackets around both",
            )
        before = self.parts.pop()
        gap = "\n" * (first - before.line - before.text.count("\n"))
        self.parts.append(SqlPart(before.line, before.text + gap + text, before.heading))


def _first_code(text: str) -> str:
    return next((line for line in text.splitlines() if _uncommented(line).strip()), "")


def _looks_like_code(text: str) -> bool:
    return bool(re.search(r"['()]|(?i:^\s*(?:and|or|not)\s*$)|\d", text)) or bool(_COLUMN.search(text))


def _updated(words: dict[int, str]) -> tuple[str, date | None]:
    """When the page was last changed: in its own words, and as the first day of that month (None if it gives no month).

    If the page says when the coding was updated, that month counts. Otherwise the latest month in which it was reviewed,
    revised or updated counts, even if the same line also says when it was first published. A page that gives only the month
    of its publication has that month.
    """
    numbers = sorted(words)
    question = next((n for n in numbers if re.match(r"(?i)how up to date is this information", words[n])), None)
    if question is None:
        text = next((words[n] for n in numbers if _DATE_LINE.match(words[n]) and MONTH.search(words[n])), "")
        changes = ""
    else:
        text = next((words[n] for n in numbers if n > question), "")
        changes = next((words[n] for n in numbers if n > question and re.match(r"(?i).*coding updated", words[n])), "")
    dated = [part for part in re.split(r"[|;•]", changes or text) if _CHANGED_DATE.search(part) and MONTH.search(part)]
    months = _months(" ".join(dated)) or _months(changes or text)
    return "; ".join(part for part in (text, changes) if part), max(months, default=None)


def _months(text: str) -> list[date]:
    return [date(int(m[2]), _MONTHS[m[1].lower()], 1) for m in MONTH.finditer(text) if int(m[2])]
