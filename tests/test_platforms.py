"""The whole job where a platform brings the session, as the wheel that a platform installs: on a Spark Connect server, by the
tasks of the Databricks bundle, into a catalogue; and by spark-submit on a standalone cluster. (`make platforms`)

Each has to leave the same tables as a local run."""

import ast
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from calling import answer_of
from pyspark.sql import Catalog, Column, DataFrame, DataFrameReader, DataFrameWriter, SparkSession
from pyspark.sql.functions import builtin
from real_runs import WAIT, end_state
from test_databricks import JOBS

from ebi_spark import synthetic
from ebi_spark.spark.jars import local_jars
from ebi_spark.spark.tuning import SESSION_SETTINGS, UNCOMPILED
from jobs import run

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
SPARK = Path(pyspark.__file__).parent
LAYERS = ("silver", "gold", "published")
DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.ui.enabled": "false",
    # So few rows need no compiled code, and no more files than cores.
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    **UNCOMPILED,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product as a platform installs it: the wheel in a folder of its own, outside the checkout."""
    built, installed = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)], check=True, cwd=ROOT)
    (package,) = built.glob("*.whl")
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*uv, str(package)], check=True)
    return installed


@pytest.fixture(scope="module")
def source(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "source"
    synthetic.generate(
        spark, folder, years=["2021-22", "2022-23"], spells=600, attendances=1_200, seed=7, system="sus_plus",
        file_format="csv", progress=lambda _: None,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def local(one_session: None, source: Path) -> Path:
    """The lake that a local run leaves."""
    done = answer_of(run.main, "--config", str(source / "run.yml"), "--lake", str(source / "local"))
    assert done["outcome"] == "done", done["error"]
    return source / "local"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def settings(values: dict[str, str]) -> list[str]:
    return [part for key, value in values.items() for part in ("--conf", f"{key}={value}")]


@contextlib.contextmanager
def service(command: list[str | Path], folder: Path, ready: int | str) -> Iterator[None]:
    """A process of Spark's while a test needs it. It is ready once it listens on a port, or its log has a text."""
    log = folder / f"service-{time.monotonic_ns()}.log"
    environment = {**os.environ, "SPARK_LOCAL_IP": HOST, "SPARK_HOME": str(SPARK), "SPARK_NO_DAEMONIZE": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=folder, env=environment
        )
    try:
        for _ in range(WAIT):
            assert process.poll() is None, log.read_text()
            if isinstance(ready, str):
                if ready in log.read_text():
                    break
            else:
                with socket.socket() as probe:
                    if probe.connect_ex((HOST, ready)) == 0:
                        break
            time.sleep(0.2)
        else:
            raise AssertionError(f"not ready: {log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(60)


def called(command: list[str | Path], folder: Path, wheel: Path, **environment: str) -> None:
    """Call the product as installed, from a folder that is not the checkout."""
    own = {**os.environ, "PYTHONPATH": str(wheel), "SPARK_LOCAL_IP": HOST, **environment}
    own.pop("PYSPARK_SUBMIT_ARGS", None)
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_is_whole(wheel: Path, tmp_path: Path) -> None:
    """What it ships is in it, and its entry points call it and not the checkout."""
    called([sys.executable, wheel / "bin" / "ebi-spark", "policy", "list"], tmp_path, wheel)
    place = "import ebi_spark, jobs; print(ebi_spark.__file__, jobs.__file__)"
    done = subprocess.run([sys.executable, "-c", place], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(wheel)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert all(part.startswith(str(wheel)) for part in done.stdout.split())


def only_in_newer_spark(owner: object) -> set[str]:
    """The public names of a class or module that Spark 4.0 does not have, as Spark's own documentation says."""
    newer = re.compile(r"versionadded:: (?:4\.[1-9]|[5-9])")
    members = {name: member for name, member in vars(owner).items() if not name.startswith("_")}
    return {name for name, member in members.items() if newer.search(getattr(member, "__doc__", None) or "")}


@pytest.mark.skipif(pyspark.__version__ < "4.1", reason="only a newer Spark says what is new")
def test_nothing_is_used_that_spark_4_0_does_not_have() -> None:
    functions = only_in_newer_spark(builtin)
    methods = {name for owner in (DataFrame, Column, SparkSession, DataFrameReader, DataFrameWriter, Catalog)
               for name in only_in_newer_spark(owner)}  # fmt: skip
    assert "uuid" in functions and "repartitionById" in methods
    found = set()
    for path in (path for folder in ("ebi_spark", "jobs") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        # Other libraries have methods of the same names.
        for node in ast.walk(ast.parse(text)) if "pyspark" in text else ():
            if isinstance(node, ast.Attribute):
                of_functions = isinstance(node.value, ast.Name) and node.value.id == "F"
                if node.attr in (functions if of_functions else methods):
                    found.add(f"{path.stem}: {node.attr}")
    assert found == {"periods: repartitionById"}  # with another way for Spark 4.0


@pytest.mark.soak
def test_the_tasks_of_the_bundle_on_a_connect_server(local: Path, source: Path, wheel: Path, tmp_path: Path) -> None:
    """Into a catalogue that outlasts the session, each stage a process of its own, as on Databricks."""
    port, warehouse = free_port(), tmp_path / "warehouse"
    server = [
        SPARK / "bin" / "spark-submit", "--master", "local[2]", "--driver-memory", "2g",
        "--driver-class-path", os.pathsep.join(map(str, local_jars())),
        "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "--name", "connect",
        *settings(DELTA | SESSION_SETTINGS), *settings({
            "spark.connect.grpc.binding.address": HOST, "spark.connect.grpc.binding.port": str(port),
            "spark.sql.catalogImplementation": "hive", "spark.sql.warehouse.dir": str(warehouse),
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={tmp_path} -XX:+UseSerialGC",
        }), "spark-internal",
    ]  # fmt: skip
    values = {
        "config": str(source / "run.yml"), "lake": "spark_catalog.one,two,three", "years": "configured",
        "policies": "configured",
    }  # fmt: skip
    with service(server, tmp_path, port):
        for task in JOBS["classic"]["tasks"]:
            if task["task_key"] == "catalogue":  # only Unity Catalog has tags
                continue
            parameters = task["python_wheel_task"]["parameters"]
            for key, value in values.items():
                parameters = [text.replace(f"{{{{job.parameters.{key}}}}}", value) for text in parameters]
            entry = wheel / "bin" / task["python_wheel_task"]["entry_point"]
            called([sys.executable, entry, *parameters], tmp_path, wheel, SPARK_REMOTE=f"sc://{HOST}:{port}")
    lake = tmp_path / "lake"
    lake.mkdir()
    for layer, schema in zip(LAYERS, ("one", "two", "three"), strict=True):
        (lake / layer).symlink_to(warehouse / f"{schema}.db")
    assert end_state(lake) == end_state(local)


@pytest.mark.soak
def test_spark_submit_on_a_standalone_cluster(local: Path, source: Path, wheel: Path, tmp_path: Path) -> None:
    """A master and two workers, each a process that the executors' files come from."""
    port = free_port()
    master = f"spark://{HOST}:{port}"
    start = SPARK / "bin" / "spark-class"
    main = [start, "org.apache.spark.deploy.master.Master", "--host", HOST, "--port", str(port), "--webui-port", "0"]
    worker = [
        start, "org.apache.spark.deploy.worker.Worker", "--host", HOST, "--cores", "1", "--memory", "1g",
        "--webui-port", "0", "--work-dir", str(tmp_path / "work"), master,
    ]  # fmt: skip
    submit = [
        SPARK / "bin" / "spark-submit", "--master", master, "--driver-memory", "2g", "--executor-memory", "1g",
        "--jars", ",".join(map(str, local_jars())), *settings(DELTA),
        wheel / "jobs" / "run.py", "--config", source / "run.yml", "--lake", tmp_path / "lake",
    ]  # fmt: skip
    registered = "Successfully registered with master"
    with (
        service(main, tmp_path, port),
        service(worker, tmp_path, registered),
        service(worker, tmp_path, registered),
    ):
        called(submit, tmp_path, wheel, PYSPARK_PYTHON=sys.executable, SPARK_HOME=str(SPARK))
    assert len(list((tmp_path / "work").glob("app-*/*"))) >= 2  # executors
    assert end_state(tmp_path / "lake") == end_state(local)
