"""Made-up spells and attendances in the layout of the national SUS+ tables, with the errors of real extracts."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.synthetic import shares, truth
from ebi_spark.synthetic.draws import Draws
from ebi_spark.synthetic.lookups import Lookups
from ebi_spark.synthetic.people import scattered
from ebi_spark.synthetic.truth import Plan, to_date

YEAR_SIGNS = ("-", "/", "")
_ORIGINAL, _DUPLICATE, _CONFLICT, _STRAY = range(4)
_EPISODES = range(1, truth.MOST_EPISODES + 1)


def admitted(spark: SparkSession, plan: Plan, tables: Lookups, seed: int) -> DataFrame:
    """The spells with the codes of all their episodes: one row for each spell, with ``diagnoses_1`` and so on up to ``marked_3``
    (:func:`~ebi_spark.synthetic.truth.with_codes`). :func:`apcs` and :func:`apcs_der` are made from it."""
    frame = truth.spells(plan.rows(spark), plan, tables, seed)
    for episode in _EPISODES:
        frame = truth.with_codes(frame, tables, seed, F.lit(episode), f"_{episode}")
    return frame


def apcs(admitted_spells: DataFrame, seed: int) -> DataFrame:
    """``tbl_Data_SEM_APCS``: a row for each spell, with the codes of all episodes in one text. Some rows come twice.

    | spell, stay | drawn     | → APCS_Ident | Der_Spell_LoS |
    |-------------|-----------|--------------|---------------|
    | a, 4 days   | duplicate | key of a     | 4             |
    |             |           | key of a     | 4             |
    | b, 4 days   | conflict  | key of b     | 4             |
    |             |           | key of b     | 5             |
    """
    draws = Draws(seed, F.col("row") * 2)
    frame = _with_copies(admitted_spells, draws, "apcs")
    activity = F.when(F.col("undischarged"), F.col("admission_day")).otherwise(F.col("discharge_day"))
    return frame.select(
        F.col("year").alias("file"),
        _key(draws, F.col("row")).alias("APCS_Ident"),
        *_person_and_place(draws, seed),
        _age_at_start(draws).alias("Age_At_Start_of_Spell_SUS"),
        truth.whole_years(activity - F.col("born")).alias("Der_Age_at_CDS_Activity_Date"),
        _category(draws).alias("Administrative_Category"),
        F.col("method").alias("Admission_Method"),
        F.col("admission_source").alias("Source_of_Admission"),
        _or_missing(draws, "discharge_method", F.when(~F.col("undischarged"), F.col("discharge_method"))).alias(
            "Discharge_Method"
        ),
        F.when(~F.col("undischarged"), F.col("destination")).alias("Discharge_Destination"),
        spell_number(F.col("row")).alias("Hospital_Spell_No"),
        F.col("class").alias("Patient_Classification"),
        to_date(F.col("admission_day")).alias("Admission_Date"),
        F.when(~F.col("undischarged"), to_date(F.col("discharge_day"))).alias("Discharge_Date"),
        # The only column in which a conflicting copy differs. Silver does not keep it, so the two rows count once.
        (F.col("stay") + F.when(F.col("copy") == _CONFLICT, 1).otherwise(0)).alias("Der_Spell_LoS"),
        F.col("specialty").alias("Der_Admit_Treatment_Function_Code"),
        _concatenated(draws, "diagnoses", [_with_mark(f"_{e}") for e in _EPISODES]).alias("Der_Diagnosis_All"),
        _concatenated(draws, "procedures", [F.col(f"procedures_{e}") for e in _EPISODES]).alias("Der_Procedure_All"),
        _year().alias("Der_Financial_Year"),
        F.date_format(to_date(activity), "yyyyMM").alias("Der_Activity_Month"),
    )


def apcs_der(admitted_spells: DataFrame, seed: int) -> DataFrame:
    """``tbl_Data_SEM_APCS_Der``: a row for each spell. A few rows are missing, come twice, or belong to no spell.

    | spell (``row``) | drawn    | → APCS_Ident | Spell_Secondary_Diagnosis |
    |-----------------|----------|--------------|---------------------------|
    | a (1)           | missing  | no row       |                           |
    | b (2)           | conflict | key of b     | second diagnosis of b     |
    |                 |          | key of b     | Z999                      |
    | c (3)           | stray    | key of c     | second diagnosis of c     |
    |                 |          | 900000000003 | second diagnosis of c     |
    """
    draws = Draws(seed, F.col("row") * 2)
    present = admitted_spells.where(~draws.chance("der_missing", shares.DER_MISSING))
    frame = _with_copies(present, draws, "apcs_der", stray=shares.DER_STRAY)
    dominant, primary = dominance(draws)
    stray = F.col("copy") == _STRAY
    return frame.select(
        F.col("year").alias("file"),
        F.when(stray, F.lit(900_000_000_000) + F.col("row")).otherwise(ident(F.col("row"))).alias("APCS_Ident"),
        _written(draws, "dominant", dominant).alias("Spell_Dominant_Procedure"),
        F.substring(
            F.when(draws.chance("not_listed", shares.PRIMARY_NOT_LISTED), F.lit("R69X")).otherwise(primary),
            1,
            5,
        ).alias("Spell_Primary_Diagnosis"),
        F.when(F.col("copy") == _CONFLICT, F.lit("Z999"))
        .otherwise(F.when(F.length("diagnoses_1") > 4, F.substring("diagnoses_1", 6, 4)))
        .alias("Spell_Secondary_Diagnosis"),
    )


def opa(spark: SparkSession, plan: Plan, tables: Lookups, seed: int) -> DataFrame:
    """``tbl_Data_SEM_OPA``: a row for each appointment. Some rows come twice: identical, or with ``Attendance_Status`` 7 and
    ``First_Attendance`` 4 the second time."""
    draws = Draws(seed, F.col("row") * 2 + 1)
    frame = truth.attendances(_with_copies(plan.rows(spark), draws, "opa"), plan, tables, seed)
    conflict = F.col("copy") == _CONFLICT
    return frame.select(
        F.col("year").alias("file"),
        _key(draws, F.col("row")).alias("OPA_Ident"),
        *_person_and_place(draws, seed),
        _age_at_start(draws).alias("Age_at_Start_of_Episode_SUS"),
        truth.whole_years(F.col("age_days")).alias("Der_Age_at_CDS_Activity_Date"),
        _category(draws).alias("Administrative_Category"),
        F.when(~F.col("undated"), to_date(F.col("day"))).alias("Appointment_Date"),
        F.when(conflict, F.lit("7")).otherwise(F.col("status")).alias("Attendance_Status"),
        F.when(conflict, F.lit("4")).otherwise(F.col("first")).alias("First_Attendance"),
        F.col("specialty").alias("Treatment_Function_Code"),
        F.col("referral").alias("Referral_Source"),
        _concatenated(draws, "diagnoses", [_with_mark("")]).alias("Der_Diagnosis_All"),
        _concatenated(draws, "procedures", [F.col("procedures")]).alias("Der_Procedure_All"),
        _year().alias("Der_Financial_Year"),
        F.date_format(to_date(F.col("day")), "yyyyMM").alias("Der_Activity_Month"),
    )


def ident(row: Column) -> Column:
    """The key of a spell or attendance in SUS+. HES has it as ``SUSRECID``."""
    return F.lit(300_000_000_000) + row * 13 + F.pmod(F.xxhash64(row), F.lit(13))


def spell_number(row: Column) -> Column:
    """The provider's own number of a spell, the same in SUS+ and HES."""
    return F.concat(F.lit("S"), F.lpad((row * 7 + 1_000_003).cast("string"), 11, "0"))


