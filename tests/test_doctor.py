"""`ebi-spark doctor`: what a machine lacks is named with its remedy, without Java or Spark being started."""

import json
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ebi_spark.runs import environment
from ebi_spark.spark import java
from jobs import cli, doctor

pytestmark = pytest.mark.usefixtures("no_session")


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    doctor.main([*arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    return answer, {finding["check"]: finding for finding in answer["checks"]}


def test_this_machine_can_run_the_tests(capsys: pytest.CaptureFixture[str]) -> None:
    answer, found = asked(capsys)
    assert (answer["exit"], answer["error"]) == (0, None)
    assert {name for name, finding in found.items() if finding["result"] == "refused"} == set()
    assert {"Java", "Delta's jars", "packages", "memory", "disk", "rights", "time zone"} <= found.keys()
    assert metadata.version("pyspark") in found["packages"]["found"]
    assert cli.main(["doctor"]) == 0
    assert "This machine" in capsys.readouterr().out


def test_every_problem_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(java, "_version", lambda _: 'openjdk version "11.0.2"')
    monkeypatch.setenv("EBI_SPARK_JARS", str(tmp_path))
    monkeypatch.setattr(environment, "PYTHONS", ((3, 99),))
    monkeypatch.setattr(
        environment.metadata, "requires", lambda _: ["pyspark>=99", "no-such-package", "odd; extra == 'other'"]
    )
    monkeypatch.setattr(
        environment.psutil, "virtual_memory", lambda: namedtuple("M", "total available")(3 << 30, 1 << 30)
    )
    monkeypatch.setattr(
        environment.shutil, "disk_usage", lambda _: namedtuple("D", "total used free")(10**9, 10**9, 10**6)
    )
    monkeypatch.setattr(environment.resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(environment.locale, "nl_langinfo", lambda _: "ANSI_X3.4-1968")
    answer, found = asked(capsys)
    assert answer["exit"] == 2
    refused = {name: finding["remedy"] for name, finding in found.items() if finding["result"] == "refused"}
    assert refused.keys() == {"Python", "packages", "Java", "Delta's jars", "memory"}
    assert all(refused.values())
    assert answer["error"]["message"].startswith("5 of 13 checks found a problem.")
    assert "pyspark is " in found["packages"]["found"]
    assert "no-such-package is not installed" in found["packages"]["found"]
    assert "Java 11" in found["Java"]["found"]
    warned = {name for name, finding in found.items() if finding["result"] == "warning"}
    assert warned == {"disk", "open files", "locale"}


def test_a_lake_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(dir: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    config = tmp_path / "run.yml"
    config.write_text("lake: ./deep/lake\nsources: {a: {system: sus_plus, tables: {opa: opa.csv}}}\n")
    monkeypatch.setattr(environment.tempfile, "TemporaryFile", refuse)
    answer, found = asked(capsys, "--config", str(config))
    assert answer["exit"] == 2
    assert found["rights"]["found"] == f"{tmp_path} cannot be written (Permission denied)"
    assert str(tmp_path / "deep" / "lake") in found["rights"]["remedy"]


def test_a_configuration_with_faults_does_not_hide_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yml").write_text("lak: x\n")
    answer, found = asked(capsys, "--config", str(tmp_path / "run.yml"))
    assert answer["exit"] == 2 and "did you mean 'lake'?" in found["configuration"]["found"]
    assert found["Python"]["result"] == "ok" and "rights" in found
