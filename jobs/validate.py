"""The gate: one Great Expectations checkpoint each over silver, flags and rates of the years worked on."""

import sys

from rich.table import Table as RichTable

from ebi_spark.errors import DataError
from ebi_spark.rates.periods import rows_that_follow
from ebi_spark.release.gate import validate_layers
from ebi_spark.schemas import ACTIVITY_RATE, YEAR
from ebi_spark.storage import predicate_of
from jobs.harness import Context, run_stages
from jobs.years import silver_years


def stage(context: Context) -> None:
    """Check every table; the first failed check ends the run with status 1 before anything is published."""
    config, lake = context.config, context.lake
    docs = config.docs or (config.lake.folder / "docs" if config.lake.folder else None)
    shown = RichTable(title="Validated", title_justify="left")
    for name in ("layer", "checks", "failed"):
        shown.add_column(name, justify="left" if name == "layer" else "right")
    with context.stage("validate") as report:
        years = silver_years(context)
        failed = []
        # Pooled periods that hold one of the years have changed with it.
        follow = lake.read(ACTIVITY_RATE).where(predicate_of(rows_that_follow(years, lake.years(ACTIVITY_RATE))))
        rated = sorted({*years, *(row[YEAR] for row in follow.select(YEAR).distinct().collect())})
        layers = (
            {("silver", "flags", "rates"): years}
            if rated == sorted(years)
            else ({("silver", "flags"): years, ("rates",): rated})
        )
        results = {
            layer: result
            for names, of_years in layers.items()
            for layer, result in validate_layers(lake, names, years=of_years, docs=docs, tell=context.tell).items()
        }
        for layer, result in results.items():
            # What publish compares: the versions that were checked.
            lake.versions_read.update(result.versions)
            report.rows += result.checks
            shown.add_row(layer, f"{result.checks:,}", f"{len(result.failed):,}")
            failed += result.failed
        context.summary.append(shown)
        if failed:
            listed = "; ".join(f"{item.table}: {item.words} ({item.violations:,})" for item in failed[:5])
            raise DataError(
                f"{len(failed)} checks failed: {listed}{' …' if len(failed) > 5 else ''}; nothing was published and the "
                "old release stands",
                remedy="mend the source or the table named; the validation pages say what each check means",
            )


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark validate``."""
    return run_stages("validate", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