def dominance(draws: Draws) -> tuple[Column, Column]:
    """The dominant procedure and primary diagnosis of a spell, as SUS's grouper would pick them.

    The row has ``diagnoses_1``, ``procedures_1`` and so on for each episode. The dominant procedure is the first procedure of
    the first episode that has one. The primary diagnosis is the first diagnosis of that episode, or of the first episode if
    none has a procedure. A share of ``DOMINANT_OTHER`` of the spells has a later procedure instead, so that the HES proxy
    is wrong there.
    """
    operated = [F.length(f"procedures_{e}") > 0 for e in _EPISODES]

    def first_of(codes: str, otherwise: Column) -> Column:
        for e in reversed(_EPISODES):
            otherwise = F.when(operated[e - 1], F.substring(f"{codes}_{e}", 1, 4)).otherwise(otherwise)
        return otherwise

    usual = first_of("procedures", F.lit(None).cast("string"))
    primary = first_of("diagnoses", F.substring("diagnoses_1", 1, 4))
    # The second or third code, unless it is a site or a method.
    others = [F.substring("procedures_1", start, 4) for start in (6, 11)]
    later = F.coalesce(*[F.when(code.rlike("^[A-NP-X]") & ~code.startswith("V55"), code) for code in others], usual)
    return F.when(draws.chance("dominant", shares.DOMINANT_OTHER), later).otherwise(usual), primary


def _with_mark(suffix: str) -> Column:
    """The diagnoses of an episode, with the mark (``mark``) after the code at position ``marked``, if there is one."""
    codes, end = F.col(f"diagnoses{suffix}"), 5 * F.col(f"marked{suffix}") - 1
    inserted = F.concat(F.substring(codes, F.lit(1), end), f"mark{suffix}", F.substring(codes, end + 1, F.lit(200)))
    return F.when(F.col(f"mark{suffix}").isNull(), codes).otherwise(inserted)


