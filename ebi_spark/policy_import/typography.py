"""Undo what word processors and web pages did to the SQL of a page. Every repair is recorded with its line.

Lines keep their numbers, so that later messages can name the line of the page.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

# Characters to read as a straight single quotation mark. A double one is what two single ones become when typeset.
_QUOTES = "‘’‚‛′´`＇“”„″"
_BLANKS = "\u00a0\u2002\u2003\u2007\u2009\u202f\t"
_NOTHING = "\u200b\u200c\u200d\u00ad\ufeff"
_SIGNS = {"≥": ">=", "≤": "<=", "≠": "<>", "＝": "=", "！": "!", "< >": "<>"}
_DASH_COMMENT = re.compile(r"^(\s*)[—–―‒](?:[—–―‒-]?)(?=\s|$)")
_UNDERSCORE = re.compile(r"(?<=\w)(?:[ ]+_[ ]*|_[ ]+)(?=[A-Za-z])")
_TEXT = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class Repair:
    """One repair on one line of the page."""

    line: int
    what: str


def plain(text: str) -> str:
    """The text with all kinds of blanks as plain blanks and without invisible characters; used for words and for SQL."""
    return text.translate({ord(c): " " for c in _BLANKS} | {ord(c): None for c in _NOTHING})


def repaired_line(text: str, number: int) -> tuple[str, list[Repair]]:
    """A line of SQL as it was before it was typeset, and what was repaired in it."""
    repairs: list[Repair] = []

    def note(what: str) -> None:
        repairs.append(Repair(number, what))

    line = plain(text)
    quoted = line.translate({ord(c): "'" for c in _QUOTES})
    if quoted != line:
        note("curly quotes replaced by straight ones")
        line = quoted
    dashed = _DASH_COMMENT.sub(r"\1--", line)
    if dashed != line:
        note("a dash that opens a comment replaced by two hyphens")
        line = dashed
    for sign, written in _SIGNS.items():
        if sign in line:
            note(f"{sign} replaced by {written}")
            line = line.replace(sign, written)
    joined = _outside_texts(line, lambda part: _UNDERSCORE.sub("_", part))
    if joined != line:
        note("spaces around underscores removed")
        line = joined
    return line, repairs


def _outside_texts(line: str, change: Callable[[str], str]) -> str:
    """The line with ``change`` applied to everything outside quoted texts and comments."""
    made, at = [], 0
    code = line.partition("--")[0]
    for match in _TEXT.finditer(code):
        made += [change(code[at : match.start()]), match[0]]
        at = match.end()
    made.append(change(code[at:]))
    return "".join(made) + line[len(code) :]
