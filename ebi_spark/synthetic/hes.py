"""The same made-up spells and attendances in the layout of Hospital Episode Statistics, all as text."""

import re

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.synthetic import shares, truth
from ebi_spark.synthetic.draws import Draws, salt
from ebi_spark.synthetic.lookups import Lookups
from ebi_spark.synthetic.people import DAYS_A_YEAR
from ebi_spark.synthetic.places import INDEPENDENT
from ebi_spark.synthetic.sus_plus import ident, spell_number
from ebi_spark.synthetic.truth import Plan, to_date

NO_DATE = "1801-01-01"
NO_OPERATION = "-"
APC_DIAGNOSES, OP_DIAGNOSES, PROCEDURES = 20, 12, 24


def apc(spark: SparkSession, plan: Plan, tables: Lookups, seed: int) -> DataFrame:
    """A row for each episode, in the file of the year in which the episode ended. Some rows come twice.

    In a spell that includes 1 April, an early episode can be in the file of the year before. A spell of the first year can
    therefore lack an episode, because the file before was not generated.

    | spell: first day, stay, episodes | → EPIORDER | EPISTART   | EPIEND     | DISDATE    |
    |----------------------------------|------------|------------|------------|------------|
    | 2021-05-01, 6 days, 2            | 1          | 2021-05-01 | 2021-05-04 | 1801-01-01 |
    |                                  | 2          | 2021-05-04 | 2021-05-07 | 2021-05-07 |
    | 2021-06-01, 0 days, 1            | 1          | 2021-06-01 | 2021-06-01 | 2021-06-01 |
    """
    frame = truth.spells(plan.rows(spark), plan, tables, seed)
    frame = frame.withColumn("episode", F.explode(F.sequence(F.lit(1), F.col("episodes"))))
    start, end = truth.episode_days(F.col("episode"))
    year_begins = F.unix_date(F.make_date(F.col("start"), F.lit(4), F.lit(1)))
    earlier = F.when(end < year_begins, 1).otherwise(0)
    frame = frame.withColumns(
        {
            "start_day": start,
            "end_day": end,
            "file": F.col("year") - earlier,
            "file_start": F.col("start") - earlier,
        }
    )
    frame = _with_duplicates(frame, Draws(seed, F.col("row") * 2), F.col("episode"))
    frame = truth.with_codes(frame, tables, seed, F.col("episode"))
    draws = Draws(seed, F.col("row") * 2)
    last = F.col("episode") == F.col("episodes")
    unfinished = last & F.col("undischarged")
    out = F.col("undischarged")
    age_days = F.col("start_day") - F.col("born")
    age = truth.recorded_age(draws, age_days)
    return frame.select(
        "file",
        _key(draws, F.col("row") * 4 + F.col("episode"), "no_key", F.col("episode")).alias("EPIKEY"),
        ident(F.col("row")).cast("string").alias("SUSRECID"),
        _person(seed).alias("PSEUDO_HESID"),
        _fyear().alias("FYEAR"),
        F.col("sex").alias("SEX"),
        F.coalesce(truth.baby_code(age_days), age).cast("string").alias("STARTAGE"),
        F.when(age_days < DAYS_A_YEAR, F.round(age_days / DAYS_A_YEAR, 3))
        .otherwise(age.cast("double"))
        .cast("string")
        .alias("STARTAGE_CALC"),
        _date(F.col("admission_day")).alias("ADMIDATE"),
        F.col("method").alias("ADMIMETH"),
        F.col("admission_source").alias("ADMISORC"),
        F.coalesce(F.col("category"), F.lit("")).alias("ADMINCAT"),
        F.col("class").alias("CLASSPAT"),
        # Only the last episode has the discharge.
        F.when(last & ~out, _date(F.col("discharge_day"))).otherwise(F.lit(NO_DATE)).alias("DISDATE"),
        F.when(F.col("conflict"), F.lit("9"))
        .when(last & ~out, F.col("discharge_method"))
        .otherwise(F.lit("8"))
        .alias("DISMETH"),
        F.when(last & ~out, F.col("destination")).otherwise(F.lit("98")).alias("DISDEST"),
        F.col("episode").cast("string").alias("EPIORDER"),
        _date(F.col("start_day")).alias("EPISTART"),
        F.when(unfinished, F.lit(NO_DATE)).otherwise(_date(F.col("end_day"))).alias("EPIEND"),
        F.when(unfinished, F.lit("1")).otherwise(F.lit("3")).alias("EPISTAT"),
        F.when(F.col("birth"), F.lit("3"))
        .when(F.col("class") == "5", F.lit("2"))
        .otherwise(F.lit("1"))
        .alias("EPITYPE"),
        F.when(F.col("episode") == 1, F.lit("2")).otherwise(F.lit("0")).alias("SPELBGIN"),
        F.when(last & ~out, F.lit("Y")).otherwise(F.lit("N")).alias("SPELEND"),
        F.when(last & ~out, F.col("stay").cast("string")).otherwise(F.lit("")).alias("SPELDUR"),
        spell_number(F.col("row")).alias("PROVSPNOPS"),
        F.col("provider").alias("PROCODE3"),
        _site().alias("PROCODET"),
        F.col("commissioner").alias("CCG_RESPONSIBILITY"),
        F.col("practice").alias("GPPRAC"),
        F.col("small_area").alias("LSOA11"),
        F.col("specialty").alias("TRETSPEF"),
        F.when(unfinished, F.lit("0")).otherwise(F.lit("1")).alias("FCE"),
        F.when(F.col("episode") == 1, F.lit("1")).otherwise(F.lit("0")).alias("FAE"),
        F.when(last & ~out, F.lit("1")).otherwise(F.lit("0")).alias("FDE"),
        *_codes("diagnoses", "DIAG", APC_DIAGNOSES),
        *_codes("procedures", "OPERTN", PROCEDURES),
    )


