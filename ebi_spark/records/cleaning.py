"""Cleans source values in stages, by decisions 1 to 3, and notes every value that this changed.

Blank text, blanks only and the text ``NULL`` become NULL. Codes are put in upper case and trimmed, and lose their
dots. ``2`` in a two-character code list becomes ``02``. Nothing else is corrected: a value that is not in its code
list stays unchanged.

All fields of a row go through the stages together, one selection per stage. Spark repeats an expression wherever
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
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.financial_years import day_of_iso, iso_day
from ebi_spark.quoting import sql_list, sql_name, sql_text

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

# From the name of a column, quoted for SQL, to its next value, in SQL. Python calls Java once for such a text, but for a Column once for
# each part of its expression, and there are thousands of parts.
Stage = Callable[[str], str]

_NOTHING = sql_list(NOTHING)


def text(raw: Column) -> Column:
    """The text without blanks at its ends; NULL for blank and for the word NULL."""
    trimmed = F.trim(raw)
    return F.when(~trimmed.isin(*NOTHING), trimmed)


def text_of(name: str) -> Column:
    """As :func:`text`, for the column of this name."""
    return F.expr(_text_of(name))


def _text_of(name: str) -> str:
    return _filled(f"trim({sql_name(name)})")


def changed(rows: DataFrame, columns: Mapping[str, Column], without: Collection[str] = ()) -> DataFrame:
    """``rows`` with new or other ``columns``, and ``without`` some that they have. Names are compared exactly. One step: at each, Spark
    analyses the plan."""
    left_out = [sql_name(name) for name in rows.columns if name in columns or name in without]
    kept = F.expr(f"* EXCEPT ({', '.join(left_out)})") if left_out else F.col("*")
    return rows.select(kept, *[column.alias(name) for name, column in columns.items()])


def _filled(trimmed: str) -> str:
    """A trimmed text, NULL where it counts as missing. One look-up in a set is the shortest code for this."""
    return f"CASE WHEN NOT {trimmed} IN {_NOTHING} THEN {trimmed} END"


def _replaced(value: str, unwanted: str, by: str = "") -> str:
    return f"replace({value}, {sql_text(unwanted)}, {sql_text(by)})"


def _strip(value: str, *unwanted: str) -> str:
    return reduce(_replaced, unwanted, value)


def _upper(value: str) -> str:
    return f"upper({value})"


def _two_characters(value: str) -> str:
    return f"CASE WHEN octet_length({value}) = 1 THEN concat('0', {value}) ELSE {value} END"


def _one_code(value: str) -> str:
    return f"nullif(upper({_strip(value, '.', ' ')}), '')"


def _number(value: str) -> str:
    # A cast that fails throws an exception in Java, which is slow. So 45.0 is not tried as a whole number.
    whole = f"CASE WHEN NOT contains({value}, '.') THEN try_cast({value} AS INT) END"
    return f"coalesce({whole}, try_cast(try_cast({value} AS DOUBLE) AS INT))"


def _no_sentinel(value: str) -> str:
    return f"CASE WHEN NOT {value} IN ({', '.join(f'DATE{sql_text(day)}' for day in DATE_SENTINELS)}) THEN {value} END"


def _packed(value: str) -> str:
    """A concatenation (upper case) with a comma before and after every code and episode mark. Runs of commas may
    remain.

    Chains of plain replacements cost the least, measured against ``translate`` and regular expressions.
    """
    packed = _strip(f"btrim({value}, {sql_text('|, ' + chr(9))})", " ", ".", "\t")
    packed = _replaced(_replaced(packed, "||", "|"), "|", ",|,")
    return _replaced(f"concat(',', {packed}, ',')", ",,", ",")


# _A_CODE is a character that a code has and a mark has not. _UNTIDY is what is removed: at the start, all marks, each
# with the comma before it; after that, the mark of an episode before another such mark or the end, and marks of an
# empty code, or nothing, before a comma. Each part takes all it can and gives nothing back (*+): with a pattern that
# backtracks, a long run of marks made Java run out of stack.
_A_CODE = "[^-,&|]"
_UNTIDY = r"^(?:,(?:\||[-&]*+)(?=,))++|,(?:\|(?=(?:,[-&]*+(?=,))*+,(?:\||\z))|[-&]*+(?=,))"


def _tidy(packed: str) -> str:
    """Reduce runs of commas, marks of an empty code and marks of empty episodes to one, with none at the ends. NULL
    when no code is left. They are rare: only rows that have one pay for the regular expressions."""
    odd = [f"contains({packed}, {sql_text(part)})" for part in (",,", ",-", ",&", ",|,|,")]
    odd += [f"startswith({packed}, ',|,')", f"endswith({packed}, ',|,')"]
    tidied = f"CASE WHEN {packed} RLIKE '{_A_CODE}' THEN regexp_replace({packed}, {sql_text(_UNTIDY)}, '') END"
    return f"CASE WHEN octet_length({packed}) > 2 THEN CASE WHEN {' OR '.join(odd)} THEN {tidied} ELSE {packed} END END"


def _in_calendar(value: str) -> str:
    """A DATE with a four-digit year, as a text could have it; else NULL."""
    return f"CASE WHEN {value} BETWEEN DATE'0001-01-01' AND DATE'9999-12-31' THEN {value} END"


def _unchanged(value: str) -> str:
    return value


# The stages for each kind of value, once it is trimmed and not empty.
KINDS: dict[str, tuple[Stage, ...]] = {
    # A key or organisation code, unchanged (20-digit keys stay text).
    "identifier": (),
    # A code of a one-character list.
    "short_code": (_upper,),
    # A code of a two-character list: ``2`` is ``02``.
    "two_character_code": (_upper, _two_characters),
    # One clinical code: upper case, without dots and blanks.
    "code": (_one_code,),
    # Clinical codes in SUS+'s concatenation: ``||E119 ,J849 ||I801`` or ``||E851,T124||Y532``. The leading ``||`` may
    # be missing; codes may be padded, dotted or in lower case. They become ``,E119,J849,|,I801,``, and NULL when no
    # code is left.
    "codes": (_upper, _packed, _tidy),
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
    # Whether the field is filled at all; for the other kinds the value itself shows it.
    read = [name for name, kind in kinds.items() if kind in READ]
    untyped = [name for name in kinds if name not in typed]
    filled = {name: sql_name(name) if name in typed else _filled(sql_name(name)) for name in kinds}
    steps = [
        step({name: f"trim({sql_name(name)})" for name in untyped}, {f"_raw_{name}": sql_name(name) for name in kinds}),
        step(
            {name: filled[name] for name in untyped},
            {f"_stated_{name}": f"({filled[name]}) IS NOT NULL" for name in read},
        ),
    ]
    for number in range(max(len(kind_stages) for kind_stages in stages.values())):
        made: dict[str, str] = {}
        noted: dict[str, str] = {}
        for name, kind in kinds.items():
            value = sql_name(name)
            if kind == "codes" and number == 0:
                noted[f"_cased_{name}"] = f"upper({value}) != {value}"
            elif kind == "day" and number == _DAY_READ:
                noted[f"_read_{name}"] = f"{value} IS NOT NULL"
            if number < len(stages[name]) and stages[name][number] is not _unchanged:
                made[name] = stages[name][number](value)
        if made or noted:
            steps.append(step(made, noted))
    flags = {
        f"unread_{name}": F.expr(f"{sql_name(f'_stated_{name}')} AND NOT {sql_name(f'_read_{name}')}")
        for name in unread
    }
    return _with_changes(in_steps(rows, steps), [*others, *kinds, *flags], flags, kinds, typed)


def step(replaced: Mapping[str, str], added: Mapping[str, str], without: Iterable[str] = ()) -> str:
    """A step of :func:`in_steps`: some columns are ``replaced``, others ``added``, and others left out."""
    left_out = ", ".join(map(sql_name, (*replaced, *without)))
    new, more = ([f"{value} AS {sql_name(name)}" for name, value in made.items()] for made in (replaced, added))
    # In this order: with ``new`` after ``kept``, the method that Java compiles for a spell has 2% more bytes.
    return ", ".join([*new, f"* EXCEPT ({left_out})" if left_out else "*", *more])


def in_steps(rows: DataFrame, steps: Iterable[str]) -> DataFrame:
    """``rows`` after several selections, one after the other, each in SQL. They are one query, because Spark looks at all of a plan
    again after each operation on a frame."""
    query = "{rows}"
    for selected in steps:
        query = f"(SELECT {selected.replace('{', '{{').replace('}', '}}')} FROM {query})"  # noqa: S608
    return rows.sparkSession.sql(query[1:-1], rows=rows)


def tidied(rows: DataFrame, names: Iterable[str], days: Iterable[str] = ()) -> DataFrame:
    """``rows`` with the text columns ``names`` trimmed, and the columns ``days`` parsed, as :func:`clean` does it but
    without noting what changed: the method that Java compiles for :func:`clean` has little room left. A text column that
    the source does not have is NULL."""
    types = dict(rows.dtypes)
    untyped = [day for day in days if types[day] == "string"]
    texts = (*names, *untyped)
    trimmed = {name: _text_of(name) for name in texts if name in types}
    steps = [step(trimmed, {name: "CAST(NULL AS STRING)" for name in texts if name not in types})]
    by_day = {day: (KINDS if day in untyped else TYPED_KINDS)["day"] for day in days}
    for stages in zip(*by_day.values(), strict=True):
        steps.append(step({day: stage(sql_name(day)) for day, stage in zip(by_day, stages, strict=True)}, {}))
    return in_steps(rows, steps)


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
    odd: list[str] = []
    empty: list[tuple[Column, Column]] = []
    outcomes: list[str] = []
    for at, (name, kind) in enumerate(kinds.items()):
        raw, value = sql_name(f"_raw_{name}"), sql_name(name)
        stated, cased, read = (sql_name(f"{prefix}_{name}") for prefix in ("_stated", "_cased", "_read"))
        if kind not in READ:
            odd.append(f"NOT {raw} <=> {value}")
            outcomes.append(value)
            continue
        unusable = f"{stated} AND {value} IS NULL"
        codes = f" OR {stated} AND (contains({raw}, '.') OR {cased})" if kind == "codes" else ""
        odd.append(f"{unusable}{codes}")
        if name not in typed:
            blank, null_text = (sql_text(f"{name}:{change}") for change in ("blank", "null_text"))
            word = f"CASE WHEN trim({raw}) = '' THEN {blank} ELSE {null_text} END"
            empty.append((F.expr(f"{raw} IS NOT NULL AND NOT {stated}"), F.expr(word)))
        sentinel = f" WHEN {read} THEN '{_SENTINEL}'" if kind == "day" else ""
        outcomes.append(f"CASE WHEN {value} IS NOT NULL THEN get(_odd, {at}){sentinel} END")
    raws = ", ".join(f"CAST({sql_name(f'_raw_{name}')} AS STRING)" for name in kinds)
    any_odd = " OR ".join(odd)
    # Named twice, so that Spark puts these conditions into a method of their own.
    noted = {
        "_any_odd": F.expr(any_odd),
        "_odd": F.expr(f"CASE WHEN {any_odd} THEN array({raws}) END"),
        "_empty": list_of(empty),
    }
    compared = frame.withColumns({**flags, **noted})
    listed = (f"array({', '.join(map(sql_text, texts))})" for texts in (kinds.keys(), kinds.values()))
    # `arrays_zip` names the parts of its structs by their number.
    zipped = f"arrays_zip(_odd, array({', '.join(outcomes)}), {', '.join(listed)})"
    described = _described("field._odd", "field.`1`", "field.`3`")
    changes = (
        f"CASE WHEN _any_odd THEN array_compact(transform({zipped}, field -> concat(field.`2`, ':', {described}))) "
        "ELSE _empty END"
    )
    return compared.selectExpr(*map(sql_name, kept), f"{changes} AS cleaned")


def list_of(texts: Iterable[tuple[Column, Column]]) -> Column:
    """``array<string>`` of the texts whose condition holds. In most rows none does. (``array_compact`` does the same
    with a lambda, which Spark interprets row by row.)"""
    texts = list(texts)
    nothing = F.array().cast("array<string>")
    if not texts:
        return nothing
    some = reduce(or_, [condition for condition, _ in texts])
    listed = F.array_remove(F.array(*[F.when(condition, text).otherwise("") for condition, text in texts]), "")
    return F.when(some, listed).otherwise(nothing)


def _described(raw: str, outcome: str, kind: str) -> str:
    """How one value was changed; NULL where it was not. ``outcome`` is the cleaned value. For a parsed kind it is the
    raw text where parsing succeeded."""
    return f"""CASE
        WHEN trim({raw}) = '' THEN 'blank'
        WHEN upper(trim({raw})) = 'NULL' THEN 'null_text'
        WHEN {kind} = 'day' AND {outcome} = '{_SENTINEL}' THEN 'sentinel'
        WHEN {raw} IS NOT NULL AND {outcome} IS NULL AND {kind} = 'day' THEN 'not_a_date'
        WHEN {raw} IS NOT NULL AND {outcome} IS NULL AND {kind} = 'number' THEN 'not_a_number'
        WHEN {raw} IS NOT NULL AND {outcome} IS NULL THEN 'blank'
        WHEN NOT {kind} = 'codes' AND {outcome} = {raw} THEN NULL
        WHEN {kind} = 'two_character_code' AND length(trim({raw})) = 1 THEN 'one_digit'
        WHEN contains({raw}, '.') THEN 'dots'
        WHEN {raw} != upper({raw}) THEN 'case'
        WHEN NOT {kind} = 'codes' AND {raw} IS NOT NULL THEN 'padding'
        END"""


def age_seen(first: str, fallback: str) -> str:
    """The age that the published SQL sees, in SQL: the second column only where the first is NULL (decision 2)."""
    return f"coalesce({first}, {fallback})"


def age_in_years(age: str) -> str:
    """Age in completed years, in SQL. Codes for babies (7000 and above) are 0; ages above 120 or below 0 are unknown (NULL)."""
    return f"CASE WHEN {age} >= {BABY_AGE_FROM} THEN 0 WHEN {age} BETWEEN 0 AND {OLDEST_AGE} THEN {age} END"
