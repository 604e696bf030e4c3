"""Source values cleaned in stages: what decisions 1 to 3 make of a text, and a note of every value that this changed.

Blank, blanks only and the text ``NULL`` are NULL; codes are upper-cased, trimmed, without dots; ``2`` in a two-character
code list is ``02``. Nothing else is corrected: a value outside a code list stays as it is.

All fields of a row go through the stages together, a select a stage. Spark repeats an expression wherever it is named,
so a value that several conditions look at has to be a column first; as one nested expression the same cleaning took
minutes to plan.

All of it becomes one Java method, and Java gives up on a method that is too long: from some 11,900 bytes on it may be
interpreted for good (unless its compilers happen to be busy when it first runs), which takes a row two to three times as long.
``test_records.py`` measures the method; what is written here for every field counts eighteen times.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from itertools import product

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.financial_years import day_of_iso, iso_day

# Dates that stand for "no date" in HES and in systems that feed SUS: those of HES, the first days that databases, spreadsheets
# and programming languages can state, and the last. (As many as these are looked up as a set, which is the shortest code.)
DATE_SENTINELS = (
    "0001-01-01", "1582-10-15", "1600-01-01", "1753-01-01", "1800-01-01", "1801-01-01", "1899-12-30", "1899-12-31",
    "1900-01-01", "1901-01-01", "9999-12-31",
)  # fmt: skip

# Trimmed texts that stand for nothing: none, and the word NULL in upper and lower case.
NOTHING = ("", *map("".join, product("Nn", "Uu", "Ll", "Ll")))

BABY_AGE_FROM = 7000
OLDEST_AGE = 120

Stage = Callable[[Column], Column]


def text(raw: Column) -> Column:
    """The text without blanks at its ends; NULL for blank and for the word NULL."""
    return _filled(F.trim(raw))


def _filled(trimmed: Column) -> Column:
    """A trimmed text, NULL where it stands for nothing. One look into a set is the shortest code for it."""
    return F.when(~trimmed.isin(*NOTHING), trimmed)


def _strip(value: Column, *unwanted: str) -> Column:
    for item in unwanted:
        value = F.replace(value, F.lit(item), F.lit(""))
    return value


def _two_characters(value: Column) -> Column:
    return F.when(F.octet_length(value) == 1, F.concat(F.lit("0"), value)).otherwise(value)


def _one_code(value: Column) -> Column:
    return F.nullif(F.upper(_strip(value, ".", " ")), F.lit(""))


def _number(value: Column) -> Column:
    return F.coalesce(value.try_cast("int"), value.try_cast("double").try_cast("int"))


def _no_sentinel(value: Column) -> Column:
    return F.when(~value.isin([F.lit(day).cast("date") for day in DATE_SENTINELS]), value)


def _packed(value: Column) -> Column:
    """A concatenation (upper case) with a comma before and after every code and episode mark; runs of commas may be left.

    Chains of plain replacements: measured against ``translate`` and regular expressions, these cost the least.
    """
    packed = _strip(F.btrim(value, F.lit("|, \t")), " ", ".", "\t")
    packed = F.replace(F.replace(packed, F.lit("||"), F.lit("|")), F.lit("|"), F.lit(",|,"))
    return F.replace(F.concat(F.lit(","), packed, F.lit(",")), F.lit(",,"), F.lit(","))


# What a code has and marks have not; and what is taken out: at the start all marks, each with the comma before it; after that a
# mark of an episode before another one or the end, and marks of an empty code, or nothing, before a comma. Each part takes all
# it can and gives nothing back (*+): as a pattern that does, a long run of marks let Java run out of stack.
_A_CODE = "[^-,&|]"
_UNTIDY = r"^(?:,(?:\||[-&]*+)(?=,))++|,(?:\|(?=(?:,[-&]*+(?=,))*+,(?:\||\z))|[-&]*+(?=,))"


def _tidy(packed: Column) -> Column:
    """Runs of commas, marks of an empty code and of empty episodes as one, none at the ends; NULL when no code is left.
    They are rare: only the rows that have one pay for the regular expressions."""
    odd = packed.contains(",,") | packed.contains(",-") | packed.contains(",&") | packed.contains(",|,|,")
    odd = odd | packed.startswith(",|,") | packed.endswith(",|,")
    tidied = F.when(packed.rlike(_A_CODE), F.regexp_replace(packed, _UNTIDY, ""))
    return F.when(F.octet_length(packed) > 2, F.when(odd, tidied).otherwise(packed))


def _in_calendar(value: Column) -> Column:
    """A DATE of four-digit years, as a text can state it."""
    return F.when(value.between(F.lit("0001-01-01").cast("date"), F.lit("9999-12-31").cast("date")), value)


def _as_it_is(value: Column) -> Column:
    return value


# What is done to each kind of value once it is trimmed and not empty, a stage each.
KINDS: dict[str, tuple[Stage, ...]] = {
    # A key or organisation code, as it is (20-digit keys stay text).
    "identifier": (),
    # A code of a one-character list.
    "short_code": (F.upper,),
    # A code of a two-character list: ``2`` is ``02``.
    "two_character_code": (F.upper, _two_characters),
    # One clinical code: upper case, without dots and blanks.
    "code": (_one_code,),
    # Clinical codes in SUS+'s concatenation: ``||E119 ,J849 ||I801`` or ``||E851,T124||Y532``, the leading ``||`` may
    # be missing, codes may be padded, dotted or in lower case → ``,E119,J849,|,I801,``, NULL when no code is left.
    "codes": (F.upper, _packed, _tidy),
    # INT; what is no number becomes NULL and is noted.
    "number": (_number,),
    # DATE; what is none, or a sentinel, becomes NULL and is noted.
    "day": (iso_day, day_of_iso, _no_sentinel),
}
# The same where the source has the type already.
TYPED_KINDS: dict[str, tuple[Stage, ...]] = {
    "number": (),
    "day": (_as_it_is, _in_calendar, _no_sentinel),
}
# Kinds that are read rather than tidied: how they are written is no change, only what cannot be read is one.
READ = ("codes", "number", "day")
_DAY_READ = 2  # stages after which a day was read or was not: before sentinels go
_SENTINEL = "sentinel"


def clean(rows: DataFrame, kinds: Mapping[str, str], unread: Iterable[str] = ()) -> DataFrame:
    """``rows`` with every column named in ``kinds`` cleaned as its kind says, and ``cleaned``: ``array<string>`` of
    ``field:kind`` for every value that this changed (blank, null_text, dots, case, padding, one_digit, not_a_number,
    not_a_date, sentinel). Other columns pass through.

    A day or a number that has its type already is taken as it is; everything else has to be text.

    For each day in ``unread`` there is a BOOLEAN ``unread_…``: something stands there, and it is no date.
    """
    types = dict(rows.dtypes)
    typed = {name for name, kind in kinds.items() if kind in TYPED_KINDS and types[name] != "string"}
    stages = {name: (TYPED_KINDS if name in typed else KINDS)[kind] for name, kind in kinds.items()}
    others = [F.col(name) for name in rows.columns if name not in kinds]
    raw = [F.col(name).alias(f"_raw_{name}") for name in kinds]
    trimmed = [F.col(name) if name in typed else F.trim(F.col(name)).alias(name) for name in kinds]
    frame = rows.select(*others, *raw, *trimmed)
    kept = [*others, *(F.col(f"_raw_{name}") for name in kinds)]
    filled = {name: F.col(name) if name in typed else _filled(F.col(name)) for name in kinds}
    # Whether something stands there at all; for the other kinds the value itself tells.
    read = [name for name, kind in kinds.items() if kind in READ]
    frame = frame.select(
        *kept,
        *[value.alias(name) for name, value in filled.items()],
        *[filled[name].isNotNull().alias(f"_stated_{name}") for name in read],
    )
    kept += [F.col(f"_stated_{name}") for name in read]
    for number in range(max(len(of_kind) for of_kind in stages.values())):
        noted: dict[str, Column] = {}
        for name, kind in kinds.items():
            if kind == "codes" and number == 0:
                noted[f"_cased_{name}"] = F.upper(name) != F.col(name)
            elif kind == "day" and number == _DAY_READ:
                noted[f"_read_{name}"] = F.col(name).isNotNull()
        frame = frame.select(
            *kept,
            *[column.alias(name) for name, column in noted.items()],
            *[
                (of_kind[number](F.col(name)) if number < len(of_kind) else F.col(name)).alias(name)
                for name, of_kind in stages.items()
            ],
        )
        kept += [F.col(name) for name in noted]
    flags = [(F.col(f"_stated_{name}") & ~F.col(f"_read_{name}")).alias(f"unread_{name}") for name in unread]
    return _with_changes(frame, [*others, *(F.col(name) for name in kinds), *flags], kinds, typed)


def _with_changes(
    frame: DataFrame, kept: Sequence[Column], kinds: Mapping[str, str], typed: Collection[str]
) -> DataFrame:
    """The columns ``kept`` of ``frame``, and ``cleaned``: ``field:kind`` of every value that differs from what the source
    has.

    That a code list, a number or a day is blank or the word NULL is common and told at once. All else is rare: whether
    there is any such change is asked of all fields together, and only a row that has one goes through its fields one by
    one, in a function that Spark interprets. Written out for each field, it was most of the code that the JVM had to
    compile and of the time that a row took. Raw values are put together before it for such rows alone, since a select with
    such a function has all its columns copied.
    """
    odd = []
    empty = []
    outcomes = []
    for at, (name, kind) in enumerate(kinds.items()):
        raw, value = F.col(f"_raw_{name}"), F.col(name)
        if kind not in READ:
            odd.append(~raw.eqNullSafe(value))
            outcomes.append(value)
            continue
        stated = F.col(f"_stated_{name}")
        unusable = stated & value.isNull()
        odd.append(unusable | stated & (raw.contains(".") | F.col(f"_cased_{name}")) if kind == "codes" else unusable)
        if name not in typed:
            word = F.when(F.trim(raw) == "", f"{name}:blank").otherwise(f"{name}:null_text")
            empty.append((raw.isNotNull() & ~stated, word))
        outcome = F.when(value.isNotNull(), F.get(F.col("_odd"), F.lit(at)))
        outcomes.append(outcome.when(F.col(f"_read_{name}"), F.lit(_SENTINEL)) if kind == "day" else outcome)
    raws = F.array(*[F.col(f"_raw_{name}").cast("string") for name in kinds])
    read = [f"_read_{name}" for name, kind in kinds.items() if kind == "day"]
    any_odd = reduce(lambda a, b: a | b, odd)
    told = frame.select(
        *kept,
        *read,
        # Named twice, so that Spark writes these conditions into a method of their own.
        any_odd.alias("_any_odd"),
        F.when(any_odd, raws).alias("_odd"),
        list_of(empty).alias("_empty"),
    )
    names, sorts = (F.array(*[F.lit(text) for text in listed]) for listed in (kinds.keys(), kinds.values()))
    fields = F.arrays_zip(
        F.col("_odd").alias("raw"), F.array(*outcomes).alias("outcome"), names.alias("name"), sorts.alias("kind")
    )
    each = F.transform(
        fields,
        lambda field: F.concat(field["name"], F.lit(":"), _described(field["raw"], field["outcome"], field["kind"])),
    )
    changes = F.when(F.col("_any_odd"), F.array_compact(each)).otherwise(F.col("_empty"))
    return told.select("*", changes.alias("cleaned")).drop("_any_odd", "_odd", "_empty", *read)


def list_of(texts: Iterable[tuple[Column, Column]]) -> Column:
    """``array<string>`` of the texts whose condition holds, which in most rows is none. (``array_compact`` does the same by a
    lambda, which Spark interprets row by row.)"""
    texts = list(texts)
    nothing = F.array().cast("array<string>")
    if not texts:
        return nothing
    some = reduce(lambda a, b: a | b, [held for held, _ in texts])
    listed = F.array_remove(F.array(*[F.when(held, text).otherwise("") for held, text in texts]), "")
    return F.when(some, listed).otherwise(nothing)


def _described(raw: Column, outcome: Column, kind: Column) -> Column:
    """How one value was changed; NULL where it was not. ``outcome`` is the value as it is now; where it was read, the raw
    text itself if that could be done."""
    trimmed = F.trim(raw)
    listed = kind == "codes"
    return (
        F.when(trimmed == "", F.lit("blank"))
        .when(F.upper(trimmed) == "NULL", F.lit("null_text"))
        .when((kind == "day") & (outcome == _SENTINEL), F.lit("sentinel"))
        .when(raw.isNotNull() & outcome.isNull() & (kind == "day"), F.lit("not_a_date"))
        .when(raw.isNotNull() & outcome.isNull() & (kind == "number"), F.lit("not_a_number"))
        .when(raw.isNotNull() & outcome.isNull(), F.lit("blank"))
        .when(~listed & (outcome == raw), F.lit(None).cast("string"))
        .when((kind == "two_character_code") & (F.length(trimmed) == 1), F.lit("one_digit"))
        .when(raw.contains("."), F.lit("dots"))
        .when(raw != F.upper(raw), F.lit("case"))
        .when(~listed & raw.isNotNull(), F.lit("padding"))
    )


def age_seen(first: Column, fallback: Column) -> Column:
    """The age that the published SQL sees: the second column only where the first is NULL (decision 2)."""
    return F.coalesce(first, fallback)


def age_in_years(age: Column) -> Column:
    """Completed years: baby codes (7000 and above) are 0, above 120 and below 0 are unknown."""
    return F.when(age >= BABY_AGE_FROM, 0).when(age.between(0, OLDEST_AGE), age)
