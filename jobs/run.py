"""Every stage in order: ingest, flag, rate, validate, publish."""

import sys
from collections.abc import Callable

from jobs import flag, ingest, publish, rate, validate
from jobs.harness import Context, run_stages


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark run``."""
    stages: list[Callable[[Context], None]] = [ingest.stage, flag.stage, rate.stage, validate.stage, publish.stage]
    return run_stages("run", __doc__ or "", stages, argv)


if __name__ == "__main__":
    sys.exit(main())
