"""Columns that the configuration maps, looked at before anything is written: one that holds something else is refused.

A date that cannot be read is only noted, row by row. Where most of a column cannot be read, another column was meant.
"""

from collections.abc import Iterable

from pyspark.sql import functions as F

from ebi_spark.acquire.layouts import DAYS
from ebi_spark.acquire.tables import SourceTable
from ebi_spark.canonical.cleaning import clean, text
from ebi_spark.errors import InputError

_NUMBERS = ("age", "age_fallback", "episode_order")
_WANTED = {
    "day": ("dates", "dates, written as 2021-04-01, 01/04/2021, 20210401 or a time stamp"),
    "number": ("numbers", "numbers"),
}


def refuse_mapped_nonsense(tables: Iterable[SourceTable]) -> None:
    """An :class:`InputError` where the configuration maps a date, an age or an order to a column of which a file has more
    filled values that are none than values that are. One query a table that has such a mapping."""
    kinds = dict.fromkeys(DAYS, "day") | dict.fromkeys(_NUMBERS, "number")
    for table in tables:
        mapped = sorted({ours for group in table.groups for ours in group.mapped} & kinds.keys())
        if not mapped:
            continue
        types = dict(table.rows.dtypes)
        filled = {ours: text(F.col(ours)) if types[ours] == "string" else F.col(ours) for ours in mapped}
        stated = table.rows.where("corrupt IS NULL").select(
            "source_file", *mapped, *[value.isNotNull().alias(f"_filled_{ours}") for ours, value in filled.items()]
        )
        days = [ours for ours in mapped if kinds[ours] == "day"]
        read = clean(stated, {ours: kinds[ours] for ours in mapped}, unread=days)
        unread = {
            ours: F.col(f"unread_{ours}") if ours in days else F.col(f"_filled_{ours}") & F.col(ours).isNull()
            for ours in mapped
        }
        counted = read.groupBy("source_file").agg(
            *[F.count_if(f"_filled_{ours}").alias(f"filled_{ours}") for ours in mapped],
            *[F.count_if(column).alias(f"unread_{ours}") for ours, column in unread.items()],
        )
        for row in sorted(counted.collect(), key=lambda row: str(row["source_file"])):
            group = table.group_of(row["source_file"])
            for ours in group.mapped & set(mapped):
                bad, all_filled = row[f"unread_{ours}"], row[f"filled_{ours}"]
                if 2 * bad > all_filled:
                    what, wanted = _WANTED[kinds[ours]]
                    raise InputError(
                        f"{table.system} {table.role}: {row['source_file']}: the configuration maps {ours} to "
                        f"{group.read[ours]}, and {bad:,} of its {all_filled:,} filled values are no {what}",
                        remedy=f"map {ours} under `columns` to the column that holds {wanted}",
                    )
