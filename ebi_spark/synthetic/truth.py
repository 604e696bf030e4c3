"""The made-up spells and attendances themselves, before SUS+ or HES records them in its own way.

The files of both systems come from these frames, so one seed gives the same patients, dates and codes in both. Everything
is a column expression on ``spark.range``: a row depends on the seed and its own number only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.synthetic import codes, shares
from ebi_spark.synthetic.draws import Draws
from ebi_spark.synthetic.lookups import DAY_BITS, STEPS, Lookups
from ebi_spark.synthetic.people import DAYS_A_YEAR, newborn_number, patient_number, with_person
from ebi_spark.synthetic.places import CHANGED_2026, INDEPENDENT, places

MOST_EPISODES = 3
EPOCH = date(1970, 1, 1)
_FRIMLEY_ENDS = (date(2026, 4, 1) - EPOCH).days


@dataclass(frozen=True)
class Plan:
    """How the rows of one table are numbered: ``rows_per_year`` for each year, and the remainder for the last year.

    ``starts`` are the calendar years that the financial years start in. ``total`` is the number of all rows, ``intake`` the
    number of patients in a yearly intake, and ``files`` the number of files for each year.
    """

    starts: tuple[int, ...]
    total: int
    intake: int
    files: int

    @property
    def rows_per_year(self) -> int:
        """The number of rows of each year but the last, which has the remainder."""
        return -(-self.total // len(self.starts))

    @property
    def labels(self) -> list[str]:
        """The years as ``2021-22``."""
        return [f"{start}-{(start + 1) % 100:02d}" for start in self.starts]

    def rows(self, spark: SparkSession) -> DataFrame:
        """``row``, a number from 0, and ``year``, its position in ``starts``. Each partition has rows of one year.

        | starts     | total | → row | year |
        |------------|-------|-------|------|
        | 2021, 2022 | 3     | 0     | 0    |
        |            |       | 1     | 0    |
        |            |       | 2     | 1    |
        """
        years = len(self.starts)
        numbers = spark.range(0, self.rows_per_year * years, 1, years * self.files).withColumnRenamed("id", "row")
        year = F.floor(F.col("row") / self.rows_per_year).cast("int")
        return numbers.where(F.col("row") < self.total).withColumn("year", year)


def spells(frame: DataFrame, plan: Plan, tables: Lookups, seed: int) -> DataFrame:
    """A row for each spell, from a frame with ``row`` and ``year``.

    Adds, among others:

    - ``admission_day``, ``discharge_day`` (present even if ``undischarged`` is true) and ``born``, in days since 1970;
    - ``age_days`` at admission, ``stay`` in days, ``episodes`` (1 to 3), ``fusion`` and ``elective`` (true or false);
    - ``method``, ``admission_source``, ``category`` (NULL if missing), ``class``, ``discharge_method``, ``destination`` and
      ``specialty`` as codes;
    - ``group``, the group of patients as in :mod:`codes`;
    - ``sex``, ``provider``, ``commissioner``, ``practice`` and ``small_area`` as recorded.
    """
    draws = Draws(seed, F.col("row") * 2)
    frame = _dated(frame, tables.spell_days, draws, "discharge_day").withColumn(
        "birth", draws.chance("birth", shares.BIRTH_SHARE)
    )
    frame = frame.withColumn(
        "person_number",
        F.when(F.col("birth"), newborn_number(F.col("row"), F.col("start"))).otherwise(
            patient_number(draws, F.col("start"), plan.intake)
        ),
    )
    frame = with_person(frame, tables, seed)
    woman = F.col("person_sex") == "2"
    years = F.floor((F.col("discharge_day") - F.col("born")) / DAYS_A_YEAR).cast("int")
    maternity = draws.chance("maternity", shares.MATERNITY_SHARE) & woman & years.between(15, 45)
    frame = frame.withColumn(
        "group",
        F.when(F.col("birth"), codes.NEWBORN)
        .when(years < 15, codes.CHILD)
        .when(maternity, codes.MATERNITY)
        .otherwise(codes.WOMAN + F.when(years >= 50, 2).otherwise(0) + F.when(woman, 0).otherwise(1)),
    )
    eligible = years.between(12, 85) & (F.col("group") != codes.MATERNITY)
    frame = frame.withColumn("fusion", eligible & (draws.below("fusion", STEPS) < F.col("fusion_below")))
    frame = frame.withColumn(
        "elective",
        F.when(F.col("group").isin(codes.NEWBORN, codes.MATERNITY), False)
        .when(F.col("fusion"), ~draws.chance("non_elective", shares.FUSION_NON_ELECTIVE))
        .otherwise(draws.chance("elective", 0.53)),
    )
    frame = frame.withColumns(
        {
            "method": F.when(F.col("group") == codes.NEWBORN, draws.pick("method", shares.METHODS_BIRTH))
            .when(F.col("group") == codes.MATERNITY, draws.pick("method", shares.METHODS_MATERNITY))
            .when(F.col("elective"), draws.pick("method", shares.METHODS_ELECTIVE))
            # An urgent fusion is an emergency admission, not a transfer.
            .when(F.col("fusion"), F.lit("21"))
            .otherwise(draws.pick("method", shares.METHODS_EMERGENCY)),
            "class": F.when(F.col("group").isin(codes.NEWBORN, codes.MATERNITY), F.lit("5"))
            .when(~F.col("elective") | F.col("fusion"), F.lit("1"))
            .otherwise(draws.pick("class", {"2": 76, "1": 19, "3": 4, "4": 1})),
        }
    )
    stay = -F.log(1 - draws.uniform("stay"))  # exponential, mean 1
    frame = frame.withColumn(
        "stay",
        F.when(F.col("class").isin("2", "3", "4"), 0)
        .when(F.col("fusion"), 1 + F.least(F.floor(stay * 3), F.lit(30)))
        .when(F.col("class") == "5", F.least(F.floor(stay * 2), F.lit(20)))
        .when(F.col("elective"), 1 + F.least(F.floor(stay * 2.5), F.lit(60)))
        .otherwise(F.least(F.floor(stay * 6), F.lit(120)))
        .cast("int"),
    )
    several = F.when(F.col("elective"), 0.03).otherwise(0.28)
    moves = draws.uniform("episodes")
    frame = frame.withColumns(
        {
            "admission_day": F.col("discharge_day") - F.col("stay"),
            "episodes": F.when((F.col("stay") < 1) | (moves >= several), 1)
            .when((F.col("stay") < 2) | (moves >= several * 0.22), 2)
            .otherwise(3),
            "born": F.when(F.col("birth"), F.col("discharge_day") - F.col("stay")).otherwise(F.col("born")),
        }
    )
    frame = frame.withColumns(
        {
            # A patient cannot be born after the admission.
            "age_days": F.greatest(F.col("admission_day") - F.col("born"), F.lit(0)),
            "undischarged": draws.chance("undischarged", shares.UNDISCHARGED),
            "discharge_method": F.when(F.col("fusion") | F.col("birth"), F.lit("1")).otherwise(
                draws.pick("discharge_method", shares.DISCHARGE_METHODS)
            ),
            "admission_source": F.when(F.col("birth"), F.lit("79"))
            .when(F.col("method").isin("81", "2B"), draws.pick("admission_source", shares.SOURCES_TRANSFER))
            .otherwise(draws.pick("admission_source", shares.SOURCES)),
            "specialty": F.when(F.col("fusion"), draws.pick("specialty", {"108": 45, "110": 35, "150": 20}))
            .when(F.col("group") == codes.NEWBORN, draws.pick("specialty", {"424": 70, "501": 20, "420": 10}))
            .when(F.col("group") == codes.MATERNITY, F.lit("501"))
            .when(F.col("group") == codes.CHILD, draws.pick("specialty", {"420": 70, "171": 15, "110": 15}))
            .otherwise(draws.pick("specialty", shares.SPECIALTIES)),
            "category": _category(
                draws, F.when(F.col("fusion"), shares.FUSION_PRIVATE).otherwise(shares.CATEGORY_PRIVATE)
            ),
        }
    )
    frame = frame.withColumn(
        "destination",
        F.when(F.col("discharge_method").isin("4", "5"), F.lit("79"))
        .when(F.col("birth"), F.lit("19"))
        .otherwise(draws.pick("destination", shares.DESTINATIONS)),
    )
    specialised = F.when(F.col("fusion"), shares.FUSION_SPECIALISED_COMMISSIONER).otherwise(
        shares.SPECIALISED_COMMISSIONER
    )
    return _recorded(frame, draws, F.col("discharge_day"), specialised, F.col("elective"))


def attendances(frame: DataFrame, plan: Plan, tables: Lookups, seed: int) -> DataFrame:
    """A row for each appointment, from a frame with ``row`` and ``year``.

    Adds, among others:

    - ``day`` in days since 1970 (present even if ``undated`` is true), ``age_days``, and ``imaging`` (true or false);
    - ``status``, ``first``, ``specialty``, ``referral`` and ``category`` (NULL if missing) as codes;
    - ``diagnoses``, ``procedures``, ``mark`` and ``marked``, as in :func:`with_codes`;
    - the columns about patient and place that :func:`spells` has.
    """
    draws = Draws(seed, F.col("row") * 2 + 1)
    frame = _dated(frame, tables.attendance_days, draws, "day")
    frame = frame.withColumn("person_number", patient_number(draws, F.col("start"), plan.intake))
    frame = with_person(frame, tables, seed)
    frame = frame.withColumn("age_days", F.greatest(F.col("day") - F.col("born"), F.lit(0)))
    years = F.floor(F.col("age_days") / DAYS_A_YEAR).cast("int")
    frame = frame.withColumns(
        {
            "imaging": (years >= 10) & (draws.below("imaging", STEPS) < F.col("imaging_below")),
            "group": F.when(years < 15, codes.CHILD).otherwise(
                codes.WOMAN + F.when(years >= 50, 2).otherwise(0) + F.when(F.col("person_sex") == "2", 0).otherwise(1)
            ),
            "status": draws.pick("status", shares.ATTENDANCE_STATUS),
            "first": draws.pick("first", shares.FIRST_ATTENDANCE),
            "referral": draws.pick("referral", shares.REFERRAL_SOURCES),
            "undated": draws.chance("undated", shares.APPOINTMENT_DATE_MISSING),
            "category": _category(draws, F.lit(shares.CATEGORY_PRIVATE)),
        }
    )
    attended = F.col("status").isin("5", "6")
    # Only a few attendances need a list of codes.
    frame = _listed(frame, tables, draws, attended & draws.chance("coded", shares.OP_PROCEDURE_SHARE))
    frame = frame.withColumns(
        {
            "specialty": F.when(F.col("imaging"), draws.pick("specialty", shares.SPECIALTIES_IMAGING)).otherwise(
                draws.pick("specialty", shares.SPECIALTIES_OP)
            ),
            # Of the patients who do not attend, a few still have imaging recorded.
            "procedures": F.when(
                F.col("imaging") & (attended | draws.chance("booked", 0.3)), _imaging_procedures(draws)
            )
            .when(F.col("listed_procedures").isNotNull(), _op_procedures(draws))
            .otherwise(F.lit("")),
            "diagnoses": F.when(
                draws.chance("no_diagnosis", shares.OP_DIAGNOSIS_BLANK) | ~attended, F.lit("")
            ).otherwise(F.coalesce(_op_diagnoses(draws), F.lit(""))),
        }
    )
    specialised = F.lit(shares.SPECIALISED_COMMISSIONER)
    frame = _marked(frame, draws, "")
    return _recorded(frame, draws, F.col("day"), specialised, F.col("specialty").isin("110", "130", "812", "650"))


def with_codes(frame: DataFrame, tables: Lookups, seed: int, episode: Column, suffix: str = "") -> DataFrame:
    """Add the columns ``diagnoses``, ``procedures``, ``mark`` and ``marked`` for an episode (1, 2 or 3) of each spell.

    ``diagnoses`` and ``procedures`` are text: codes of four characters joined by commas, empty without codes. ``mark`` is the
    text after the diagnosis at position ``marked``: a 5th digit, ``-D`` or ``-A``; usually NULL. ``suffix`` is added to the
    names of the four columns.

    | diagnoses | mark | marked | → as written |
    |-----------|------|--------|--------------|
    | M545,E119 | -D   | 2      | M545,E119-D  |
    | M545,E119 | NULL | 1      | M545,E119    |
    |           | NULL | 1      |              |
    """
    draws = Draws(seed, F.col("row") * 2)
    exists = episode <= F.col("episodes")
    diagnosed = exists & ~draws.chance("no_diagnosis", shares.NO_DIAGNOSIS)
    many = F.when(F.col("fusion"), 1.5).when(F.col("elective"), 3.2).when(F.col("group") < 3, 2.5).otherwise(7.5)
    number = F.floor(-F.log(1 - draws.uniform("diagnoses", episode)) * many).cast("int") + 1
    fusion_episode = F.col("fusion") & (episode == 1)
    likely = (
        F.when(F.col("class").isin("3", "4"), 0.6)
        .when(F.col("elective"), F.when(episode == 1, 0.95).otherwise(0.4))
        .when(F.col("group") == codes.NEWBORN, 0.08)
        .when(F.col("group") == codes.MATERNITY, 0.75)
        .otherwise(F.when(episode == 1, 0.4).otherwise(0.3))
    )
    operated = exists & (draws.uniform("operated", episode) < likely)
    operations = F.floor(-F.log(1 - draws.uniform("procedures", episode)) * 2.2).cast("int") + 1
    frame = _listed(frame, tables, draws, exists, episode)
    diagnoses, procedures = F.col("listed_diagnoses"), F.col("listed_procedures")
    further = F.substring(diagnoses, F.lit(6), 5 * F.least(number - 1, F.lit(8)) - 1)
    return _marked(
        frame.withColumns(
            {
                "diagnoses": F.when(
                    diagnosed & fusion_episode, F.concat_ws(",", _fusion_diagnoses(draws), F.when(number > 1, further))
                )
                .when(diagnosed, leading(diagnoses, number))
                .otherwise(F.lit("")),
                "procedures": F.when(fusion_episode, _fusion_procedures(draws))
                .when(operated, leading(procedures, operations))
                .otherwise(F.lit("")),
            }
        ),
        draws,
        suffix,
        episode,
    )


def leading(listed: Column, number: Column) -> Column:
    """The first ``number`` codes of a list in text."""
    return F.substring(listed, F.lit(1), 5 * number - 1)


def number_of(listed: Column) -> Column:
    """The number of codes of a list in text."""
    return F.floor((F.length(listed) + 1) / 5).cast("int")


def _listed(frame: DataFrame, tables: Lookups, draws: Draws, wanted: Column, *more: Column) -> DataFrame:
    """Join a list of codes that suits the group of patients. A row where ``wanted`` is false gets none."""
    slot = F.col("group") * (1 << codes.LIST_BITS) + draws.slot("list", codes.LIST_BITS, *more)
    return frame.withColumn("list_slot", F.when(wanted, slot)).join(tables.lists, "list_slot", "left").drop("list_slot")


def _marked(frame: DataFrame, draws: Draws, suffix: str, *more: Column) -> DataFrame:
    """Add ``mark`` and ``marked``, drop the columns of the lists, and add ``suffix`` to the names of the code columns."""
    uniform = draws.uniform("mark", *more)
    share = shares.DIAGNOSIS_MARK
    digit = draws.below("digit", 10, *more).cast("string")
    columns = {
        "mark": F.when(
            (uniform < share) & (F.length("diagnoses") > 0),
            F.when(uniform < 0.5 * share, F.lit("-D")).when(uniform < 0.7 * share, F.lit("-A")).otherwise(digit),
        ),
        "marked": 1 + draws.below("marked", F.greatest(number_of(F.col("diagnoses")), F.lit(1)), *more),
    }
    frame = frame.withColumns(columns).drop("listed_diagnoses", "listed_procedures")
    if not suffix:
        return frame
    return frame.withColumnsRenamed({name: name + suffix for name in ("diagnoses", "procedures", "mark", "marked")})


def episode_days(episode: Column) -> tuple[Column, Column]:
    """The first and last day of an episode of a spell. There are no gaps between episodes."""
    return (
        F.col("admission_day") + F.floor(F.col("stay") * (episode - 1) / F.col("episodes")).cast("int"),
        F.col("admission_day") + F.floor(F.col("stay") * episode / F.col("episodes")).cast("int"),
    )


def to_date(day: Column) -> Column:
    """Days since 1970 as a DATE."""
    return F.date_from_unix_date(day.cast("int"))


def recorded_age(draws: Draws, age_days: Column) -> Column:
    """Age in years as both systems record it. A few ages are above 120."""
    nonsense = draws.chance("nonsense", shares.AGE_NONSENSE)
    return F.when(nonsense, 121 + draws.below("nonsense_age", 79)).otherwise(whole_years(age_days))


def whole_years(age_days: Column) -> Column:
    """Days as whole years, INT."""
    return F.floor(age_days / DAYS_A_YEAR).cast("int")


def baby_code(age_days: Column) -> Column:
    """7001 to 7007 in the first year of life, otherwise NULL."""
    return (
        F.when(age_days < 1, 7001)
        .when(age_days < 7, 7002)
        .when(age_days < 29, 7003)
        .when(age_days < 91, 7004)
        .when(age_days < 182, 7005)
        .when(age_days < 273, 7006)
        .when(age_days < DAYS_A_YEAR, 7007)
    )


def _dated(frame: DataFrame, days: DataFrame, draws: Draws, name: str) -> DataFrame:
    """Add a day in the row's year, drawn by season and weekday, and ``start``, the calendar year that it starts in."""
    slot = F.col("year") * (1 << DAY_BITS) + draws.slot("day", DAY_BITS)
    dated = frame.withColumn("day_slot", slot).join(days, "day_slot").drop("day_slot")
    return dated.withColumnRenamed("drawn_day", name)


