"""The jars of a local session: Delta's two for its version of Spark, and for files in S3 two more. ``conf/jars.yml`` lists them."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pyspark

from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.errors import InputError
from ebi_spark.quoting import refuse_unusable
from ebi_spark.spark.java import require_java
from ebi_spark.spark.platform import refuse_local_stores


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


def fetch_jars(progress: Callable[[str], None], stores: Collection[str] = ()) -> None:
    """Download Delta's jars and those for some object stores unless they are there.

    Spark's own resolver downloads the exact versions, without their dependencies. ``progress`` is called with a line
    for the user. Raises an :class:`InputError` if a jar cannot be downloaded or is not the right one.
    """
    jars = [jar for jar in _jar_list(stores) if not _is_there(jar)]
    if not jars:
        return
    require_java()
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


def _is_there(jar: Mapping[str, str]) -> bool:
    path = jar_folder() / jar["file"]
    return path.is_file() and _sha256(path) == jar["sha256"]
