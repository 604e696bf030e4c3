"""Evidence-Based Interventions policies over national hospital tables, on Spark and Delta.

The folders follow the data: ``sources`` reads source tables, ``records`` makes silver from them, ``policies`` turns policies into
Columns, ``flags`` applies them to every record, ``rates`` aggregates, ``validation`` checks, ``release`` suppresses and publishes,
``report`` draws what was published. ``runs`` decides what has to be computed. A folder imports only from those above it in the order of
``tests/test_layers.py``; ``docs/architecture.md`` explains it. ``synthetic`` makes source files for trying it all.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ebi-spark")
except PackageNotFoundError:  # a checkout put on the path without being installed
    __version__ = "0.0.0+unknown"
