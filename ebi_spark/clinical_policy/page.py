"""A published coding page taken apart: its SQL by parts with the page's line numbers, and its words.

Only lines that are SQL beyond doubt are taken as SQL; one that looks half like it is refused by its line, and every
line of words that stands between parts of SQL is listed in the report.
"""

import calendar
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ebi_spark.clinical_policy.typography import Mend, mended_line, plain
from ebi_spark.errors import InputError
from ebi_spark.small_files import refuse_special

LABEL = r"[0-9A-Za-z][0-9A-Za-z_]*"
_NAME = r"(?:\[?[A-Za-z]\w*\]?\s*\.\s*)?\[?[A-Za-z]\w*\]?"
_FUNCTION = r"\b(?:left|right|isnull|coalesce|substring|upper|rtrim|ltrim|trim)\s*\("
_OPERATOR = r"(?:(?:not\s+)?like\b|(?:not\s+)?in\s*\(|(?:not\s+)?between\b|is\s+(?:not\s+)?null\b|<>|!=|[<>]=?|=)"
_COMPARISON = re.compile(
    rf"(?i)(?:{_FUNCTION}|(?:{_NAME})\s*\)*\s*{_OPERATOR}\s*[('\d]|{_NAME}\s*is\s+(?:not\s+)?null\b)"
)
_COLUMN = re.compile(r"(?i)\b[A-Za-z]\w*\s*\.\s*[A-Za-z]\w*_\w+|\b[A-Za-z]+_[A-Za-z]\w*\b|\b[A-Za-z]\w*\.[A-Za-z]\w*")
_JOINED = re.compile(r"(?i)^\s*(?:and|or|where)\b.*'")
_WHEN = re.compile(r"(?i)^\s*(?:case\s+)?when\b")
_THEN = re.compile(rf"(?i)\bthen\b\s*(?:'({LABEL})'|({LABEL})\s*$)")
_LOST_THEN = re.compile(rf"(?i)(?<!like)(?<!in)(?<![=(,<>])\s'({LABEL}_{LABEL})'\s*$")
_END = re.compile(r"(?i)^\s*(?:else\s+(?:null|'')\s*)?end\b(?:\s+as\s+\S+)?\s*$")
_OPENS = re.compile(r"(?i)^\s*(?:and|or|where|not)\b|^\s*[()]")
_CONTINUES = re.compile(r"(?i)(?:\b(?:and|or|not|like|in|between|where|when)|[=<>(,])\s*$")
_CONTINUED = re.compile(r"(?i)^\s*(?:(?:not\s+)?like\b|(?:not\s+)?in\s*\(|between\b|is\s+(?:not\s+)?null|<>|[)=])")
_SQL_HEADING = re.compile(
    r"(?i)^\s*(?:t-?sql|sql(?:\s+(?:code|script))?|code\s+script|script|coding\s+script)\s*:?\s*$"
)
_AFTER = re.compile(r"(?i)^\s*(?:references?|how up to date is this information\??)\s*:?\s*$")
_SUSPECT = re.compile(r"'\s*%|%\s*'|(?i:\b(?:not\s+)?(?:like|in)\s*\(?\s*')|<>|!=|=\s*'|(?i:\bis\s+(?:not\s+)?null\b)")
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTH = re.compile(rf"(?i)\b({'|'.join(_MONTHS)})\s+(\d{{4}})\b")


@dataclass(frozen=True)
class SqlPart:
    """Consecutive lines of SQL: a condition that the rule ANDs; ``line`` is that of its first line on the page."""

    line: int
    text: str
    heading: str  # the nearest line of words above it, comments of the SQL included


@dataclass(frozen=True)
class Page:
    """A page as it was read. ``words`` are its lines outside SQL, by line number."""

    path: Path
    title: str
    label: str
    updated: str
    revised: date | None  # first day of the month that the page names
    parts: tuple[SqlPart, ...]  # the rule first, then its exclusions
    words: dict[int, str]
    between: dict[int, str]  # words that stand between or behind the parts of SQL
    mends: tuple[Mend, ...] = field(default=())

    def refusal(self, line: int, message: str, remedy: str) -> InputError:
        """An error that names the page and its line."""
        return InputError(f"page: {self.path}, line {line}: {message}", remedy=remedy)


