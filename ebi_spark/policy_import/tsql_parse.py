"""Parse T-SQL with sqlglot, strictly. SQL that does not parse, and a missing bracket that could belong in several places,
are refused with their line."""

import re
from collections.abc import Callable

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from ebi_spark.errors import InputError
from ebi_spark.policies.model import Test
from ebi_spark.policy_import.page import COMPARISON, LOST_JOIN, LOST_JOIN_REMEDY, Page, SqlPart, depth
from ebi_spark.policy_import.typography import Repair

# Each possible place of a missing bracket is tried by reading the whole part again, so there must not be too many.
MOST_PLACES = 600


class Refused(InputError):
    """Something on a line of a page cannot be read."""

    def __init__(self, page: Page, line: int, message: str, remedy: str) -> None:
        super().__init__(f"page: {page.path}, line {line}: {message}", remedy=remedy)


def parse(
    page: Page, part: SqlPart, text: str, meaning: Callable[[exp.Expr, SqlPart], Test]
) -> tuple[exp.Expr, Repair | None]:
    """The SQL of a part as a tree, and the repair if one was made.

    One missing bracket is added, but only if the result has the same ``meaning`` wherever the bracket is placed. A missing
    AND or OR is never added. :class:`Refused` names the line of what cannot be read.
    """
    _refuse_lost_join(page, part, text)
    if _balanced(text):
        return _tree(page, part, text), None
    missing = depth(text)
    readings: dict[Test, str] = {}
    places = _boundaries(text) if abs(missing) == 1 else []
    for place in places if len(places) <= MOST_PLACES else []:
        attempt = f"{text[:place]}{')' if missing == 1 else '('}{text[place:]}"
        if not _balanced(attempt):
            continue
        try:
            readings.setdefault(meaning(_tree(page, part, attempt), part), attempt)
        except Refused:
            continue
    line = part.line + _unbalanced_line(text) - 1
    if len(readings) == 1:
        kind = "closing" if missing == 1 else "opening"
        what = f"a missing {kind} bracket added (the meaning is the same in every place where it fits)"
        return _tree(page, part, next(iter(readings.values()))), Repair(line, what)
    count = (
        f", and the rule has {len(readings)} meanings, depending on where a bracket is added"
        if len(readings) > 1
        else ""
    )
    word = "is never closed" if missing > 0 else "closes nothing"
    raise Refused(page, line, f"unbalanced brackets: one {word}{count}", "add or remove the bracket where it belongs")


_TOKEN = re.compile(r"'[^'\n]*'?|\w+|[^\w\s]")


def _refuse_lost_join(page: Page, part: SqlPart, text: str) -> None:
    """Raise :class:`Refused` if a condition follows another without AND or OR between them, on one line or over several.

    A value that ends a comparison must not be followed by something that can only begin another one: a bracket, or a column
    or function with its operator.
    """
    code = "\n".join(_without_comment(line) for line in text.split("\n"))
    before = ""
    for token in _TOKEN.finditer(code):
        here = token[0]
        ended = before.startswith("'") or before == ")" or before.isdigit() or before.lower() == "null"
        if ended and (here == "(" or (here[0].isalpha() and _begins_condition(code, token.start(), here))):
            line = code.count("\n", 0, token.start())
            alone = not code.split("\n")[line][: token.start() - (code.rfind("\n", 0, token.start()) + 1)].strip()
            place = "this line" if alone else f"{here!r}"
            raise Refused(page, part.line + line, f"{LOST_JOIN} {place}", LOST_JOIN_REMEDY)
        before = here


def _begins_condition(code: str, at: int, word: str) -> bool:
    if word.lower() == "not":
        return not re.match(r"(?i)not\s+(?:like|in|between|null)\b", code[at : at + 40])
    return word.lower() not in _JOINING and bool(COMPARISON.match(code, at))


_JOINING = ("and", "or", "like", "in", "between", "is", "then", "end", "else", "escape", "collate", "as")