def _category(draws: Draws, private: Column) -> Column:
    uniform = draws.uniform("category")
    known = private + shares.CATEGORY_AMENITY
    return (
        F.when(uniform < private, F.lit("02"))
        .when(uniform < known, F.lit("03"))
        .when(uniform < known + shares.CATEGORY_TWO, F.lit("04"))
        .when(uniform < known + shares.CATEGORY_TWO + shares.CATEGORY_MISSING, F.lit(None))
        .otherwise(F.lit("01"))
    )


def _recorded(frame: DataFrame, draws: Draws, day: Column, specialised: Column, planned: Column) -> DataFrame:
    """Add sex, provider, commissioner, practice and small area as recorded."""
    trusts = places().providers
    code = F.col("location")
    code = F.when((code == CHANGED_2026[1]) & (day < _FRIMLEY_ENDS), F.lit(CHANGED_2026[0])).otherwise(code)
    abroad = draws.chance("abroad", shares.NOT_ENGLAND)
    elsewhere = draws.chance("elsewhere", shares.OTHER_PROVIDER)
    independent = planned & draws.chance("independent", shares.INDEPENDENT_PROVIDER)
    lost = draws.chance("no_practice", shares.NO_PRACTICE)
    return frame.withColumns(
        {
            "sex": F.when(
                draws.chance("sex_unknown", shares.SEX_UNKNOWN),
                draws.pick("sex", {"9": 50, "0": 35, "X": 15}),
            ).otherwise(F.col("person_sex")),
            "provider": F.when(independent, F.concat(F.lit(INDEPENDENT), F.char(65 + F.col("place") % 8)))
            .when(elsewhere, draws.pick("trust", dict.fromkeys(trusts, 1.0)))
            .otherwise(F.col("trust")),
            "commissioner": F.when(abroad, F.concat(F.lit("7A"), (1 + draws.below("wales", 7)).cast("string")))
            .when(draws.uniform("specialised") < specialised, F.lit("13Q"))
            .otherwise(code),
            "practice": F.when(
                abroad, F.concat(F.lit("W9"), F.lpad(draws.below("abroad_at", 10_000).cast("string"), 4, "0"))
            )
            .when(lost, draws.pick("practice", {"V81997": 50, "V81998": 10, "V81999": 40}))
            .otherwise(F.col("person_practice")),
            "small_area": F.when(
                abroad,
                F.concat(F.lit("W019"), F.lpad(draws.below("abroad_at", 2_000).cast("string"), 5, "0")),
            ).otherwise(F.col("person_area")),
        }
    )


