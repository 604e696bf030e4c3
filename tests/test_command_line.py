"""Help with examples, completion in the shell, and suggestions for what was mistyped. Nothing here starts a session."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_bad_input import no_session

from jobs import cli, harness, run
from jobs.examples import EXAMPLES

__all__ = ["no_session"]
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
    assert "did you mean 'status'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run.main(["--config", "run.yml", "--polices", "2Y_back_pain_fusion", "--json"])
    assert ended.value.code == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["remedy"].startswith("did you mean --policies? ")
