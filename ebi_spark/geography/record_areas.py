"""Finds the area of a record: the sub-ICB location of the GP practice on the day, or of the home address, or the commissioner.

The order of these three is a setting, and ``area_basis`` says on every record which one gave the area (decision 5). A record
can name its practice or its residence in several columns (small areas of 2011 and of 2021): the first one that the lookup
knows on the day counts. A default code has no area, so the next basis is tried. Lookups are small tables that are read on
the driver. The area is stored as the source names it; when rates are computed it is assigned to an area of the version that
the run shows (:mod:`ebi_spark.geography.output_areas`).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import without_default
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.geography.lookup_files import OUTSIDE, AreaCodes, read_lookup
from ebi_spark.quoting import sql_list
from ebi_spark.small_frames import small_frame

# The columns of a record that can hold a code of the lookup, in the order in which they are tried.
NAMED_BY = {
    "gp_practice": ("gp_practice_code", "gp_practice_sus"),
    "residence": ("lsoa", "lsoa_2021", "lsoa_2001"),
}
OUTSIDE_ENGLAND = "outside_england"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Lookups:
    """The practice and residence lookups (None where not supplied), every known code of a sub-ICB location or CCG, and the
    ``order`` of the bases. ``remarks``: messages about rows of the lookups without an area of England."""

    practices: DataFrame | None
    lsoas: DataFrame | None
    known_codes: tuple[str, ...]
    order: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_lookups(spark: SparkSession, config: RunConfig) -> Lookups:
    """Read and check the lookups that the configuration names. Raises an :class:`InputError` naming file, column and line."""
    geography = read_geography(config.geography, config.mappings)
    remarks: list[str] = []
    return Lookups(
        practices=_lookup(spark, config.practices, "practice_code", geography, remarks) if config.practices else None,
        lsoas=_lookup(spark, config.lsoas, "lsoa", geography, remarks) if config.lsoas else None,
        known_codes=tuple(sorted(geography.valid)),
        order=config.area_order,
        remarks=tuple(remarks),
    )


# (practice or small area, first day, end day exclusive, area, day for which the area's code is interpreted, area of the newest
# span, a code that is not an area)
Span = tuple[str, date, date, str | None, date | None, str | None, str | None]


def _lookup(spark: SparkSession, path: Path, key: str, geography: Geography, remarks: list[str]) -> DataFrame:
    """One row for each code of the lookup and span of days.

    - ``key``: the practice or small area; ``valid_from`` and ``valid_to`` (exclusive): the span.
    - ``lookup_area``: the area, ``outside_england`` for another nation's, NULL for a code that is not an area.
    - ``area_day``: the day for which the area's code is interpreted; NULL means the record's own date.
    - ``latest``: the area of the newest span.
    - ``elsewhere``: the code that the lookup gives, where it is not an area.
    """
    return small_frame(
        spark,
        lookup_spans(path, key, geography, remarks),
        f"{key} string, valid_from date, valid_to date, lookup_area string, area_day date, latest string, elsewhere string",
    )


def lookup_spans(path: Path, key: str, geography: Geography, remarks: list[str]) -> list[Span]:
    """The checked spans of a lookup. Adds a message to ``remarks`` if some rows have no area of England.

    Some rows can have codes that are not areas (NHS England, the armed forces, CCGs that no table maps); the rest of the
    lookup is still used. A lookup without any area of England is refused with an :class:`InputError`, as is one with
    overlapping spans.

    | practice_code | sub_icb_code | valid_from, valid_to   | → code | first day  | end (exclusive) | area | day of its code | newest | other |
    |---------------|--------------|------------------------|--------|------------|-----------------|------|-----------------|--------|-------|
    | A81001        | 15M          | none                   | A81001 | 1900-01-01 | 9999-12-31      | 15M  | the newest      | 15M    | None  |
    | A81002        | 15E          | 2015-04-01, 2022-07-01 | A81002 | 2015-04-01 | 2022-07-01      | 15E  | None            | 15E    | None  |
    | A81003        | 13Q          | none                   | A81003 | 1900-01-01 | 9999-12-31      | None | None            | None   | 13Q   |
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
            f"{path}: {len(elsewhere)} codes in sub_icb_code are not those of a sub-ICB location (such as "
            f"{sorted(elsewhere or outside)[0]!r}), and no row has an area of England",
            remedy="use the codes of conf/reference/areas.csv, or list in a file of geography.mappings what they became",
        )
    if outside or elsewhere:
        remarks.append(
            f"{path.name}: {outside.total() + elsewhere.total():,} of {len(given):,} rows have no area of England: "
            f"{outside.total():,} are outside England, {elsewhere.total():,} have another code or no code"
            + (f" ({', '.join(code for code, _ in elsewhere.most_common(5))})" if elsewhere else "")
        )
    rows: list[Span] = []
    for code, listed in spans.items():
        listed.sort(key=lambda span: span[:2])
        for earlier, later in zip(listed, listed[1:], strict=False):
            if earlier[1] > later[0]:
                raise InputError(
                    f"{path}: {key} {code} has overlapping spans",
                    remedy="end each span where the next begins. valid_to is the day after the last one; a date in ODS's form "
                    "(20220630) is the last day itself",
                )
        latest = listed[-1][2] if listed[-1][2] != OUTSIDE_ENGLAND else None
        rows += [(code, *span[:4], latest, span[4]) for span in listed]
    return rows


