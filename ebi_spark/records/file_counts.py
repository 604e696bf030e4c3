"""What the source files hold, counted before anything of silver is replaced: rows by file, fate, year and reason.

From it follow which years a run can replace, whether one of them shrank, and which years and files go together: a file
that holds rows of two years ties them, and years that no file ties can be written one after another.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial, reduce
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig, fingerprint
from ebi_spark.errors import DataError, InputError
from ebi_spark.lake.storage import run_in_threads
from ebi_spark.records.checksums import Checksum, checksum_columns_of
from ebi_spark.records.cleaning import clean
from ebi_spark.records.duplicates import keyed
from ebi_spark.records.row_status import DUPLICATE, FUTURE, OUTSIDE, QUARANTINED, VALID, disposition, with_year
from ebi_spark.sources.file_inventory import within
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.schemas import YEAR

# The day that a row's year goes by.
_DATED_BY = {"apcs": "discharge_date", "opa": "appointment_date", "apc": "discharge_date", "op": "appointment_date"}


@dataclass
class ClassifiedTable:
    """One source table judged: ``rows`` a row a source row, ``records`` what is valid of it as canonical records
    (None for a table that only completes another, or only takes records away).

    ``parts`` are the same rows as ``rows``, where possible those of repeated keys apart from the others: where they are
    brought together, Spark copies every row with all that is asked of it before it looks at what became of it."""

    table: SourceTable
    dataset: str
    rows: DataFrame
    records: DataFrame | None
    parts: list[DataFrame]

    @property
    def place(self) -> tuple[str, str]:
        """(system, role)."""
        return self.table.system, self.table.role


@dataclass
class FileCount:
    """What became of the rows of one file; ``years``: its rows that are not of other years than those asked for, by year
    (None where that is not known); ``due_from``: the day from which on one of its rows is read otherwise; ``verdicts``: the checksum of its keys by year and reasons, whatever years were asked for."""

    bytes: int | None = None
    modified: datetime | None = None
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    years: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))
    year_disagrees: int = 0
    differing: int = 0  # copies that differ in columns that no record takes
    due_from: date | None = None
    verdicts: dict[tuple[str | None, str], Checksum] = field(default_factory=lambda: defaultdict(Checksum))


class Step(NamedTuple):
    """Years that are written together, and the files that hold them: no other file holds rows of these years. ``rows`` of
    the files."""

    years: list[str]
    files: frozenset[str]
    rows: int


@dataclass
class FileCounts:
    """Counts by (system, role) and file, and the years found in usable rows by dataset, each with its valid rows (of the
    tables that records are made of). ``unchanged``: what earlier runs counted of the files that this one had no need to look
    at."""

    files: dict[tuple[str, str], dict[str, FileCount]]
    years: dict[str, dict[str, int]]
    unchanged: dict[tuple[str, str], dict[str, FileCount]] = field(default_factory=dict)

    def counts(self, place: tuple[str, str]) -> dict[str, FileCount]:
        """The counts of all files of a table."""
        return self.unchanged.get(place, {}) | self.files[place]

    def total(self, kind: str) -> int:
        """Rows of one disposition over all files."""
        return sum(count.rows[kind] for place in self.files for count in self.counts(place).values())

    def verdicts(self, step: "Step") -> dict[str, dict[str, str]]:
        """By file of a step and year (those of its rows that were asked for, and "" for rows of no year) a fingerprint, the
        same only while the same rows are of that year, set aside for the same reasons and counted or copies. It changes with
        the file, and with other files: where one brings or lets go of a key that stands in both, or of the spell of a row of
        APCS_Der."""
        told: dict[str, dict[str, list[str]]] = {path: defaultdict(list) for path in step.files}
        for place, counts in sorted(self.files.items()):
            for path in told.keys() & counts.keys():
                for (year, reasons), found in sorted(counts[path].verdicts.items(), key=str):
                    if year is None or year in counts[path].years:
                        told[path][year or ""].append(f"{place} {reasons}: {found}")
        return {path: {year: fingerprint(found) for year, found in by_year.items()} for path, by_year in told.items()}

    def due_from(self, step: "Step") -> dict[str, date]:
        """The files of a step that hold rows of days to come, each with the first day from which on it has to be read again."""
        found: dict[str, date] = {}
        for counts in self.files.values():
            for path in step.files & counts.keys():
                day = counts[path].due_from
                if day is not None:
                    found[path] = min(day, found.get(path, day))
        return found

    def quarantined(self, place: tuple[str, str], files: frozenset[str]) -> int:
        """Rows of one table and some of its files that were set aside."""
        return sum(count.rows[QUARANTINED] for path, count in self.files[place].items() if path in files)


def count_files(judged: list[ClassifiedTable], config: RunConfig) -> FileCounts:
    """Count rows by file, fate, year and reason; collects a row a combination, never a record."""
    years: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    counted = run_in_threads([partial(_count_files, item, config) for item in judged])
    for item, (_, found) in zip(judged, counted, strict=True):
        for year, valid in found.items():
            years[item.dataset][year] += valid if item.records is not None else 0
    return FileCounts({item.place: files for item, (files, _) in zip(judged, counted, strict=True)}, years)


def _count_files(item: ClassifiedTable, config: RunConfig) -> tuple[dict[str, FileCount], dict[str, int]]:
    grouped = [
        rows.withColumn("fate", disposition(config.years))
        .groupBy("source_file", "file_bytes", "file_modified", YEAR, "fate", "reasons", "year_disagrees")
        .agg(
            F.count("*").alias("count"),
            F.count_if("differs_elsewhere").alias("differing"),
            F.min("due_from").alias("due_from"),
            *checksum_columns_of(F.xxhash64("record_id", "is_duplicate")),
        )
        for rows in item.parts
    ]
    seen: dict[str, FileCount] = {}
    years: dict[str, int] = defaultdict(int)
    for row in reduce(DataFrame.unionByName, grouped).collect():
        count = seen.setdefault(row["source_file"], FileCount(row["file_bytes"], row["file_modified"]))
        count.rows[row["fate"]] += row["count"]
        count.verdicts[row[YEAR], ",".join(sorted(row["reasons"]))].add(row)
        count.year_disagrees += row["count"] if row["year_disagrees"] else 0
        if row["due_from"] and (count.due_from is None or row["due_from"] < count.due_from):
            count.due_from = row["due_from"]
        if row["fate"] != OUTSIDE:
            count.years[row[YEAR]] += row["count"]
        if row["fate"] == DUPLICATE:
            count.differing += row["differing"]
        if row["fate"] == QUARANTINED:
            for reason in row["reasons"]:
                count.reasons[reason] += row["count"]
        elif row[YEAR] is not None:
            years[row[YEAR]] += row["count"] if row["fate"] == VALID else 0
    # A file without a row is in no group; folders of many files show as their files.
    for path in item.table.files:
        if path not in seen and not any(within(name, path) for name in seen):
            seen[path] = FileCount()
    return seen, years


def years_named(tables: Iterable[SourceTable], config: RunConfig) -> set[str]:
    """The financial years of the rows that have a key, from one query over the different dates and years there are."""
    looks = []
    for table in tables:
        if table.role in _DATED_BY:
            day = _DATED_BY[table.role]
            named = keyed(table.rows).select(day, "year_text", "extract_date", "corrupt").distinct()
            different = clean(named, {day: "day", "extract_date": "day"})
            dated = with_year(different, day, config.window(table.system, table.role), config.bare_year)
            looks.append(dated.select(F.coalesce("dated_year", "stated_year").alias("year")).distinct())
    # A condition on the year would be asked of every row, before there are few: Spark moves it below.
    found = reduce(DataFrame.unionByName, looks).collect() if looks else []
    return {row["year"] for row in found if row["year"] is not None}


def years_to_replace(present: set[str], config: RunConfig, left: Collection[str] = (), unusable: str = "") -> list[str]:
    """The years that the run will replace; an :class:`InputError` when a year asked for is in no file, and is not one that
    files have ``left``. ``unusable``: how many rows cannot be used, by reason."""
    if config.years:
        absent = [year for year in config.years if year not in present and year not in left]
        if absent:
            held = ", ".join(sorted(present)) or "no usable year"
            where = f"no usable row of the source files ({unusable})" if unusable else "none of the source files"
            raise InputError(
                f"years: {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} in {where}",
                remedy=f"the files hold {held}; correct `years` or add the files",
            )
        return list(config.years)
    if not present:
        raise InputError(
            f"the source files hold no usable row ({unusable})" if unusable else "the source files hold no row",
            remedy="check the dates and keys of the files; `ebi-spark status` lists the reasons and what to do"
            if unusable
            else "check the paths, or add the files that hold the rows",
        )
    return sorted(present)


def steps(
    found: FileCounts, years: list[str], most: int, left: Mapping[str, Collection[str]] | None = None
) -> list[Step]:
    """The years in order, in steps that share no file, of at most ``most`` rows where a step can be smaller. Files without
    a row of these years go with the first step: what is set aside of them has to be written too. ``left``: years that are
    replaced by nothing, with the files that held them: where a record moved, both of its years change in one commit."""
    tied = {year: year for year in years}

    def root(year: str) -> str:
        while tied[year] != year:
            year = tied[year]
        return year

    of_file: dict[str, list[str]] = {}
    rows: dict[str, int] = defaultdict(int)
    for counts in found.files.values():
        for path, count in counts.items():
            held = sorted(year for year in count.years if year in tied)
            of_file.setdefault(path, []).extend(held)
            rows[path] += sum(count.years.values())
    tying: dict[str, set[str]] = {path: set(held) for path, held in of_file.items()}
    for year, paths in (left or {}).items():
        for path in paths:
            tying.setdefault(path, set()).add(year)
            if path in of_file:
                of_file[path].append(year)
    for held in map(sorted, tying.values()):
        for year in held[1:]:
            first, second = sorted((root(held[0]), root(year)))
            tied[second] = first
    groups: dict[str, list[str]] = defaultdict(list)
    for year in years:
        groups[root(year)].append(year)
    files: dict[str, set[str]] = defaultdict(set)
    for path, held in of_file.items():
        files[root(held[0]) if held else root(years[0])].add(path)
    made: list[Step] = []
    for first in sorted(groups):
        number = sum(rows[path] for path in files[first])
        if made and made[-1].rows + number <= most:
            last = made[-1]
            made[-1] = Step([*last.years, *groups[first]], last.files | files[first], last.rows + number)
        else:
            made.append(Step(list(groups[first]), frozenset(files[first]), number))
    return [step._replace(years=sorted(step.years)) for step in made]


def refuse_too_many_quarantined(found: FileCounts, config: RunConfig) -> None:
    """A :class:`DataError` when a larger share of a source table had to be set aside than the configuration allows.
    Appointments that are yet to come are no bad rows."""
    for system, role in found.files:
        files = found.counts((system, role))
        read = sum(sum(c.rows.values()) - c.rows[OUTSIDE] for c in files.values())
        bad = sum(c.rows[QUARANTINED] - c.reasons.get(FUTURE, 0) for c in files.values())
        if read and bad / read > config.max_quarantine_share:
            reasons: dict[str, int] = defaultdict(int)
            for count in files.values():
                for reason, number in count.reasons.items():
                    reasons[reason] += number
            listed = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
            raise DataError(
                f"{system} {role}: {bad:,} of {read:,} rows had to be set aside ({listed}), more than the share of "
                f"{config.max_quarantine_share:g} that the configuration allows; nothing was published",
                remedy="look at silver/quarantine, mend the source, or raise max_quarantine_share",
            )


def refuse_shrunken(
    table: str, held: Mapping[str, int], counts: Mapping[str, int], config: RunConfig, years: Iterable[str]
) -> None:
    """A year that would lose more than the allowed share of its rows waits for a person's word. ``held`` in the lake and
    ``counts`` in the source files, rows by year."""
    for year in years:
        before, now = held.get(year, 0), counts.get(year, 0)
        if now < (1 - config.max_shrink_share) * before:
            raise DataError(
                f"{table}: {year} has {now:,} usable rows in the source files and {before:,} in the lake, fewer by "
                f"more than the share of {config.max_shrink_share:g} that the configuration allows; nothing was replaced",
                remedy="check that the extract is whole; if the year did shrink, run again with --accept",
            )
