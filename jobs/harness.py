"""What every job shares: arguments, configuration, session, lake, run log, progress, summary and exit status."""

import argparse
import difflib
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from ebi_spark.config.settings import LakeLocation, RunConfig, lake_location, load_config
from ebi_spark.errors import BrokenRunError, EbiError, InputError, shown
from ebi_spark.lake.earlier_releases import EMPTIED
from ebi_spark.quoting import refuse_unusable
from ebi_spark.stages.batches import in_words
from ebi_spark.stages.run_context import RunContext, StageReport
from jobs.examples import as_epilog, examples_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from ebi_spark.lake.local_tables import LocalLake
    from ebi_spark.lake.storage import Lake
    from ebi_spark.runs.run_inputs import RunInputs

_Found = TypeVar("_Found")

INTERRUPTED = 130
# The commands that can replace a year by one with fewer records.
SHRINKING = ("run", "ingest")
# A log gets a line of progress after so long without another line.
QUIET_SECONDS = 60.0
_SHOW_CURSOR = "\x1b[?25h"
# The shell sets this variable when it asks for completions.
COMPLETING = "_ARGCOMPLETE"
_UNKNOWN = "unrecognized arguments: "
_REQUIRED = "the following arguments are required: "
_VALUE = re.compile(r"argument (\S+): expected (?:one|at least one) argument")
_CHOICE = re.compile(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)")


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
    """One report for each stage: the batches of a stage are added up."""
    found: dict[str, StageReport] = {}
    for report in stages:
        so_far = found.get(report.name)
        if so_far is None:
            found[report.name] = replace(report)
        else:
            so_far.seconds, so_far.rows = so_far.seconds + report.seconds, so_far.rows + report.rows
            so_far.years = sorted({*(so_far.years or []), *(report.years or [])})
    return list(found.values())


def _stage_json(stage: StageReport) -> dict[str, Any]:
    shown_fields = {"name": stage.name, "seconds": round(stage.seconds, 1), "rows": stage.rows}
    shown_fields |= {"years": stage.years or [], "why": stage.why}
    return shown_fields | ({"skipped": True} if stage.skipped else {})


def new_run_id() -> str:
    """A run id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


class _Help(argparse.HelpFormatter):
    """Help as wide as the terminal, 100 characters at most: each paragraph of the description is wrapped, and the examples at
    the end stay as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns, 100) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return "\n\n".join(super(_Help, self)._fill_text(part, width, indent) for part in text.split("\n\n"))


