"""What word processors and web pages did to the SQL of a page, undone; every mend is told, by line.

Lines keep their numbers, so that whatever is refused later can be named by the page's own line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

# Quotes that stand for the straight one; the double ones are what two of them become.
_QUOTES = "‘’‚‛′´`＇“”„″"
_BLANKS = "\u00a0\u2002\u2003\u2007\u2009\u202f\t"
_NOTHING = "\u200b\u200c\u200d\u00ad\ufeff"
_SIGNS = {"≥": ">=", "≤": "<=", "≠": "<>", "＝": "=", "！": "!", "< >": "<>"}
_DASH_COMMENT = re.compile(r"^(\s*)[—–―‒](?:[—–―‒-]?)(?=\s|$)")
_UNDERSCORE = re.compile(r"(?<=\w)(?:[ ]+_[ ]*|_[ ]+)(?=[A-Za-z])")
_TEXT = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class Mend:
    """One mend on one line of the page."""

    line: int
    what: str


def plain(text: str) -> str:
    """Blanks of all kinds as blanks, invisible characters out; for words as for SQL."""
    return text.translate({ord(c): " " for c in _BLANKS} | {ord(c): None for c in _NOTHING})


def mended_line(text: str, number: int) -> tuple[str, list[Mend]]:
    """A line of SQL as it was typed before it was typeset."""
    mends: list[Mend] = []

    def note(what: str) -> None:
        mends.append(Mend(number, what))

    line = plain(text)
    quoted = line.translate({ord(c): "'" for c in _QUOTES})
    if quoted != line:
        note("curly quotes made straight")
        line = quoted
    dashed = _DASH_COMMENT.sub(r"\1--", line)
    if dashed != line:
        note("a dash that opens a comment made two hyphens")
        line = dashed
    for sign, written in _SIGNS.items():
        if sign in line:
            note(f"{sign} written {written}")
            line = line.replace(sign, written)
    joined = _outside_texts(line, lambda part: _UNDERSCORE.sub("_", part))
    if joined != line:
        note("spaces round underscores taken out")
        line = joined
    return line, mends


def _outside_texts(line: str, change: Callable[[str], str]) -> str:
    """``change`` applied to what stands outside quoted texts and comments."""
    made, at = [], 0
    code = line.partition("--")[0]
    for match in _TEXT.finditer(code):
        made += [change(code[at : match.start()]), match[0]]
        at = match.end()
    made.append(change(code[at:]))
    return "".join(made) + line[len(code) :]
