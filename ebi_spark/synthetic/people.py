"""Made-up patients. A patient depends on the seed and the patient's number only, so all records of one patient agree."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.synthetic.draws import Draws, salt
from ebi_spark.synthetic.lookups import CELL_BITS, Lookups
from ebi_spark.synthetic.places import SMALL_AREAS

# Patients come in yearly intakes and stay in the records for three years. An intake has one range of numbers.
YEARS_IN_RECORDS = 3
INTAKE_SPAN = 100_000_000
NEWBORN_SPAN = 50_000_000  # the upper half of an intake's numbers: patients born in the spell itself
DAYS_A_YEAR = 365.2425
_FIRST_INTAKE = 1990
_PRIME = 99_999_999_977  # people's numbers are scattered below it; no two become equal


def intake_size(spells_a_year: int, attendances_a_year: int) -> int:
    """The number of people in a yearly intake: about two spells or five attendances for each in three years."""
    return max(40, min(NEWBORN_SPAN, int(0.3 * spells_a_year + 0.1 * attendances_a_year)))


def patient_number(draws: Draws, year: Column, size: int) -> Column:
    """The patient of a record of a financial year, from that year's intake or the two before. Some come far more often."""
    years_ago = draws.below("intake", YEARS_IN_RECORDS)
    # The power makes some attend often: the first tenth of the numbers gets a quarter of the records.
    place = F.floor(F.pow(draws.uniform("patient"), F.lit(1.6)) * size)
    return (year - _FIRST_INTAKE - years_ago).cast("bigint") * INTAKE_SPAN + place


def newborn_number(row: Column, year: Column) -> Column:
    """The patient of a birth: a number that no other record has."""
    intake = (year - _FIRST_INTAKE).cast("bigint") * INTAKE_SPAN
    return intake + NEWBORN_SPAN + F.pmod(row, F.lit(NEWBORN_SPAN))


def with_person(frame: DataFrame, tables: Lookups, seed: int) -> DataFrame:
    """Add columns about the patient in ``person_number``. None of them is ever NULL.

    ``place``, ``location``, ``trust``, ``fusion_below`` and ``imaging_below`` come from the table of places. ``person_sex`` is
    ``1`` or ``2``. ``born`` is in days since 1970. ``person_practice`` and ``person_area`` (a small area) are made-up codes.
    """
    draws = Draws(seed, F.col("person_number"))
    frame = frame.withColumn("cell_slot", draws.slot("cell", CELL_BITS)).join(tables.cells, "cell_slot")
    frame = frame.join(tables.places, "place").withColumn(
        "practice_number", F.col("first_practice") + draws.below("practice", F.col("practices"))
    )
    practice = F.col("practice_number")
    uniform = draws.uniform("born")
    # In the open band of 90 and over, the number of people halves every three years of age.
    years = F.when(F.col("band") == 18, 90 + F.least(F.lit(15.0), -3 * F.log2(1 - uniform))).otherwise(
        (F.col("band") + uniform) * 5
    )
    intake_year = F.floor(F.col("person_number") / INTAKE_SPAN).cast("int") + _FIRST_INTAKE
    intake_start = F.unix_date(F.make_date(intake_year, F.lit(4), F.lit(1)))
    small = F.col("place") * SMALL_AREAS + draws.below("small_area", SMALL_AREAS)
    return frame.withColumns(
        {
            "born": (intake_start - F.floor(years * DAYS_A_YEAR)).cast("int"),
            "person_practice": F.concat(
                F.char(65 + F.floor(practice / 1000)),
                F.lit("9"),
                F.lpad((practice % 1000).cast("string"), 3, "0"),
                (practice % 7).cast("string"),
            ),
            "person_area": F.concat(F.lit("E019"), F.lpad(small.cast("string"), 5, "0")),
        }
    ).drop("cell_slot", "band", "first_practice", "practices", "practice_number")


def scattered(number: Column, seed: int) -> Column:
    """A patient's number as a pseudonym: ten or eleven digits in no order, different for every patient."""
    shift = salt(seed, "pseudonym") % _PRIME
    return F.pmod(number * F.lit(7_368_787) + F.lit(shift), F.lit(_PRIME)) + F.lit(1_000_000_000)
