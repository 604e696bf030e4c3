"""The area of a record: the practice's sub-ICB location on the day, else the residence's, else the commissioner's.

A record can name its practice, or its residence, in several columns (areas of 2011 and of 2021): the first that the lookup
knows on the day counts. Lookups are small tables read on the driver; the order is a setting, and ``area_basis`` says on every
record which one answered (decision 5). A default code has no area: the next basis answers. The area is the one that the source
names; what it is on the version of the areas that a run shows
is found when rates are made (``flags.geography``).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.default_codes import without_default
from ebi_spark.errors import InputError
from ebi_spark.flags.geography import Geography, read_geography
from ebi_spark.flags.lookup_files import OUTSIDE, AreaCodes, read_lookup
from ebi_spark.settings import RunConfig
from ebi_spark.small_frames import small_frame

# What a lookup's code is looked for in, in this order.
NAMED_BY = {
    "gp_practice": ("gp_practice_code", "gp_practice_sus"),
    "residence": ("lsoa", "lsoa_2021", "lsoa_2001"),
}
OUTSIDE_ENGLAND = "outside_england"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Lookups:
    """Practice and residence lookups (None where not supplied) and every sub-ICB or CCG code that is known; ``remarks`` says
    what rows of the lookups have no area of England."""

    practices: DataFrame | None
    lsoas: DataFrame | None
    known_codes: tuple[str, ...]
    order: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_lookups(spark: SparkSession, config: RunConfig) -> Lookups:
    """The lookups that the configuration names, checked; an :class:`InputError` names file, column and line."""
    geography = read_geography(config.geography, config.mappings)
    remarks: list[str] = []
    return Lookups(
        practices=_lookup(spark, config.practices, "practice_code", geography, remarks) if config.practices else None,
        lsoas=_lookup(spark, config.lsoas, "lsoa", geography, remarks) if config.lsoas else None,
        known_codes=tuple(sorted(geography.valid)),
        order=config.area_order,
        remarks=tuple(remarks),
    )


# (practice or small area, from, to exclusive, area, day of the area's code, area of the newest span, a code that is no area)
Span = tuple[str, date, date, str | None, date | None, str | None, str | None]


def _lookup(spark: SparkSession, path: Path, key: str, geography: Geography, remarks: list[str]) -> DataFrame:
    """A row a code and span of days: ``key``, ``valid_from``, ``valid_to`` (exclusive), ``lookup_area`` (``outside_england``
    for another nation's), ``area_day`` (the day on which the area's code is to be read; NULL: the record's own), ``latest``
    (the area of the newest span) and, where the lookup names a code that is no area at all, ``elsewhere``."""
    return small_frame(
        spark,
        lookup_spans(path, key, geography, remarks),
        f"{key} string, valid_from date, valid_to date, lookup_area string, area_day date, latest string, elsewhere string",
    )


def lookup_spans(path: Path, key: str, geography: Geography, remarks: list[str]) -> list[Span]:
    """The spans of a lookup, checked; to ``remarks`` comes what rows have no area of England.

    Codes that are no area (NHS England's, of the armed forces, of CCGs that nothing maps) do not keep the rest of a lookup
    from being used; one that has no area of England is refused.
    """
    codes, given = AreaCodes(geography), read_lookup(path, key)
    spans: dict[str, list[tuple[date, date, str | None, date | None, str | None]]] = {}
    outside: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    for row in given:
        location, interval = codes.location(row.area)
        listed = spans.setdefault(row.code, [])
        if location:
            listed += [(*days, location, day, None) for *days, day in codes.spans(row, location, interval)]  # type: ignore[misc]
        elif codes.is_outside(row.area):
            outside[row.area] += 1
            listed.append((row.since, row.until, OUTSIDE_ENGLAND, None, None))
        else:
            elsewhere[row.area or "none"] += 1
            listed.append((row.since, row.until, None, None, row.area or None))
    if len(given) == outside.total() + elsewhere.total():
        raise InputError(
            f"{path}: {len(elsewhere)} codes in sub_icb_code are no sub-ICB location (such as "
            f"{sorted(elsewhere or outside)[0]!r}), and no row has one",
            remedy="use the codes of conf/reference/areas.csv, or say in geography.mappings what they became",
        )
    if outside or elsewhere:
        remarks.append(
            f"{path.name}: {outside.total() + elsewhere.total():,} of {len(given):,} rows have no area of England: "
            f"{outside.total():,} are outside England, {elsewhere.total():,} have another code or none"
            + (f" ({', '.join(code for code, _ in elsewhere.most_common(5))})" if elsewhere else "")
        )
    rows: list[Span] = []
    for code, listed in spans.items():
        listed.sort(key=lambda span: span[:2])
        for earlier, later in zip(listed, listed[1:], strict=False):
            if earlier[1] > later[0]:
                raise InputError(
                    f"{path}: {key} {code} has overlapping spans",
                    remedy="end one where the next begins: valid_to is the first day after, in ODS's form (20220630) the last day",
                )
        latest = listed[-1][2] if listed[-1][2] != OUTSIDE_ENGLAND else None
        rows += [(code, *span[:4], latest, span[4]) for span in listed]
    return rows


def with_area(records: DataFrame, lookups: Lookups) -> DataFrame:
    """``records`` with ``area_code`` (sub-ICB location as its source names it, NULL where unknown), ``area_date`` (the day
    on which that code is to be read), ``latest_area_code`` (where the newest rows of the lookups put the record's practice,
    else its residence) and ``area_basis``."""
    day = F.coalesce(F.col("activity_date"), F.to_date(F.concat(F.substring("financial_year", 1, 4), F.lit("-04-01"))))
    frame = records.withColumn("_day", day)
    # A lake that no run of this version has written to lacks some of them.
    named_by = {basis: [n for n in names if n in records.columns] for basis, names in NAMED_BY.items()}
    found: dict[str, Column] = {}
    for basis, table, key in (
        ("gp_practice", lookups.practices, "practice_code"),
        ("residence", lookups.lsoas, "lsoa"),
    ):
        if table is not None:
            frame = _looked_up(frame, table, key, named_by[basis], NAMED_BY[basis][0], f"_{basis}")
            found[basis] = F.col(f"_{basis}")
    # The whole code where it is a sub-ICB location of five characters, else its first three (15M00 → 15M).
    commissioner = F.upper(without_default("commissioner_code"))
    short = F.substring(commissioner, 1, 3)
    found["commissioner"] = F.when(commissioner.isin(*lookups.known_codes), commissioner).when(
        short.isin(*lookups.known_codes), short
    )
    ordered = [basis for basis in lookups.order if basis in found]
    code = F.coalesce(*[found[basis] for basis in ordered]) if ordered else F.lit(None).cast("string")
    outside = F.coalesce(commissioner.rlike(OUTSIDE), F.lit(False))
    for column in named_by["residence"]:
        outside = outside | F.coalesce(F.col(column).rlike("^(W0|S0|N0|95|N2)"), F.lit(False))
    basis_column, area_day = F.lit(None).cast("string"), F.lit(None).cast("date")
    for basis in reversed(ordered):
        basis_column = F.when(found[basis].isNotNull(), F.lit(basis)).otherwise(basis_column)
        own = F.col("_day") if basis == "commissioner" else F.coalesce(f"_{basis}_day", "_day")
        area_day = F.when(found[basis].isNotNull(), own).otherwise(area_day)
    basis_column = F.when(code == OUTSIDE_ENGLAND, F.lit(OUTSIDE_ENGLAND)).otherwise(basis_column)
    basis_column = F.coalesce(basis_column, F.when(outside, F.lit(OUTSIDE_ENGLAND)))
    looked_up = [basis for basis in ordered if basis != "commissioner"]
    # A code that is no area (NHS England's) does not keep the next basis from answering; where none does it is the record's,
    # and is listed as unmapped.
    for basis in looked_up:
        named = basis_column.isNull() & F.col(f"_{basis}_elsewhere").isNotNull()
        code = F.when(named, F.col(f"_{basis}_elsewhere")).otherwise(code)
        area_day = F.when(named, F.col("_day")).otherwise(area_day)
        basis_column = F.when(named, F.lit(basis)).otherwise(basis_column)
    is_outside = basis_column == OUTSIDE_ENGLAND
    code, area_day = (F.when(~F.coalesce(is_outside, F.lit(False)), column) for column in (code, area_day))
    basis_column = F.coalesce(basis_column, F.lit(UNKNOWN))
    latest = F.coalesce(*[F.col(f"_{basis}_latest") for basis in looked_up], F.lit(None).cast("string"))
    drop = [
        "_day",
        *(
            f"_{basis}{part}"
            for basis in found
            if basis != "commissioner"
            for part in ("", "_day", "_latest", "_elsewhere")
        ),
    ]
    placed = {"area_code": code, "area_date": area_day, "latest_area_code": latest, "area_basis": basis_column}
    return frame.withColumns(placed).drop(*drop)


def _looked_up(frame: DataFrame, table: DataFrame, key: str, columns: list[str], field: str, into: str) -> DataFrame:
    """``frame`` with what a lookup says on its ``_day`` of the first of ``columns`` that it knows then: the area as ``into``,
    and beside it ``…_day`` and ``…_latest``, all NULL where it knows none; ``…_elsewhere`` where it names a code that is no
    area. ``field``: what the default codes of these columns are listed under, which no lookup has."""
    parts = {"": "lookup_area", "_day": "area_day", "_latest": "latest", "_elsewhere": "elsewhere"}
    areas: list[str] = []
    for number, column in enumerate(columns):
        area = f"{into}_{number}"
        dated = F.broadcast(
            table.select(
                F.col(key).alias(f"{area}_key"),
                F.col("valid_from").alias(f"{area}_from"),
                F.col("valid_to").alias(f"{area}_to"),
                *[F.col(name).alias(f"{area}{part}") for part, name in parts.items()],
            )
        )
        condition = (
            (F.upper(without_default(column, field)) == F.col(f"{area}_key"))
            & (F.col("_day") >= F.col(f"{area}_from"))
            & (F.col("_day") < F.col(f"{area}_to"))
        )
        frame = frame.join(dated, condition, "left").drop(f"{area}_key", f"{area}_from", f"{area}_to")
        areas.append(area)

    def of_first_known(part: str) -> Column:
        answer = F.lit(None)
        for area in reversed(areas):
            answer = F.when(F.col(area).isNotNull(), F.col(f"{area}{part}")).otherwise(answer)
        return answer

    chosen = frame.withColumns({f"{into}{part}": of_first_known(part) for part in parts if part != "_elsewhere"})
    elsewhere = [F.col(f"{area}_elsewhere") for area in areas] or [F.lit(None).cast("string")]
    chosen = chosen.withColumn(f"{into}_elsewhere", F.coalesce(*elsewhere))
    return chosen.drop(*[f"{area}{part}" for area in areas for part in parts])
