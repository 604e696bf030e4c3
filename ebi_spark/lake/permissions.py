"""The folders of a lake in a folder, and who may read what is in them.

Only the owner can read silver, gold and temporary files. Published files have the permissions that the user's own umask gives.
"""

import os
from pathlib import Path

from ebi_spark.config.lake_location import LAYERS
from ebi_spark.errors import InputError

_OF_A_LAKE = {*LAYERS, "docs", "report.html"}
_USER_MASK: list[int] = []


def prepare_folders(folder: Path) -> None:
    """Create a lake's folders; only the owner can read silver and gold. Raises an :class:`InputError` if they cannot be
    written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for layer in LAYERS:
            (folder / layer).mkdir(exist_ok=True)
        for layer in ("silver", "gold"):
            (folder / layer).chmod(0o700)
        probe = folder / "silver" / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the lake {folder} cannot be written ({error.strerror})",
            remedy="name a folder that this user may write to",
        ) from None


def scratch_folder(folder: Path) -> Path:
    """The folder for temporary files in a lake's folder. Only the owner can read it."""
    return folder / "silver" / "_scratch"


def restrict_new_files() -> None:
    """Set the process's umask to 077 before Spark starts, and remember the user's own for published files."""
    mask = os.umask(0o077)
    if not _USER_MASK:
        _USER_MASK.append(mask)


def published_mask() -> int:
    """The umask that the user had when the job began (022 if unknown)."""
    return _USER_MASK[0] if _USER_MASK else 0o022


def open_to_others(path: Path, folder: Path) -> None:
    """Give published files the permissions of the user's own umask; the job itself runs with the umask 077."""
    mask = published_mask()
    # The lake's folder keeps its permissions if it also has other things in it.
    whole = [folder] if all(entry.name in _OF_A_LAKE for entry in folder.iterdir()) else []
    for entry in (*whole, folder / "published", path, *path.rglob("*")):
        entry.chmod((0o777 if entry.is_dir() else 0o666) & ~mask)
