"""The objects of a lake at a URL that are read and written without Spark: its lock, and the names in the logs of its tables.

`obstore` does it, with the credentials and the endpoint of the environment (``AWS_…``, ``AZURE_…``, ``GOOGLE_…``).
"""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ebi_spark.errors import InputError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_Answer = TypeVar("_Answer")

_STATUS = re.compile(r"status code: ([0-9]{3}( [A-Z][A-Za-z]+)*)")

# What tells one state of an object from another, as its store names it.
Version = dict[str, str]


class Found(NamedTuple):
    """An object: its content, and which state of it that is."""

    data: bytes
    version: Version


class Objects:
    """The objects below a URL.

    Every method raises an :class:`InputError` if the store cannot be reached or does not allow it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            import obstore
        except ImportError:
            raise InputError(
                f"a lake at a URL ({url}) needs the package obstore, which is not installed",
                remedy="install ebi-spark with its extra `urls` (`make setup` does)",
            ) from None
        self._obstore = obstore
        self._store = self._answered(lambda: _store(url))

    def create(self, name: str, data: bytes) -> Version | None:
        """Write an object that is not there yet. None if there is one already."""
        return self._put(name, data, "create")

    def update(self, name: str, data: bytes, version: Version) -> Version | None:
        """Write an object that is still in this state. None if another program has changed or removed it since."""
        return self._put(name, data, version)

    def _put(self, name: str, data: bytes, mode: Any) -> Version | None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            return self._answered(lambda: _version(self._obstore.put(self._store, name, data, mode=mode)))
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError:
            if mode == "create":
                raise self._unreachable("there is no such bucket") from None
            return None

    def read(self, name: str) -> Found | None:
        """An object; None if it does not exist."""
        try:
            found = self._answered(lambda: self._obstore.get(self._store, name))
        except FileNotFoundError:
            return None
        return Found(self._answered(lambda: bytes(found.bytes())), _version(found.meta))

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        try:
            self._answered(lambda: self._obstore.delete(self._store, name))
        except FileNotFoundError:
            return

    def remove_folder(self, folder: str) -> None:
        """Remove all objects in and below a folder."""
        for objects in self._answered(lambda: list(self._obstore.list(self._store, folder))):
            paths = [item["path"] for item in objects]
            self._answered(partial(self._obstore.delete, self._store, paths))

    def names(self, folder: str) -> list[str]:
        """The names of the objects that are directly in a folder."""
        found = self._answered(lambda: self._obstore.list_with_delimiter(self._store, folder))
        return [item["path"].rpartition("/")[2] for item in found["objects"]]

    def _answered(self, ask: Callable[[], _Answer]) -> _Answer:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            return ask()
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            raise
        except (BaseError, OSError, ValueError) as error:
            status = _STATUS.search(str(error))  # the rest of the text can have a signature in it
            if status and status[1].startswith("501"):
                raise without_conditions(self.url) from None
            raise self._unreachable(status[1] if status else type(error).__name__) from None

    def _unreachable(self, kind: str) -> InputError:
        return InputError(
            f"{self.url} cannot be read or written ({kind})",
            remedy="check the URL, the network, and what the environment says of the store: AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL for s3a://, AZURE_… for abfss://, GOOGLE_… for gs://",
        )


def without_conditions(url: str) -> InputError:
    """The error for a store that cannot write on a condition."""
    return InputError(
        f"the store of {url} does not write an object only if it does not exist (If-None-Match) or only if it is unchanged "
        "(If-Match), so two runs could write to the lake at the same time; nothing was written to its tables",
        remedy="use a store, or a newer version of it, with conditional writes; or name a folder or a catalogue as the lake",
    )


def _store(url: str) -> "ObjectStore":
    from obstore.store import from_url

    # A store of one's own, on this machine or network, may have no certificate. Its address says so.
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    # Short: a wrong address should be refused in seconds, and a lock is renewed long before it matters.
    return from_url(
        url,
        client_options={"timeout": "10s", "connect_timeout": "5s", "allow_http": plain},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )


def _version(found: Any) -> Version:
    return {name: found[name] for name in ("e_tag", "version") if found[name] is not None}


def newest_log_entry(objects: Objects, folder: str) -> int | None:
    """The newest version of the Delta table in a folder, from the names of its log; None if there is no table."""
    names = (name.removesuffix(".json") for name in objects.names(f"{folder}/_delta_log") if name.endswith(".json"))
    return max((int(name) for name in names if name.isdigit()), default=None)
