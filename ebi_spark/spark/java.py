"""Java for local Spark: which one there is, and whether Spark can use it."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ebi_spark.errors import InputError

VERSIONS = (17, 21)


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
