"""The folders for Spark's temporary files. They can have records of patients, so no other user may read them."""

import contextlib
import os
import re
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import psutil

from ebi_spark.errors import InputError
from ebi_spark.quoting import java_option, refuse_unusable


def refuse_scratch(folder: Path) -> None:
    """Raise an :class:`InputError` if Spark cannot use a folder for temporary files because of its name."""
    refuse_unusable("the folder for Spark's temporary files", str(folder))
    if "," in str(folder):
        raise InputError(
            f"Spark would read {folder} as several folders, because its name has a comma",
            remedy="name a lake (or TMPDIR) without a comma in its path",
        )
    java_option(str(folder))


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


def swept(scratch: Path) -> Path:
    """The scratch folder, after removing what killed processes left in it."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in scratch.glob("spark-*"):
        ours = re.fullmatch(r"spark-([0-9]+)-\w+", left.name)
        if ours and not psutil.pid_exists(int(ours[1])):
            shutil.rmtree(left, ignore_errors=True)
    return scratch
