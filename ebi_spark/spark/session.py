"""The Spark session: the platform's own if there is one, otherwise a local one with Delta, on this machine only and
without web UI.

Importing this module starts nothing. Databricks, spark-submit and Spark Connect have their own session and Delta. A
local session needs Java and Delta's two jars for its version of Spark, which :func:`fetch_jars` downloads through Spark's
own resolver. For files in S3 it needs two more.
"""

import contextlib
import hashlib
import locale
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyspark
from pyspark.sql import SparkSession

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.shipped_files import resource, shipped_document
from ebi_spark.errors import InputError
from ebi_spark.quoting import java_option, refuse_unusable
from ebi_spark.spark.java import archive_options, dump_options, require_java


def jar_folder() -> Path:
    """The folder of Delta's jars: ``EBI_SPARK_JARS`` if set, otherwise in the user's cache."""
    given = os.environ.get("EBI_SPARK_JARS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else cache / "ebi-spark" / "jars"
    refuse_unusable("the folder of Delta's jars", str(folder))
    if os.pathsep in str(folder) or "*" in str(folder):
        raise InputError(
            f"Delta's jars cannot be in {folder}: {os.pathsep!r} and '*' have a meaning of their own in a Java class path",
            remedy="name a folder without these characters in EBI_SPARK_JARS",
        )
    return folder


def _jar_list(stores: Collection[str] = ()) -> list[dict[str, str]]:
    """Delta's jars for the installed Spark, and those for some object stores. Raises an :class:`InputError` if there are none
    for its version, or none for a store."""
    refuse_local_stores(stores)
    jars: list[dict[str, str]] = shipped_document("jars", "list of jars")["jars"]
    installed = ".".join(pyspark.__version__.split(".")[:2])
    versions = sorted({jar["spark"] for jar in jars if "spark" in jar})
    if installed not in versions:
        raise InputError(
            f"pyspark {pyspark.__version__} is installed; a local session needs Spark {' or '.join(versions)}",
            remedy="install the locked versions: `make setup`",
        )
    return [jar for jar in jars if jar.get("spark", installed) == installed and jar.get("store") in (None, *stores)]


def local_jars(stores: Collection[str] = ()) -> list[Path]:
    """The paths of Delta's jars and of those for some object stores (``s3a``), each checked against its sha256. Raises an
    :class:`InputError` if one is missing or differs."""
    paths = []
    for jar in _jar_list(stores):
        path = jar_folder() / jar["file"]
        what, command = ("the jar", "make urls") if "store" in jar else ("Delta's jar", "make setup")
        if not path.is_file():
            needed = f"; {jar['store']}:// needs it" if "store" in jar else ""
            raise InputError(
                f"{what} {jar['file']} is not in {jar_folder()}{needed}",
                remedy=f"run `{command}` with network access, or copy the jar to a folder and name it in EBI_SPARK_JARS",
            )
        if _sha256(path) != jar["sha256"]:
            raise InputError(
                f"{what} {path} is not the one listed in conf/jars.yml (its sha256 differs)",
                remedy=f"remove it and run `{command}`",
            )
        paths.append(path)
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Runs in a process of its own, so that the session that downloads jars has ended before the job's own starts.
_RESOLVE = """
import sys
from pyspark.sql import SparkSession
ivy, *coordinates = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]").config("spark.jars.ivy", ivy).config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
)
for coordinate in coordinates:
    spark.sql(f"ADD JAR '{coordinate}'")
"""


def fetch_jars(progress: Callable[[str], None], stores: Collection[str] = ()) -> list[Path]:
    """Download Delta's jars and those for some object stores unless they are there, and return their paths.

    Spark's own resolver downloads the exact versions, without their dependencies. ``progress`` is called with a line
    for the user. Raises an :class:`InputError` if a jar cannot be downloaded or is not the right one.
    """
    with contextlib.suppress(InputError):
        return local_jars(stores)
    require_java()
    jars = [jar for jar in _jar_list(stores) if not _is_there(jar)]
    progress(f"downloading {', '.join(jar['file'] for jar in jars)}")
    with tempfile.TemporaryDirectory(prefix="ebi-spark-ivy-") as ivy:
        coordinates = [f"ivy://{jar['group']}:{jar['artifact']}:{jar['version']}?transitive=false" for jar in jars]
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(
                [sys.executable, "-c", _RESOLVE, ivy, *coordinates],
                capture_output=True, check=False, timeout=900, cwd=ivy, env=environment,
            )  # fmt: skip
        jar_folder().mkdir(parents=True, exist_ok=True)
        for jar in jars:
            found = sorted(Path(ivy).rglob(jar["file"]))
            right = [path for path in found if _sha256(path) == jar["sha256"]]
            if not right:
                raise InputError(
                    f"the jar {jar['file']} could not be downloaded{': its sha256 differs' if found else ''}",
                    remedy="check the network, or copy the jar into a folder and name that folder in EBI_SPARK_JARS",
                )
            part = jar_folder() / f"{jar['file']}.{os.getpid()}.part"
            shutil.copyfile(right[0], part)
            part.replace(jar_folder() / jar["file"])
    return local_jars(stores)


def _is_there(jar: Mapping[str, str]) -> bool:
    path = jar_folder() / jar["file"]
    return path.is_file() and _sha256(path) == jar["sha256"]


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

# Constraint propagation through dozens of derived columns takes Spark's planner minutes and finds nothing here.
#
# In a time zone other than UTC, Delta reads a table's whole log again after each commit to verify its cached list of
# files. It does so because times before 1884, when zones differed from UTC by odd seconds, may be stored differently in
# file statistics than they are read. A lake has only recent times (of files, runs and releases). Verifying took a sixth
# of the time of publishing.
PLANNING = {
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


def platform_session() -> bool:
    """Whether the session comes from Databricks, spark-submit or Spark Connect."""
    return any(os.environ.get(name) for name in ("DATABRICKS_RUNTIME_VERSION", "PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"))


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


def refuse_local_catalogue(lake: LakeLocation) -> None:
    """Raise an :class:`InputError` for a lake in a catalogue if the session is a local one: its catalogue, and with it
    the tables, would be lost when the session ends."""
    if lake.catalog and not platform_session():
        raise InputError(
            f"the lake is in the catalogue {lake.catalog!r}, but a local session has no permanent catalogue; nothing was "
            "written",
            remedy="name a folder (such as ./lake) as the lake, or run on a platform with a catalogue: Databricks, "
            "spark-submit or Spark Connect",
        )


def refuse_local_stores(stores: Collection[str]) -> None:
    """Raise an :class:`InputError` for an object store that a local session cannot reach."""
    other = sorted({*stores} - {"s3a"})
    if other and not platform_session():
        raise InputError(
            f"a local session cannot read or write {other[0]}://",
            remedy="run by spark-submit with the package for that store (docs/deployment.md), or on a platform that has it",
        )


@contextlib.contextmanager
def spark_session(
    scratch: Path | None = None,
    *,
    timezone: str = "Europe/London",
    data_bytes: int | None = None,
    classes_to: Path | None = None,
    stores: Collection[str] = (),
) -> Iterator[SparkSession]:
    """The session for one job. A local session writes temporary files below ``scratch`` and ends with the job.

    ``data_bytes``: roughly how much data the job reads, in bytes (None: unknown, so it may be much). ``classes_to``:
    write the class archive there when Java ends. ``stores``: the object stores that the job reads or writes, such as ``s3a``.
    ``EBI_SPARK_MASTER`` and ``EBI_SPARK_DRIVER_MEMORY`` set the size of a
    local session (default ``local[*]`` and ``4g``).
    """
    if platform_session():
        spark = SparkSession.builder.getOrCreate()
        spark.conf.set("spark.sql.session.timeZone", timezone)
        for key, value in PLANNING.items():
            with contextlib.suppress(
                Exception
            ):  # serverless does not allow most settings; planning is then only slower
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
    folder = Path(tempfile.mkdtemp(prefix=f"spark-{os.getpid()}-", dir=_swept(scratch) if scratch else None))
    builder = (
        SparkSession.builder.appName("ebi-spark")
        .master(master)
        .config("spark.driver.memory", memory)
        # On the class path instead of as Spark packages: the session starts some seconds faster.
        .config("spark.driver.extraClassPath", os.pathsep.join(map(str, jars)))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        # Spark describes the plan of every query, and of each of its stages, for its web page, which does not run here. In
        # full, that takes a quarter of the time of a query with many columns.
        .config("spark.sql.ui.explainMode", "simple")
        .config("spark.sql.debug.maxToStringFields", "0")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.session.timeZone", timezone)
        .config("spark.sql.shuffle.partitions", str(_shuffle_partitions(data_bytes)))
        .config("spark.sql.parquet.compression.codec", "zstd")
        # Spark does not read the size statistics of every page, and they make up a tenth of the time of writing.
        .config("spark.hadoop.parquet.size.statistics.enabled", "false")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        # Recording the Python line of every column for error messages would double the time of building the ingest's
        # queries.
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .config("spark.sql.sources.parallelPartitionDiscovery.parallelism", "4")
        .config("spark.driver.extraJavaOptions", java_options(folder, jars, data_bytes, classes_to))
    )
    for key, value in (store_settings(folder, stores) | (QUICK_PAGES if is_small(data_bytes) else {})).items():
        builder = builder.config(key, value)
    _remember_java_names()
    with _java_prints_to_standard_error():
        spark = builder.getOrCreate()
    for key, value in PLANNING.items():
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


def java_options(folder: Path, jars: list[Path], data_bytes: int | None, classes_to: Path | None = None) -> str:
    """The options for a local Java, each quoted the way Spark's launcher expects."""
    return " ".join(
        [
            java_option(f"-Djava.io.tmpdir={folder}"),
            java_option(f"-Dderby.system.home={folder}"),
            java_option(f"-Dlog4j2.configurationFile={resource('conf', 'log4j2.properties').as_uri()}"),
            _compiling(data_bytes),
            dump_options(classes_to) if classes_to else archive_options(jars),
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


def _compiling(data_bytes: int | None) -> str:
    """The Java options for compiling, by how much data the job reads."""
    if is_small(data_bytes):
        return f"{JAVA_OPTIONS} {QUICK_JAVA_OPTIONS}"
    directives = resource("conf", "compiler_directives.json")
    return f"{JAVA_OPTIONS} {THOROUGH_JAVA_OPTIONS} {java_option(f'-XX:CompilerDirectivesFile={directives}')}"


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


def refuse_scratch(folder: Path) -> None:
    """Raise an :class:`InputError` if Spark cannot use a folder for temporary files because of its name."""
    refuse_unusable("the folder for Spark's temporary files", str(folder))
    if "," in str(folder):
        raise InputError(
            f"Spark would read {folder} as several folders, because its name has a comma",
            remedy="name a lake (or TMPDIR) without a comma in its path",
        )
    java_option(str(folder))


def _java_reads_utf8() -> None:
    """Make sure that Java starts in a UTF-8 locale. In another one it cannot open files with names that are not
    ASCII."""
    if (locale.nl_langinfo(locale.CODESET) or "").upper().replace("-", "") != "UTF8":
        os.environ["LC_ALL"] = "C.UTF-8"


def _shuffle_partitions(data_bytes: int | None) -> int:
    least = max(4, 2 * (os.cpu_count() or 2))
    if data_bytes is None:
        return 200  # Spark's own default
    return min(max(least, data_bytes // SHUFFLED_BYTES), MOST_PARTITIONS)


def own_scratch() -> Path:
    """The folder for temporary files of a lake that is not on this machine: below TMPDIR, closed to other users. What a killed
    run leaves there is removed when the next one starts. Raises an :class:`InputError` if another user could read it."""
    folder = Path(tempfile.gettempdir()) / f"ebi-spark-{os.getuid()}-{socket.gethostname()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise InputError(
            f"{folder} is for temporary files with records of patients, and it is not a folder of this user alone",
            remedy="remove it, or set TMPDIR to a folder that only you can write to",
        )
    return folder


def _swept(scratch: Path) -> Path:
    """The scratch folder, after removing what killed processes left in it."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in scratch.glob("spark-*"):
        ours = re.fullmatch(r"spark-([0-9]+)-\w+", left.name)
        if ours and not psutil.pid_exists(int(ours[1])):
            shutil.rmtree(left, ignore_errors=True)
    return scratch
