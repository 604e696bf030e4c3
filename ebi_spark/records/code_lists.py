"""Turns HES's numbered code columns into the one normalised text that silver has: ``,E119,J849,|,I801,``.

Codes are in upper case, without dots or blanks, with a comma before and after each code and ``|`` between episodes.
The text is NULL when there is no code. Rules can then test the start of a code with ``,E11`` without splitting the
list. (SUS+'s concatenations are the kind ``codes`` of :mod:`ebi_spark.records.cleaning`.)

All codes of a row are cleaned as one text. Spark compiles code for that. It would interpret a function that is called for each code of a
list.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import EPISODE, default_codes_of
from ebi_spark.records.cleaning import text

# Separates the codes of a row while they are cleaned, and begins and ends their text. (A source can have a comma in a code.)
_MARK = "\x1f"
# Removed from the end, because most rows fill few places: the regular expressions then have less to read.
_EMPTY_PLACES = f"{_MARK}.&- "


def bare_codes(listed: Column, concat: Column) -> Column:
    """The codes of one row in upper case without dots, blanks, ``&`` and ``-``, each between two marks. An empty place before
    another code stays, as two marks. They come from the numbered columns (``array<string>``) or, where the file has none, from the
    concatenation."""
    given = F.coalesce(F.array_join(listed, _MARK, ""), F.replace(text(concat), F.lit(","), F.lit(_MARK)))
    filled = F.rtrim(given, F.lit(_EMPTY_PLACES))
    return F.concat(F.lit(_MARK), F.regexp_replace(F.upper(filled), r"[\s.&-]", ""), F.lit(_MARK))


def as_codes(bare: Column) -> Column:
    """The cleaned codes of :func:`bare_codes` in order, as silver has them: ``,E119,J849,``; NULL without a code.

    ``&``, ``-`` and the word NULL count as empty. X after a category stays (4 characters), a digit in fifth place
    stays (5), and everything else is cut to 4 characters. HES analysts commonly clean codes this way (domain
    guide). A default code such as ``R69X6`` stays whole. Later codes move up into an empty place.
    """
    whole = "".join(f"{code}|" for code in default_codes_of("diagnosis_codes"))
    code = rf"(?!NULL{_MARK})(?:{whole}[A-Z]\d\dX|[A-Z]\d{{4}}|[^{_MARK}]{{1,4}})"
    # Of a code the beginning is kept; of an empty place, nothing.
    cut = F.regexp_replace(bare, rf"({_MARK}{code})[^{_MARK}]*|{_MARK}(?:NULL)?(?={_MARK})", "$1")
    return F.when(F.octet_length(cut) > 1, F.replace(cut, F.lit(_MARK), F.lit(",")))


def first_code(bare: Column, codes: Column) -> Column:
    """The cleaned code in first place; NULL when that place is empty, even where later ones are filled. A code ends at a comma
    inside its column. ``bare`` is :func:`bare_codes`, ``codes`` is :func:`as_codes` of it."""
    empty = bare.startswith(f"{_MARK}{_MARK}") | bare.startswith(f"{_MARK}NULL{_MARK}")
    return F.when(~empty, F.nullif(F.substring_index(F.substring(codes, 2, 1 << 20), ",", 1), F.lit("")))


def as_text(codes: Column) -> Column:
    """The codes of a list as ``,E119,J849,``; NULL for an empty list."""
    return F.when(F.size(codes) > 0, F.concat(F.lit(","), F.array_join(codes, ","), F.lit(",")))


def join_episodes(lists: Column) -> Column:
    """The text of a spell, from ``array<string>`` of its episodes' texts in order. Episodes without codes leave no
    mark."""
    joined = F.array_join(F.filter(lists, lambda item: item.isNotNull()), EPISODE)
    return F.when(joined != "", joined)