def read_page(path: Path) -> Page:
    """The page in ``path``; an :class:`InputError` names line and remedy where it cannot be read."""
    refuse_special(path, "page: ")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"page: there is no file {path}", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"page: {path} cannot be read ({type(error).__name__})", remedy="save the page as UTF-8 text"
        ) from None
    raw = {number: plain(line) for number, line in enumerate(lines, start=1)}
    mended, mends = {}, {}
    for number, line in enumerate(lines, start=1):
        mended[number], mends[number] = mended_line(line, number)
    start = _start(path, mended)
    end = next((n for n in mended if n > start and _AFTER.match(mended[n])), len(lines) + 1)
    mended[start] = _WHEN.sub(lambda match: " " * len(match[0]), mended[start])
    chosen, label, label_mend = _rule_lines(mended, start, end, bool(_WHEN.match(plain(lines[start - 1]))))
    parts, used = _parts(path, mended, chosen, start, end)
    words = {n: text.strip() for n, text in raw.items() if n not in used and text.strip()}
    updated, revised = _updated(words)
    return Page(
        path=path,
        title=next((text for text in words.values() if not text.lower().startswith("skip to")), path.stem),
        label=label,
        updated=updated,
        revised=revised,
        parts=tuple(parts),
        words=words,
        between={n: text for n, text in words.items() if start < n < end},
        mends=tuple(mend for n in sorted(used) for mend in mends[n]) + tuple(label_mend),
    )


def _start(path: Path, lines: dict[int, str]) -> int:
    """The line at which the SQL starts: the WHEN, else the first SQL behind the heading of the SQL."""
    whens = [n for n, text in lines.items() if _WHEN.match(text) and is_sql(text + " " + lines.get(n + 1, ""))]
    thens = [n for n, text in lines.items() if _THEN.search(text) and "'" in text]
    for found in (whens, thens):
        if len(found) > 1:
            raise InputError(
                f"page: {path}, lines {found[0]} and {found[1]}: the page holds {len(found)} rules",
                remedy="put each rule with its words into a file of its own and import one at a time",
            )
    if whens:
        return whens[0]
    headed = [n + 1 for n, text in lines.items() if _SQL_HEADING.match(text)]
    spans = zip(headed, [*headed[1:], len(lines) + 1], strict=False)
    starts = [first for span in spans if (first := next((n for n in range(*span) if is_sql(lines[n])), 0))]
    if len(starts) > 1:
        raise InputError(
            f"page: {path}, lines {starts[0]} and {starts[1]}: the page holds {len(starts)} rules",
            remedy="put each rule with its words into a file of its own and import one at a time",
        )
    if starts:
        return starts[0]
    raise InputError(
        f"page: {path} ({len(lines)} lines) holds no SQL: neither WHEN … THEN nor SQL below a line `SQL code`",
        remedy="give the page with its coding section, SQL included; without SQL write the policy by hand",
    )


def is_sql(text: str) -> bool:
    """Whether a line compares a column with something."""
    return bool(_COMPARISON.search(text) and (_COLUMN.search(text) or _JOINED.match(text)))


def _rule_lines(lines: dict[int, str], start: int, end: int, has_when: bool) -> tuple[dict[int, str], str, list[Mend]]:
    """The lines between WHEN and THEN, the label, and what was mended for it; no lines where neither is there."""
    chosen: dict[int, str] = {}
    for n in range(start, end):
        if found := _THEN.search(lines[n]):
            chosen[n] = lines[n][: found.start()]
            lost = [] if found[1] else [Mend(n, "quotation marks put round the label")]
            return chosen, found[1] or found[2], lost
        chosen[n] = lines[n]
    # No THEN: the label may stand alone at the end of the SQL's first run.
    chosen = {}
    for n in range(start, end):
        found = _LOST_THEN.search(" " + lines[n])
        if found and has_when:
            chosen[n] = lines[n][: max(found.start() - 1, 0)]
            return chosen, found[1], [Mend(n, "a lost THEN put before the label")]
        if not lines[n].strip() and not _open(chosen):
            break
        chosen[n] = lines[n]
    return {}, "", []


