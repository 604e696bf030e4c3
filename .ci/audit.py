"""The locked packages held against what the package registry says of them today.

For each: is the locked file still there under its hash, was it withdrawn (yanked), is the project quarantined or archived,
and, where the registry offers it, are vulnerabilities known. Withdrawn, missing and quarantined ones fail; the rest is told.
Without the network nothing is audited, and that is said.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.M)


@cache
def registry() -> str:
    """The address of the registry that pip installs from, without ``/simple``."""
    given = os.environ.get("PIP_INDEX_URL")
    if not given:
        from pip._internal.models.index import PyPI

        given = PyPI.simple_url
    return str(given).rstrip("/").removesuffix("/simple")


def asked(path: str) -> dict[str, Any]:
    """What the registry answers."""
    request = urllib.request.Request(  # noqa: S310
        f"{registry()}/{path}", headers={"Accept": "application/vnd.pypi.simple.v1+json, application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def locked(lock: str) -> list[tuple[str, str, set[str]]]:
    """(name, version, sha256 sums) of every package of a lock."""
    found = []
    starts = list(PINNED.finditer(lock))
    for start, end in zip(starts, [*(m.start() for m in starts[1:]), len(lock)], strict=True):
        sums = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock[start.start() : end]))
        found.append((start[1].lower().replace("_", "-"), start[2], sums))
    return found


def judged(package: tuple[str, str, set[str]]) -> tuple[list[str], list[str]]:
    """(what is wrong, what is worth knowing) of one package."""
    name, version, sums = package
    page = asked(f"simple/{name}/")
    files = [file for file in page["files"] if file["hashes"].get("sha256") in sums]
    wrong, told = [], []
    if not files:
        wrong.append(f"{name} {version}: none of its locked files is in the registry any more")
    elif all(file.get("yanked") for file in files):
        why = files[0]["yanked"]
        wrong.append(f"{name} {version} was withdrawn by its makers{f': {why}' if isinstance(why, str) else ''}")
    status = (page.get("project-status") or {}).get("status", "active")
    if status == "quarantined":
        wrong.append(f"{name} is quarantined by the registry")
    elif status != "active":
        told.append(f"{name} is {status}")
    return wrong, told


def vulnerabilities(package: tuple[str, str, set[str]]) -> list[str] | None:
    """Those known of one package; None when the registry does not answer that."""
    name, version, _ = package
    try:
        known = asked(f"pypi/{name}/{version}/json").get("vulnerabilities")
    except (OSError, ValueError):
        return None
    return (
        None
        if known is None
        else [
            f"{name} {version}: {item['id']}, mended in {', '.join(item.get('fixed_in') or ['no version yet'])}"
            for item in known
            if not item.get("withdrawn")
        ]
    )


def main() -> int:
    """0 when nothing is wrong (or nobody answers), 1 otherwise."""
    root = Path(__file__).resolve().parent.parent
    texts = [path.read_text(encoding="utf-8") for path in sorted(root.glob("requirements*.lock"))]
    packages = [package for text in texts for package in locked(text)]
    wrong: list[str] = []
    told: list[str] = []
    try:
        with ThreadPoolExecutor(8) as pool:
            for bad, worth in pool.map(judged, packages):
                wrong += bad
                told += worth
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        print(f"audit: not done, the registry does not answer ({type(error).__name__})")
        return 0
    if vulnerabilities(packages[0]) is None:
        told.append("of vulnerabilities the registry reached from here says nothing")
    else:
        with ThreadPoolExecutor(8) as pool:
            for known in pool.map(vulnerabilities, packages):
                told += known or []
    for line in (*wrong, *told):
        print(f"audit: {line}")
    print(f"audit: {len(packages)} locked packages, {len(wrong)} that must not be used")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