def lookup_day() -> Column:
    """The day for which a record's area is looked up: its activity date, or else the first day of its financial year."""
    first_day = F.to_date(F.concat(F.substring("financial_year", 1, 4), F.lit("-04-01")))
    return F.coalesce(F.col("activity_date"), first_day)


def with_area(records: DataFrame, lookups: Lookups) -> DataFrame:
    """``records`` with four more columns.

    - ``area_code``: the sub-ICB location as the source names it; NULL where it is unknown or outside England.
    - ``area_date``: the day for which that code is interpreted.
    - ``latest_area_code``: the area of the record's practice, or else of its residence, by the newest rows of the lookups.
    - ``area_basis``: what gave the area: ``gp_practice``, ``residence``, ``commissioner``, ``outside_england`` or ``unknown``.

    | gp_practice_code | commissioner_code | → area_code | area_basis      |
    |------------------|-------------------|-------------|-----------------|
    | A81001 (in 02P)  | 15M00             | 02P         | gp_practice     |
    | NULL             | 15M00             | 15M         | commissioner    |
    | NULL             | 7A1               | NULL        | outside_england |
    """
    frame = records.withColumn("_day", lookup_day())
    # A lake that this version has not written to yet lacks some of these columns.
    named_by = {basis: [n for n in names if n in records.columns] for basis, names in NAMED_BY.items()}
    found: dict[str, Column] = {}
    for basis, table, key in (
        ("gp_practice", lookups.practices, "practice_code"),
        ("residence", lookups.lsoas, "lsoa"),
    ):
        if table is not None:
            frame = _looked_up(frame, table, key, named_by[basis], NAMED_BY[basis][0], f"_{basis}")
            found[basis] = F.col(f"_{basis}")
    # A code that is a sub-ICB location as a whole is used as it is, otherwise its first three characters (15M00 → 15M).
    frame = frame.withColumn("_commissioner", F.upper(without_default("commissioner_code")))
    short, known = "substring(_commissioner, 1, 3)", sql_list(lookups.known_codes)
    # As SQL, because each of the codes would be several calls from Python to Java.
    found["commissioner"] = F.expr(
        f"CASE WHEN _commissioner IN {known} THEN _commissioner WHEN {short} IN {known} THEN {short} END"
    )
    ordered = [basis for basis in lookups.order if basis in found]
    code = F.coalesce(*[found[basis] for basis in ordered]) if ordered else F.lit(None).cast("string")
    outside = F.coalesce(F.col("_commissioner").rlike(OUTSIDE), F.lit(False))
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
    # Where a lookup gives a code that is not an area (NHS England's), the next basis is tried. If none gives an area, that code
    # becomes the record's area code and is listed as unmapped.
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
        "_commissioner",
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
    """``frame`` joined with a lookup on its day ``_day``, by the first of ``columns`` that the lookup knows on that day.

    Adds the area as ``into``, with ``…_day`` and ``…_latest`` (see :func:`_lookup`); all are NULL where the lookup knows none
    of the columns. ``…_elsewhere`` is the code that the lookup gives where it is not an area. ``field``: the name under which
    default codes of these columns are listed; they never match a lookup.
    """
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

    def first_known(part: str) -> Column:
        answer = F.lit(None)
        for area in reversed(areas):
            answer = F.when(F.col(area).isNotNull(), F.col(f"{area}{part}")).otherwise(answer)
        return answer

    chosen = frame.withColumns({f"{into}{part}": first_known(part) for part in parts if part != "_elsewhere"})
    elsewhere = [F.col(f"{area}_elsewhere") for area in areas] or [F.lit(None).cast("string")]
    chosen = chosen.withColumn(f"{into}_elsewhere", F.coalesce(*elsewhere))
    return chosen.drop(*[f"{area}{part}" for area in areas for part in parts])
