"""One Spark session for the whole suite, and lakes in temporary folders."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

os.environ.setdefault("EBI_SPARK_MASTER", "local[2]")
os.environ.setdefault("EBI_SPARK_DRIVER_MEMORY", "3g")
os.environ["GX_ANALYTICS_ENABLED"] = "false"

from calling import COMPILED

import ebi_spark.spark.session as sessions
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.spark import tuning
from ebi_spark.spark.session import spark_session
from ebi_spark.spark.tuning import UNCOMPILED, with_settings

# The files that take longest, in their order: of two processes that take file after file, none is left with a long one at
# the end. A file is never divided, because its tests share lakes that are made once.
LONGEST = (
    "test_reach", "test_pipeline", "test_killed", "test_backfill", "test_publishing", "test_staging", "test_catalogue",
    "test_validation", "test_records", "test_disclosure", "test_synthetic", "test_dates_and_codes", "test_lake",
    "test_small_writes", "test_stage_versions", "test_published_sql", "test_report", "test_code_tables", "test_histories",
    "test_denominators", "test_hostile", "test_bad_input", "test_local_policies", "test_report_in_browser",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a session. Begin with the long files. (The sort is stable: within a file, and among the rest, the
    order stays.)"""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is refused, or answered, before Spark starts."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a session was started")

    monkeypatch.setattr(sessions, "spark_session", refused)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    # A job of so little data does without Java's optimising compiler. A session of thousands of queries is faster with it, if it
    # compiles only what runs very often: ten times as often as by default.
    late = ("Invocation", 50_000), ("MinInvocation", 6_000), ("Compile", 150_000), ("BackEdge", 400_000)
    thresholds = " ".join(f"-XX:Tier4{name}Threshold={number}" for name, number in late)
    patch = pytest.MonkeyPatch()
    patch.setattr(tuning, "QUICK_JAVA_OPTIONS", f"-XX:+UseParallelGC -XX:ParallelGCThreads=1 {thresholds}")
    with spark_session(tmp_path_factory.mktemp("scratch"), data_bytes=0) as session:
        patch.undo()
        session.conf.set("spark.sql.shuffle.partitions", "2")
        # So few rows are found sooner by queries that are not compiled, as in a job of few rows.
        for key, value in UNCOMPILED.items():
            session.conf.set(key, value)
        yield session


@pytest.fixture
def compiled(spark: SparkSession) -> Iterator[None]:
    """For tests that must hold for jobs of many rows too: the queries of these are compiled."""
    with with_settings(spark, COMPILED):
        yield


@pytest.fixture(scope="module")
def one_session(spark: SparkSession) -> Iterator[None]:
    """Jobs run in the suite's own session instead of starting one each."""

    @contextlib.contextmanager
    def given(*_: Any, **__: Any) -> Iterator[SparkSession]:
        yield spark

    patch = pytest.MonkeyPatch()
    patch.setattr(sessions, "spark_session", given)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def empty_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Lays a lake out in a folder, its tables there and empty: copied, since making them takes seconds each time."""
    made = tmp_path_factory.mktemp("empty") / "lake"
    prepare_folders(made)
    Lake(spark, LakeLocation(folder=made)).prepare()

    def lay_out(folder: Path) -> Path:
        shutil.copytree(made, folder)
        return folder

    return lay_out


@pytest.fixture
def lake_at(spark: SparkSession, empty_lake: Callable[[Path], Path]) -> Callable[[Path], Lake]:
    def make(folder: Path) -> Lake:
        return Lake(spark, LakeLocation(folder=empty_lake(folder)), "test-run")

    return make
