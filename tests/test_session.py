"""How a session compiles: for small and for large data, and not at all where queries see few rows; an archive of
classes; settings for a while."""

import shlex
import subprocess
from pathlib import Path
from typing import NoReturn, cast

import pytest
from pyspark.sql import SparkSession

from ebi_spark.sources.file_inventory import stored_bytes
from ebi_spark.spark import java
from ebi_spark.spark.tuning import (
    SMALL_BYTES,
    UNCOMPILED,
    compiling_options,
    is_small,
    setting,
    uncompiled,
    with_settings,
)


def version_under(options: str) -> subprocess.CompletedProcess[str]:
    found = java._java()
    assert found
    return subprocess.run([found, *shlex.split(options), "-version"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("data_bytes", [0, SMALL_BYTES, None])
def test_java_starts_with_what_it_is_told(data_bytes: int | None) -> None:
    answer = version_under(compiling_options(data_bytes))
    assert answer.returncode == 0 and answer.stdout == "", answer


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_java_does_without_an_archive_that_it_cannot_use(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "with blanks" / "classes.jsa"
    archive.parent.mkdir()
    if content is not None:
        archive.write_bytes(content)
    monkeypatch.setattr(java, "class_archive", lambda _: archive)
    options = java.archive_options([])
    assert (str(archive) in options) == (content is not None)
    answer = version_under(options)
    assert answer.returncode == 0 and answer.stdout == "" and "warning" not in answer.stderr, answer


def test_an_archive_is_made_once_and_takes_the_place_of_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes it, and what it does where that fails or there is no virtual environment."""
    archive = tmp_path / "share" / "ebi-spark" / "classes-1.jsa"
    calls: list[Path] = []
    fails = True

    def making(command: list[str], **_: object) -> None:
        calls.append(Path(command[-1]))
        if fails:
            raise subprocess.CalledProcessError(1, command)
        calls[-1].write_bytes(b"classes")

    monkeypatch.setattr(java.subprocess, "run", making)
    messages: list[str] = []
    monkeypatch.setattr(java, "class_archive", lambda _: None)
    java.keep_classes([], messages.append)
    assert not calls and not messages
    monkeypatch.setattr(java, "class_archive", lambda _: archive)
    java.keep_classes([], messages.append)
    assert len(calls) == 1 and not list(archive.parent.iterdir()) and "could not" in messages[-1]
    fails = False
    (archive.parent / "classes-0.jsa").touch()
    java.keep_classes([], messages.append)
    java.keep_classes([], messages.append)
    assert len(calls) == 2 and [path.name for path in archive.parent.iterdir()] == ["classes-1.jsa"]


def test_every_java_every_spark_and_every_jar_has_an_archive_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java.sys, "base_prefix", "/another")
    jar = tmp_path / "delta.jar"
    jar.write_bytes(b"1")
    found = [java.class_archive([jar])]
    monkeypatch.setattr(java, "_version", lambda _: "another")
    found.append(java.class_archive([jar]))
    monkeypatch.setattr(java.pyspark, "__version__", "0")
    found.append(java.class_archive([jar]))
    jar.write_bytes(b"12")
    found.append(java.class_archive([jar]))
    assert len(set(found)) == 4 and None not in found
    monkeypatch.setattr(java, "_version", lambda _: "Picked up JAVA_TOOL_OPTIONS: -Dx=y\nanother")
    assert java.class_archive([jar]) == found[-1]
    monkeypatch.setattr(java.sys, "base_prefix", java.sys.prefix)
    assert java.class_archive([jar]) is None


@pytest.mark.usefixtures("compiled")
def test_settings_stand_again_after_queries_that_were_not_compiled(spark: SparkSession) -> None:
    before = {key: spark.conf.get(key) for key in UNCOMPILED}
    with pytest.raises(ZeroDivisionError), uncompiled(spark):
        assert {key: spark.conf.get(key) for key in UNCOMPILED} == UNCOMPILED != before
        raise ZeroDivisionError
    assert {key: spark.conf.get(key) for key in UNCOMPILED} == before


def test_a_platform_that_fixes_its_settings_is_left_alone() -> None:
    """Serverless answers neither: a job that asks or sets goes on with what there is."""

    class Fixed:
        def __getattr__(self, name: str) -> NoReturn:
            raise RuntimeError(f"CONFIG_NOT_AVAILABLE: {name}")

    class Platform:
        conf = Fixed()

    fixed = cast(SparkSession, Platform())
    assert setting(fixed, "spark.sql.maxConcurrentOutputFileWriters") is None
    with with_settings(fixed, {"spark.sql.maxConcurrentOutputFileWriters": "3"}):
        assert setting(fixed, "spark.sql.maxConcurrentOutputFileWriters") is None


def test_a_lake_that_holds_much_is_not_small_though_its_sources_are(tmp_path: Path) -> None:
    (tmp_path / "silver" / "apc_spell").mkdir(parents=True)
    assert is_small(stored_bytes(tmp_path))
    with (tmp_path / "silver" / "apc_spell" / "part.parquet").open("wb") as file:
        file.truncate(SMALL_BYTES)  # a hole: takes no room
    assert not is_small(stored_bytes(tmp_path)) and not is_small(None)
