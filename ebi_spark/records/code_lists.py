"""Turns HES's numbered code columns into the one normalised text that silver has: ``,E119,J849,|,I801,``.

Codes are in upper case, without dots or blanks, with a comma before and after each code and ``|`` between episodes.
The text is NULL when there is no code. Rules can then test the start of a code with ``,E11`` without splitting the
list. (SUS+'s concatenations are the kind ``codes`` of :mod:`ebi_spark.records.cleaning`.)
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import EPISODE, default_codes_of
from ebi_spark.records.cleaning import text


def clean_code(raw: Column) -> Column:
    """One cleaned HES code, NULL where there is none.

    ``&``, ``-`` and the word NULL count as empty. X after a category stays (4 characters), a digit in fifth place
    stays (5), and everything else is cut to 4 characters. HES analysts commonly clean codes this way (domain
    guide). A default code such as ``R69X6`` stays whole.
    """
    plain = F.regexp_replace(F.upper(raw), r"[\s.&-]", "")
    whole = "".join(f"{code}|" for code in default_codes_of("diagnosis_codes"))
    cut = F.regexp_extract(plain, rf"^({whole}[A-Z]\d\dX|[A-Z]\d{{4}}|.{{1,4}})", 1)
    return F.when((cut != "") & (plain != "NULL"), cut)


def codes_of(listed: Column, concat: Column) -> Column:
    """The cleaned codes of one episode in order, ``array<string>`` without empty ones.

    They come from the numbered columns (``array<string>``) or, where the file has none, from the concatenation. A
    NULL entry of the list is left out, and later codes move up.
    """
    given = F.coalesce(listed, F.split(text(concat), ","))
    return F.filter(F.transform(given, clean_code), lambda code: code.isNotNull())


def first_code(listed: Column, concat: Column) -> Column:
    """The code in first position; NULL when that position is empty, even where later ones are filled."""
    given = F.coalesce(F.get(listed, F.lit(0)), F.when(listed.isNull(), F.get(F.split(text(concat), ","), F.lit(0))))
    return clean_code(given)


def as_text(codes: Column) -> Column:
    """The codes of one episode as ``,E119,J849,``; NULL when there are none."""
    return F.when(F.size(codes) > 0, F.concat(F.lit(","), F.array_join(codes, ","), F.lit(",")))


def join_episodes(lists: Column) -> Column:
    """The text of a spell, from ``array<string>`` of its episodes' texts in order. Episodes without codes leave no
    mark."""
    joined = F.array_join(F.filter(lists, lambda item: item.isNotNull()), EPISODE)
    return F.when(joined != "", joined)
