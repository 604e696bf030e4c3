"""What every command that opens a lake shares: configuration, session, lake, progress and summary."""

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from ebi_spark.config.lake_location import LakeLocation, lake_location
from ebi_spark.config.load import load_config
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError, nearest_name, shown
from ebi_spark.stages.batches import in_words
from ebi_spark.stages.run_context import RunContext, StageReport
from jobs.arguments import SHRINKING, stage_parser
from jobs.exit_status import guarded, handle_signals
from jobs.screen import headed, output_console

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from ebi_spark.lake.local_tables import LocalLake
    from ebi_spark.lake.storage import Lake
    from ebi_spark.runs.run_inputs import RunInputs

_Found = TypeVar("_Found")
# A log gets a line of progress after so long without another line.
QUIET_SECONDS = 60.0


class Context(RunContext):
    """A run that prints its progress on a console and collects the tables of its summary."""

    def __init__(
        self,
        config: RunConfig,
        lake: "Lake",
        run_id: str,
        console: Console,
        data_bytes: int | None = None,
        inputs: "RunInputs | None" = None,
    ) -> None:
        super().__init__(config, lake, run_id, data_bytes, inputs)
        self.console = console
        self.summary: list[RichTable] = []
        self.said_at = time.monotonic()

    def progress(self, message: str) -> None:
        """Print one line of progress on standard error."""
        self._say(Text(shown(message)))

    def heading(self, name: str, rest: str) -> None:
        """Print a line that begins with the name of a stage."""
        self._say(headed(name, rest))

    def _say(self, line: Text) -> None:
        self.said_at = time.monotonic()
        self.console.print(Text.assemble((f"{datetime.now():%H:%M:%S}", "dim"), "  ", line), highlight=False)


