"""The Spark session: the platform's own where there is one, else a local one with Delta, on loopback, without UI.

Nothing here runs at import. Databricks, spark-submit and Spark Connect bring their session and Delta; a machine of its
own needs Java and Delta's two jars, which :func:`fetch_jars` brings through Spark's own resolver.
"""

import contextlib
import hashlib
import locale
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml
from pyspark.sql import SparkSession

from ebi_spark.errors import InputError
from ebi_spark.java import archive_options, dump_options, require_java
from ebi_spark.quoting import java_option, refuse_unusable
from ebi_spark.settings import LakeLocation, resource


def jar_folder() -> Path:
    """Where Delta's jars are kept: ``EBI_SPARK_JARS``, else the user's cache."""
    given = os.environ.get("EBI_SPARK_JARS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else cache / "ebi-spark" / "jars"
    refuse_unusable("the folder of Delta's jars", str(folder))
    if os.pathsep in str(folder) or "*" in str(folder):
        raise InputError(
            f"Delta's jars cannot be in {folder}: Java takes {os.pathsep!r} and '*' in a class path for signs of its own",
            remedy="name a folder without them in EBI_SPARK_JARS",
        )
    return folder


def _jar_list() -> list[dict[str, str]]:
    jars: list[dict[str, str]] = yaml.safe_load(resource("conf", "jars.yml").read_text(encoding="utf-8"))["jars"]
    return jars


def local_jars() -> list[Path]:
    """Delta's jars, each checked against its sha256; an :class:`InputError` says how to get what is missing."""
    paths = []
    for jar in _jar_list():
        path = jar_folder() / jar["file"]
        if not path.is_file():
            raise InputError(
                f"Delta's jar {jar['file']} is not in {jar_folder()}",
                remedy="run `make setup` with the network, or copy the jar there and set EBI_SPARK_JARS",
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != jar["sha256"]:
            raise InputError(
                f"Delta's jar {path} is not the one that was locked (its sha256 differs)",
                remedy="remove it and run `make setup`",
            )
        paths.append(path)
    return paths


# Run in a process of its own, so that the resolver's session is gone before the job's own starts.
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


def fetch_jars(tell: Callable[[str], None]) -> list[Path]:
    """Bring what is missing of Delta's jars by exact version, without transitives, through Spark's own resolver."""
    with contextlib.suppress(InputError):
        return local_jars()
    require_java()
    jars = _jar_list()
    tell(f"fetching {', '.join(jar['file'] for jar in jars)}")
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
            right = [path for path in found if hashlib.sha256(path.read_bytes()).hexdigest() == jar["sha256"]]
            if not right:
                raise InputError(
                    f"Delta's jar {jar['file']} could not be had{' as locked: its sha256 differs' if found else ''}",
                    remedy="check the network, or copy the jar into a folder and name that folder in EBI_SPARK_JARS",
                )
            part = jar_folder() / f"{jar['file']}.{os.getpid()}.part"
            shutil.copyfile(right[0], part)
            part.replace(jar_folder() / jar["file"])
    return local_jars()


# Rows of many derived columns make methods longer than the JVM compiles unless told to; interpreted, they are several
# times slower.
JAVA_OPTIONS = "-XX:-DontCompileHugeMethods -XX:ReservedCodeCacheSize=256m"
# For small data: the quick compiler and one collector thread take a third less processor time in all, since the other
# compiler is still at work when the job ends.
QUICK_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# For the rest: `conf/compiler_directives.json`, and not a word about its having been read. The other compiler waits twenty
# times as long as Java has it: what rows go through is reached all the same, and planning, which is over by then, is spared.
THOROUGH_JAVA_OPTIONS = (
    "-XX:+UnlockDiagnosticVMOptions -XX:-DisplayVMOutput -XX:Tier4InvocationThreshold=100000 "
    "-XX:Tier4MinInvocationThreshold=12000 -XX:Tier4CompileThreshold=300000 -XX:Tier4BackEdgeThreshold=800000"
)
SMALL_BYTES = 256 << 20
# Below this not even a stage that goes through every row is worth compiling for.
TINY_BYTES = 8 << 20
# Of small data, stages of many queries over few rows: writing out and compiling a query's code takes longer than answering
# it without.
UNCOMPILED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
# A partition of a shuffle should fit a task's memory: so many bytes of source each, and Spark joins what turns out small.
SHUFFLED_BYTES = 64 << 20
MOST_PARTITIONS = 400

# Inferring constraints through dozens of derived columns takes Spark's planner minutes and finds nothing here. And where the
# time zone is not UTC, Delta reads a table's whole log again after each commit, to hold the list of files that it has kept
# against it: times before 1884, of zones apart from UTC by odd seconds, may be written to a file's statistics otherwise
# than they are read. The lake's times are those of files, runs and releases. It was a sixth of what publishing took.
PLANNING = {
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.databricks.delta.allFilesInCrc.verificationMode.forceOnNonUTC.enabled": "false",
}


def is_small(data_bytes: int | None) -> bool:
    """Whether a job is known to read so little that its time goes into compiling rather than into rows."""
    return data_bytes is not None and data_bytes < SMALL_BYTES


def is_tiny(data_bytes: int | None) -> bool:
    """Whether a job is known to read next to nothing."""
    return data_bytes is not None and data_bytes < TINY_BYTES


def setting(spark: SparkSession, key: str) -> str | None:
    """A setting of the session; None where it has none, or where the platform does not tell (serverless)."""
    with contextlib.suppress(Exception):
        return spark.conf.get(key, None)
    return None


@contextlib.contextmanager
def with_settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Settings of the session for a while, as far as the platform lets a job make them."""
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
    """Answer queries without compiling code for each: worth it where many queries see few rows."""
    with with_settings(spark, UNCOMPILED):
        yield


def platform_session() -> bool:
    """Whether Databricks, spark-submit or Spark Connect brings the session."""
    return any(os.environ.get(name) for name in ("DATABRICKS_RUNTIME_VERSION", "PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"))


# What the environment may ask of a local session.
_MASTER = re.compile(r"local(?:\[(?:[0-9]{1,4}|\*)(?:, ?[0-9]{1,2})?\])?")
_MEMORY = re.compile(r"[0-9]{1,7}[kmgtKMGT]b?")


def _from_environment(name: str, default: str, form: re.Pattern[str], example: str) -> str:
    """A variable that sizes the local session; an :class:`InputError` where it is of another form."""
    value = os.environ.get(name, default)
    if not form.fullmatch(value):
        raise InputError(f"the environment variable {name} cannot be {value!r}", remedy=f"set it to {example}")
    return value


def refuse_local_catalogue(lake: LakeLocation) -> None:
    """An :class:`InputError` for a lake in a catalogue where the session would be a local one: its catalogue ends with it,
    and with it go the tables."""
    if lake.catalog and not platform_session():
        raise InputError(
            f"the lake is in the catalogue {lake.catalog!r}, and a local session has none that lasts; nothing was written",
            remedy="name a folder (such as ./lake) as the lake, or run where a catalogue is: Databricks, spark-submit or "
            "Spark Connect",
        )


@contextlib.contextmanager
def spark_session(
    scratch: Path | None = None,
    *,
    timezone: str = "Europe/London",
    data_bytes: int | None = None,
    classes_to: Path | None = None,
) -> Iterator[SparkSession]:
    """The session for one job; a local one keeps all it spills below ``scratch`` and ends with the job. ``data_bytes``:
    roughly how much data the job reads (None: unknown, so it may be much). ``classes_to``: a local Java's archive of
    classes, written as it ends.

    ``EBI_SPARK_MASTER`` and ``EBI_SPARK_DRIVER_MEMORY`` size the local one (default ``local[*]`` and ``4g``).
    """
    if platform_session():
        spark = SparkSession.builder.getOrCreate()
        spark.conf.set("spark.sql.session.timeZone", timezone)
        for key, value in PLANNING.items():
            with contextlib.suppress(Exception):  # serverless fixes most settings: planning is slower there, no more
                spark.conf.set(key, value)
        yield spark
        return
    require_java()
    master = _from_environment("EBI_SPARK_MASTER", "local[*]", _MASTER, "local[*] or local[4]")
    memory = _from_environment("EBI_SPARK_DRIVER_MEMORY", "4g", _MEMORY, "a size such as 4g or 800m")
    jars = local_jars()
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
        # On the class path rather than shipped: the session starts seconds sooner.
        .config("spark.driver.extraClassPath", os.pathsep.join(map(str, jars)))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.session.timeZone", timezone)
        .config("spark.sql.shuffle.partitions", str(_shuffle_partitions(data_bytes)))
        .config("spark.sql.parquet.compression.codec", "zstd")
        # Sizes and nulls of every page, which Spark does not read and which are a tenth of what writing costs.
        .config("spark.hadoop.parquet.size.statistics.enabled", "false")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        # Keeps the Python call site of every column for error texts; building the ingest's frames takes twice as long.
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .config("spark.sql.sources.parallelPartitionDiscovery.parallelism", "4")
        .config("spark.driver.extraJavaOptions", java_options(folder, jars, data_bytes, classes_to))
    )
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


def java_options(folder: Path, jars: list[Path], data_bytes: int | None, classes_to: Path | None = None) -> str:
    """The options that a local Java starts with, each quoted as Spark's launcher takes them apart."""
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
    """What Java prints by itself (VACUUM does) would stand between the lines of a job: the Java that is started here takes
    standard error for its standard output."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _compiling(data_bytes: int | None) -> str:
    """How Java compiles, for so much data."""
    if is_small(data_bytes):
        return f"{JAVA_OPTIONS} {QUICK_JAVA_OPTIONS}"
    directives = resource("conf", "compiler_directives.json")
    return f"{JAVA_OPTIONS} {THOROUGH_JAVA_OPTIONS} {java_option(f'-XX:CompilerDirectivesFile={directives}')}"


def refuse_scratch(folder: Path) -> None:
    """An :class:`InputError` where Spark could not keep what it spills in a folder, because of its name."""
    refuse_unusable("the folder for what Spark spills", str(folder))
    if "," in str(folder):
        raise InputError(
            f"Spark would take {folder} for several folders, since its name has a comma",
            remedy="name a lake (or TMPDIR) without a comma in its path",
        )
    java_option(str(folder))


def _java_reads_utf8() -> None:
    """A Java started under another locale cannot open a file whose name is not plain ASCII."""
    if (locale.nl_langinfo(locale.CODESET) or "").upper().replace("-", "") != "UTF8":
        os.environ["LC_ALL"] = "C.UTF-8"


def _shuffle_partitions(data_bytes: int | None) -> int:
    least = max(4, 2 * (os.cpu_count() or 2))
    if data_bytes is None:
        return 200  # Spark's own default
    return min(max(least, data_bytes // SHUFFLED_BYTES), MOST_PARTITIONS)


def _swept(scratch: Path) -> Path:
    """The scratch folder, rid of what killed processes left in it."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in scratch.glob("spark-*"):
        ours = re.fullmatch(r"spark-([0-9]+)-\w+", left.name)
        if ours and not Path(f"/proc/{ours[1]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return scratch
