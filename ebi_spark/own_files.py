"""Know which files in the user's folders the product wrote itself. Only those are ever replaced or removed."""

import json
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ebi_spark.errors import InputError

# A folder of pages has a list of the files written there. Older versions kept no list: their pages are recognised by
# their index page.
LIST = ".ebi-spark-wrote.json"
_OLD_INDEX = "<title>Checks of "
_OLD_PLACES = ("index.html", "expectations/**/*.html", "validations/**/*.html")
# Raise it when the design or words of the report change: a report with an earlier number is made again.
REPORT_VERSION = 6
# A report says which program made it, or (in older versions) what it is about.
_DRAWN_BY = '<meta name="generator" content="ebi-spark'
REPORT_MARKS = (_DRAWN_BY, "<title>Evidence-Based Interventions")
_HEAD = 1 << 14


def refuse_place(what: str, path: Path, *, folder: bool) -> None:
    """Raise an :class:`InputError` if the product cannot write a folder (or a file) at ``path``, because something else
    is there or in the way."""
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
            there = "a folder" if stat.S_ISDIR(kind) else "not an ordinary file"
            raise InputError(f"{what}: {path} is {there}, but a file must be written there", remedy=remedy)
        if (place != path or folder) and not stat.S_ISDIR(kind):
            raise InputError(f"{what}: {place} is not a folder, so {path} cannot be written", remedy=remedy)
        if not os.access(place, os.W_OK):
            raise InputError(f"{what}: {place} cannot be written to", remedy="name a place where this user may write")
        return


def refuse_report(path: Path) -> None:
    """Raise an :class:`InputError` if the report would overwrite something that is not a report of the product."""
    refuse_place("report", path, folder=False)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        head = "cannot be read"
    if head and not any(mark in head for mark in REPORT_MARKS):
        raise InputError(
            f"report: {path} exists and is not a report of ebi-spark",
            remedy="name another file, or move this one away; nothing is overwritten",
        )


def is_current_report(path: Path) -> bool:
    """Whether ``path`` is a report of the current design."""
    with suppress(OSError), path.open("rb") as file:
        return f'{_DRAWN_BY} {REPORT_VERSION}">' in file.read(_HEAD).decode("utf-8", errors="replace")
    return False


def refuse_pages(docs: Path, layers: Iterable[str]) -> None:
    """Raise an :class:`InputError` if the validation pages would overwrite something that the product did not write."""
    refuse_place("docs", docs, folder=True)
    for target in (pages_of(docs, layer) for layer in layers):
        refuse_place("docs", target, folder=True)
        if target.is_dir():
            foreign = any(target.iterdir()) and own_pages(target) is None
            if foreign:
                raise InputError(
                    f"docs: the folder {target} exists and ebi-spark did not write it",
                    remedy="name another folder under `docs`, or move this one away; nothing in it was changed",
                )


def pages_of(docs: Path, layer: str) -> Path:
    """The folder of a layer's pages."""
    return docs / f"expectations-{layer}"


def own_pages(folder: Path) -> set[str] | None:
    """The files that the product wrote into a folder of pages, by path in the folder. None if it did not write the
    folder."""
    with suppress(OSError, ValueError):
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if isinstance(listed, list):
            # A list changed by hand must not lead to files outside the folder.
            return {name for name in listed if isinstance(name, str) and _inside(name)} | {LIST}
    with suppress(OSError, UnicodeDecodeError):
        if _OLD_INDEX in (folder / "index.html").read_text(encoding="utf-8")[:_HEAD]:
            found = (path for pattern in _OLD_PLACES for path in folder.glob(pattern))
            return {path.relative_to(folder).as_posix() for path in found if path.is_file()}
    return None


def _inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def put_pages(new: Path, target: Path) -> None:
    """Move the files of ``new`` into ``target``. They replace the files that the product wrote there before; other
    files stay.

    The list of files is written before the files, so that an interrupted run leaves no file that is not listed.
    """
    files = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
    target.mkdir(parents=True, exist_ok=True)
    before = own_pages(target) or set()
    foreign = [name for name in files if name not in before and os.path.lexists(target / name)]
    if foreign:
        raise InputError(
            f"docs: {target / foreign[0]} exists and ebi-spark did not write it",
            remedy="move it away, or name another folder under `docs`; nothing was overwritten",
        )
    write_whole(target / LIST, json.dumps(sorted({*files, *before} - {LIST})))
    for name in before - {LIST}:
        (target / name).unlink(missing_ok=True)
        for folder in Path(name).parents:
            with suppress(OSError):  # a folder that is not empty stays
                (target / folder).rmdir()
    target.mkdir(exist_ok=True)
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(target / name)
    write_whole(target / LIST, json.dumps(files))


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a whole file and then move it into place, so that a reader sees either the old file or the new one."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        with suppress(OSError):  # a volume of a platform has no modes; its catalogue says who may read it
            Path(part).chmod(mode)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