@contextmanager
def showing_progress(context: Context) -> Iterator[None]:
    """Show how far the running stage is: on a terminal in one line that changes every second, and elsewhere (a log) in a new line
    after each minute in which nothing else was printed."""
    console = context.console
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(
            get_renderable=lambda: Text(context.how_far(), "dim"), console=console, refresh_per_second=1, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        ):  # fmt: skip
            yield
        return
    ended = threading.Event()

    def say_now_and_then() -> None:
        while not ended.wait(QUIET_SECONDS / 12):
            if time.monotonic() - context.said_at >= QUIET_SECONDS and (line := context.how_far()):
                context.progress(line)

    thread = threading.Thread(target=say_now_and_then, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def by_name(stages: list[StageReport]) -> list[StageReport]:
    """One report for each stage: the batches of a stage are added up, and each of their reasons is listed once."""
    found: dict[str, StageReport] = {}
    for report in stages:
        so_far = found.get(report.name)
        if so_far is None:
            found[report.name] = replace(report)
        else:
            so_far.seconds, so_far.rows = so_far.seconds + report.seconds, so_far.rows + report.rows
            so_far.years = sorted({*(so_far.years or []), *(report.years or [])})
            so_far.why = list(dict.fromkeys([*so_far.why, *report.why]))
    return list(found.values())


def _stage_json(stage: StageReport) -> dict[str, Any]:
    shown_fields = {"name": stage.name, "seconds": round(stage.seconds, 1), "rows": stage.rows}
    shown_fields |= {"years": stage.years or [], "why": stage.why}
    return shown_fields | ({"skipped": True} if stage.skipped else {})


def run_stages(
    name: str, doc: str, stages: Sequence[Callable[[Context], object]], argv: list[str] | None = None
) -> int:
    """Run a whole job from its arguments; returns the exit status."""
    return run_with(stage_parser(name, doc).parse_args(argv), stages)


def run_with(
    arguments: argparse.Namespace,
    stages: Sequence[Callable[[Context], object]],
    check: Callable[["LocalLake"], object] | None = None,
) -> int:
    """Run a whole job: configure, start, call each stage in order, summarise. Returns the exit status.

    ``check``: what the job asks of an existing lake before it starts Spark.
    """

    def work(console: Console, outcome: dict[str, Any]) -> None:
        config = load_config(arguments.config).with_options(
            lake=arguments.lake, years=arguments.years, policies=arguments.policies, accept=arguments.accept_shrinkage
        )
        from ebi_spark.runs.checks_before_start import WARNING, check_before_start, refuse_problems
        from ebi_spark.runs.run_inputs import RunInputs
        from ebi_spark.stages.upgrade import bring_up_to_date

        inputs = RunInputs(config)
        findings = check_before_start(config, arguments.job, inputs)
        refuse_problems(findings)
        for finding in findings:
            if finding.result == WARNING:
                console.print(headed(f"{finding.check}:", f" {finding.found}"), highlight=False, soft_wrap=True)
        if arguments.job not in SHRINKING:  # the commands that read sources also make a lake
            check_lake(config.lake, check)
        with opened(config, console, outcome["run_id"], inputs) as context:
            try:
                with showing_progress(context):
                    bring_up_to_date(context)
                    for stage in stages:
                        stage(context)
            finally:
                outcome["stages"] = list(map(_stage_json, by_name(context.stages)))
                outcome["tables"] = dict(sorted(context.tables.items()))
                outcome["release"], outcome["report"] = context.release, context.report
            if not arguments.json:
                show_summary(context)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


@contextmanager
def opened(config: RunConfig, console: Console, run_id: str, inputs: "RunInputs | None" = None) -> Iterator[Context]:
    """The lake of a configuration, and a session once it is needed. A lake in a folder or at a URL is locked meanwhile. ``inputs``: what was
    already found for this run."""
    from ebi_spark.lake.catalogue import refuse_without_catalogue
    from ebi_spark.lake.locking import locked
    from ebi_spark.lake.permissions import prepare_folders, restrict_new_files
    from ebi_spark.lake.storage import Lake
    from ebi_spark.runs.run_inputs import RunInputs
    from ebi_spark.sources.file_inventory import source_bytes, stored_bytes
    from ebi_spark.spark.platform import refuse_local_catalogue
    from ebi_spark.spark.scratch import refuse_scratch
    from ebi_spark.spark.session import spark_session

    refuse_local_catalogue(config.lake)
    restrict_new_files()
    folder = config.lake.folder
    if folder:
        refuse_scratch(folder)
        prepare_folders(folder)
    inputs = inputs or RunInputs(config)
    data_bytes = _known_bytes(source_bytes(config, inputs.files), stored_bytes(folder) if folder else None)
    with ExitStack() as stack:
        lock = stack.enter_context(locked(config.lake.place))

        def start() -> "SparkSession":
            scratch = _scratch(config.lake)
            spark = stack.enter_context(
                spark_session(scratch, timezone=config.timezone, data_bytes=data_bytes, stores=config.stores)
            )
            lock.name_java()
            handle_signals()
            refuse_without_catalogue(spark, config.lake)
            return spark

        # A run on a folder starts no session if it finds nothing to do. Other lakes can only be read by a session.
        lake = Lake(start if folder else start(), config.lake, run_id, check_lock=lock.check)
        yield Context(config, lake, run_id, console, data_bytes, inputs)


def _scratch(lake: LakeLocation) -> Path | None:
    """Where a local session has its temporary files. A catalogue has no local session."""
    from ebi_spark.lake.permissions import scratch_folder
    from ebi_spark.spark.scratch import own_scratch

    if lake.folder:
        return scratch_folder(lake.folder)
    return own_scratch() if lake.url else None


def _known_bytes(*sizes: int | None) -> int | None:
    """The largest of the sizes; None where one is not known."""
    known = [size for size in sizes if size is not None]
    return max(known) if len(known) == len(sizes) else None


def read_lake(lake: str | LakeLocation, console: Console, read: Callable[["LocalLake"], _Found]) -> _Found:
    """What ``read`` finds in an existing lake. A lake in a folder is read without Spark, unless one of its tables can only
    be read by Spark; one at a URL or in a catalogue needs a session."""
    from ebi_spark.lake.local_tables import LocalLake, UnreadableTableError

    location = existing_lake(lake)
    if location.folder:
        try:
            return read(LocalLake(location))
        except UnreadableTableError as error:
            console.print(
                Text(shown(f"starting Spark, because it alone can read this table: {error}")), highlight=False
            )
    with opened_lake(lake, console) as context:
        return read(context.lake)


def check_lake(location: LakeLocation, check: Callable[["LocalLake"], object] | None) -> None:
    """Refuse a folder without a lake, and what ``check`` refuses, before Spark starts. A lake that only Spark can read is left to
    the command, which checks the same again."""
    from ebi_spark.lake.local_tables import LocalLake, UnreadableTableError

    refuse_without_lake(location)
    if location.folder and check:
        with suppress(UnreadableTableError):
            check(LocalLake(location))


def existing_lake(lake: str | LakeLocation) -> LakeLocation:
    """Where an existing lake is. Raises an :class:`InputError` for a folder without one."""
    location = lake_location(lake, Path.cwd(), "--lake") if isinstance(lake, str) else lake
    refuse_without_lake(location)
    return location


def refuse_without_lake(location: LakeLocation) -> None:
    """Raise an :class:`InputError` for a folder without a lake."""
    if location.folder and not (location.folder / "silver").is_dir():
        near = _lake_near(location.folder)
        raise InputError(
            f"there is no lake at {location.folder}",
            remedy=f"did you mean {near}?" if near else "check the path, or run `ebi-spark run` first",
        )


def _lake_near(folder: Path) -> Path | None:
    """A lake in this folder, or one beside it whose name is like its own."""
    with suppress(OSError):
        inside = [place for place in (folder / "lake", folder.parent) if (place / "silver").is_dir()]
        beside = {place.parent.name: place.parent for place in folder.parent.glob("*/silver")}
        near = nearest_name(folder.name, beside)
        return inside[0] if inside else beside[near] if near else None
    return None


@contextmanager
def opened_lake(
    lake: str | LakeLocation, console: Console, *, all_records: bool = False, to_write: bool = False, run_id: str = ""
) -> Iterator[Context]:
    """A session and an existing lake, for commands without a configuration. ``all_records``: the command reads more than a
    few records, so the session is made for as many as the lake has. ``to_write``: the lake is locked meanwhile. ``run_id``: of the
    run that writes."""
    location = existing_lake(lake)
    from ebi_spark.lake.catalogue import refuse_without_catalogue
    from ebi_spark.lake.locking import locked
    from ebi_spark.lake.permissions import restrict_new_files
    from ebi_spark.lake.storage import Lake
    from ebi_spark.spark.platform import refuse_local_catalogue
    from ebi_spark.spark.scratch import refuse_scratch
    from ebi_spark.spark.session import spark_session

    refuse_local_catalogue(location)
    if location.folder:
        refuse_scratch(location.folder)
    restrict_new_files()
    scratch = _scratch(location)
    size: int | None = 0
    if all_records:
        from ebi_spark.sources.file_inventory import stored_bytes

        size = stored_bytes(location.folder) if location.folder else None
    config = RunConfig(lake=location)
    with spark_session(scratch, data_bytes=size, stores=config.stores) as spark:
        handle_signals()
        refuse_without_catalogue(spark, location)
        existing = Lake(spark, location, run_id)
        with locked(location.place) if to_write else nullcontext() as lock:
            if lock:
                lock.name_java()
                existing.check_lock = lock.check
            yield Context(config, existing, "", console)


def show_summary(context: Context) -> None:
    """Print what was done, and where the time went, on standard output."""
    console = output_console()
    for table in context.summary:
        console.print(table)
    whole = sum(stage.seconds for stage in context.stages) or 1.0
    times = RichTable(title=f"Where the time went: {in_words(whole)} in all", title_justify="left")
    times.add_column("stage")
    times.add_column("seconds", justify="right")
    times.add_column("share", justify="right")
    times.add_column("rows", justify="right")
    times.add_column("")
    for stage in by_name(context.stages):
        if stage.skipped:
            times.add_row(stage.title, "", "", "", "nothing to do")
            continue
        share = stage.seconds / whole
        times.add_row(stage.title, f"{stage.seconds:,.1f}", f"{share:.0%}", f"{stage.rows:,}", "█" * round(20 * share))
    console.print(times)
    console.print(f"run      {context.run_id}", highlight=False)
    console.print(f"lake     {context.config.lake}", highlight=False, soft_wrap=True)
    if context.release:
        console.print(f"release  {context.release}", highlight=False)
    if context.report:
        console.print(f"report   {context.report}", highlight=False, soft_wrap=True)
