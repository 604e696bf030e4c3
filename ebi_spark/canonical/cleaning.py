"""Source values cleaned in stages: what decisions 1 to 3 make of a text, and a note of every value that this changed.

Blank, blanks only and the text ``NULL`` are NULL; codes are upper-cased, trimmed, without dots; ``2`` in a two-character
code list is ``02``. Nothing else is corrected: a value outside a code list stays as it is.

All fields of a row go through the stages together, a select a stage. Spark repeats an expression wherever it is named,
so a value that several conditions look at has to be a column first; as one nested expression the same cleaning took
minutes to plan.
"""

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# Dates that stand for "no date" in HES and in systems that feed SUS.
DATE_SENTINELS = ("1800-01-01", "1801-01-01", "1600-01-01", "1582-10-15")

BABY_AGE_FROM = 7000
OLDEST_AGE = 120

Stage = Callable[[Column], Column]


def is_empty(trimmed: Column) -> Column:
    """Whether a trimmed text stands for nothing: blank, or the word NULL."""
    return (trimmed == "") | (F.upper(trimmed) == "NULL")


def text(raw: Column) -> Column:
    """The text without blanks at its ends; NULL for blank and for the word NULL."""
    return F.when(~is_empty(F.trim(raw)), F.trim(raw))


def _strip(value: Column, *unwanted: str) -> Column:
    for item in unwanted:
        value = F.replace(value, F.lit(item), F.lit(""))
    return value


def _as_is(value: Column) -> Column:
    return value


def _two_characters(value: Column) -> Column:
    return F.when(F.length(value) == 1, F.concat(F.lit("0"), value)).otherwise(value)


def _number(value: Column) -> Column:
    return F.coalesce(value.try_cast("int"), value.try_cast("double").try_cast("int"))


def _parsed_day(value: Column) -> Column:
    """A DATE from ``2021-04-01``, ``01/04/2021``, ``20210401`` or a time stamp.

    A time stamp becomes the date in the session's time zone (Europe/London unless configured): a midnight of 1 April
    stored as 23:00Z belongs to the new year.
    """
    length = F.length(value)
    british = F.try_to_timestamp(value, F.lit("dd/MM/yyyy HH:mm:ss"))
    return (
        F.when((length == 10) & (F.substring(value, 5, 1) == "-"), value.try_cast("date"))
        .when(length > 10, F.to_date(F.coalesce(value.try_cast("timestamp"), british)))
        .otherwise(F.coalesce(F.try_to_date(value, "dd/MM/yyyy"), F.try_to_date(value, "yyyyMMdd")))
    )


def _no_sentinel(value: Column) -> Column:
    return F.when(~value.isin([F.lit(day).cast("date") for day in DATE_SENTINELS]), value)


def _packed(value: Column) -> Column:
    """A concatenation with a comma before and after every code and episode mark; runs of commas may be left.

    Chains of plain replacements: measured against ``translate`` and regular expressions, these cost the least.
    """
    packed = _strip(F.upper(F.btrim(value, F.lit("|, \t"))), " ", ".", "\t")
    packed = F.replace(F.replace(packed, F.lit("||"), F.lit("|")), F.lit("|"), F.lit(",|,"))
    return F.replace(F.concat(F.lit(","), packed, F.lit(",")), F.lit(",,"), F.lit(","))


def _tidy(packed: Column) -> Column:
    """Runs of commas, marks of an empty code and of empty episodes as one, none at the ends; NULL when no code is left.
    They are rare: only the rows that have one pay for the regular expressions."""
    odd = packed.contains(",,") | packed.contains(",-") | packed.contains(",&") | packed.contains(",|,|,")
    odd = odd | packed.startswith(",|,") | packed.endswith(",|,")
    single = F.regexp_replace(packed, ",(?:[-&]*,)+", ",")
    single = F.regexp_replace(single, r"(?:,\|)+,", ",|,")
    single = F.regexp_replace(F.regexp_replace(single, r"^,\|,", ","), r",\|,$", ",")
    return F.when(F.length(packed) > 2, F.when(odd, F.nullif(single, F.lit(","))).otherwise(packed))


