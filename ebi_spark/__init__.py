"""Evidence-Based Interventions policies over national hospital tables, on Spark and Delta.

The folders, in the order in which data passes through them:

- ``sources`` finds and reads source files, and ``records`` cleans them into records (silver);
- ``geography`` finds the area of each record;
- ``policies`` turns policies into Columns, ``flags`` applies them to every record, and ``rates`` counts and compares areas;
- ``validation`` checks the tables, ``release`` suppresses small numbers and publishes, and ``report`` draws the report.

``config``, ``tables``, ``spark``, ``lake`` and ``runs`` serve all of them: settings, table definitions, the session, Delta
and the history of runs. ``policy_import`` drafts a policy from a published page. ``synthetic`` makes up source files to try
everything on. ``tests/test_layers.py`` lists which folder may import from which.

``api`` is the Python API for notebooks. Only the names in ``__all__`` are public; everything else can change with any
version. They are loaded when they are first used, so that ``import ebi_spark`` itself takes no time.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebi_spark.api import (
        activity_change,
        apply_policy,
        clause,
        explain,
        lint_policies,
        load_policies,
        needed_columns,
        read_release,
        standardised_rates,
    )
    from ebi_spark.errors import InputError

__all__ = [
    "InputError",
    "__version__",
    "activity_change",
    "apply_policy",
    "clause",
    "explain",
    "lint_policies",
    "load_policies",
    "needed_columns",
    "read_release",
    "standardised_rates",
]

try:
    __version__ = version("ebi-spark")
except PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0.0.0+unknown"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module("ebi_spark.errors" if name == "InputError" else "ebi_spark.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
