"""The stage publish: makes a release of the validated tables, and draws the report."""

from pathlib import Path

from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.geography.code_forms import COMPARED, refuse_invalid_codes
from ebi_spark.own_files import refuse_report
from ebi_spark.release.current import current_release, current_release_id
from ebi_spark.release.publish import (
    PUBLISHED,
    Release,
    publish,
    published_frames,
    refresh_star,
    report_tables,
    roll_back,
    write_text,
)
from ebi_spark.release.retention import remove_old_releases
from ebi_spark.runs.history import refuse_unchecked
from ebi_spark.runs.output_paths import docs_folder, report_file
from ebi_spark.runs.stage_inputs import READS
from ebi_spark.stages.stage import Stage
from ebi_spark.tables.gold import ACTIVITY_RATE, POLICY_ATTRITION, RECORD_QUALITY
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.star import STAR_TABLES

# A release has all years of these tables.
TABLES_OF_YEARS = (POLICY_ATTRITION, ACTIVITY_RATE)


class Publish(Stage):
    """Applies disclosure control to the tables as they were validated, checks the result, and makes it the current release.

    Writes the published tables and the report, and removes old releases.
    """

    name = "publish"
    reads = READS["publish"]
    writes = (*PUBLISHED, RELEASE, *STAR_TABLES)
    compute = staticmethod(published_frames)

    def run(self) -> Release:
        """Publish all years. An error if a table has changed since it was validated."""
        context, lake = self.context, self.lake
        with context.stage(self.name) as report:
            years = {year for table in TABLES_OF_YEARS for year in (lake.years(table) if lake.exists(table) else [])}
            if not years:
                raise InputError(
                    "nothing was published: the lake has no rates",
                    remedy="run the earlier stages first, or `ebi-spark run`",
                )
            report.years = sorted(years)
            refuse_unchecked(context.history, report.years)
            lake.prepare()
            refuse_invalid_codes(lake.small_rows(RECORD_QUALITY, COMPARED), self.config)
            previous = current_release_id(lake)
            release = publish(lake, self.config, context.progress, docs_folder(self.config))
            context.release = release.release_id
            report.rows = sum(release.rows.values())
            self.draw_report()
            removed = remove_old_releases(lake, self.config.keep_releases, previous=previous)
            if removed:
                context.progress(f"removed {len(removed)} old releases (keep_releases: {self.config.keep_releases})")
            return release

    def roll_back(self, release_id: str) -> None:
        """Make an earlier release the current one again."""
        with self.context.stage("roll_back"):
            roll_back(self.lake, release_id)
            self.context.release = release_id
            self.draw_report()

    @property
    def report_path(self) -> Path | None:
        """Where the report is written. None for a catalogue lake without a configured place."""
        return report_file(self.config)

    def draw_report(self) -> None:
        """Draw the report of the current release, in the folder of a local lake or where the configuration says."""
        path = self.report_path
        if path is None:
            return
        from ebi_spark.report import build_report

        self.context.progress("drawing the report")
        manifest = current_release(self.lake) or {}
        page = build_report(
            report_tables(self.lake, manifest["release_id"]),
            release=manifest,
            over_dispersion=self.config.over_dispersion,
            control_charts=self.config.control_charts,
        )
        try:
            refuse_report(path)
            write_text(path, page)
        except (OSError, InputError) as error:
            reason = error.message if isinstance(error, InputError) else f"{path} cannot be written ({error.strerror})"
            raise BrokenRunError(
                f"the release {manifest.get('release_id')} is current, but its report could not be drawn: {reason}",
                remedy="make room for the report or choose another place (`report: …`), then run the same command again",
            ) from None
        self.context.report = str(path)

    def keep(self, release_id: str) -> None:
        """Keep the current release, and bring the tables for BI tools up to date if they have another one."""
        if refresh_star(self.lake, release_id, stage=self.name):
            self.context.progress(f"the tables for BI tools now have {release_id}")

    def redraw_report(self) -> None:
        """Draw the report of the current release again, if there is a report and a release."""
        if self.report_path is not None and self.report_path.exists() and current_release(self.lake):
            self.draw_report()