def _with_copies(rows: DataFrame, draws: Draws, table: str, stray: float = 0.0) -> DataFrame:
    """The rows with a column ``copy``. A few come twice (identical or in conflict) or with a row that belongs to no spell."""

    def ints(*values: int) -> Column:
        return F.array(*[F.lit(value) for value in values])

    copies = (
        F.when(draws.chance(f"{table}:double", shares.DUPLICATES), ints(_ORIGINAL, _DUPLICATE))
        .when(draws.chance(f"{table}:conflict", shares.CONFLICTS), ints(_ORIGINAL, _CONFLICT))
        .when(draws.chance(f"{table}:stray", stray), ints(_ORIGINAL, _STRAY))
        .otherwise(ints(_ORIGINAL))
    )
    return rows.select("*", F.explode(copies).alias("copy"))


def _key(draws: Draws, row: Column) -> Column:
    return F.when(draws.chance("no_key", shares.NO_KEY), None).otherwise(ident(row))


def _person_and_place(draws: Draws, seed: int) -> list[Column]:
    """The columns that spells and appointments have under the same names."""
    return [
        scattered(F.col("person_number"), seed).alias("Der_Pseudo_NHS_Number"),
        F.col("sex").alias("Sex"),
        F.col("provider").alias("Der_Provider_Code"),
        _commissioner(draws).alias("Der_Commissioner_Code"),
        F.col("practice").alias("GP_Practice_Code"),
        F.col("small_area").alias("Der_Postcode_LSOA_2011_Code"),
    ]


def _age_at_start(draws: Draws) -> Column:
    """The age that SUS gives. Babies have a code instead of an age, and some rows have neither."""
    recorded = F.coalesce(truth.baby_code(F.col("age_days")), truth.recorded_age(draws, F.col("age_days")))
    return F.when(draws.chance("first_age", shares.FIRST_AGE_MISSING), None).otherwise(recorded)


def _commissioner(draws: Draws) -> Column:
    code = F.col("commissioner")
    short = draws.chance("short_commissioner", shares.SHORT_COMMISSIONER) | (F.length(code) > 3)
    return F.when(short, code).otherwise(F.concat(code, F.lit("00")))


def _category(draws: Draws) -> Column:
    single = draws.chance("single_digit", shares.SINGLE_DIGIT_CATEGORY)
    code = F.when((F.col("category") == "02") & single, F.lit("2")).otherwise(F.col("category"))
    return _or_missing(draws, "category_text", code)


def _or_missing(draws: Draws, name: str, value: Column) -> Column:
    """The value, or for a missing value one of the ways in which extracts write it: ``NULL``, a blank or nothing."""
    uniform = draws.uniform(f"missing:{name}")
    nothing = F.when(uniform < shares.TEXT_NULL, F.lit("NULL")).when(
        uniform < shares.TEXT_NULL + shares.TEXT_BLANK, F.lit(" ")
    )
    return F.when(value.isNull(), nothing).otherwise(value)


def _written(draws: Draws, name: str, text: Column) -> Column:
    """The codes; a few have dots or are in lower case."""
    dotted = F.regexp_replace(text, "([A-Z][0-9]{2})([0-9])", "$1.$2")
    return (
        F.when(draws.chance(f"dots:{name}", shares.WITH_DOTS), dotted)
        .when(draws.chance(f"lower:{name}", shares.LOWER_CASE), F.lower(text))
        .otherwise(text)
    )


def _concatenated(draws: Draws, name: str, episodes: list[Column]) -> Column:
    """All codes of all episodes in one text, in one of the two styles."""
    padded = draws.chance("padded", shares.STYLE_PADDED)
    parts = [F.when(F.length(codes) > 0, codes) for codes in episodes]
    plain = F.concat_ws("||", *parts)
    # `E119 ,J849 ,K869 ||I801 ,I802`: codes of four characters are padded to five, also before the bars.
    spaced = F.concat_ws(" ||", *[F.replace(part, F.lit(","), F.lit(" ,")) for part in parts])
    style = F.when(padded, spaced).otherwise(plain)
    bars = F.when(draws.chance(f"bars:{name}", shares.NO_LEADING_BARS), F.lit("")).otherwise(F.lit("||"))
    text = _written(draws, name, F.concat(bars, style))
    return _or_missing(draws, name, F.when(F.length(plain) > 0, text))


def _year() -> Column:
    """The financial year as the file writes it. The files use 2021-22, 2021/22 and 202122 in turn."""
    sign = F.element_at(F.array(*map(F.lit, YEAR_SIGNS)), F.pmod(F.col("year"), F.lit(len(YEAR_SIGNS))) + 1)
    return F.concat(F.col("start").cast("string"), sign, F.lpad(((F.col("start") + 1) % 100).cast("string"), 2, "0"))


def column_case(names: list[str], file_number: int) -> list[str]:
    """The column names in a file. The files use the documented spelling, lower case and upper case in turn."""
    change = (str, str.lower, str.upper)[file_number % 3]
    return [change(name) for name in names]
