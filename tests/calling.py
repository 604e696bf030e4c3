"""Calling a job as the command line does, and reading its answer."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def call(job: Callable[[list[str]], int], folder: Path, *options: str) -> dict[str, Any]:
    """What a job prints with ``--json`` for the configuration ``run.yml`` of a folder."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = job(["--config", str(folder / "run.yml"), "--json", *options])
    answer: dict[str, Any] = json.loads(out.getvalue())
    assert answer["exit"] == status
    return answer
