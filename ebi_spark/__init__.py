"""Evidence-Based Interventions policies over national hospital tables, on Spark and Delta.

The folders tell the way of the data: ``acquire`` reads source tables, ``canonical`` makes records of them,
``clinical_policy`` turns policies into Columns, ``flags`` judges every record, ``rates`` aggregates, ``release``
gates, controls disclosure and publishes, ``report`` draws what was published. A folder imports only from those
before it and from the small modules beside them. ``synthetic`` makes source files to try it all on.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ebi-spark")
except PackageNotFoundError:  # a checkout put on the path without being installed
    __version__ = "0.0.0+unknown"
