"""Small tables to join with the made-up rows: who lives where, which codes go together, and the days of each year."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.synthetic import codes, shares
from ebi_spark.synthetic.draws import sampled
from ebi_spark.synthetic.places import places

CELL_BITS = 15
DAY_BITS = 12
STEPS = 1_000_000  # a threshold of this value means a share of 1


@dataclass(frozen=True)
class Lookups:
    """The tables of one run, each for a broadcast join.

    - ``cells``, a row for each of 2**CELL_BITS slots: ``cell_slot``, ``place``, ``person_sex``, ``band``. A cell (place, sex
      and age band) has slots in proportion to its hospital use.
    - ``places``, a row for each sub-ICB location: ``place`` (its number), ``location`` (its code), ``trust``,
      ``first_practice``, ``practices`` (how many), and the thresholds ``fusion_below`` and ``imaging_below`` (of ``STEPS``).
    - ``lists``, a row for each list of codes: ``list_slot`` (group of patients × 2**LIST_BITS + number of the list),
      ``listed_diagnoses`` and ``listed_procedures`` (codes of four characters, joined by commas).
    - ``spell_days`` and ``attendance_days``, a row for each of 2**DAY_BITS slots of each year: ``day_slot`` (number of the
      year × 2**DAY_BITS + slot), ``start`` (the calendar year that the financial year starts in), ``drawn_day`` (days since
      1970).
    """

    cells: DataFrame
    places: DataFrame
    lists: DataFrame
    spell_days: DataFrame
    attendance_days: DataFrame


def lookups(spark: SparkSession, starts: Sequence[int], seed: int) -> Lookups:
    """Build the tables for the financial years that start in the calendar years ``starts``."""
    return Lookups(
        F.broadcast(spark.createDataFrame(_cells())),
        F.broadcast(spark.createDataFrame(_places(seed))),
        F.broadcast(spark.createDataFrame(_lists(seed))),
        F.broadcast(spark.createDataFrame(_days(starts, shares.WEEKDAYS_SPELLS))),
        F.broadcast(spark.createDataFrame(_days(starts, shares.WEEKDAYS_ATTENDANCES))),
    )


def _cells() -> pa.Table:
    known = places()
    weights = {
        f"{place:03d}{cell}": people * shares.AGE_CURVE[int(cell[1:])]
        for place, code in enumerate(known.locations)
        for cell, people in known.people[code].items()
    }
    drawn = sampled(weights, 1 << CELL_BITS)
    return pa.table(
        {
            "cell_slot": pa.array(range(len(drawn)), pa.int32()),
            "place": pa.array([int(cell[:3]) for cell in drawn], pa.int32()),
            "person_sex": pa.array([cell[3] for cell in drawn]),
            "band": pa.array([int(cell[4:]) for cell in drawn], pa.int32()),
        }
    )


def _places(seed: int) -> pa.Table:
    known = places()
    starts = known.practice_starts
    return pa.table(
        {
            "place": pa.array(range(len(known.locations)), pa.int32()),
            "location": pa.array(known.locations),
            "trust": pa.array(known.providers),
            "first_practice": pa.array(starts[:-1], pa.int32()),
            "practices": pa.array([b - a for a, b in pairwise(starts)], pa.int32()),
            "fusion_below": _thresholds(known.factors(seed, "fusion"), shares.FUSION_SHARE),
            "imaging_below": _thresholds(known.factors(seed, "imaging"), shares.IMAGING_SHARE),
        }
    )


def _thresholds(factors: tuple[float, ...], share: float) -> pa.Array:
    return pa.array([round(factor * share * STEPS) for factor in factors], pa.int32())


def _lists(seed: int) -> pa.Table:
    diagnoses: list[str] = []
    procedures: list[str] = []
    for group in range(len(codes.CODE_VOLUMES)):
        diagnoses += codes.diagnosis_lists(group, seed)
        procedures += codes.procedure_lists(group, seed)
    return pa.table(
        {
            "list_slot": pa.array(range(len(diagnoses)), pa.int32()),
            "listed_diagnoses": pa.array(diagnoses),
            "listed_procedures": pa.array(procedures),
        }
    )


def _days(starts: Sequence[int], weekdays: tuple[float, ...]) -> pa.Table:
    slot_starts: list[int] = []
    days: list[int] = []
    for start in starts:
        first = date(start, 4, 1)
        weights = {
            str((day - date(1970, 1, 1)).days): shares.MONTHS[(day.month - 4) % 12] * weekdays[day.weekday()]
            for offset in range((date(start + 1, 4, 1) - first).days)
            if (day := first + timedelta(days=offset))
        }
        days += map(int, sampled(weights, 1 << DAY_BITS))
        slot_starts += [start] * (1 << DAY_BITS)
    return pa.table(
        {
            "day_slot": pa.array(range(len(days)), pa.int32()),
            "start": pa.array(slot_starts, pa.int32()),
            "drawn_day": pa.array(days, pa.int32()),
        }
    )