def _fusion_diagnoses(draws: Draws) -> Column:
    def sometimes(name: str, share: float, weights: Mapping[str, float]) -> Column:
        return F.when(draws.chance(name, share), draws.pick(name + "_code", weights))

    primary = F.when(
        draws.chance("back_pain", shares.FUSION_BACK_PAIN_PRIMARY),
        draws.pick("primary", shares.FUSION_PRIMARY),
    ).otherwise(draws.pick("primary", shares.FUSION_PRIMARY_OTHER))
    return F.concat_ws(
        ",",
        primary,
        sometimes("deformity", shares.FUSION_DEFORMITY, shares.FUSION_DEFORMITIES),
        sometimes("guidance", shares.FUSION_GUIDANCE, shares.FUSION_GUIDANCE_CODES),
        sometimes("cancer", shares.FUSION_CANCER, shares.FUSION_CANCERS),
    )


def _fusion_procedures(draws: Draws) -> Column:
    return F.concat_ws(
        ",",
        draws.pick("fusion_code", shares.FUSION_CODES),
        F.when(
            draws.chance("decompression", shares.FUSION_DECOMPRESSION),
            draws.pick("decompression_code", shares.DECOMPRESSION_CODES),
        ),
        draws.pick("levels", shares.FUSION_LEVELS),
        F.when(draws.chance("site", 0.8), draws.pick("site_code", shares.FUSION_SITES)),
    )


