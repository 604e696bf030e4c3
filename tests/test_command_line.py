"""Help with examples, completion in the shell, and suggestions for what was mistyped. Nothing here starts a session."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_state import log

from ebi_spark import __version__
from ebi_spark.errors import InputError
from ebi_spark.runs.stage_inputs import STAGES
from ebi_spark.sources.file_inventory import stored_bytes
from ebi_spark.spark import session as sessions
from jobs import cli, harness, run
from jobs.examples import EXAMPLES

pytestmark = pytest.mark.usefixtures("no_session")
ROOT = Path(__file__).parents[1]


def test_every_command_has_examples() -> None:
    assert EXAMPLES.keys() == cli.COMMANDS.keys()


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_can_be_typed_as_they_are(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The arguments of each are understood; the work is left out."""
    job = importlib.import_module(f"jobs.{command}")
    for module in {job, harness}:
        monkeypatch.setattr(module, "guarded", lambda *_, **__: 0, raising=False)
    for typed, _ in EXAMPLES[command]:
        words = shlex.split(typed.removeprefix('eval "$(').removesuffix(')"'))
        assert words[:2] == ["ebi-spark", command]
        assert job.main(words[2:]) == 0, typed
    with pytest.raises(SystemExit) as ended:
        job.main(["--help"])
    assert ended.value.code == 0
    assert "\nexamples:\n" in capsys.readouterr().out


def test_examples_about_shipped_policies_are_about_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    shipped = [
        typed for typed, _ in EXAMPLES["policy"] if not {"--lake", "--config", "import"} & set(shlex.split(typed))
    ]
    assert len(shipped) == 3  # list, show, diff
    for typed in shipped:
        assert cli.main(shlex.split(typed)[1:]) == 0, capsys.readouterr().err


def completed(typed: str, folder: Path) -> list[str]:
    """What a shell would offer."""
    answer = folder / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)), "COMP_TYPE": "9",
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "jobs.cli"], env=environment, cwd=ROOT, check=True, capture_output=True)
    return [line.strip() for line in answer.read_text().splitlines()]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ebi-spark ru", ["run"]),
        ("ebi-spark run --con", ["--config"]),
        ("ebi-spark policy sh", ["show"]),
        ("ebi-spark explain --dataset ", ["apc", "op"]),
        ("ebi-spark explain --policy 2Y", ["2Y_back_pain_fusion"]),
        ("ebi-spark policy show 2Y", ["2Y_back_pain_fusion"]),
    ],
)
def test_a_shell_completes(typed: str, offered: list[str], tmp_path: Path) -> None:
    assert completed(typed, tmp_path) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "ebi-spark" in capsys.readouterr().out


def test_a_mistyped_command_or_option_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["statsu"]) == 2
    assert "did you mean 'status'? `ebi-spark --help` lists the commands" in capsys.readouterr().err
    assert cli.main(["xyz"]) == 2
    assert "did you mean" not in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run.main(["--config", "run.yml", "--polices", "2Y_back_pain_fusion", "--json"])
    assert ended.value.code == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["remedy"].startswith("did you mean --policies? ")


