"""What the stages of one run share: configuration, lake, what was found once, and what they report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from ebi_spark import __version__
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import DataError, EbiError
from ebi_spark.runs.state import StageRecord
from ebi_spark.stages.batches import in_words
from ebi_spark.tables.gold import RUN_LOG
from ebi_spark.tables.schemas import TABLES

# Imported where they are used: most commands need neither, and loading them takes time.
if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from ebi_spark.lake.storage import Lake
    from ebi_spark.runs.history import RunHistory
    from ebi_spark.runs.run_inputs import RunInputs

# Stages that run many queries of few rows each, where the data is small.
_FEW_ROWS = ("flag", "publish")


# Stages that the run log names otherwise than their command.
_TITLES = {"roll_back": "publish --release"}


def stage_title(name: str) -> str:
    """The name of a stage for people: that of the command."""
    return _TITLES.get(name, name)


@dataclass
class StageReport:
    """One stage of a run, or one batch of it, as its row of the run log and the summary show it."""

    name: str
    seconds: float = 0.0
    rows: int = 0
    years: list[str] | None = None  # those worked on; None while not known
    rows_to_read: int | None = None  # how many rows or records the stage reads; None where not known
    details: dict[str, str] = field(default_factory=dict)  # for the run log
    why: list[str] = field(default_factory=list)  # the reasons that it was due, where these were determined
    skipped: bool = False
    record: StageRecord = field(default_factory=StageRecord)  # what later runs need to know of it

    @property
    def title(self) -> str:
        """The name for people: that of the command."""
        return stage_title(self.name)


class RunContext:
    """One run: its configuration, session and lake, and what it reports. It prints nothing; a job's context does.

    ``data_bytes``: roughly the size of the data, None where not known. ``inputs``: what was already found for this run.
    """

    def __init__(
        self,
        config: RunConfig,
        lake: "Lake",
        run_id: str,
        data_bytes: int | None = None,
        inputs: "RunInputs | None" = None,
    ) -> None:
        self.config, self.lake, self.run_id, self.data_bytes = config, lake, run_id, data_bytes
        self.stages: list[StageReport] = []
        self.release: str | None = None
        self.report: str | None = None
        self.tables: dict[str, int] = {}
        self.why: list[str] = []
        # The stage that is running, when it began, and when it will probably end (None: not known).
        self._running: StageReport | None = None
        self._since = 0.0
        self._until: float | None = None
        if inputs is not None:
            self.inputs = inputs

    @property
    def spark(self) -> "SparkSession":
        """The session, which the first stage with work to do starts."""
        return self.lake.spark

    @cached_property
    def inputs(self) -> "RunInputs":
        """The source files and policies of this run."""
        from ebi_spark.runs.run_inputs import RunInputs

        return RunInputs(self.config)

    @cached_property
    def history(self) -> "RunHistory":
        """What earlier runs did, compared with the present state."""
        from ebi_spark.runs.history import RunHistory

        return RunHistory(self.lake, self.config, self.run_id, self.inputs)

    def skip(self, name: str, what: str) -> None:
        """Record that a stage has nothing to do."""
        self.stages.append(StageReport(name, skipped=True))
        self.heading(name, f": nothing to do, {what}")

    def expect(self, seconds: float | None) -> None:
        """Set how long the stage that runs now or begins next will probably take from now; None: not known."""
        self._until = None if seconds is None else time.monotonic() + seconds

    def how_far(self) -> str:
        """The stage that is running, with its years, its rows, the time so far and roughly the time left. Empty between two
        stages. For example ``flag · 2021-22 to 2023-24 · 259,789 rows · 0:42 · about 2 min left``."""
        running, now = self._running, time.monotonic()
        if running is None:
            return ""
        parts = [running.title]
        if years := sorted(running.years or []):
            parts.append(years[0] if len(years) == 1 else f"{years[0]} to {years[-1]}")
        if running.rows_to_read is not None:
            parts.append(f"{running.rows_to_read:,} rows")
        minutes, seconds = divmod(int(now - self._since), 60)
        parts.append(f"{minutes}:{seconds:02}")
        if self._until is not None:
            left = self._until - now
            parts.append(f"about {in_words(left)} left" if left > 0 else "longer than expected")
        return " · ".join(parts)

    def progress(self, message: str) -> None:
        """Take one line of progress."""

    def heading(self, name: str, rest: str) -> None:
        """Take the line with which a stage begins, or that says that it has nothing to do."""

    @contextmanager
    def stage(self, name: str, only: list[str] | None = None) -> Iterator[StageReport]:
        """Time a stage and write its row of the run log, also when it fails. Before this row, what later runs compare.

        The inputs that later runs compare are recorded before the stage begins: a file or table that changes while
        the stage works is then seen as changed. ``only``: the parts (policies) that the stage works on; None: all.
        """
        from ebi_spark.runs.history import new_record
        from ebi_spark.runs.stage_inputs import READS, recorded_inputs
        from ebi_spark.spark.tuning import is_small, is_tiny, uncompiled

        spark = self.spark  # an error when the session starts is not an error of the stage
        report = StageReport(name, why=self.why, record=new_record(name, self.config, self.run_id, only))
        self.why = []
        started, clock = datetime.now(UTC), time.monotonic()
        self.lake.versions_written.clear()
        self.lake.versions_read.clear()
        tables = [TABLES[full_name] for full_name in READS.get(name, ())]
        self.lake.versions_read.update({t.full_name: self.lake.version(t) for t in tables if self.lake.exists(t)})
        outcome = "done"
        inputs: dict[str, str] = {}
        self._running, self._since = report, clock
        self.heading(report.title, f": {'; '.join(report.why)}" if report.why else "")
        try:
            inputs = recorded_inputs(name, self.config, self.lake, self.run_id, only, self.inputs)
            few = is_tiny(self.data_bytes) or (name in _FEW_ROWS and is_small(self.data_bytes))
            with uncompiled(spark) if few else nullcontext():
                yield report
        except DataError as error:
            outcome, report.details = "failed", {"message": error.message} | error.details
            raise
        except KeyboardInterrupt:
            outcome = "interrupted"  # the session may be ending too: do not use it any more
            raise
        except BaseException as error:
            details_of_it = error.details if isinstance(error, EbiError) else {}
            outcome, report.details = "broken", {"error": type(error).__name__} | details_of_it
            raise
        finally:
            self._running = self._until = None
            report.seconds = time.monotonic() - clock
            self.stages.append(report)
            self.tables.update(self.lake.versions_written)
            if outcome != "interrupted" and self.lake.exists(RUN_LOG):
                self._log(report, started, outcome, inputs)

    def _log(self, report: StageReport, started: datetime, outcome: str, inputs: dict[str, str]) -> None:
        read, written = dict(self.lake.versions_read), dict(self.lake.versions_written)
        years = list(self.config.years or []) if report.years is None else list(report.years)
        record = replace(
            report.record,
            outcome=outcome,
            reasons=report.why,
            years=years,
            versions_read=read,
            versions_written=written,
        )
        self.history.write(record, started, inputs)
        row = {
            "run_id": self.run_id,
            "stage": report.name,
            "started_at": started,
            "ended_at": datetime.now(UTC),
            "outcome": outcome,
            "years": years,
            "rows": report.rows,
            "code_version": __version__,
            "configuration": self.config.fingerprint,
            "versions_read": read,
            "versions_written": written,
            "details": report.details,
        }
        self.lake.append(RUN_LOG, [row], stage=report.name)
        self.history.note(record)
