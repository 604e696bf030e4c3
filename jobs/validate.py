"""Check silver, flags and rates of the years worked on, with one Great Expectations checkpoint for each, before
anything is published."""

import json
import sys

from rich.table import Table as RichTable

from ebi_spark.errors import DataError
from ebi_spark.runs.due import Due
from ebi_spark.runs.output_paths import docs_folder
from ebi_spark.tables.schemas import ACTIVITY_RATE
from ebi_spark.validation.gate import validate_layers
from jobs.harness import Context, run_stages
from jobs.years import silver_years


def stage(context: Context, due: dict[str, Due] | None = None) -> None:
    """Check every table: for the years asked for, or with ``due`` for the years given for each layer. Any failed check
    ends the run with status 1 before anything is published."""
    config, lake = context.config, context.lake
    docs = docs_folder(config)
    shown = RichTable(title="Validated", title_justify="left")
    for name in ("layer", "checks", "failed"):
        shown.add_column(name, justify="left" if name == "layer" else "right")
    with context.stage("validate") as report:
        if due is None:
            years = silver_years(context)
            # Rates of other years depend on these years too: pooled periods that include one, marks of months.
            dependent = context.history.unchecked(lake.years(ACTIVITY_RATE), ["rates"])
            years_by_layer = {"silver": years, "flags": years, "rates": sorted({*years, *dependent})}
        else:
            years_by_layer = {layer: found.years for layer, found in due.items() if found}
        report.years = sorted({year for years in years_by_layer.values() for year in years})
        report.details = {f"years:{layer}": json.dumps(years) for layer, years in years_by_layer.items()}
        failed = []
        together: dict[tuple[str, ...], list[str]] = {}
        for layer, years in years_by_layer.items():
            together.setdefault(tuple(years), []).append(layer)
        results = {
            layer: result
            for years, layers in together.items()
            for layer, result in validate_layers(
                lake, layers, years=list(years), docs=docs, progress=context.progress
            ).items()
        }
        for layer, result in results.items():
            # `publish` compares these: the versions that were checked.
            lake.versions_read.update(result.versions)
            report.rows += result.checks
            shown.add_row(layer, f"{result.checks:,}", f"{len(result.failed):,}")
            failed += result.failed
        context.summary.append(shown)
        if failed:
            listed = "; ".join(f"{item.table}: {item.description} ({item.violations:,})" for item in failed[:5])
            raise DataError(
                f"{len(failed)} checks failed: {listed}{' …' if len(failed) > 5 else ''}; nothing was published and the "
                "old release is still current",
                remedy="correct the source or the table named; the validation pages say what each check means",
            )


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark validate``."""
    return run_stages("validate", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
