"""The area of a record: the practice's sub-ICB location on the day, else the residence's, else the commissioner's.

Lookups are small tables read on the driver; the order is a setting, and ``area_basis`` says on every record which one
answered (decision 5). A default code has no area: the next basis answers. The area is the one that the source names; what it is on the version of the areas that a run shows
is found when rates are made (``flags.geography``).
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.default_codes import without_default
from ebi_spark.errors import InputError
from ebi_spark.flags.geography import Geography, read_geography
from ebi_spark.settings import RunConfig
from ebi_spark.small_files import read_rows
from ebi_spark.small_frames import small_frame

OUTSIDE_ENGLAND = "outside_england"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Lookups:
    """Practice and residence lookups (None where not supplied) and every sub-ICB or CCG code that is known."""

    practices: DataFrame | None
    lsoas: DataFrame | None
    known_codes: tuple[str, ...]
    order: tuple[str, ...]


def read_lookups(spark: SparkSession, config: RunConfig) -> Lookups:
    """The lookups that the configuration names, checked; an :class:`InputError` names file, column and line."""
    geography = read_geography(config.geography, config.mappings)
    return Lookups(
        practices=_lookup(spark, config.practices, "practice_code", geography) if config.practices else None,
        lsoas=_lookup(spark, config.lsoas, "lsoa", geography) if config.lsoas else None,
        known_codes=tuple(sorted(geography.valid)),
        order=config.area_order,
    )


def _lookup(spark: SparkSession, path: Path, key: str, geography: Geography) -> DataFrame:
    """A row a code and span of days: ``key``, ``valid_from``, ``valid_to`` (exclusive), ``lookup_area``, ``area_day``
    (the day on which the area's code is to be read; NULL: the record's own) and ``latest`` (the area of the newest span).

    A row without ``valid_from`` holds for all days, so its code is that of the newest areas that have it.
    """
    spans: dict[str, list[tuple[date, date, str, date | None]]] = {}
    unknown: set[str] = set()
    for number, row in enumerate(read_rows(path, (key, "sub_icb_code")), start=2):
        try:
            since = date.fromisoformat(row.get("valid_from") or "1900-01-01")
            until = date.fromisoformat(row.get("valid_to") or "9999-12-31")
        except ValueError:
            raise InputError(
                f"{path}, line {number}: a date is not of the form 2022-07-01", remedy="correct it"
            ) from None
        code = row["sub_icb_code"].strip().upper()
        if code not in geography.valid:
            unknown.add(code)
            continue
        day = None if row.get("valid_from") else geography.newest[code]
        spans.setdefault(row[key].strip().upper(), []).append((since, until, code, day))
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} codes in sub_icb_code are no sub-ICB location (such as {sorted(unknown)[0]!r})",
            remedy="use the codes of conf/reference/areas.csv, or say in geography.mappings what they became",
        )
    rows = []
    for code, listed in spans.items():
        listed.sort(key=lambda span: span[:2])
        for earlier, later in zip(listed, listed[1:], strict=False):
            if earlier[1] > later[0]:
                raise InputError(f"{path}: {key} {code} has overlapping spans", remedy="end one where the next begins")
        rows += [(code, *span, listed[-1][2]) for span in listed]
    return small_frame(
        spark,
        rows,
        f"{key} string, valid_from date, valid_to date, lookup_area string, area_day date, latest string",
    )


def with_area(records: DataFrame, lookups: Lookups) -> DataFrame:
    """``records`` with ``area_code`` (sub-ICB location as its source names it, NULL where unknown), ``area_date`` (the day
    on which that code is to be read), ``latest_area_code`` (where the newest rows of the lookups put the record's practice,
    else its residence) and ``area_basis``."""
    day = F.coalesce(F.col("activity_date"), F.to_date(F.concat(F.substring("financial_year", 1, 4), F.lit("-04-01"))))
    frame = records.withColumn("_day", day)
    found: dict[str, Column] = {}
    for basis, table, key, column in (
        ("gp_practice", lookups.practices, "practice_code", "gp_practice_code"),
        ("residence", lookups.lsoas, "lsoa", "lsoa"),
    ):
        if table is None:
            continue
        area = f"_{basis}"
        dated = F.broadcast(
            table.select(
                F.col(key).alias(f"{area}_key"),
                F.col("valid_from").alias(f"{area}_from"),
                F.col("valid_to").alias(f"{area}_to"),
                F.col("lookup_area").alias(area),
                F.col("area_day").alias(f"{area}_day"),
                F.col("latest").alias(f"{area}_latest"),
            )
        )
        condition = (
            (F.upper(without_default(column)) == F.col(f"{area}_key"))
            & (F.col("_day") >= F.col(f"{area}_from"))
            & (F.col("_day") < F.col(f"{area}_to"))
        )
        frame = frame.join(dated, condition, "left").drop(f"{area}_key", f"{area}_from", f"{area}_to")
        found[basis] = F.col(area)
    # The whole code where it is a sub-ICB location of five characters, else its first three (15M00 → 15M).
    commissioner = F.upper(without_default("commissioner_code"))
    short = F.substring(commissioner, 1, 3)
    found["commissioner"] = F.when(commissioner.isin(*lookups.known_codes), commissioner).when(
        short.isin(*lookups.known_codes), short
    )
    ordered = [basis for basis in lookups.order if basis in found]
    code = F.coalesce(*[found[basis] for basis in ordered]) if ordered else F.lit(None).cast("string")
    outside = F.coalesce(F.col("lsoa").rlike("^(W0|S0|N0|95|N2)"), F.lit(False)) | F.coalesce(
        commissioner.rlike("^(7A|6[A-C]|S[0-9]|ZC|ZT)"), F.lit(False)
    )
    basis_column, area_day = F.lit(None).cast("string"), F.lit(None).cast("date")
    for basis in reversed(ordered):
        basis_column = F.when(found[basis].isNotNull(), F.lit(basis)).otherwise(basis_column)
        own = F.col("_day") if basis == "commissioner" else F.coalesce(f"_{basis}_day", "_day")
        area_day = F.when(found[basis].isNotNull(), own).otherwise(area_day)
    basis_column = F.coalesce(basis_column, F.when(outside, F.lit(OUTSIDE_ENGLAND)).otherwise(F.lit(UNKNOWN)))
    looked_up = [basis for basis in ordered if basis != "commissioner"]
    latest = F.coalesce(*[F.col(f"_{basis}_latest") for basis in looked_up], F.lit(None).cast("string"))
    drop = [
        "_day",
        *(f"_{basis}{part}" for basis in found if basis != "commissioner" for part in ("", "_day", "_latest")),
    ]
    placed = {"area_code": code, "area_date": area_day, "latest_area_code": latest, "area_basis": basis_column}
    return frame.withColumns(placed).drop(*drop)