def op(spark: SparkSession, plan: Plan, tables: Lookups, seed: int) -> DataFrame:
    """A row for each appointment. Some rows come twice: identical, or with ``ATTENDED`` 7 and ``FIRSTATT`` 4 the second time."""
    draws = Draws(seed, F.col("row") * 2 + 1)
    frame = truth.attendances(_with_duplicates(plan.rows(spark), draws), plan, tables, seed)
    frame = frame.withColumns({"file": F.col("year"), "file_start": F.col("start")})
    age = truth.recorded_age(draws, F.col("age_days"))
    return frame.select(
        "file",
        _key(draws, F.col("row") * 4, "no_key").alias("ATTENDKEY"),
        ident(F.col("row")).cast("string").alias("SUSRECID"),
        _person(seed).alias("PSEUDO_HESID"),
        _fyear().alias("FYEAR"),
        F.col("sex").alias("SEX"),
        F.coalesce(truth.baby_code(F.col("age_days")), age).cast("string").alias("APPTAGE"),
        F.when(F.col("age_days") < DAYS_A_YEAR, F.round(F.col("age_days") / DAYS_A_YEAR, 3))
        .otherwise(age.cast("double"))
        .cast("string")
        .alias("APPTAGE_CALC"),
        F.when(F.col("undated"), F.lit(NO_DATE)).otherwise(_date(F.col("day"))).alias("APPTDATE"),
        F.when(F.col("conflict"), F.lit("7")).otherwise(F.col("status")).alias("ATTENDED"),
        F.when(F.col("conflict"), F.lit("4")).otherwise(F.col("first")).alias("FIRSTATT"),
        F.coalesce(F.col("category"), F.lit("")).alias("ADMINCAT"),
        F.col("referral").alias("REFSOURC"),
        F.col("specialty").alias("TRETSPEF"),
        F.col("provider").alias("PROCODE3"),
        _site().alias("PROCODET"),
        F.col("commissioner").alias("CCG_RESPONSIBILITY"),
        F.col("practice").alias("GPPRAC"),
        F.col("small_area").alias("LSOA11"),
        *_codes("diagnoses", "DIAG", OP_DIAGNOSES),
        *_codes("procedures", "OPERTN", PROCEDURES),
    )