class JobParser(argparse.ArgumentParser):
    """The arguments of a command. A wrong one ends the job like any other error: one message with the remedy, status
    2, and with ``--json`` the object that every job prints. Its help ends with the examples of the command."""

    def __init__(self, **settings: Any) -> None:
        command = str(settings.get("prog", "")).removeprefix("ebi-spark ")
        settings.setdefault("epilog", as_epilog(command))
        settings.setdefault("formatter_class", _Help)
        super().__init__(**settings)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; or answer a shell that asks for completions, and end the process."""
        if COMPLETING in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but keep the arguments, so that ``--json`` is known even if the rest cannot be read."""
        self._given = list(sys.argv[1:] if args is None else args)
        for argument in self._given:
            try:
                refuse_unusable("an argument", argument)
            except InputError as error:
                self._refuse(error)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise SystemExit with status 2."""

        command = self.prog.removeprefix("ebi-spark ")
        remedy = f"`{self.prog} --help` lists the options"
        unknown = [word.partition("=")[0] for word in message.removeprefix(_UNKNOWN).split() if word.startswith("--")]
        if message.startswith(_UNKNOWN) and unknown:
            near = difflib.get_close_matches(unknown[0], self._option_string_actions, n=1)
            remedy = f"did you mean {near[0]}? {remedy}" if near else remedy
        elif choice := _CHOICE.fullmatch(message):
            what, given, choices = choice[1], choice[2], re.findall(r"[\w-]+", choice[3])
            near = difflib.get_close_matches(given, choices, n=1, cutoff=0.5)
            message = f"{given!r} is not a {'command' if what == 'command' else f'choice of {what}'}"
            remedy = f"{f'did you mean {near[0]}? ' if near else ''}Choose from: {', '.join(choices)}. {remedy}"
        elif missing := _VALUE.fullmatch(message):
            message = f"{missing[1]} needs a value"
            typed = next((typed for typed, _ in examples_of(command) if missing[1] in typed.split()), None)
            remedy = f"for example `{typed}`. {remedy}" if typed else remedy
        elif message.startswith(_REQUIRED) and (mistyped := self._mistyped()):
            message, remedy = f"unrecognized arguments: {mistyped[0]}", f"did you mean {mistyped[1]}? {remedy}"
        elif message.startswith(_REQUIRED) and (examples := examples_of(command)):
            message = f"{message.removeprefix(_REQUIRED)} is missing"
            remedy = f"for example `{examples[0][0]}`. {remedy}"
        self._refuse(InputError(f"{command}: {message}", remedy=remedy))

    def _mistyped(self) -> tuple[str, str] | None:
        """An option that was given and does not exist, and the one that was probably meant. argparse would name only the missing one."""
        known = list(self._option_string_actions)
        for word in (given.partition("=")[0] for given in self._given if given.startswith("--")):
            near = difflib.get_close_matches(word, known, n=1)
            # argparse takes the beginning of an option for the option.
            if near and not any(option.startswith(word) for option in known):
                return word, near[0]
        return None

    def _refuse(self, error: InputError) -> NoReturn:
        def wrong(*_: Any) -> None:
            raise error

        raise SystemExit(guarded(wrong, as_json="--json" in self._given, debug=False))


def stage_parser(name: str, doc: str) -> argparse.ArgumentParser:
    """The options that every stage takes."""
    parser = JobParser(prog=f"ebi-spark {name}", description=doc)
    parser.set_defaults(job=name)
    configuration_options(parser)
    if name in SHRINKING:
        words = "accept a year even if it has far fewer rows than in the lake (see max_shrink_share)"
        flag_with_earlier_spelling(parser, "--accept-shrinkage", "--accept", words)
    else:
        parser.add_argument(
            "--accept-shrinkage", "--accept", action=_WithoutEffect, dest="accept_shrinkage", nargs=0, default=False,
            help=argparse.SUPPRESS,
        )  # fmt: skip
    common_options(parser)
    return parser


def configuration_options(parser: argparse.ArgumentParser) -> None:
    """The configuration, and the options that replace some of its keys."""
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the configuration (YAML)")
    words = "another lake than the configuration's: a folder, or catalog.prefix in a catalogue"
    parser.add_argument("--lake", metavar="LAKE", help=words)
    parser.add_argument(
        "--years", metavar="YEARS", help="only these financial years: 2018-19..2023-24 or 2021-22,2023-24"
    )
    policies = parser.add_argument(
        "--policies",
        metavar="ID,ID",
        help="only these policies, instead of the configuration's (`configured`, here or in --years, means the configuration's)",
    )
    policies.completer = _shipped_policies  # type: ignore[attr-defined]


def policy_option(parser: argparse.ArgumentParser, name: str, **settings: Any) -> None:
    """An argument for the id of a policy. A shell completes the ids of the shipped policies."""
    parser.add_argument(name, metavar="ID", **settings).completer = _shipped_policies  # type: ignore[attr-defined]


def _shipped_policies(**_: Any) -> list[str]:
    """The ids of the policies that the product has, for completion."""
    from ebi_spark.policies.load import load_policies

    return [policy.id for policy in load_policies()]


def flag_with_earlier_spelling(parser: argparse.ArgumentParser, spelling: str, earlier: str, words: str) -> None:
    """Add a flag that also works under its ``earlier`` spelling. That one is not in the help, and prints a note on
    standard error."""
    option = parser.add_argument(spelling, action="store_true", help=words)
    parser.add_argument(
        earlier, action=_EarlierSpelling, dest=option.dest, nargs=0, const=spelling, default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )  # fmt: skip


class _WithoutEffect(argparse.Action):
    """An option that every stage accepts: on a stage that it does not change, it prints a note."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        print(
            f"ebi-spark: {option_string} has no effect on {namespace.job}: only {' and '.join(SHRINKING)} replace the records "
            "of a year",
            file=sys.stderr,
        )


