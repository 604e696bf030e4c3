"""Every stage in order: ingest, flag, rate, validate, publish."""

import importlib
import sys
import threading
from collections.abc import Callable

from jobs import flag, ingest, publish, rate, validate
from jobs.harness import Context, run_stages


def _import_early(_: Context) -> None:
    """Great Expectations takes seconds to import: while Spark is at work, nobody waits for it."""
    threading.Thread(target=importlib.import_module, args=("great_expectations",), daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark run``."""
    stages: list[Callable[[Context], None]] = [
        _import_early, ingest.stage, flag.stage, rate.stage, validate.stage, publish.stage,
    ]  # fmt: skip
    return run_stages("run", __doc__ or "", stages, argv)


if __name__ == "__main__":
    sys.exit(main())
