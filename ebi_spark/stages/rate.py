"""The stage rate: aggregates flags to rates by area, and measures how areas vary."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.geography.code_forms import COMPARED, refuse_invalid_codes, with_known_codes
from ebi_spark.geography.output_areas import unmapped_areas
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.lake.conditions import predicate_of
from ebi_spark.rates.completeness import (
    MarkedMonths,
    activity_months,
    completeness,
    provider_months,
)
from ebi_spark.rates.compute_rates import compute_rates
from ebi_spark.rates.periods import rows_to_replace, split_into_files
from ebi_spark.rates.population import population_rows, population_warnings, read_vintages, stored_vintages
from ebi_spark.rates.population_files import Vintage
from ebi_spark.rates.record_quality import record_quality
from ebi_spark.rates.variation import variation
from ebi_spark.runs.due import Due
from ebi_spark.runs.stage_inputs import READS
from ebi_spark.stages.stage import Stage
from ebi_spark.stages.years import known_records, silver_years
from ebi_spark.tables.gold import (
    ACTIVITY_FLAG,
    ACTIVITY_MONTH,
    ACTIVITY_RATE,
    POLICY,
    POLICY_ATTRITION,
    PROVIDER_MONTH,
    RATE_VARIATION,
    RECORD_QUALITY,
    UNMAPPED_AREA,
)
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE, POPULATION
from ebi_spark.tables.table import POLICY_KEY, YEAR
from ebi_spark.threads import run_in_threads

# The columns of a rate that the summary shows.
_SHOWN = (
    "policy_id", "revision", "reading", YEAR, "activity", "crude_rate", "standardised_rate", "lower", "upper", "status", "notes",
)  # fmt: skip


@dataclass(frozen=True)
class RateSummary:
    """``national``: the rows of ``gold/activity_rate`` for England, single years and default readings, by policy and year."""

    national: list[dict[str, Any]]


class Rate(Stage):
    """Aggregates the flags of some years to rates, by year and pooled period.

    Replaces the rates and variation of these years and of every pooled period that includes one of them; their counts by
    month, areas that cannot be placed and quality of records; all marks of months; and the populations, where they changed.
    """

    name = "rate"
    reads = READS["rate"]
    writes = (
        ACTIVITY_RATE, RATE_VARIATION, ACTIVITY_MONTH, PROVIDER_MONTH, UNMAPPED_AREA, RECORD_QUALITY, POPULATION,
    )  # fmt: skip
    compute = staticmethod(compute_rates)

    def run(self, due: Due | None = None) -> RateSummary:
        """Aggregate the flags of the years asked for, or of those that are ``due``."""
        context, config, lake = self.context, self.config, self.lake
        with context.stage(self.name) as report:
            years = report.years = due.years if due else silver_years(context)
            report.rows_to_read = known_records(context, years)
            geography = read_geography(config.geography, config.mappings)
            read = read_vintages(config, geography)
            lake.prepare()
            context.progress("counting records by provider and month")
            run_in_threads(
                [
                    partial(self._store_populations, read),
                    partial(self._write_months, years),
                    partial(self._write_quality, years),
                ]
            )
            refuse_invalid_codes(lake.small_rows(RECORD_QUALITY, COMPARED, {YEAR: years}), config)
            # Each task mostly plans its query, which keeps one core busy, so they run side by side.
            tasks: list[Callable[[], list[dict[str, list[Any]]] | None]] = [
                partial(self._write_rates, years, geography),
                partial(self._write_months_of_policies, years),
                partial(self._write_unmapped_areas, years, geography),
            ]
            replaced = run_in_threads(tasks)[0]
            assert replaced is not None
            self._report_unmapped(years)
            report.rows = lake.grouped(ACTIVITY_RATE, [], where=replaced)[0]["rows"]
            return RateSummary(self._national_rates(years))

    def _write_rates(self, years: list[str], geography: Geography) -> list[dict[str, list[Any]]]:
        """Write the rates of all periods that include one of the years, and how areas vary in them. Returns which rows were
        replaced."""
        context, config, lake = self.context, self.config, self.lake
        made = self.compute(lake, config, years, geography)
        for warning in population_warnings(made.population, years, partial=config.coverage == "partial"):
            context.progress(warning)
        context.progress("calculating rates from the flags")
        replaced = rows_to_replace(years, made.years_read | {*lake.years(ACTIVITY_RATE)})
        # By Spark, because the files have to be separate.
        self.replace(ACTIVITY_RATE, split_into_files(self.with_run(made.rates), made.ends), replaced)
        written = lake.read_small(ACTIVITY_RATE).where(predicate_of(replaced))
        context.progress("measuring how areas vary")
        spread = self.with_run(variation(written, config.min_national_events))
        self.replace(RATE_VARIATION, split_into_files(spread, made.ends), replaced)
        return replaced

    def _write_months_of_policies(self, years: list[str]) -> None:
        """Write ``gold/activity_month`` for the given years."""
        lake, in_years = self.lake, F.col(YEAR).isin(years)
        inside = lake.read(ACTIVITY_FLAG).where(in_years & (F.col("area_basis") != OUTSIDE_ENGLAND))
        in_scope = (F.col("step") == 0) & (F.col("records_in") > 0)
        scoped = lake.read_small(POLICY_ATTRITION).where(in_years & in_scope)
        months = lake.read_small(PROVIDER_MONTH).where(in_years)
        counted = activity_months(inside, scoped, lake.read_small(POLICY), months)
        self.replace_aggregate(ACTIVITY_MONTH, counted, {YEAR: years})

    def _write_unmapped_areas(self, years: list[str], geography: Geography) -> None:
        """Write ``gold/unmapped_area`` for the given years."""
        flags = self.lake.read(ACTIVITY_FLAG).where(F.col(YEAR).isin(years))
        self.replace_aggregate(UNMAPPED_AREA, unmapped_areas(flags, geography), {YEAR: years})

    def _national_rates(self, years: list[str]) -> list[dict[str, Any]]:
        """England's rates of single years in default readings, by policy and year."""
        key = list(POLICY_KEY)
        defaults = [
            [row[name] for name in key]
            for row in self.lake.small_rows(POLICY, [*key, "is_default_reading"])
            if row["is_default_reading"]
        ]
        where: dict[str, list[str | int]] = {YEAR: [*years], "area_type": ["england"], "period_years": [1]}
        rows = self.lake.small_rows(ACTIVITY_RATE, _SHOWN, where)
        national = [row for row in rows if [row[name] for name in key] in defaults]
        return sorted(national, key=lambda row: (row["policy_id"], row[YEAR]))

    def _write_months(self, years: list[str]) -> None:
        """Write ``gold/provider_month``, with the given years counted again."""
        config, lake, in_years = self.config, self.lake, F.col(YEAR).isin(years)
        columns = ("dataset", YEAR, "provider_code", "person_id", "record_id", "activity_date")
        records = [lake.read(table).where(in_years).select(*columns) for table in (APC_SPELL, OP_ATTENDANCE)]
        fresh = provider_months(with_known_codes(reduce(DataFrame.unionByName, records)))
        # Which months are the latest depends on all years, so rows of other years may be marked differently now.
        earlier = lake.read_small(PROVIDER_MONTH).where(~in_years & (F.col("records") > 0)).select(*fresh.columns)
        marked = MarkedMonths(config.provisional_months, config.pandemic_months)
        self.replace_aggregate(PROVIDER_MONTH, completeness(earlier.unionByName(fresh), marked), {})

    def _write_quality(self, years: list[str]) -> None:
        """Write ``gold/record_quality`` for the given years."""
        lake, in_years = self.lake, F.col(YEAR).isin(years)
        measured = record_quality(lake.read(table).where(in_years) for table in (APC_SPELL, OP_ATTENDANCE))
        self.replace_aggregate(RECORD_QUALITY, measured, {YEAR: years})

    def _store_populations(self, read: dict[date, Vintage]) -> None:
        """Write the configured populations to silver in one commit, unless silver already has exactly these."""
        if stored_vintages(self.lake.small_rows(POPULATION, POPULATION.names())) != read:
            self.replace(POPULATION, population_rows(read, self.context.run_id), {})

    def _report_unmapped(self, years: list[str]) -> None:
        """Say how many records in scope have an area code that cannot be placed below England."""
        codes: dict[str, set[str]] = defaultdict(set)
        records: dict[str, int] = defaultdict(int)
        for row in self.lake.grouped(UNMAPPED_AREA, ["reason", "code"], ["records"], {YEAR: years}):
            codes[row["reason"]] |= {row["code"]} - {None}
            records[row["reason"]] += row["records"]
        for reason in sorted(records):
            self.context.progress(
                f"{records[reason]:,} records in scope count in England's figures only, because their {len(codes[reason]):,} area "
                f"codes are {reason}. gold/unmapped_area lists the codes; a file in geography.mappings can say what became of them"
            )