def _imaging_procedures(draws: Draws) -> Column:
    image = draws.pick("image", shares.IMAGING_SITED)
    site = F.when(
        draws.chance("lumbar", shares.IMAGING_LUMBAR_SITE), draws.pick("site", shares.SITES_LUMBAR)
    ).otherwise(draws.pick("site", shares.SITES_OTHER))
    return (
        F.when(draws.chance("siteless", shares.IMAGING_SITELESS), draws.pick("image", shares.IMAGING_SPINE))
        .when(draws.chance("site_before", shares.IMAGING_SITE_BEFORE), F.concat_ws(",", site, image))
        .otherwise(F.concat_ws(",", image, site))
    )


def _op_procedures(draws: Draws) -> Column:
    admitted = leading(F.col("listed_procedures"), 1 + draws.below("number", 3))
    return F.when(draws.chance("usual", 0.7), draws.pick("usual", shares.OP_PROCEDURES)).otherwise(admitted)


def _op_diagnoses(draws: Draws) -> Column:
    ordinary = leading(F.col("listed_diagnoses"), 1 + draws.below("number", 2))
    imaged = F.when(
        draws.chance("cancer", shares.OP_DIAGNOSIS_CANCER), draws.pick("cancer_code", shares.OP_CANCERS)
    ).otherwise(draws.pick("back", shares.OP_DIAGNOSES_BACK))
    return F.when(F.col("imaging"), imaged).otherwise(ordinary)
