"""Which years an ingest replaces, which of them are written together, and when it is refused.

A file that has rows of two years links them. Years that no file links can be written in separate batches.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import DataError, InputError
from ebi_spark.records.cleaning import clean
from ebi_spark.records.duplicates import keyed
from ebi_spark.records.file_counts import Batch, FileCounts
from ebi_spark.records.row_status import FUTURE, OUTSIDE, QUARANTINED, with_year
from ebi_spark.sources.reader import SourceTable

# The date that decides a row's year.
_DATED_BY = {"apcs": "discharge_date", "opa": "appointment_date", "apc": "discharge_date", "op": "appointment_date"}


def years_named(tables: Iterable[SourceTable], config: RunConfig) -> set[str]:
    """The financial years of the rows that have a key, from one query over the distinct dates and years."""
    queries = []
    for table in tables:
        if table.role in _DATED_BY:
            day = _DATED_BY[table.role]
            named = keyed(table.rows).select(day, "year_text", "extract_date", "corrupt").distinct()
            different = clean(named, {day: "day", "extract_date": "day"})
            dated = with_year(different, day, config.window(*table.table_id), config.bare_year)
            queries.append(dated.select(F.coalesce("dated_year", "stated_year").alias("year")).distinct())
    # No condition on the year in the query: Spark would move it down and evaluate it for every row, before there are
    # few.
    found = reduce(DataFrame.unionByName, queries).collect() if queries else []
    return {row["year"] for row in found if row["year"] is not None}


def years_to_replace(present: set[str], config: RunConfig, emptied: Collection[str], unusable: str = "") -> list[str]:
    """The years that the run will replace.

    Raises :class:`InputError` when a year asked for is in no file, unless it is one of the ``emptied`` years: those
    that the lake has from source files and that no file has any more. ``unusable``: how many rows cannot be used,
    by reason.
    """
    if config.years:
        absent = [year for year in config.years if year not in present and year not in emptied]
        if absent:
            present_years = ", ".join(sorted(present)) or "no usable year"
            where = f"no usable row of the source files ({unusable})" if unusable else "none of the source files"
            raise InputError(
                f"years: {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} in {where}",
                remedy=f"the files have {present_years}; correct `years` or add the files",
            )
        return list(config.years)
    if not present:
        raise InputError(
            f"the source files have no usable rows ({unusable})" if unusable else "the source files have no rows",
            remedy="check the dates and keys of the files; `ebi-spark status` lists the reasons and what to do"
            if unusable
            else "check the paths, or add the files that have the rows",
        )
    return sorted(present)


def batches(
    found: FileCounts, years: list[str], most: int, emptied: Mapping[str, Collection[str]] | None = None
) -> list[Batch]:
    """The years in order, in batches that share no file, each of at most ``most`` rows where it can be split.

    Files without a row of these years go with the first batch: their quarantined rows have to be written too.
    ``emptied``: years that lose all their rows, with the files that had them. Where a record moved, both of its
    years change in one commit.

    | file | rows by year               | → batch, with at most 1,000 rows       |
    |------|----------------------------|----------------------------------------|
    | a    | 2019-20: 500, 2020-21: 400 | 2019-20, 2020-21 and 2021-22: 980 rows |
    | b    | 2021-22: 80                |                                        |
    | c    | 2022-23: 500               | 2022-23: 500 rows                      |
    """
    years_of: dict[str, set[str]] = defaultdict(set)
    rows: Counter[str] = Counter()
    for counts in found.files.values():
        for path, count in counts.items():
            years_of[path].update(year for year in years if year in count.years)
            rows[path] += sum(count.years.values())
    present = set(years_of)
    for year, paths in (emptied or {}).items():
        for path in paths:
            years_of[path].add(year)
    groups = [{year} for year in years]
    for linked in years_of.values():
        if linked:
            others = [group for group in groups if not group & linked]
            groups = [*others, set().union(*(group for group in groups if group & linked))]
    found_batches: list[Batch] = []
    for group in sorted(groups, key=min):
        files = {path for path in present if years_of[path] & group or (not years_of[path] and years[0] in group)}
        number = sum(rows[path] for path in files)
        if found_batches and found_batches[-1].rows + number <= most:
            last = found_batches[-1]
            found_batches[-1] = Batch([*last.years, *group], last.files | files, last.rows + number)
        else:
            found_batches.append(Batch(list(group), frozenset(files), number))
    return [batch._replace(years=sorted(batch.years)) for batch in found_batches]


def refuse_too_many_quarantined(found: FileCounts, config: RunConfig) -> None:
    """Raise :class:`DataError` when a larger share of a source table was quarantined than the configuration allows.
    Future appointments do not count as bad rows."""
    for system, role in found.files:
        files = found.counts((system, role))
        read = sum(sum(c.rows.values()) - c.rows[OUTSIDE] for c in files.values())
        bad = sum(c.rows[QUARANTINED] - c.reasons.get(FUTURE, 0) for c in files.values())
        if read and bad / read > config.max_quarantine_share:
            reasons: Counter[str] = Counter()
            for count in files.values():
                reasons.update(count.reasons)
            listed = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
            raise DataError(
                f"{system} {role}: {bad:,} of {read:,} rows were quarantined ({listed}), more than the share of "
                f"{config.max_quarantine_share:g} that the configuration allows; nothing was published",
                remedy="look at silver/quarantine, correct the source, or raise max_quarantine_share",
            )


def refuse_shrunken(
    table: str, existing: Mapping[str, int], counts: Mapping[str, int], config: RunConfig, years: Iterable[str]
) -> None:
    """Raise :class:`DataError` when a year would lose more than the allowed share of its rows, so that a person
    decides. ``existing`` are the rows in the lake and ``counts`` those in the source files, by year."""
    for year in years:
        before, now = existing.get(year, 0), counts.get(year, 0)
        if now < (1 - config.max_shrink_share) * before:
            raise DataError(
                f"{table}: {year} has {now:,} usable rows in the source files and {before:,} in the lake, fewer by "
                f"more than the share of {config.max_shrink_share:g} that the configuration allows; nothing was replaced",
                remedy="check that the extract is complete; if the year did shrink, run again with --accept-shrinkage",
            )
