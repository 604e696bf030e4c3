"""How a session compiles: for small and for large data, and not at all where queries see few rows; settings for a while."""

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