def _open(lines: dict[int, str]) -> bool:
    """Whether the SQL so far waits for more: an operator at its end."""
    text = "\n".join(_uncommented(line) for line in lines.values()).rstrip()
    return bool(_CONTINUES.search(text)) or depth(text) > 0


def _uncommented(line: str) -> str:
    return re.sub(r"'[^']*'", "''", line).partition("--")[0]


def depth(text: str) -> int:
    """Opening less closing brackets, outside quoted texts and comments."""
    bare = "\n".join(_uncommented(line) for line in text.splitlines())
    return bare.count("(") - bare.count(")")


def _parts(
    path: Path, lines: dict[int, str], rule: dict[int, str], start: int, end: int
) -> tuple[list[SqlPart], set[int]]:
    """The SQL as parts, and the numbers of all their lines."""
    parts: list[SqlPart] = []
    used: set[int] = set(rule)
    heading = ""
    if rule:
        parts.append(SqlPart(start, "\n".join(rule.values()), ""))
    run: dict[int, str] = {}
    words_since = bool(rule)  # whether an OR that opens the next run would have nothing to join to

    def close() -> None:
        nonlocal run, words_since
        if not any(_uncommented(text).strip() for text in run.values()):
            run = {}
            return
        first = min(run)
        text = "\n".join(run.get(n, "") for n in range(first, max(run) + 1))
        if re.match(r"(?i)\s*or\b", _first_code(text)):
            if words_since or not parts:
                raise InputError(
                    f"page: {path}, line {first}: a part of the SQL opens with OR, and what it joins to is not told",
                    remedy="join it by hand to the condition that it widens, within brackets",
                )
            before = parts.pop()
            gap = "\n" * (first - before.line - before.text.count("\n"))
            parts.append(SqlPart(before.line, before.text + gap + text, before.heading))
        else:
            parts.append(SqlPart(first, text, heading))
        used.update(range(first, max(run) + 1))
        run, words_since = {}, False

    for n in range(max(rule, default=start - 1) + 1, end):
        text = lines[n]
        if not text.strip():
            if not _open(run):
                close()
            continue
        if _END.match(text):
            used.add(n)
            continue
        comment = text.strip().startswith("--")
        continues = bool(run) and (_open(run) or bool(_CONTINUED.match(text)) or bool(_OPENS.match(text)))
        if comment or is_sql(text) or (continues and _looks_like_code(text)):
            if comment and not run:
                heading = text.strip().lstrip("-").strip()
            elif comment:
                used.add(n)
            run[n] = text
            if comment:
                used.add(n)
            continue
        if re.fullmatch(r"(?i)\s*(?:where|and|where\s+1\s*=\s*1)\s*", text):
            run[n] = text
            continue
        if _SUSPECT.search(text):
            raise InputError(
                f"page: {path}, line {n}: this looks like SQL and cannot be read as such: {text.strip()[:60]}",
                remedy="correct the line, or put `--` before it if it is a remark",
            )
        close()
        heading, words_since = text.strip(), True
    close()
    return parts, used


def _first_code(text: str) -> str:
    return next((line for line in text.splitlines() if _uncommented(line).strip()), "")


def _looks_like_code(text: str) -> bool:
    return bool(re.search(r"['()]|(?i:^\s*(?:and|or|not)\s*$)|\d", text)) or bool(_COLUMN.search(text))


def _updated(words: dict[int, str]) -> tuple[str, date | None]:
    """When the page says that it was last changed, in its words and as the first day of that month."""
    numbers = sorted(words)
    for n in numbers:
        if re.match(r"(?i)how up to date is this information", words[n]):
            later = [words[m] for m in numbers if m > n]
            text = later[0] if later else ""
            changes = next((words[m] for m in numbers if m > n and re.match(r"(?i).*coding updated", words[m])), "")
            found = _MONTH.search(changes or text)
            day = date(int(found[2]), _MONTHS[found[1].lower()], 1) if found else None
            return "; ".join(part for part in (text, changes) if part), day
    return "", None
