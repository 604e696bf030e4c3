"""Cleans source values in stages, by decisions 1 to 3, and notes every value that this changed.

Blank text, blanks only and the text ``NULL`` become NULL. Codes are put in upper case and trimmed, and lose their
dots. ``2`` in a two-character code list becomes ``02``. Nothing else is corrected: a value that is not in its code
list stays unchanged.

All fields of a row go through the stages together, one ``select`` per stage. Spark repeats an expression wherever
it is named, so a value that several conditions use has to be a column first. Written as one nested expression, the
same cleaning took minutes to plan.

Spark compiles all of it into one Java method. Java may never compile a method of more than about 11,400 bytes,
unless its compilers happen to be idle when the method first runs. Interpreted, a row takes two to three times as
long. ``benchmarks/small_run.py`` measures the method. Code written here for each field is repeated for up to
22 fields.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from itertools import product

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.financial_years import day_of_iso, iso_day

# Dates that stand for "no date" in HES and in systems that feed SUS: those of HES; the first days that databases,
# spreadsheets and programming languages can represent; and the last. (With this many dates, Spark looks them up in a
# set, which is the shortest code.)
DATE_SENTINELS = (
    "0001-01-01", "1582-10-15", "1600-01-01", "1753-01-01", "1800-01-01", "1801-01-01", "1899-12-30", "1899-12-31",
    "1900-01-01", "1901-01-01", "9999-12-31",
)  # fmt: skip

# Trimmed texts that count as missing: empty text, and the word NULL in any mix of upper and lower case.
NOTHING = ("", *map("".join, product("Nn", "Uu", "Ll", "Ll")))

BABY_AGE_FROM = 7000
OLDEST_AGE = 120

Stage = Callable[[Column], Column]


def text(raw: Column) -> Column:
    """The text without blanks at its ends; NULL for blank and for the word NULL."""
    return _filled(F.trim(raw))


def _filled(trimmed: Column) -> Column:
    """A trimmed text, NULL where it counts as missing. One look-up in a set is the shortest code for this."""
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
    """A concatenation (upper case) with a comma before and after every code and episode mark. Runs of commas may
    remain.

    Chains of plain replacements cost the least, measured against ``translate`` and regular expressions.
    """
    packed = _strip(F.btrim(value, F.lit("|, \t")), " ", ".", "\t")
    packed = F.replace(F.replace(packed, F.lit("||"), F.lit("|")), F.lit("|"), F.lit(",|,"))
    return F.replace(F.concat(F.lit(","), packed, F.lit(",")), F.lit(",,"), F.lit(","))


# _A_CODE is a character that a code has and a mark has not. _UNTIDY is what is removed: at the start, all marks, each
# with the comma before it; after that, the mark of an episode before another such mark or the end, and marks of an
# empty code, or nothing, before a comma. Each part takes all it can and gives nothing back (*+): with a pattern that
# backtracks, a long run of marks made Java run out of stack.
_A_CODE = "[^-,&|]"
_UNTIDY = r"^(?:,(?:\||[-&]*+)(?=,))++|,(?:\|(?=(?:,[-&]*+(?=,))*+,(?:\||\z))|[-&]*+(?=,))"


def _tidy(packed: Column) -> Column:
    """Reduce runs of commas, marks of an empty code and marks of empty episodes to one, with none at the ends. NULL
    when no code is left. They are rare: only rows that have one pay for the regular expressions."""
    odd = packed.contains(",,") | packed.contains(",-") | packed.contains(",&") | packed.contains(",|,|,")
    odd = odd | packed.startswith(",|,") | packed.endswith(",|,")
    tidied = F.when(packed.rlike(_A_CODE), F.regexp_replace(packed, _UNTIDY, ""))
    return F.when(F.octet_length(packed) > 2, F.when(odd, tidied).otherwise(packed))


def _in_calendar(value: Column) -> Column:
    """A DATE with a four-digit year, as a text could have it; else NULL."""
    return F.when(value.between(F.lit("0001-01-01").cast("date"), F.lit("9999-12-31").cast("date")), value)


def _unchanged(value: Column) -> Column:
    return value


# The stages for each kind of value, once it is trimmed and not empty.
KINDS: dict[str, tuple[Stage, ...]] = {
    # A key or organisation code, unchanged (20-digit keys stay text).
    "identifier": (),
    # A code of a one-character list.
    "short_code": (F.upper,),
    # A code of a two-character list: ``2`` is ``02``.
    "two_character_code": (F.upper, _two_characters),
    # One clinical code: upper case, without dots and blanks.
    "code": (_one_code,),
    # Clinical codes in SUS+'s concatenation: ``||E119 ,J849 ||I801`` or ``||E851,T124||Y532``. The leading ``||`` may
    # be missing; codes may be padded, dotted or in lower case. They become ``,E119,J849,|,I801,``, and NULL when no
    # code is left.
    "codes": (F.upper, _packed, _tidy),
    # INT. A text that is not a number becomes NULL and is noted.
    "number": (_number,),
    # DATE. A text that is not a date, or is a placeholder, becomes NULL and is noted.
    "day": (iso_day, day_of_iso, _no_sentinel),
}
# The stages where the source column already has the type.
TYPED_KINDS: dict[str, tuple[Stage, ...]] = {
    "number": (),
    "day": (_unchanged, _in_calendar, _no_sentinel),
}
# Kinds that are parsed. How the source writes them does not count as a change; only a value that cannot be read does.
READ = ("codes", "number", "day")
_DAY_READ = 2  # the number of stages after which a day has been parsed, before placeholders are removed
_SENTINEL = "sentinel"


def clean(rows: DataFrame, kinds: Mapping[str, str], unread: Iterable[str] = ()) -> DataFrame:
    """``rows`` with every column of ``kinds`` cleaned as its kind says. Other columns pass through.

    ``cleaned`` is added: ``array<string>`` of ``field:change`` for every value that was changed. The changes are
    blank, null_text, dots, case, padding, one_digit, not_a_number, not_a_date and sentinel.

    A day or a number that already has its type needs no parsing; everything else has to be text. For each day in
    ``unread`` a BOOLEAN ``unread_…`` is added: the field is filled, and is not a date.

    | age     | discharge_date | → age | discharge_date | cleaned                     |
    |---------|----------------|-------|----------------|-----------------------------|
    | "45"    | "2021-05-03"   | 45    | 2021-05-03     | []                          |
    | "forty" | ""             | NULL  | NULL           | [age:not_a_number, discharge_date:blank] |
    | NULL    | "1900-01-01"   | NULL  | NULL           | [discharge_date:sentinel]   |
    """
    types = dict(rows.dtypes)
    typed = {name for name, kind in kinds.items() if kind in TYPED_KINDS and types[name] != "string"}
    stages = {name: (TYPED_KINDS if name in typed else KINDS)[kind] for name, kind in kinds.items()}
    others = [name for name in rows.columns if name not in kinds]
    filled = {name: F.col(name) if name in typed else _filled(F.col(name)) for name in kinds}
    # Whether the field is filled at all; for the other kinds the value itself shows it.
    read = [name for name, kind in kinds.items() if kind in READ]
    # Each stage names only the columns that it changes, because each name costs a call from Python to Java.
    frame = rows.withColumns(
        {f"_raw_{name}": F.col(name) for name in kinds}
        | {name: F.trim(F.col(name)) for name in kinds if name not in typed}
    )
    frame = frame.withColumns(
        {f"_stated_{name}": filled[name].isNotNull() for name in read}
        | {name: value for name, value in filled.items() if name not in typed}
    )
    for number in range(max(len(kind_stages) for kind_stages in stages.values())):
        made: dict[str, Column] = {}
        for name, kind in kinds.items():
            if kind == "codes" and number == 0:
                made[f"_cased_{name}"] = F.upper(name) != F.col(name)
            elif kind == "day" and number == _DAY_READ:
                made[f"_read_{name}"] = F.col(name).isNotNull()
            if number < len(stages[name]) and stages[name][number] is not _unchanged:
                made[name] = stages[name][number](F.col(name))
        frame = frame.withColumns(made) if made else frame
    flags = {f"unread_{name}": F.col(f"_stated_{name}") & ~F.col(f"_read_{name}") for name in unread}
    return _with_changes(frame, [*others, *kinds, *flags], flags, kinds, typed)


def tidied(rows: DataFrame, names: Iterable[str], days: Iterable[str] = ()) -> DataFrame:
    """``rows`` with the text columns ``names`` trimmed, and the columns ``days`` parsed, as :func:`clean` does it but
    without noting what changed: the method that Java compiles for :func:`clean` has little room left. A text column that
    the source does not have is NULL."""
    nothing = F.lit(None).cast("string")
    rows = rows.withColumns({n: text(F.col(n)) if n in rows.columns else nothing for n in names})
    types = dict(rows.dtypes)
    for day in days:
        stages = (text, *KINDS["day"]) if types[day] == "string" else TYPED_KINDS["day"]
        for stage in stages:
            rows = rows.withColumn(day, stage(F.col(day)))
    return rows


def _with_changes(
    frame: DataFrame,
    kept: Sequence[str],
    flags: Mapping[str, Column],
    kinds: Mapping[str, str],
    typed: Collection[str],
) -> DataFrame:
    """The columns ``kept`` of ``frame``, to which ``flags`` are added, and ``cleaned``: ``field:change`` for every value
    that differs from the source.

    That a code list, a number or a day is blank or the word NULL is common, and is noted directly. All other
    changes are rare. One condition over all fields asks whether there is any; only a row that has one goes through
    its fields one by one, in a function that Spark interprets. Written out for each field, this was most of the
    code that the JVM had to compile and most of the time that a row took. The raw values are put into an array
    beforehand, for such rows only, because a ``select`` with an interpreted function copies all its columns.
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
    any_odd = reduce(lambda a, b: a | b, odd)
    # Named twice, so that Spark puts these conditions into a method of their own.
    noted = {"_any_odd": any_odd, "_odd": F.when(any_odd, raws), "_empty": list_of(empty)}
    compared = frame.withColumns({**flags, **noted})
    names, sorts = (F.array(*[F.lit(text) for text in listed]) for listed in (kinds.keys(), kinds.values()))
    fields = F.arrays_zip(
        F.col("_odd").alias("raw"), F.array(*outcomes).alias("outcome"), names.alias("name"), sorts.alias("kind")
    )
    each = F.transform(
        fields,
        lambda field: F.concat(field["name"], F.lit(":"), _described(field["raw"], field["outcome"], field["kind"])),
    )
    changes = F.when(F.col("_any_odd"), F.array_compact(each)).otherwise(F.col("_empty"))
    return compared.withColumn("cleaned", changes).select(*kept, "cleaned")


def list_of(texts: Iterable[tuple[Column, Column]]) -> Column:
    """``array<string>`` of the texts whose condition holds. In most rows none does. (``array_compact`` does the same
    with a lambda, which Spark interprets row by row.)"""
    texts = list(texts)
    nothing = F.array().cast("array<string>")
    if not texts:
        return nothing
    some = reduce(lambda a, b: a | b, [condition for condition, _ in texts])
    listed = F.array_remove(F.array(*[F.when(condition, text).otherwise("") for condition, text in texts]), "")
    return F.when(some, listed).otherwise(nothing)


def _described(raw: Column, outcome: Column, kind: Column) -> Column:
    """How one value was changed; NULL where it was not. ``outcome`` is the cleaned value. For a parsed kind it is the
    raw text where parsing succeeded."""
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
    """Age in completed years. Codes for babies (7000 and above) are 0; ages above 120 or below 0 are unknown (NULL)."""
    return F.when(age >= BABY_AGE_FROM, 0).when(age.between(0, OLDEST_AGE), age)
