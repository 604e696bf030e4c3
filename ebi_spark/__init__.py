"""Evidence-Based Interventions policies over national hospital tables, on Spark and Delta.

The folders, in the order in which data passes through them:

- ``sources`` finds and reads source files, and ``records`` cleans them into records (silver);
- ``geography`` finds the area of each record;
- ``policies`` turns policies into Columns, ``flags`` applies them to every record, and ``rates`` counts and compares areas;
- ``validation`` checks the tables, ``release`` suppresses small numbers and publishes, and ``report`` draws the report.

``config``, ``tables``, ``spark``, ``lake`` and ``runs`` serve all of them: settings, table definitions, the session, Delta
and the history of runs. ``policy_import`` drafts a policy from a published page. ``synthetic`` makes up source files to try
everything on. ``tests/test_layers.py`` lists which folder may import from which.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ebi-spark")
except PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0.0.0+unknown"