class _EarlierSpelling(argparse.Action):
    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, True)
        print(
            f"ebi-spark: {option_string} is now {self.const}; the old spelling still works in this version",
            file=sys.stderr,
        )


def common_options(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--debug``, after the options of the command."""
    group = parser.add_argument_group("for every command")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object, for programs")
    group.add_argument(
        "--debug", action="store_true", help="show where in the program an error arose (it can show values of records)"
    )


def lake_option(parser: argparse.ArgumentParser) -> None:
    """``--lake`` of the commands that read an existing lake."""
    words = "the lake: its folder, or catalog.prefix in a catalogue"
    parser.add_argument("--lake", required=True, metavar="LAKE", help=words)


def run_stages(
    name: str, doc: str, stages: Sequence[Callable[[Context], object]], argv: list[str] | None = None
) -> int:
    """Run a whole job from its arguments; returns the exit status."""
    return run_with(stage_parser(name, doc).parse_args(argv), stages)


def run_with(arguments: argparse.Namespace, stages: Sequence[Callable[[Context], object]]) -> int:
    """Run a whole job: configure, start, call each stage in order, summarise. Returns the exit status."""

    def work(console: Console, outcome: dict[str, Any]) -> None:
        config = load_config(arguments.config).with_options(
            lake=arguments.lake, years=arguments.years, policies=arguments.policies, accept=arguments.accept_shrinkage
        )
        from ebi_spark.runs.checks_before_start import WARNING, check_before_start, refuse_problems
        from ebi_spark.runs.run_inputs import RunInputs

        inputs = RunInputs(config)
        findings = check_before_start(config, arguments.job, inputs)
        refuse_problems(findings)
        for finding in findings:
            if finding.result == WARNING:
                console.print(headed(f"{finding.check}:", f" {finding.found}"), highlight=False, soft_wrap=True)
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


def bring_up_to_date(context: Context) -> list[str]:
    """Migrate the lake and say what was done. Returns one line for each table.

    Where the migration emptied figures that earlier releases disclosed, the report is drawn again too.
    """
    from ebi_spark.runs.state import migrate

    lines: list[str] = context.lake.migrate()
    lines += migrate(context.lake)
    for line in lines:
        context.progress(line)
    if any(EMPTIED in line for line in lines):
        from ebi_spark.stages.publish import Publish

        Publish(context).redraw_report()
    return lines


@contextmanager
def opened(config: RunConfig, console: Console, run_id: str, inputs: "RunInputs | None" = None) -> Iterator[Context]:
    """The lake of a configuration, and a session once it is needed. A local lake is locked meanwhile. ``inputs``: what was
    already found for this run."""
    from ebi_spark.lake.locking import locked
    from ebi_spark.lake.storage import Lake, prepare_folders, refuse_without_catalogue, restrict_new_files
    from ebi_spark.runs.run_inputs import RunInputs
    from ebi_spark.sources.file_inventory import source_bytes, stored_bytes
    from ebi_spark.spark.session import refuse_local_catalogue, refuse_scratch, spark_session

    refuse_local_catalogue(config.lake)
    restrict_new_files()
    folder = config.lake.folder
    if folder:
        refuse_scratch(folder)
        prepare_folders(folder)
    inputs = inputs or RunInputs(config)
    data_bytes = _known_bytes(source_bytes(config, inputs.files), stored_bytes(folder) if folder else None)
    with ExitStack() as stack:
        lock = stack.enter_context(locked(folder))

        def start() -> "SparkSession":
            scratch = folder / "silver" / "_scratch" if folder else None
            spark = stack.enter_context(spark_session(scratch, timezone=config.timezone, data_bytes=data_bytes))
            lock.name_java()
            _handle_signals()  # Spark has replaced the handlers by its own
            refuse_without_catalogue(spark, config.lake)
            return spark

        # A run on a folder starts no session if it finds nothing to do. Only a session knows a catalogue.
        yield Context(
            config, Lake(start if folder else start(), config.lake, run_id), run_id, console, data_bytes, inputs
        )


def _known_bytes(*sizes: int | None) -> int | None:
    """The largest of the sizes; None where one is not known."""
    known = [size for size in sizes if size is not None]
    return max(known) if len(known) == len(sizes) else None


def read_lake(lake: str, console: Console, read: Callable[["LocalLake"], _Found]) -> _Found:
    """What ``read`` finds in an existing lake. A lake in a folder is read without Spark, unless one of its tables can only
    be read by Spark; a catalogue needs a session."""
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


def existing_lake(lake: str) -> LakeLocation:
    """Where an existing lake is. Raises an :class:`InputError` for a folder without one."""
    location: LakeLocation = lake_location(lake, Path.cwd(), "--lake")
    if location.folder and not (location.folder / "silver").is_dir():
        near = _lake_near(location.folder)
        raise InputError(
            f"there is no lake at {location.folder}",
            remedy=f"did you mean {near}?" if near else "check the path, or run `ebi-spark run` first",
        )
    return location


def _lake_near(folder: Path) -> Path | None:
    """A lake in this folder, or one beside it whose name is like its own."""
    with suppress(OSError):
        inside = [place for place in (folder / "lake", folder.parent) if (place / "silver").is_dir()]
        beside = {place.parent.name: place.parent for place in folder.parent.glob("*/silver")}
        near = difflib.get_close_matches(folder.name, beside, n=1)
        return next(iter([*inside, *(beside[name] for name in near)]), None)
    return None


@contextmanager
def opened_lake(lake: str, console: Console, *, all_records: bool = False) -> Iterator[Context]:
    """A session and an existing lake, for commands without a configuration. ``all_records``: the command reads more than a
    few records, so the session is made for as many as the lake has."""
    location = existing_lake(lake)
    from ebi_spark.lake.storage import Lake, refuse_without_catalogue, restrict_new_files
    from ebi_spark.spark.session import refuse_local_catalogue, refuse_scratch, spark_session

    refuse_local_catalogue(location)
    if location.folder:
        refuse_scratch(location.folder)
    restrict_new_files()
    scratch = location.folder / "silver" / "_scratch" if location.folder else None
    size: int | None = 0
    if all_records:
        from ebi_spark.sources.file_inventory import stored_bytes

        size = stored_bytes(location.folder) if location.folder else None
    with spark_session(scratch, data_bytes=size) as spark:
        _handle_signals()
        refuse_without_catalogue(spark, location)
        yield Context(RunConfig(lake=location), Lake(spark, location), "", console)


def guarded(work: Callable[[Console, dict[str, Any]], None], *, as_json: bool, debug: bool) -> int:
    """Call ``work``, and turn whatever happens into one message and an exit status."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    for stream in (sys.stdout, sys.stderr):  # a terminal without a character shows its number
        with suppress(Exception):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = SafeConsole(stderr=True)
    outcome: dict[str, Any] = {
        "run_id": new_run_id(), "outcome": "done", "exit": 0, "stages": [], "tables": {}, "release": None,
        "report": None, "error": None,
    }  # fmt: skip

    def ended(status: int, word: str, message: str, remedy: str) -> None:
        outcome.update(exit=status, outcome=word, error={"message": message, "remedy": remedy})
        console.print(headed("ebi-spark:", f" {message}", "bold red"), highlight=False, soft_wrap=True)
        console.print(headed("what to do:", f" {remedy}"), highlight=False, soft_wrap=True)

    def interrupted() -> None:
        ended(
            INTERRUPTED,
            "interrupted",
            "interrupted; everything committed so far is kept",
            "run the same command again: it resumes from there",
        )

    _INTERRUPTED.clear()
    logging.disable(logging.NOTSET)
    _handle_signals()
    try:
        work(console, outcome)
    except EbiError as error:
        if debug:
            traceback.print_exc()
        ended(error.exit_status, error.outcome, error.message, error.remedy)
    except KeyboardInterrupt:
        interrupted()
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        # An interrupt can end the session in the middle of a call, which then fails with some other error.
        if _INTERRUPTED:
            interrupted()
            return _finished(outcome, as_json)
        if debug:
            traceback.print_exc()
        # The text of an engine's error can contain rows, so only its class and condition are shown.
        condition = getattr(error, "getCondition", lambda: None)() or ""
        kind = type(error).__name__ + (f" {condition}" if condition else "")
        broken = BrokenRunError(
            f"the run stopped with an error ({kind}); everything committed so far is kept, and so is the current release",
            remedy="run the same command again; `--debug` shows the traceback (it can contain records: do not share it)",
        )
        ended(broken.exit_status, broken.outcome, broken.message, broken.remedy)
    return _finished(outcome, as_json)


def _finished(outcome: dict[str, Any], as_json: bool) -> int:
    try:
        if as_json:
            print(_RAW.sub(_as_number, json.dumps(outcome, ensure_ascii=False, default=str)))
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    return int(outcome["exit"])


def _unread() -> int:
    """The status where nobody reads standard output any more, such as after ``| head``: that of a program that the signal ended."""
    # Python would complain when it writes the rest at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


# Characters that JSON does not escape and a terminal would act on.
_RAW = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def _as_number(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_INTERRUPTED: list[bool] = []


def _handle_signals() -> None:
    if threading.current_thread() is not threading.main_thread():  # a platform can run a task in another one
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)


def _interrupt(*_: Any) -> None:
    """End in good order; the second time at once."""
    if _INTERRUPTED:
        if sys.stderr.isatty():  # the line of progress hid it
            os.write(2, _SHOW_CURSOR.encode())
        os._exit(INTERRUPTED)
    _INTERRUPTED.append(True)
    # Calls to a session that is ending fail, and Py4J would log each failure with a traceback.
    logging.disable(logging.CRITICAL)
    raise KeyboardInterrupt


class SafeConsole(Console):
    """A console that prints text literally: nothing in it is read as markup, and nothing reaches the terminal that it
    would act on. Only line breaks keep their meaning."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Where nobody reads any more, rich would end with status 1, which means here that the data failed."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """Render as rich does, from a text that is safe to print."""
        return super().render_str("\n".join(map(shown, text.split("\n"))), **options)


def headed(head: str, rest: str = "", style: str = "bold") -> Text:
    """A line that begins with a few words in bold."""
    return Text.assemble((shown(head), style), shown(rest))


def counted(number: int, what: str) -> str:
    """A number with its noun, such as ``1 policy`` or ``4 policies``."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def table_of_lines(title: str, lines: list[str]) -> RichTable:
    """Lines for the summary, unchanged."""
    table = RichTable(title=title, title_justify="left", show_header=False)
    table.add_column("what", overflow="fold")
    for line in lines:
        table.add_row(line)
    return table


def output_console() -> Console:
    """Standard output. It is wide enough for the tables where it is not a terminal but a file or a log."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=140)


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
            times.add_row(stage.name, "", "", "", "nothing to do")
            continue
        share = stage.seconds / whole
        times.add_row(stage.name, f"{stage.seconds:,.1f}", f"{share:.0%}", f"{stage.rows:,}", "█" * round(20 * share))
    console.print(times)
    console.print(f"run      {context.run_id}", highlight=False)
    console.print(f"lake     {context.config.lake}", highlight=False, soft_wrap=True)
    if context.release:
        console.print(f"release  {context.release}", highlight=False)
    if context.report:
        console.print(f"report   {context.report}", highlight=False, soft_wrap=True)