@pytest.mark.parametrize(
    ("command", "parts"),
    [("policy", ["list", "show", "import", "lint", "diff"]), ("audit", ["draw", "import", "estimate"])],
)
def test_parts_of_commands_have_examples(command: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    job = importlib.import_module(f"jobs.{command}")
    for part in parts:
        with pytest.raises(SystemExit):
            job.main([part, "--help"])
        examples = capsys.readouterr().out.rpartition("\nexamples:\n")[2].splitlines()[::2]
        assert examples and all(line.startswith(f"  ebi-spark {command} {part}") for line in examples)


def test_the_list_of_commands_and_every_help_fit_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--help"]) == 0
    for command in EXAMPLES:
        with pytest.raises(SystemExit):
            importlib.import_module(f"jobs.{command}").main(["--help"])
        text = capsys.readouterr().out.partition("\nexamples:\n")[0]
        assert max(map(len, text.splitlines())) <= 80, text


@pytest.mark.parametrize("spelling", ["--accept-shrinkage", "--accept"])
def test_an_option_without_effect_says_so(
    spelling: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "guarded", lambda *_, **__: 0)
    assert importlib.import_module("jobs.rate").main(["--config", "run.yml", spelling]) == 0
    assert f"{spelling} has no effect on rate: only run and ingest replace" in capsys.readouterr().err
    assert run.main(["--config", "run.yml", "--accept-shrinkage"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "option"),
    [(command, option) for command in ("run", *STAGES) for option in ("--years", "--policies")],
)
def test_years_and_policies_are_in_the_help_of_the_stages_that_they_limit(
    command: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each stage takes both, because a scheduler gives the same to all of them."""
    monkeypatch.setattr(harness, "guarded", lambda *_, **__: 0)
    job = importlib.import_module(f"jobs.{command}")
    limits = (command, option) not in {
        ("ingest", "--policies"), ("rate", "--policies"), ("monitor", "--years"), ("monitor", "--policies"),
        ("validate", "--policies"),
        ("publish", "--years"), ("publish", "--policies"),
    }  # fmt: skip
    with pytest.raises(SystemExit):
        job.main(["--help"])
    assert (option in capsys.readouterr().out) == limits
    assert job.main(["--config", "run.yml", option, "2021-22"]) == 0
    assert (f"{option} has no effect on {command}: " in capsys.readouterr().err) != limits
    assert job.main(["--config", "run.yml", option, "configured"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (["policy", "shw"], "policy: 'shw' is not a command", "did you mean show? Choose from: list, show, import"),
        (["explain", "--lake", "x", "--record", "1", "--dataset", "ap"], "explain: 'ap' is not a choice of --dataset", "did you mean apc?"),
        (["run"], "run: --config is missing", "for example `ebi-spark run --config run.yml`."),
        (["run", "--confg", "x"], "run: unrecognized arguments: --confg", "did you mean --config?"),
        (["explain", "--lake", "x", "--recrod=1"], "explain: unrecognized arguments: --recrod", "did you mean --record?"),
        (["status", "--lake"], "status: --lake needs a value", "for example `ebi-spark status --lake lake`."),
        (
            ["export", "--lake", "x", "--out", "y", "--format", "xlsx", "--openlineage-url", "http://z"],
            "export: --openlineage-url needs the format openlineage", "`ebi-spark export --help`",
        ),
        (["audit", "estimate", "--lake", "x"], "audit estimate: --policy is missing", "for example `ebi-spark audit estimate --lake"),
    ],
)  # fmt: skip
def test_a_wrong_call_says_what_to_type(
    words: list[str], said: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and f"ebi-spark: {said}" in printed and f"what to do: {remedy}" in printed


@pytest.mark.parametrize("word", ["-V", "--version", "version"])
def test_the_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 0
    assert capsys.readouterr().out == f"ebi-spark {__version__}\n"


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ebi-spark COMMAND")
    # Help has examples at every level; those of this one are also of a command, whose test types them.
    examples = [
        line.strip() for line in printed.partition("\nexamples:\n")[2].splitlines() if line.startswith("  ebi-spark")
    ]
    assert len(examples) == 5 and {*examples} <= {typed for each in EXAMPLES.values() for typed, _ in each}
    with pytest.raises(SystemExit):
        cli.main(["help", "policy", "lint"])
    assert capsys.readouterr().out.startswith("usage: ebi-spark policy lint")


def test_a_lake_near_the_one_that_was_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lake" / "silver").mkdir(parents=True)
    for named in ("laek", "lake/published", "."):
        assert cli.main(["status", "--lake", str(tmp_path / named)]) == 2
        assert f"what to do: did you mean {tmp_path / 'lake'}?" in capsys.readouterr().err
    assert cli.main(["status", "--lake", str(tmp_path / "other")]) == 2
    assert "what to do: check the path" in capsys.readouterr().err


def test_explain_takes_lake_and_policies_from_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["explain", "--record", "1"])
    assert ended.value.code == 2 and "ebi-spark: explain: --lake or --config is missing" in capsys.readouterr().err
    config = tmp_path / "run.yml"
    config.write_text("lake: ./lake\nsources: {a: {system: sus_plus, tables: {opa: opa.csv}}}\npolicy_dirs: [own]\n")
    asked = ["explain", "--record", "1", "--config", str(config)]
    assert cli.main(asked) == 2
    assert f"there is no folder {tmp_path / 'own'}" in capsys.readouterr().err
    (tmp_path / "own").mkdir()
    assert cli.main(asked) == 2
    assert f"there is no lake at {tmp_path / 'lake'}" in capsys.readouterr().err
    (tmp_path / "lake" / "silver").mkdir(parents=True)
    assert cli.main(asked) == 2
    assert "no record of that id is in silver" in capsys.readouterr().err
    # The lake that is named comes first.
    assert cli.main([*asked, "--lake", str(tmp_path / "own")]) == 2
    assert f"there is no lake at {tmp_path / 'own'}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [name for name in STAGES if name != "ingest"])
def test_a_stage_that_reads_the_lake_makes_none(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yml"
    config.write_text("lake: ./lake\nsources: {a: {system: sus_plus, tables: {opa: opa.csv}}}\n")
    assert cli.main([command, "--config", str(config)]) == 2
    assert f"there is no lake at {tmp_path / 'lake'}" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("words", [["policy", "list"], ["policy", "list", "--json"]])
def test_a_reader_that_stops_reading_is_no_failure_of_the_data(words: list[str]) -> None:
    """As after ``| head``: no message, and the status that a program has that SIGPIPE ended."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_unknown_run_is_refused_without_a_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "silver").mkdir()
    assert cli.main(["replay", "no-such-run", "--lake", str(tmp_path)]) == 2
    assert "no-such-run is not a run of this lake" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["replay", "r1"], ["policy", "diff", "2Y_back_pain_fusion", "2022-08", "2024-09"]], ids=["replay", "diff"]
)
def test_a_command_that_reads_every_record_gets_a_session_for_as_many(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []

    def session(*_: Any, **settings: Any) -> Any:
        started.append(settings)
        raise InputError("no session here", remedy="none")

    monkeypatch.setattr(sessions, "spark_session", session)
    log(tmp_path, 0, "flag", {})
    (tmp_path / "silver").mkdir()
    (tmp_path / "silver" / "records.parquet").write_bytes(bytes(1000))
    assert cli.main([*words, "--lake", str(tmp_path)]) == 2
    assert [settings["data_bytes"] for settings in started] == [stored_bytes(tmp_path)]
    assert stored_bytes(tmp_path) >= 1000
