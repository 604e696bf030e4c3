"""What local Spark needs besides Python packages: Java, and Delta's jars."""

import sys

from ebi_spark.session import fetch_jars, require_java
from jobs.harness import guarded


def main() -> int:
    """Check Java and bring the jars."""

    def work(console: object, _: dict[str, object]) -> None:
        require_java()
        fetch_jars(lambda message: print(message, file=sys.stderr))

    return guarded(work, as_json=False, debug=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
