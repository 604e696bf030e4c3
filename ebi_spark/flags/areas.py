"""The area of a record: the practice's sub-ICB location on the day, else the residence's, else the commissioner's.

Lookups are small tables read on the driver; the order is a setting, and ``area_basis`` says on every record which one
answered (decision 5).
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.settings import RunConfig, resource
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
    known = {row["sub_icb_code"] for row in read_rows(resource("conf", "reference", "areas.csv"))}
    return Lookups(
        practices=_lookup(spark, config.practices, "practice_code", known) if config.practices else None,
        lsoas=_lookup(spark, config.lsoas, "lsoa", known) if config.lsoas else None,
        known_codes=tuple(sorted(known)),
        order=config.area_order,
    )


def read_rows(path: Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a small CSV file as dictionaries."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})", remedy="give a readable CSV file") from None
    missing = [name for name in required if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path}: the column {missing[0]} is missing, or there is no row", remedy=f"add {missing[0]}")
    return rows


def _lookup(spark: SparkSession, path: Path, key: str, known: set[str]) -> DataFrame:
    """A row a code and span of days: ``key``, ``sub_icb_code``, ``valid_from``, ``valid_to`` (exclusive)."""
    spans: dict[str, list[tuple[date, date, str]]] = {}
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
        if code not in known:
            unknown.add(code)
        spans.setdefault(row[key].strip().upper(), []).append((since, until, code))
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} codes in sub_icb_code are no sub-ICB location (such as {sorted(unknown)[0]!r})",
            remedy="use the codes of conf/reference/areas.csv",
        )
    rows = []
    for code, listed in spans.items():
        listed.sort()
        for earlier, later in zip(listed, listed[1:], strict=False):
            if earlier[1] > later[0]:
                raise InputError(f"{path}: {key} {code} has overlapping spans", remedy="end one where the next begins")
        rows += [(code, since, until, area) for since, until, area in listed]
    return small_frame(spark, rows, f"{key} string, valid_from date, valid_to date, lookup_area string")


def with_area(records: DataFrame, lookups: Lookups) -> DataFrame:
    """``records`` with ``area_code`` (sub-ICB location, NULL where unknown) and ``area_basis``."""
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
            )
        )
        condition = (
            (F.upper(F.col(column)) == F.col(f"{area}_key"))
            & (F.col("_day") >= F.col(f"{area}_from"))
            & (F.col("_day") < F.col(f"{area}_to"))
        )
        frame = frame.join(dated, condition, "left").drop(f"{area}_key", f"{area}_from", f"{area}_to")
        found[basis] = F.col(area)
    # The whole code where it is a sub-ICB location of five characters, else its first three (15M00 → 15M).
    commissioner = F.upper(F.col("commissioner_code"))
    short = F.substring(commissioner, 1, 3)
    found["commissioner"] = F.when(commissioner.isin(*lookups.known_codes), commissioner).when(
        short.isin(*lookups.known_codes), short
    )
    ordered = [basis for basis in lookups.order if basis in found]
    code = F.coalesce(*[found[basis] for basis in ordered]) if ordered else F.lit(None).cast("string")
    outside = F.coalesce(F.col("lsoa").rlike("^(W0|S0|N0|95|N2)"), F.lit(False)) | F.coalesce(
        commissioner.rlike("^(7A|6[A-C]|S[0-9]|ZC|ZT)"), F.lit(False)
    )
    basis_column = F.lit(None).cast("string")
    for basis in reversed(ordered):
        basis_column = F.when(found[basis].isNotNull(), F.lit(basis)).otherwise(basis_column)
    basis_column = F.coalesce(basis_column, F.when(outside, F.lit(OUTSIDE_ENGLAND)).otherwise(F.lit(UNKNOWN)))
    drop = ["_day", *(f"_{basis}" for basis in found if basis != "commissioner")]
    return frame.withColumns({"area_code": code, "area_basis": basis_column}).drop(*drop)