# What is done to each kind of value once it is trimmed and not empty, a stage each.
KINDS: dict[str, tuple[Stage, ...]] = {
    # A key or organisation code, as it is (20-digit keys stay text).
    "identifier": (_as_is,),
    # A code of a one-character list.
    "short_code": (F.upper,),
    # A code of a two-character list: ``2`` is ``02``.
    "two_character_code": (F.upper, _two_characters),
    # One clinical code: upper case, without dots and blanks.
    "code": (lambda value: F.upper(_strip(value, ".", " ")),),
    # Clinical codes in SUS+'s concatenation: ``||E119 ,J849 ||I801`` or ``||E851,T124||Y532``, the leading ``||`` may
    # be missing, codes may be padded, dotted or in lower case → ``,E119,J849,|,I801,``, NULL when no code is left.
    "codes": (_packed, _tidy),
    # INT; what is no number becomes NULL and is noted.
    "number": (_number,),
    # DATE; what is none, or a sentinel, becomes NULL and is noted.
    "day": (_parsed_day, _no_sentinel),
}


def clean(rows: DataFrame, kinds: Mapping[str, str]) -> DataFrame:
    """``rows`` with every column named in ``kinds`` cleaned as its kind says, and ``cleaned``: ``array<string>`` of
    ``field:kind`` for every value that this changed (blank, null_text, dots, case, padding, one_digit, not_a_number,
    not_a_date, sentinel). Other columns pass through.
    """
    others = [name for name in rows.columns if name not in kinds]
    raw = [F.col(name).alias(f"_raw_{name}") for name in kinds]
    frame = rows.select(*others, *raw, *[text(F.col(name)).alias(name) for name in kinds])
    kept = [*others, *(f"_raw_{name}" for name in kinds)]
    for number in range(max(len(stages) for stages in KINDS.values())):
        staged = [
            (KINDS[kind][number](F.col(name)) if number < len(KINDS[kind]) else F.col(name)).alias(name)
            for name, kind in kinds.items()
        ]
        if number == 1:
            # Before sentinels go: whether a date was read at all tells a sentinel from nonsense.
            read = [name for name, kind in kinds.items() if kind == "day"]
            staged += [F.col(name).isNotNull().alias(f"_read_{name}") for name in read]
        frame = frame.select(*kept, *staged)
    changes = F.array_compact(
        F.array(*[F.concat(F.lit(f"{name}:"), _change(name, kind)) for name, kind in kinds.items()])
    )
    return frame.select(*others, *kinds, changes.alias("cleaned"))


def _change(name: str, kind: str) -> Column:
    """Why the cleaned value differs from what the source has; NULL where it does not. All that takes more than a
    comparison is asked only where the two differ."""
    raw, value = F.col(f"_raw_{name}"), F.col(name)
    lost = F.when(F.trim(raw) == "", F.lit("blank")).when(F.upper(F.trim(raw)) == "NULL", F.lit("null_text"))
    if kind == "number":
        return F.when(raw.isNotNull() & value.isNull(), F.coalesce(lost, F.lit("not_a_number")))
    if kind == "day":
        unread = F.when(F.col(f"_read_{name}"), F.lit("sentinel")).otherwise(F.lit("not_a_date"))
        return F.when(raw.isNotNull() & value.isNull(), F.coalesce(lost, unread))
    reformed = F.when(raw.contains("."), F.lit("dots")).when(raw != F.upper(raw), F.lit("case"))
    if kind == "codes":  # separators always change; only what changes a code is noted
        return F.when(raw.isNotNull(), F.when(value.isNull(), F.coalesce(lost, F.lit("blank"))).otherwise(reformed))
    if kind == "two_character_code":
        reformed = F.coalesce(F.when(F.length(F.trim(raw)) == 1, F.lit("one_digit")), reformed)
    differs = raw.isNotNull() & (value.isNull() | (raw != value))
    return F.when(differs, F.coalesce(lost, reformed, F.lit("padding")))


def age_seen(first: Column, fallback: Column) -> Column:
    """The age that the published SQL sees: the second column only where the first is NULL (decision 2)."""
    return F.coalesce(first, fallback)


def age_in_years(age: Column) -> Column:
    """Completed years: baby codes (7000 and above) are 0, above 120 and below 0 are unknown."""
    return F.when(age >= BABY_AGE_FROM, 0).when(age.between(0, OLDEST_AGE), age)
