"""Which files in folders of a user's choice the product wrote, and which were there besides: only the former are ever
replaced or removed."""

import json
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ebi_spark.errors import InputError

# A folder of pages has a list of what was written there. Pages of versions that kept no list are known by their index.
LIST = ".ebi-spark-wrote.json"
_OLD_INDEX = "<title>Checks of "
_OLD_PLACES = ("index.html", "expectations/**/*.html", "validations/**/*.html")
# Raise it when the report's design or words change: reports that an earlier number drew are drawn again.
REPORT_VERSION = 3
# A report says what drew it, or (of older versions) what it is about.
_DRAWN_BY = '<meta name="generator" content="ebi-spark'
REPORT_MARKS = (_DRAWN_BY, "<title>Evidence-Based Interventions")
_HEAD = 1 << 14


def refuse_place(what: str, path: Path, *, folder: bool) -> None:
    """An :class:`InputError` where ``path`` can be no folder, or no file, that the product may write: another thing is
    there, or on the way to it."""
    wanted = "a folder" if folder else "a file"
    remedy = f"name {wanted} of its own; nothing is overwritten"
    for place in (path, *path.parents):
        try:
            kind = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InputError(f"{what}: {path} cannot be used ({error.strerror})", remedy=remedy) from None
        if place == path and not folder and not stat.S_ISREG(kind):
            there = "a folder" if stat.S_ISDIR(kind) else "no ordinary file"
            raise InputError(f"{what}: {path} is {there}, and a file is to be written there", remedy=remedy)
        if (place != path or folder) and not stat.S_ISDIR(kind):
            raise InputError(f"{what}: {place} is not a folder, and {path} is to be written", remedy=remedy)
        if not os.access(place, os.W_OK):
            raise InputError(f"{what}: {place} cannot be written to", remedy="name a place where this user may write")
        return


def refuse_report(path: Path) -> None:
    """An :class:`InputError` where the report would take the place of something else."""
    refuse_place("report", path, folder=False)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        head = "what cannot be read"
    if head and not any(mark in head for mark in REPORT_MARKS):
        raise InputError(
            f"report: {path} is there, and it is no report of ebi-spark",
            remedy="name another file, or move this one away; nothing is overwritten",
        )


def is_current_report(path: Path) -> bool:
    """Whether there is a report of the present design."""
    with suppress(OSError), path.open("rb") as file:
        return f'{_DRAWN_BY} {REPORT_VERSION}">' in file.read(_HEAD).decode("utf-8", errors="replace")
    return False


def refuse_pages(docs: Path, layers: Iterable[str]) -> None:
    """An :class:`InputError` where pages of the checks would take the place of something else."""
    refuse_place("docs", docs, folder=True)
    for target in (pages_of(docs, layer) for layer in layers):
        refuse_place("docs", target, folder=True)
        if target.is_dir():
            foreign = any(target.iterdir()) and own_pages(target) is None
            if foreign:
                raise InputError(
                    f"docs: the folder {target} is there, and ebi-spark did not write it",
                    remedy="name another folder under `docs`, or move this one away; nothing in it was touched",
                )


def pages_of(docs: Path, layer: str) -> Path:
    """The folder of a layer's pages."""
    return docs / f"expectations-{layer}"


def own_pages(folder: Path) -> set[str] | None:
    """The files that the product wrote into a folder of pages, by their path in it; None where it did not write it."""
    with suppress(OSError, ValueError):
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if isinstance(listed, list):
            # A list that was changed by hand leads nowhere else.
            return {name for name in listed if isinstance(name, str) and _inside(name)} | {LIST}
    with suppress(OSError, UnicodeDecodeError):
        if _OLD_INDEX in (folder / "index.html").read_text(encoding="utf-8")[:_HEAD]:
            found = (path for pattern in _OLD_PLACES for path in folder.glob(pattern))
            return {path.relative_to(folder).as_posix() for path in found if path.is_file()}
    return None


def _inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def put_pages(new: Path, target: Path) -> None:
    """Move the files of ``new`` into ``target``, in place of those that the product wrote there before; what else is there
    stays. What is written is listed before it is there."""
    files = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
    target.mkdir(parents=True, exist_ok=True)
    before = own_pages(target) or set()
    foreign = [name for name in files if name not in before and os.path.lexists(target / name)]
    if foreign:
        raise InputError(
            f"docs: {target / foreign[0]} is there, and ebi-spark did not write it",
            remedy="move it away, or name another folder under `docs`; nothing was overwritten",
        )
    write_whole(target / LIST, json.dumps(sorted({*files, *before} - {LIST})))
    for name in before - {LIST}:
        (target / name).unlink(missing_ok=True)
        for folder in Path(name).parents:
            with suppress(OSError):  # one that is not empty; or the target's own, at last
                (target / folder).rmdir()
    target.mkdir(exist_ok=True)
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(target / name)
    write_whole(target / LIST, json.dumps(files))


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file in one move, so that a reader sees the old one or the new one."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).chmod(mode)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
