"""Checks the columns that the configuration maps, before anything is written. A column with the wrong content is
refused.

A single date that cannot be read is only noted on its row. Where most of a column cannot be read, another column
was meant.
"""

from collections.abc import Iterable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.records.cleaning import clean, text_of
from ebi_spark.sources.layouts import DAYS, NUMBERS
from ebi_spark.sources.reader import SourceTable

# Our columns whose content can be checked, each with its kind.
_KINDS = dict.fromkeys(DAYS, "day") | dict.fromkeys(NUMBERS, "number")
_WANTED = {
    "day": ("dates", "dates, written as 2021-04-01, 01/04/2021, 20210401 or a time stamp"),
    "number": ("numbers", "numbers"),
}


def refuse_mapped_nonsense(tables: Iterable[SourceTable]) -> None:
    """Raise :class:`InputError` where the configuration maps a date, an age or an episode order to the wrong column:
    one in which a file has more filled values that cannot be read than values that can. One query for each table
    with such a mapping."""
    for table in tables:
        mapped = sorted({ours for group in table.groups for ours in group.mapped} & _KINDS.keys())
        counted = _counted(table, mapped).collect() if mapped else []
        for row in sorted(counted, key=lambda row: str(row["source_file"])):
            group = table.group_of(row["source_file"])
            for ours in group.mapped & set(mapped):
                bad, all_filled = row[f"unread_{ours}"], row[f"filled_{ours}"]
                if 2 * bad > all_filled:
                    what, wanted = _WANTED[_KINDS[ours]]
                    raise InputError(
                        f"{table.system} {table.role}: {row['source_file']}: the configuration maps {ours} to "
                        f"{group.read[ours]}, and {bad:,} of its {all_filled:,} filled values are not {what}",
                        remedy=f"map {ours} under `columns` to the column that has {wanted}",
                    )


def _counted(table: SourceTable, mapped: list[str]) -> DataFrame:
    """For each file and each of the columns, how many values are filled (``filled_…``) and how many of these cannot be read
    (``unread_…``)."""
    types = dict(table.rows.dtypes)
    filled = {ours: text_of(ours) if types[ours] == "string" else F.col(ours) for ours in mapped}
    stated = table.rows.where("corrupt IS NULL").select(
        "source_file", *mapped, *[value.isNotNull().alias(f"_filled_{ours}") for ours, value in filled.items()]
    )
    days = [ours for ours in mapped if _KINDS[ours] == "day"]
    read = clean(stated, {ours: _KINDS[ours] for ours in mapped}, unread=days)
    unread = {
        ours: F.col(f"unread_{ours}") if ours in days else F.col(f"_filled_{ours}") & F.col(ours).isNull()
        for ours in mapped
    }
    return read.groupBy("source_file").agg(
        *[F.count_if(f"_filled_{ours}").alias(f"filled_{ours}") for ours in mapped],
        *[F.count_if(column).alias(f"unread_{ours}") for ours, column in unread.items()],
    )
