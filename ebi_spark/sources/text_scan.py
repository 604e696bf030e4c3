"""Scan every byte of a local text file: can Spark read its lines, and must they be checked again after parsing?

Checking each row in Spark for NUL bytes, undecodable bytes, over-long fields and repeated headers took 2.5 s of
processor time for a million rows, in each of several passes. Most files have no such lines, and finding that out here
takes 0.2 s, once. The scan only says that a file may have such lines; :mod:`ebi_spark.sources.reader` then finds them
row by row.

Spark reads each line whole into memory, several times over, and unpacks a packed file to its end, whatever its size. So
a line that is too long for Java's memory, and a file that unpacks to more than any real table, are refused here.
"""

import bz2
import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ebi_spark.errors import InputError

# How packed files are opened, by the ending of their name; Spark uses the same endings.
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_CHUNK = 8 << 20
_LEAST_BLOCK = 1 << 12
# The longest line that is read, in bytes, unless twice the longest field is more.
LINE_BYTES = 16 << 20
# A packed file may unpack to this many times its size, and to a gigabyte in any case. Packing shrinks tables of codes
# and dates to a tenth or a twentieth, and a decompression bomb to a thousandth.
UNPACKED_TIMES, UNPACKED_FREELY = 200, 1 << 30
BYTE_ORDER_MARK = codecs.BOM_UTF8
_REPLACEMENT = "\ufffd".encode()
WHOLE_COPY = "replace the file with a whole copy (check it, such as with `gzip -t`), then run the same command again"


def most_of_a_line(most_bytes: int) -> int:
    """The longest line, or value of Parquet, in bytes, if a field may have ``most_bytes``."""
    return max(LINE_BYTES, 2 * most_bytes)


def is_plain(path: str, keys: set[str], header: bool, encoding: str, most_bytes: int, where: str) -> bool:
    """Whether a file certainly has no over-long field, damaged line or repeated header. ``keys``: names of the key
    column.

    Raises an :class:`InputError` for a packed file that is cut off or unpacks without end, and for a line too long to
    read.
    """
    # A field that is too long contains a whole block without a line end. (Latin-1 text can be twice as long in UTF-8.)
    block = most_bytes // (2 if encoding == "utf-8" else 4)
    lines = _Lines(path, most_of_a_line(most_bytes), where)
    seen = _Plain(keys, header, encoding, block)
    plain = block >= _LEAST_BLOCK
    try:
        for at, chunk in _chunks(path, block, where):
            lines.see(at, chunk)
            plain = plain and seen.is_plain(at, chunk)
        return plain and seen.ends()
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{where}: {path} cannot be read to its end; nothing was written", remedy=WHOLE_COPY) from None


class _Lines:
    """Tracks where the current line began, chunk by chunk, to find a line that is too long."""

    def __init__(self, path: str, most: int, where: str) -> None:
        self.path, self.most, self.where = path, most, where
        self.began = 0

    def see(self, at: int, chunk: bytes) -> None:
        """Take in the next chunk. Raises an :class:`InputError` if a line is too long. A chunk is never longer than
        that."""
        ends = [place for place in (chunk.find(b"\n"), chunk.find(b"\r")) if place >= 0]
        if at + (min(ends) if ends else len(chunk)) - self.began > self.most:
            raise InputError(
                f"{self.where}: {self.path} has a line of more than {self.most:,} bytes, which begins at byte {self.began:,}; "
                "nothing was written",
                remedy="check that the file is a table with one row on each line, and replace it with a whole copy; if its "
                "fields are right, raise `max_field_bytes`",
            )
        if ends:
            self.began = at + max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1


class _Plain:
    """Checks, chunk by chunk, that no line of a file has to be checked again after parsing."""

    def __init__(self, keys: set[str], header: bool, encoding: str, block: int) -> None:
        self.names = [key.lower().encode() for key in keys]
        self.header, self.utf8, self.block = header, encoding == "utf-8", block
        self.headers, self.tail = 0, b""
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def is_plain(self, at: int, chunk: bytes) -> bool:
        """Whether this still holds after the next chunk."""
        block = self.block
        if b"\x00" in chunk or any(
            chunk.find(b"\n", start, start + block) < 0 and chunk.find(b"\r", start, start + block) < 0
            for start in range(0, len(chunk) - block + 1, block)
        ):
            return False
        joined = self.tail + chunk
        lower = joined.lower()
        self.headers += sum(lower.count(name) for name in self.names)
        if self.headers > self.header:
            return False
        if self.utf8 and not (chunk.isascii() and not self.decoder.getstate()[0]):
            try:
                self.decoder.decode(chunk)
            except UnicodeDecodeError:
                return False
            marked = joined.rfind(BYTE_ORDER_MARK)
            if _REPLACEMENT in joined or (marked >= 0 and (at or marked)):
                return False
        self.tail = joined[-max(len(name) for name in self.names) + 1 :]
        return True

    def ends(self) -> bool:
        """Whether the file does not end in the middle of a character."""
        try:
            self.decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
        return True


def _chunks(path: str, block: int, where: str) -> Iterator[tuple[int, bytes]]:
    size = block * max(1, _CHUNK // block) if block else _CHUNK
    opener = OPENERS.get(Path(path).suffix)
    most = max(UNPACKED_FREELY, UNPACKED_TIMES * Path(path).stat().st_size) if opener else None
    with (opener or open)(path, "rb") as file:
        at = 0
        while chunk := file.read(size):
            yield at, chunk
            at += len(chunk)
            if most is not None and at > most:
                raise InputError(
                    f"{where}: {path} unpacks to more than {UNPACKED_TIMES} times its size, and more than {most:,} bytes; "
                    "nothing was written",
                    remedy="check that it is a packed table; if it is, unpack it yourself",
                )
