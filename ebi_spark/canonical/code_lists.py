"""HES's numbered code columns as the one normalised text that silver has: ``,E119,J849,|,I801,``.

Upper case, no dots or blanks, a comma before and after each code, ``|`` between episodes, NULL when there is no code.
Rules can then ask for a code's start by ``,E11`` without taking the list apart. (SUS+'s concatenations are the kind
``codes`` of :mod:`ebi_spark.canonical.cleaning`.)
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.canonical.cleaning import text
from ebi_spark.default_codes import codes_of as default_codes_of

EPISODE = "|"


def clean_code(raw: Column) -> Column:
    """One HES code: ``&``, ``-`` and the word NULL are empty; X after a category stays (4 characters), a digit in
    fifth place stays (5), everything else is cut to 4. Clean-up in use among HES analysts (domain guide). A default code
    such as ``R69X6`` stays whole.
    """
    plain = F.regexp_replace(F.upper(raw), r"[\s.&-]", "")
    whole = "".join(f"{code}|" for code in default_codes_of("diagnosis_codes"))
    cut = F.regexp_extract(plain, rf"^({whole}[A-Z]\d\dX|[A-Z]\d{{4}}|.{{1,4}})", 1)
    return F.when((cut != "") & (plain != "NULL"), cut)


def codes_of(listed: Column, concat: Column) -> Column:
    """The cleaned codes of one episode in order, ``array<string>`` without empty ones, from numbered columns
    (``array<string>``) or, where the file has none, from the concatenation. NULL entries of the list keep no place.
    """
    given = F.coalesce(listed, F.split(text(concat), ","))
    return F.filter(F.transform(given, clean_code), lambda code: code.isNotNull())


def first_code(listed: Column, concat: Column) -> Column:
    """The code in first position, NULL when that position is empty though later ones are not."""
    given = F.coalesce(F.get(listed, F.lit(0)), F.when(listed.isNull(), F.get(F.split(text(concat), ","), F.lit(0))))
    return clean_code(given)


def as_text(codes: Column) -> Column:
    """One episode's codes as ``,E119,J849,``; NULL when there is none."""
    return F.when(F.size(codes) > 0, F.concat(F.lit(","), F.array_join(codes, ","), F.lit(",")))


def join_episodes(lists: Column) -> Column:
    """A spell's text from ``array<string>`` of its episodes' texts in order; episodes without codes leave no mark."""
    joined = F.array_join(F.filter(lists, lambda item: item.isNotNull()), EPISODE)
    return F.when(joined != "", joined)
