"""A quick look at every byte of a local text file: whether any line of it needs a second look once it is parsed.

Looking at each row for NUL bytes, undecodable ones, over-long fields and repeated headers took Spark 2.5 s of a processor for
a million rows, in each of several passes; most files have none, and finding that out here takes 0.2 s, once.
What is found is only that such lines may be there: which
they are, :mod:`ebi_spark.acquire.tables` sees row by row.
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
BYTE_ORDER_MARK = codecs.BOM_UTF8
_REPLACEMENT = "\ufffd".encode()
WHOLE_COPY = (
    "put a whole copy of it in place (`gzip -t` and the like tell whether it is one), then make the same call again"
)


def is_plain(path: str, keys: set[str], header: bool, encoding: str, most_bytes: int, where: str) -> bool:
    """Whether no line of a file can be over-long, damaged or a header that is repeated. ``keys``: what the column of the
    key can be called. A packed file that breaks off is an :class:`InputError`."""
    # Somewhere in a field that is too long, a whole block has no end of a line. (Latin-1 doubles as UTF-8.)
    block = most_bytes // (2 if encoding == "utf-8" else 4)
    if block < _LEAST_BLOCK:
        return False
    names = [key.lower().encode() for key in keys]
    headers = 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    tail = b""
    try:
        for at, chunk in _chunks(path, block):
            if b"\x00" in chunk or any(
                chunk.find(b"\n", start, start + block) < 0 and chunk.find(b"\r", start, start + block) < 0
                for start in range(0, len(chunk) - block + 1, block)
            ):
                return False
            joined = tail + chunk
            lower = joined.lower()
            headers += sum(lower.count(name) for name in names)
            if headers > header:
                return False
            if encoding == "utf-8" and not (chunk.isascii() and not decoder.getstate()[0]):
                decoder.decode(chunk)
                marked = joined.rfind(BYTE_ORDER_MARK)
                if _REPLACEMENT in joined or (marked >= 0 and (at or marked)):
                    return False
            tail = joined[-max(len(name) for name in names) + 1 :]
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{where}: {path} cannot be read to its end; nothing was written", remedy=WHOLE_COPY) from None
    return True


def _chunks(path: str, block: int) -> Iterator[tuple[int, bytes]]:
    size = block * max(1, _CHUNK // block)
    with OPENERS.get(Path(path).suffix, open)(path, "rb") as file:
        at = 0
        while chunk := file.read(size):
            yield at, chunk
            at += len(chunk)
