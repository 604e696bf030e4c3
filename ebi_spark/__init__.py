"""Evidence-Based Interventions policies over national hospital tables, on Spark and Delta.

The folders follow the data: ``sources`` reads source tables, ``records`` makes spells and attendances, ``policies``
turns policies into Columns, ``flags`` applies them to every record, ``rates`` computes rates, ``validation`` checks the
tables, ``release`` applies disclosure control and publishes, ``report`` makes the HTML report. A folder imports only
from the folders before it and from the small modules in this one. ``synthetic`` makes source files to try the product
with.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ebi-spark")
except PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0.0.0+unknown"
