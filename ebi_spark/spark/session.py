"""The Spark session: the platform's own if there is one, otherwise a local one with Delta, on this machine only and
without web UI.

Importing this module starts nothing. Databricks, spark-submit and Spark Connect have their own session and Delta
(:mod:`ebi_spark.spark.platform`). A local session needs Java and Delta's jars (:mod:`ebi_spark.spark.jars`).
"""

import contextlib
import locale
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.quoting import java_option
from ebi_spark.spark.jars import local_jars
from ebi_spark.spark.java import require_java
from ebi_spark.spark.platform import platform_session
from ebi_spark.spark.scratch import refuse_scratch, swept
from ebi_spark.spark.tuning import QUICK_PAGES, SESSION_SETTINGS, compiling_options, is_small, shuffle_partitions

# The settings of every local session.
_LOCAL = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Spark describes the plan of every query, and of each of its stages, for its web page, which does not run here. In full,
    # that takes a quarter of the time of a query with many columns.
    "spark.sql.ui.explainMode": "simple",
    "spark.sql.debug.maxToStringFields": "0",
    "spark.sql.parquet.compression.codec": "zstd",
    # Spark does not read the size statistics of every page, and they make up a tenth of the time of writing.
    "spark.hadoop.parquet.size.statistics.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "2",
    # Recording the Python line of every column for error messages would double the time of building the ingest's queries.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
}
# The accepted forms of the environment variables for a local session.
_MASTER = re.compile(r"local(?:\[(?:[0-9]{1,4}|\*)(?:, ?[0-9]{1,2})?\])?")
_MEMORY = re.compile(r"[0-9]{1,7}[kmgtKMGT]b?")


def _from_environment(name: str, default: str, form: re.Pattern[str], example: str) -> str:
    """An environment variable for the local session. Raises an :class:`InputError` if it does not have the right
    form."""
    value = os.environ.get(name, default)
    if not form.fullmatch(value):
        raise InputError(f"the environment variable {name} cannot be {value!r}", remedy=f"set it to {example}")
    return value


def local_size() -> tuple[str, str]:
    """Cores and memory of a local session, as the environment gives them. Raises an :class:`InputError` for a variable
    without the right form."""
    master = _from_environment("EBI_SPARK_MASTER", "local[*]", _MASTER, "local[*] or local[4]")
    return master, _from_environment("EBI_SPARK_DRIVER_MEMORY", "4g", _MEMORY, "a size such as 4g or 800m")


@contextlib.contextmanager
def spark_session(
    scratch: Path | None = None,
    *,
    timezone: str = "Europe/London",
    data_bytes: int | None = None,
    stores: Collection[str] = (),
) -> Iterator[SparkSession]:
    """The session for one job. A local session writes temporary files below ``scratch`` and ends with the job.

    ``data_bytes``: roughly how much data the job reads, in bytes (None: unknown, so it may be much). ``stores``: the object
    stores that the job reads or writes, such as ``s3a``. ``EBI_SPARK_MASTER`` and ``EBI_SPARK_DRIVER_MEMORY`` set the size of a
    local session (default ``local[*]`` and ``4g``).
    """
    if platform_session():
        spark = SparkSession.builder.getOrCreate()
        spark.conf.set("spark.sql.session.timeZone", timezone)
        for key, value in SESSION_SETTINGS.items():
            # Serverless does not allow most settings. Planning is then slower, and the reader refuses names with `${`.
            with contextlib.suppress(Exception):
                spark.conf.set(key, value)
        yield spark
        return
    require_java()
    master, memory = local_size()
    jars = local_jars(stores)
    _java_reads_utf8()
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    place = scratch or Path(tempfile.gettempdir())
    refuse_scratch(place)
    folder = Path(tempfile.mkdtemp(prefix=f"spark-{os.getpid()}-", dir=swept(scratch) if scratch else None))
    settings = {
        **_LOCAL,
        "spark.driver.memory": memory,
        # On the class path instead of as Spark packages: the session starts some seconds faster.
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
        "spark.driver.extraJavaOptions": java_options(folder, data_bytes),
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.session.timeZone": timezone,
        "spark.sql.shuffle.partitions": str(shuffle_partitions(data_bytes)),
        **store_settings(folder, stores),
        **(QUICK_PAGES if is_small(data_bytes) else {}),
    }
    builder = SparkSession.builder.appName("ebi-spark").master(master)
    for key, value in settings.items():
        builder = builder.config(key, value)
    _remember_java_names()
    with _java_prints_to_standard_error():
        spark = builder.getOrCreate()
    for key, value in SESSION_SETTINGS.items():
        spark.conf.set(key, value)
    try:
        yield spark
    finally:
        with contextlib.suppress(Exception):
            spark.stop()
        shutil.rmtree(folder, ignore_errors=True)


def store_settings(folder: Path, stores: Collection[str]) -> dict[str, str]:
    """The settings of a local session for object stores. Uploads wait in its own folder, because they have records of patients,
    and Hadoop's folder for them is open to every user. Credentials, region and endpoint come from the environment, under the
    names that Amazon's own tools use."""
    if "s3a" not in stores:
        return {}
    settings = {"spark.hadoop.fs.s3a.buffer.dir": str(folder / "uploads")}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        settings["spark.hadoop.fs.s3a.endpoint.region"] = region
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:  # a server of one's own seldom has a host name for each bucket
        settings |= {"spark.hadoop.fs.s3a.endpoint": endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}
    return settings


def java_options(folder: Path, data_bytes: int | None) -> str:
    """The options for a local Java, each quoted the way Spark's launcher expects."""
    return " ".join(
        [
            java_option(f"-Djava.io.tmpdir={folder}"),
            java_option(f"-Dderby.system.home={folder}"),
            java_option(f"-Dlog4j2.configurationFile={resource('conf', 'log4j2.properties').as_uri()}"),
            compiling_options(data_bytes),
        ]
    )


@contextlib.contextmanager
def _java_prints_to_standard_error() -> Iterator[None]:
    """Let a Java that is started in this block print to standard error, so that its own output (VACUUM prints some)
    does not mix with the output of the job."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)


@cache
def _remember_java_names() -> None:
    """Let PySpark ask Java for each class and method once a session. It asks at every use of a function, which is a fifth of all
    calls from Python to Java. The names are kept in the objects of the session that gave them."""
    from py4j.java_gateway import JavaClass, JavaMember, JVMView

    for owner, kept in ((JVMView, JavaClass), (JavaClass, JavaMember)):

        def ask(self: Any, name: str, asked: Any = owner.__getattr__, kept: type = kept) -> Any:
            found = asked(self, name)
            if isinstance(found, kept):
                self.__dict__[name] = found  # where Python looks first
            return found

        owner.__getattr__ = ask


def _java_reads_utf8() -> None:
    """Make sure that Java starts in a UTF-8 locale. In another one it cannot open files with names that are not
    ASCII."""
    if (locale.nl_langinfo(locale.CODESET) or "").upper().replace("-", "") != "UTF8":
        os.environ["LC_ALL"] = "C.UTF-8"
