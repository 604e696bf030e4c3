"""Java for local Spark: find a suitable version, and keep a class cache so that sessions start some seconds faster.

The cache is a Java class data archive: the classes that Spark and Delta load, in a form that Java reads quickly.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import psutil
import pyspark

from ebi_spark.errors import InputError
from ebi_spark.quoting import java_option

VERSIONS = (17, 21)
# Java must not print anything about an archive that it cannot use (of another build, or of jars that have changed
# since). It then loads classes as it would without an archive.
_QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java")


@cache
def _version(java: str) -> str:
    """The output of ``java -version``. Raises an error if Java does not run."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    return answer.stderr + answer.stdout


def java_version() -> str:
    """The first line of ``java -version``, and where that Java is."""
    java = _java()
    lines = _version(java).splitlines() if java else []
    return f"{next((line for line in lines if 'version' in line), 'unknown')} ({java})"


def java_home_problem() -> str | None:
    """Why local Spark cannot start with this Java, in one sentence; None if Java 17 or 21 is there."""
    java = _java()
    found = "JAVA_HOME points to" if os.environ.get("JAVA_HOME") else "PATH has"
    if java is None:
        return "there is no Java: JAVA_HOME is not set and PATH has no java"
    try:
        answer = _version(java)
    except (OSError, subprocess.SubprocessError):
        return f"{found} a Java that does not run ({java})"
    version = re.search(r'version "(\d+)(?:\.(\d+))?', answer)
    if not version:
        return f"{found} a Java that does not give its version ({java})"
    major = int(version[2]) if version[1] == "1" and version[2] else int(version[1])
    if major not in VERSIONS:
        return f"{found} Java {major}, but Spark 4 needs 17 or 21"
    return None


def require_java() -> None:
    """Raise an :class:`InputError` unless there is a Java that Spark can use."""
    problem = java_home_problem()
    if problem:
        raise InputError(
            problem,
            remedy="install Java 17 or 21 (Debian, Ubuntu: apt install openjdk-17-jre-headless) or set JAVA_HOME",
        )


def class_archive(jars: Sequence[Path]) -> Path | None:
    """The path of the class archive for this Java, this Spark and these further jars, in the virtual environment.

    None outside a virtual environment, because a shared Python installation must not be changed.
    """
    java = _java()
    if java is None or sys.prefix == sys.base_prefix:
        return None
    # Without the lines about options that Java picked up from the environment.
    version = [line for line in _version(java).splitlines() if not line.startswith("Picked up ")]
    # Java compares path, size and time of each jar, and ignores the archive if one differs.
    states = [f"{jar} {jar.stat().st_size} {jar.stat().st_mtime_ns}" for jar in jars]
    parts = [*version, pyspark.__version__, str(Path(pyspark.__file__).parent), *states]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return Path(sys.prefix) / "share" / "ebi-spark" / f"classes-{key}.jsa"


def archive_options(jars: Sequence[Path]) -> str:
    """The Java options that load classes from the archive; empty if there is no archive."""
    archive = class_archive(jars)
    return f"{java_option(f'-XX:SharedArchiveFile={archive}')} {_QUIET}" if archive and archive.is_file() else ""


def dump_options(archive: Path) -> str:
    """The Java options that write the classes loaded into an archive when Java ends."""
    return f"{java_option(f'-XX:ArchiveClassesAtExit={archive}')} {_QUIET}"


# A little of everything that a run does, so that Java loads the classes for it: write, partly replace and read a
# partitioned Delta table, join, use a window, count distinct values, read and write text files.
_USE = """
import sys, tempfile
from pathlib import Path
from pyspark.sql import Window, functions as F
from ebi_spark.spark.session import spark_session
with tempfile.TemporaryDirectory() as name, spark_session(Path(name), data_bytes=0, classes_to=Path(sys.argv[1])) as spark:
    rows = spark.range(100).select("id", (F.col("id") % 3).cast("string").alias("part"), F.array(F.lit("a")).alias("list"))
    rows.drop("list").write.option("header", True).csv(f"{name}/text")
    read = spark.read.option("header", True).csv(f"{name}/text").withColumn("file", F.col("_metadata.file_path"))
    spark.sql(f"CREATE TABLE delta.`{name}/delta` (id BIGINT, part STRING, list ARRAY<STRING>) USING DELTA PARTITIONED BY (part)")
    rows.write.format("delta").mode("overwrite").save(f"{name}/delta")
    rows.where("part = '1'").sort("id").write.format("delta").mode("overwrite").option("replaceWhere", "part = '1'").save(f"{name}/delta")
    stored = spark.read.format("delta").load(f"{name}/delta")
    both = stored.join(read.select(F.col("id").cast("bigint").alias("id"), "file"), "id")
    first = F.row_number().over(Window.partitionBy("part").orderBy("id"))
    both.withColumn("first", first).groupBy("part").agg(F.countDistinct("file"), F.max("first"), F.collect_set("list")).collect()
"""


def keep_classes(jars: Sequence[Path], progress: Callable[[str], None]) -> None:
    """Build the class archive unless it exists, and remove older ones (of another Java or other jars).

    If that fails, sessions only start more slowly. ``progress`` is called with a line for the user.
    """
    archive = class_archive(jars)
    if archive is None or archive.is_file():
        return
    progress("building a Java class cache (30 seconds, once), so that later runs start faster")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        for left in archive.parent.glob("part-*"):  # left by a setup that was killed
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"part-{os.getpid()}-", dir=archive.parent) as folder:
            made = Path(folder) / archive.name
            # Java writes the archive when it ends. Its output is closed only then, so this waits for the archive.
            subprocess.run(
                [sys.executable, "-c", _USE, str(made)],
                capture_output=True, check=True, timeout=600, env={**os.environ, "EBI_SPARK_MASTER": "local[2]"},
            )  # fmt: skip
            made.replace(archive)
        for old in archive.parent.glob("classes-*.jsa"):
            if old != archive:
                old.unlink(missing_ok=True)
    except (OSError, subprocess.SubprocessError):
        progress("the class cache could not be built; sessions start a few seconds later without it")
