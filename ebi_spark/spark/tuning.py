"""Settings of Java and Spark that make sessions faster, each with its reason, and the sizes of data that they are for."""

import contextlib
import os
from collections.abc import Iterator, Mapping

from pyspark.sql import SparkSession

from ebi_spark.config.shipped_files import resource
from ebi_spark.quoting import java_option

# Rows with many derived columns give methods that are longer than Java compiles by default. Interpreted, they are
# several times slower.
JAVA_OPTIONS = "-XX:-DontCompileHugeMethods -XX:ReservedCodeCacheSize=256m"
# For small data, use only Java's quick compiler (C1) and one garbage collector thread. That takes a third less
# processor time, because the optimising compiler (C2) would still be busy when the job ends.
QUICK_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# For larger data, use `conf/compiler_directives.json`, without a message that it was read. The optimising compiler
# starts twenty times later than by default: it still compiles the code that processes rows, but not the code that plans
# queries.
THOROUGH_JAVA_OPTIONS = (
    "-XX:+UnlockDiagnosticVMOptions -XX:-DisplayVMOutput -XX:Tier4InvocationThreshold=100000 "
    "-XX:Tier4MinInvocationThreshold=12000 -XX:Tier4CompileThreshold=300000 -XX:Tier4BackEdgeThreshold=800000"
)
# The memory that Spark takes at once for each join, group and sort of a task. By default it is 64 MB of a heap of 4 GB, which a
# query over few rows fills with zeros and leaves to the collector: a run of a few thousand rows takes a sixth more processor time.
QUICK_PAGES = {"spark.buffer.pageSize": "1m"}
SMALL_BYTES = 256 << 20
# Below this, compiling is not worthwhile even for a stage that reads every row.
TINY_BYTES = 8 << 20
# For stages with many queries over few rows: generating and compiling code for a query takes longer than answering it
# without.
UNCOMPILED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
# Bytes of source data for each shuffle partition, so that a partition fits into a task's memory. Spark merges small
# partitions.
SHUFFLED_BYTES = 64 << 20
MOST_PARTITIONS = 400

# Spark's Parquet writer stores times in the form that Delta uses, so that its files can be files of a table.
TIMES_AS, DELTA_TIMES = "spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS"

VARIABLES = "spark.sql.variable.substitute"
# Settings of every session.
#
# Constraint propagation through dozens of derived columns takes Spark's planner minutes and finds nothing here.
#
# In a time zone other than UTC, Delta reads a table's whole log again after each commit to verify its cached list of
# files. It does so because times before 1884, when zones differed from UTC by odd seconds, may be stored differently in
# file statistics than they are read. A lake has only recent times (of files, runs and releases). Verifying took a sixth
# of the time of publishing.
#
# Spark replaces ``${env:HOME}`` in SQL by the value of the variable, also where it is part of a column's name in a source file.
SESSION_SETTINGS = {
    VARIABLES: "false",
    TIMES_AS: DELTA_TIMES,
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.databricks.delta.allFilesInCrc.verificationMode.forceOnNonUTC.enabled": "false",
}


def is_small(data_bytes: int | None) -> bool:
    """Whether a job reads so little data that compiling would take longer than processing it. False if that is
    unknown."""
    return data_bytes is not None and data_bytes < SMALL_BYTES


def is_tiny(data_bytes: int | None) -> bool:
    """Whether a job reads almost no data. False if that is unknown."""
    return data_bytes is not None and data_bytes < TINY_BYTES


def setting(spark: SparkSession, key: str) -> str | None:
    """A setting of the session; None if it is not set, or if the platform does not show it (serverless)."""
    with contextlib.suppress(Exception):
        return spark.conf.get(key, None)
    return None


@contextlib.contextmanager
def with_settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Change settings of the session within a ``with`` block, as far as the platform allows."""
    before: dict[str, str] = {}
    try:
        for key, value in settings.items():
            with contextlib.suppress(Exception):
                before[key] = str(spark.conf.get(key))
                spark.conf.set(key, value)
        yield
    finally:
        for key, value in before.items():
            with contextlib.suppress(Exception):  # an interrupt may have ended the session
                spark.conf.set(key, value)


@contextlib.contextmanager
def uncompiled(spark: SparkSession) -> Iterator[None]:
    """Answer queries without compiling code for each, which is faster for many queries over few rows."""
    with with_settings(spark, UNCOMPILED):
        yield


def compiling_options(data_bytes: int | None) -> str:
    """The Java options for compiling, by how much data the job reads."""
    if is_small(data_bytes):
        return f"{JAVA_OPTIONS} {QUICK_JAVA_OPTIONS}"
    directives = resource("conf", "compiler_directives.json")
    return f"{JAVA_OPTIONS} {THOROUGH_JAVA_OPTIONS} {java_option(f'-XX:CompilerDirectivesFile={directives}')}"


def shuffle_partitions(data_bytes: int | None) -> int:
    """The number of shuffle partitions, by how much data the job reads."""
    least = max(4, 2 * (os.cpu_count() or 2))
    if data_bytes is None:
        return 200  # Spark's own default
    return min(max(least, data_bytes // SHUFFLED_BYTES), MOST_PARTITIONS)
