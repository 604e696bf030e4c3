"""The stage validate: checks silver, flags, rates and monitoring before anything is published."""

from dataclasses import dataclass

from ebi_spark.errors import DataError
from ebi_spark.runs.due import Due
from ebi_spark.runs.output_paths import docs_folder
from ebi_spark.runs.stage_inputs import OF_ALL_YEARS, READS
from ebi_spark.stages.stage import Stage
from ebi_spark.stages.years import silver_years
from ebi_spark.tables.gold import ACTIVITY_RATE
from ebi_spark.validation.check_layers import validate_layers
from ebi_spark.validation.result import LayerResult


@dataclass(frozen=True)
class ValidateSummary:
    """The result of each layer that was checked."""

    layers: dict[str, LayerResult]


class Validate(Stage):
    """Checks every table of each layer, with one Great Expectations checkpoint for each layer.

    Writes no table, only the validation pages. The run log records the versions that were checked, which `publish` compares.
    """

    name = "validate"
    reads = READS["validate"]
    writes = ()

    def run(self, due: dict[str, Due] | None = None) -> ValidateSummary:
        """Check the years asked for, or with ``due`` the years given for each layer. Any failed check raises
        :class:`DataError`."""
        context, lake = self.context, self.lake
        docs = docs_folder(self.config)
        with context.stage(self.name) as report:
            if due is None:
                years = silver_years(context)
                years_by_layer = {"silver": years, "flags": years}
                # Rates of other years depend on these years too: pooled periods that include one, marks of months. The tables
                # of monitoring are replaced as a whole.
                for layer in OF_ALL_YEARS:
                    dependent = context.history.unchecked(lake.years(ACTIVITY_RATE), [layer])
                    years_by_layer[layer] = sorted({*years, *dependent})
            else:
                years_by_layer = {layer: found.years for layer, found in due.items() if found}
            report.years = sorted({year for years in years_by_layer.values() for year in years})
            report.record.years_by_layer = years_by_layer
            failed = []
            together: dict[tuple[str, ...], list[str]] = {}
            for layer, years in years_by_layer.items():
                together.setdefault(tuple(years), []).append(layer)
            passed = context.history.passed_checks(years_by_layer.get("silver", ()))
            results = {
                layer: result
                for years, layers in together.items()
                for layer, result in validate_layers(
                    lake, layers, years=list(years), docs=docs, progress=context.progress, passed=passed
                ).items()
            }
            for result in results.values():
                lake.versions_read.update(result.versions)
                report.rows += result.checks
                failed += result.failed
            if failed:
                listed = "; ".join(f"{item.table}: {item.description} ({item.violations:,})" for item in failed[:5])
                raise DataError(
                    f"{len(failed)} checks failed: {listed}{' …' if len(failed) > 5 else ''}; nothing was published and the "
                    "old release is still current",
                    remedy="correct the source or the table named; the validation pages say what each check means",
                )
            return ValidateSummary(results)
