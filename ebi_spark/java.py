"""Java for local Spark: whether there is one that fits, and an archive of the classes that Spark and Delta load, with which
a session starts seconds sooner."""

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

import pyspark

from ebi_spark.errors import InputError
from ebi_spark.quoting import java_option

VERSIONS = (17, 21)
# Java says nothing about an archive that it cannot use (of another build, or of jars that changed since): it loads classes
# as it would without.
_QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java")


@cache
def _version(java: str) -> str:
    """What a Java says of its version; raises where it does not run."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    return answer.stderr + answer.stdout


def java_home_problem() -> str | None:
    """Why local Spark could not start for want of Java 17 or 21, in one sentence; None when all is well."""
    java = _java()
    found = "JAVA_HOME points to" if os.environ.get("JAVA_HOME") else "the path has"
    if java is None:
        return "there is no Java: neither JAVA_HOME nor the path has one"
    try:
        told = _version(java)
    except (OSError, subprocess.SubprocessError):
        return f"{found} a Java that does not run ({java})"
    version = re.search(r'version "(\d+)(?:\.(\d+))?', told)
    if not version:
        return f"{found} a Java that does not tell its version ({java})"
    major = int(version[2]) if version[1] == "1" and version[2] else int(version[1])
    if major not in VERSIONS:
        return f"{found} Java {major}, and Spark 4 runs on 17 or 21"
    return None


def require_java() -> None:
    """Raise an :class:`InputError` unless a Java that Spark can use is there."""
    problem = java_home_problem()
    if problem:
        raise InputError(
            problem,
            remedy="install Java 17 or 21 (Debian, Ubuntu: apt install openjdk-17-jre-headless) or set JAVA_HOME",
        )


def class_archive(jars: Sequence[Path]) -> Path | None:
    """Where the archive for this Java, this Spark and these further jars is kept: in the virtual environment, which has Spark's
    own jars too. None outside of one: a Python that others use is not ours to add to."""
    java = _java()
    if java is None or sys.prefix == sys.base_prefix:
        return None
    # Not what Java says of options that it picked up from the environment.
    version = [line for line in _version(java).splitlines() if not line.startswith("Picked up ")]
    # Java compares place, size and time of each jar, and loads nothing from the archive where one differs.
    states = [f"{jar} {jar.stat().st_size} {jar.stat().st_mtime_ns}" for jar in jars]
    told = [*version, pyspark.__version__, str(Path(pyspark.__file__).parent), *states]
    key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
    return Path(sys.prefix) / "share" / "ebi-spark" / f"classes-{key}.jsa"


def archive_options(jars: Sequence[Path]) -> str:
    """What makes Java take its classes from the archive, where there is one."""
    archive = class_archive(jars)
    return f"{java_option(f'-XX:SharedArchiveFile={archive}')} {_QUIET}" if archive and archive.is_file() else ""


def dump_options(archive: Path) -> str:
    """What makes Java write the classes that it has loaded into an archive when it ends."""
    return f"{java_option(f'-XX:ArchiveClassesAtExit={archive}')} {_QUIET}"


# A little of what every run does: a partitioned Delta table written, replaced in part and read, a join, a window, numbers
# of distinct values, files of text.
_USE = """
import sys, tempfile
from pathlib import Path
from pyspark.sql import Window, functions as F
from ebi_spark.session import spark_session
with tempfile.TemporaryDirectory() as name, spark_session(Path(name), data_bytes=0, classes_to=Path(sys.argv[1])) as spark:
    rows = spark.range(100).select("id", (F.col("id") % 3).cast("string").alias("part"), F.array(F.lit("a")).alias("list"))
    rows.drop("list").write.option("header", True).csv(f"{name}/text")
    read = spark.read.option("header", True).csv(f"{name}/text").withColumn("file", F.col("_metadata.file_path"))
    spark.sql(f"CREATE TABLE delta.`{name}/delta` (id BIGINT, part STRING, list ARRAY<STRING>) USING DELTA PARTITIONED BY (part)")
    rows.write.format("delta").mode("overwrite").save(f"{name}/delta")
    rows.where("part = '1'").sort("id").write.format("delta").mode("overwrite").option("replaceWhere", "part = '1'").save(f"{name}/delta")
    held = spark.read.format("delta").load(f"{name}/delta")
    both = held.join(read.select(F.col("id").cast("bigint").alias("id"), "file"), "id")
    first = F.row_number().over(Window.partitionBy("part").orderBy("id"))
    both.withColumn("first", first).groupBy("part").agg(F.countDistinct("file"), F.max("first"), F.collect_set("list")).collect()
"""


def keep_classes(jars: Sequence[Path], tell: Callable[[str], None]) -> None:
    """Make the archive, unless it is there; nothing is lost where that fails. Of earlier ones (of another Java, of other
    jars) none is kept."""
    archive = class_archive(jars)
    if archive is None or archive.is_file():
        return
    tell("noting the classes that Spark loads, for quicker starts (once, half a minute)")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        for left in archive.parent.glob("part-*"):  # of a setup that was killed
            if not Path(f"/proc/{left.name.split('-')[1]}").exists():
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"part-{os.getpid()}-", dir=archive.parent) as folder:
            made = Path(folder) / archive.name
            # Java writes the archive as it ends; what it prints to ends then too.
            subprocess.run(
                [sys.executable, "-c", _USE, str(made)],
                capture_output=True, check=True, timeout=600, env={**os.environ, "EBI_SPARK_MASTER": "local[2]"},
            )  # fmt: skip
            made.replace(archive)
        for old in archive.parent.glob("classes-*.jsa"):
            if old != archive:
                old.unlink(missing_ok=True)
    except (OSError, subprocess.SubprocessError):
        tell("that could not be done; sessions start as they would without")