def _without_comment(line: str) -> str:
    """The line without its comment; two hyphens inside a quoted text do not begin one."""
    for match in re.finditer(r"'[^']*'|--", line):
        if match[0] == "--":
            return line[: match.start()]
    return line


def _tree(page: Page, part: SqlPart, text: str) -> exp.Expr:
    try:
        tree = sqlglot.parse_one(text, read="tsql")
    except TokenError:
        rows = enumerate(text.split("\n"), 1)
        line = next((n for n, row in rows if row.partition("--")[0].count("'") % 2), 1)
        raise Refused(page, part.line + line - 1, "a quotation mark is never closed", "close the quoted text") from None
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        near = str(first.get("highlight") or "").strip()
        raise Refused(
            page,
            part.line + int(first.get("line") or 1) - 1,
            f"this is not a valid SQL condition{f' (near {near!r})' if near else ''}",
            "correct it against the published page, or remove what is not SQL",
        ) from None
    for alias in tree.find_all(exp.Alias):
        word = alias.args["alias"]
        raise Refused(
            page,
            part.line + line_of(word) - 1,
            f"the word {word.name!r} is not allowed here",
            "remove it, or make it a comment with --",
        )
    for literal in tree.find_all(exp.Literal):
        if "\n" in str(literal.this):
            start = text.find(f"'{literal.this}'")
            line = text.count("\n", 0, max(start, 0))
            raise Refused(
                page,
                part.line + line,
                "a quoted text continues on the next line",
                "add the quotation mark that ends it",
            )
    return tree


def _bare(text: str) -> str:
    """The text with quoted texts and comments replaced by blanks, so that every other character keeps its position."""
    made, quoted, comment = [], False, False
    for at, character in enumerate(text):
        if character == "\n":
            comment = False
        elif not quoted and text.startswith("--", at):
            comment = True
        if comment:
            made.append(" ")
            continue
        if character == "'":
            quoted = not quoted
        made.append(" " if quoted and character != "\n" else character)
    return "".join(made)


def _balanced(text: str) -> bool:
    open_now = 0
    for character in _bare(text):
        open_now += {"(": 1, ")": -1}.get(character, 0)
        if open_now < 0:
            return False
    return open_now == 0


def _unbalanced_line(text: str) -> int:
    """The line, from 1, of the bracket that has no partner."""
    open_lines: list[int] = []
    line = 1
    for character in _bare(text):
        if character == "\n":
            line += 1
        elif character == "(":
            open_lines.append(line)
        elif character == ")":
            if not open_lines:
                return line
            open_lines.pop()
    return open_lines[-1] if open_lines else line


def _boundaries(text: str) -> list[int]:
    """The positions between words where a bracket could be missing."""
    bare = _bare(text)
    made: list[int] = []
    quoted = False
    for at in range(len(text) + 1):
        # In a run of blanks, only the position after it is tried: the others mean the same.
        within = at < len(text) and (text[at].isspace() or (bare[max(at - 1, 0) : at + 1].isalnum() and at > 0))
        if not quoted and not within:
            made.append(at)
        quoted ^= text[at : at + 1] == "'"
    return made


def line_of(node: exp.Expr) -> int:
    """The line, from 1, on which a node starts, according to the first name or text in it."""
    lines = [item.meta["line"] for item in node.walk() if "line" in item.meta]
    return int(min(lines)) if lines else 1


def printed(node: exp.Expr) -> str:
    """The node as T-SQL on one line."""
    return node.sql(dialect="tsql", comments=False)


def name_of(node: exp.Expr) -> str:
    """What an error message calls a node."""
    if isinstance(node, exp.Anonymous):
        return f"the function {node.name}()"
    if isinstance(node, exp.Func):
        return f"the function {node.sql_name()}()"
    return {"Column": "a bare column", "Literal": "a bare value"}.get(type(node).__name__, type(node).__name__.upper())
