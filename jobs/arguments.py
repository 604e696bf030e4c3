"""The options that commands share, and a parser that refuses a wrong one with a remedy."""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

from ebi_spark.errors import InputError, did_you_mean, nearest_name
from ebi_spark.quoting import refuse_unusable
from jobs.examples import as_epilog, examples_of
from jobs.exit_status import guarded

# The commands that can replace a year by one with fewer records.
SHRINKING = ("run", "ingest")
# Every stage accepts the same options, so that a scheduler can give them to all. These have no effect on these stages: they
# are not in the help, and a note says why.
_ALL_POLICIES = "it works on all policies of the lake"
WITHOUT_EFFECT = {
    ("ingest", "--policies"): "it applies no policies",
    ("rate", "--policies"): _ALL_POLICIES,
    ("monitor", "--policies"): _ALL_POLICIES,
    ("validate", "--policies"): _ALL_POLICIES,
    ("publish", "--policies"): "a release has all policies of the lake",
    ("monitor", "--years"): "it works on all years of the lake",
    ("publish", "--years"): "a release has all years of the lake",
}
# The shell sets this variable when it asks for completions.
COMPLETING = "_ARGCOMPLETE"
_UNKNOWN = "unrecognized arguments: "
_REQUIRED = "the following arguments are required: "
_VALUE = re.compile(r"argument (\S+): expected (?:one|at least one) argument")
_CHOICE = re.compile(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)")


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
            remedy = f"{did_you_mean(unknown[0], self._option_string_actions)}{remedy}"
        elif choice := _CHOICE.fullmatch(message):
            what, given, choices = choice[1], choice[2], re.findall(r"[\w-]+", choice[3])
            message = f"{given!r} is not a {'command' if what == 'command' else f'choice of {what}'}"
            remedy = f"{did_you_mean(given, choices, 0.5)}Choose from: {', '.join(choices)}. {remedy}"
        elif missing := _VALUE.fullmatch(message):
            message = f"{missing[1]} needs a value"
            typed = next((typed for typed, _ in examples_of(command) if missing[1] in typed.split()), None)
            remedy = f"for example `{typed}`. {remedy}" if typed else remedy
        elif message.startswith(_REQUIRED) and (mistyped := self._mistyped()):
            message, remedy = f"unrecognized arguments: {mistyped[0]}", f"did you mean {mistyped[1]}? {remedy}"
        elif message.startswith(_REQUIRED) and (examples := examples_of(command)):
            named = message.removeprefix(_REQUIRED)
            message = f"{named} {'are' if ', ' in named else 'is'} missing"
            remedy = f"for example `{examples[0][0]}`. {remedy}"
        self._refuse(InputError(f"{command}: {message}", remedy=remedy))

    def _mistyped(self) -> tuple[str, str] | None:
        """An option that was given and does not exist, and the one that was probably meant. argparse would name only the missing one."""
        known = list(self._option_string_actions)
        for word in (given.partition("=")[0] for given in self._given if given.startswith("--")):
            near = nearest_name(word, known)
            # argparse takes the beginning of an option for the option.
            if near and not any(option.startswith(word) for option in known):
                return word, near
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
            const=f"only {' and '.join(SHRINKING)} replace the records of a year", help=argparse.SUPPRESS,
        )  # fmt: skip
    common_options(parser)
    return parser


def configuration_options(parser: argparse.ArgumentParser) -> None:
    """The configuration, and the options that replace some of its keys."""
    # Here, because importing the settings takes time that commands without them need not spend.
    from ebi_spark.config.settings import AS_CONFIGURED

    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the configuration (YAML)")
    words = "another lake than the configuration's: a folder, a URL (s3a://…), or catalog.prefix in a catalogue"
    parser.add_argument("--lake", metavar="LAKE", help=words)
    stage = parser.get_default("job")
    years = "only these financial years, such as 2018-19..2023-24 or 2021-22,2023-24"
    for name, metavar, words in (("--years", "YEARS", years), ("--policies", "ID,ID", "only these policies")):
        if because := WITHOUT_EFFECT.get((stage, name)):
            parser.add_argument(name, action=_WithoutEffect, const=because, help=argparse.SUPPRESS)
            continue
        option = parser.add_argument(
            name, metavar=metavar, help=f"{words} (default, or `{AS_CONFIGURED}`: those of the configuration)"
        )
        if name == "--policies":
            option.completer = _shipped_policies  # type: ignore[attr-defined]


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
    """An option that every stage accepts: on a stage that it does not change, it prints a note with the reason (``const``)."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        from ebi_spark.config.settings import AS_CONFIGURED

        if self.nargs != 0:
            setattr(namespace, self.dest, values)
        if values != AS_CONFIGURED:
            print(f"ebi-spark: {option_string} has no effect on {namespace.job}: {self.const}", file=sys.stderr)


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


def lake_option(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--lake`` of the commands that read an existing lake. It is not required where ``--config`` can name the lake."""
    words = "the lake: its folder, its URL (s3a://…), or catalog.prefix in a catalogue"
    words += "" if required else " (default: the configuration's)"
    parser.add_argument("--lake", required=required, metavar="LAKE", help=words)
