"""A quick look at every byte of a local text file: whether Spark can take its lines at all, and whether any of them needs a
second look once it is parsed.

Looking at each row for NUL bytes, undecodable ones, over-long fields and repeated headers took Spark 2.5 s of a processor for
a million rows, in each of several passes; most files have none, and finding that out here takes 0.2 s, once.
What is found is only that such lines may be there: which
they are, :mod:`ebi_spark.acquire.tables` sees row by row.

Spark takes each line whole into memory, several times over, and unpacks a packed file to its end, however long that is. A line
that would end its Java, and a file that unpacks to more than any table does, are refused here.
"""

import bz2
import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ebi_spark.errors import InputError

# How files whose names end so are opened; Spark goes by the same endings.
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_CHUNK = 8 << 20
_LEAST_BLOCK = 1 << 12
# The longest line that is read, unless twice what a field may have is more.
LINE_BYTES = 16 << 20
# How many times its size a packed file may unpack to, beyond the first gigabyte. Tables of codes and dates shrink to a tenth
# or a twentieth, a bomb to a thousandth.
UNPACKED_TIMES, UNPACKED_FREELY = 200, 1 << 30
BYTE_ORDER_MARK = codecs.BOM_UTF8
_REPLACEMENT = "\ufffd".encode()
WHOLE_COPY = (
    "put a whole copy of it in place (`gzip -t` and the like tell whether it is one), then make the same call again"
)


def most_of_a_line(most_bytes: int) -> int:
    """How many bytes a line, or one value of Parquet, may have where a field may have ``most_bytes``."""
    return max(LINE_BYTES, 2 * most_bytes)


def is_plain(path: str, keys: set[str], header: bool, encoding: str, most_bytes: int, where: str) -> bool:
    """Whether no line of a file can have an over-long field, be damaged or be a header that is repeated. ``keys``: what the
    column of the key can be called. An :class:`InputError` for a packed file that breaks off or unpacks without end, and for
    a line that is too long to be read."""
    # Somewhere in a field that is too long, a whole block has no end of a line. (Latin-1 doubles as UTF-8.)
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
    """Where the line begins that a chunk of a file ends in."""

    def __init__(self, path: str, most: int, where: str) -> None:
        self.path, self.most, self.where = path, most, where
        self.began = 0

    def see(self, at: int, chunk: bytes) -> None:
        """Go on; an :class:`InputError` where a line is longer than is read. No chunk is longer than such a line."""
        ends = [place for place in (chunk.find(b"\n"), chunk.find(b"\r")) if place >= 0]
        if at + (min(ends) if ends else len(chunk)) - self.began > self.most:
            raise InputError(
                f"{self.where}: {self.path} has a line of more than {self.most:,} bytes, which begins at byte {self.began:,}; "
                "nothing was written",
                remedy="check that the file is a table with a row a line, and replace it with a whole copy; if its fields are "
                "right, raise `max_field_bytes`",
            )
        if ends:
            self.began = at + max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1


class _Plain:
    """What has been seen of a file so far that no line of which needs a second look."""

    def __init__(self, keys: set[str], header: bool, encoding: str, block: int) -> None:
        self.names = [key.lower().encode() for key in keys]
        self.header, self.utf8, self.block = header, encoding == "utf-8", block
        self.headers, self.tail = 0, b""
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def is_plain(self, at: int, chunk: bytes) -> bool:
        """Whether that is so of the next chunk too."""
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
        """Whether the file does not end within a character."""
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
                    remedy="check that it is a packed table; unpack it yourself if it is right",
                )