def _with_duplicates(frame: DataFrame, draws: Draws, *more: Column) -> DataFrame:
    """The rows, a few of them twice: identical, or with other values where ``conflict`` is true."""
    identical = F.array(F.lit(False), F.lit(False))
    conflicts = (
        F.when(draws.chance("hes:double", shares.DUPLICATES, *more), identical)
        .when(draws.chance("hes:conflict", shares.CONFLICTS, *more), F.array(F.lit(False), F.lit(True)))
        .otherwise(F.array(F.lit(False)))
    )
    return frame.select("*", F.explode(conflicts).alias("conflict"))


def _key(draws: Draws, number: Column, name: str, *more: Column) -> Column:
    """Twelve digits; in later years twenty, which is more than fits in a 64-bit integer."""
    digits = F.lpad(number.cast("string"), 11, "0")
    long = F.col("file_start") >= shares.FIRST_LONG_KEY_YEAR
    key = F.concat(F.when(long, F.lit("150000003")).otherwise(F.lit("5")), digits)
    return F.when(draws.chance(f"hes:{name}", shares.NO_KEY, *more), F.lit("")).otherwise(key)


def _person(seed: int) -> Column:
    """A person's pseudonym: 32 hexadecimal digits."""
    number = F.col("person_number")
    halves = [F.lpad(F.hex(F.xxhash64(number, F.lit(salt(seed, f"hes:{half}")))), 16, "0") for half in "ab"]
    return F.concat(*halves)


def _site() -> Column:
    independent = F.col("provider").startswith(INDEPENDENT)
    return F.when(independent, F.concat(F.col("provider"), F.lit("01"))).otherwise(F.col("provider"))


def _codes(listed: str, stem: str, most: int) -> list[Column]:
    """A column for each position, and the concatenation. An empty position has the mark of its file (``EMPTY_MARKS``)."""
    marks = F.array(*map(F.lit, shares.EMPTY_MARKS))
    empty = F.element_at(marks, F.pmod(F.col("file"), F.lit(len(shares.EMPTY_MARKS))) + 1)
    columns = []
    for position in range(1, most + 1):
        filler = F.lit(NO_OPERATION) if stem == "OPERTN" and position == 1 else empty
        code = F.substring(listed, 5 * position - 4, 4)
        if stem == "DIAG":  # older files have six characters in these columns, newer ones four
            marked = (F.col("file_start") <= shares.LAST_OLD_NAMES_YEAR) & (F.col("marked") == position)
            code = F.when(marked, F.concat(code, F.coalesce("mark", F.lit("")))).otherwise(code)
        present = F.length(listed) >= 5 * position - 1
        columns.append(F.when(present, code).otherwise(filler).alias(f"{stem}_4_{position:02d}"))
    nothing = NO_OPERATION.ljust(4) if stem == "OPERTN" else ""
    whole = F.when(F.length(listed) > 0, F.col(listed)).otherwise(F.lit(nothing))
    return [*columns, whole.alias(f"{stem}_4_CONCAT")]


def column_names(names: list[str], start: int) -> list[str]:
    """Column names in a year's file. Older files have ``DIAG_01`` instead of ``DIAG_4_01``."""
    if start > shares.LAST_OLD_NAMES_YEAR:
        return names
    return [re.sub(r"_4_(\d\d)$", r"_\1", name) for name in names]


def _date(day: Column) -> Column:
    return to_date(day).cast("string")


def _fyear() -> Column:
    """``2122`` for 2021-22."""
    return F.concat(*[F.lpad(((F.col("file_start") + more) % 100).cast("string"), 2, "0") for more in (0, 1)])
