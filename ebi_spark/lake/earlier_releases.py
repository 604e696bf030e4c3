"""Figures that releases of earlier versions disclosed. They are emptied in every kept release when a lake is migrated.

Releases of schema 1 had figures from which suppressed counts could be calculated: how many cells were truly small, exact
expected events and the rates calculated from them, the days between records, and national measures that can be about one
area or provider. They also published whatever was mapped to the provider column. Counts, their status and England's
counts are kept, because people may have read them; suppression in the next release takes them into account.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ebi_spark.tables.published import COMPLETENESS, DAYS_BETWEEN, QUALITY, RATE, RELEASE, VARIATION
from ebi_spark.tables.table import Table

# The first schema whose releases do not have these figures.
CORRECTED_IN = 2
EMPTIED = "emptied figures from which suppressed counts could be calculated, and removed old files"


@dataclass(frozen=True)
class Correction:
    """Changes to a published table: new values of columns (SQL by column), and a SQL condition for the rows to remove."""

    table: Table
    values: Mapping[str, str] = field(default_factory=dict)
    remove: str = ""


_NO_PROVIDER = "area_type = 'provider' AND NOT area_code RLIKE '^([A-Z0-9]{3}|[A-Z0-9]{5}|[A-Z][0-9]{5})$'"
_BELOW_ENGLAND = ("share_lower", "share_upper")
_STANDARDISED = (
    "expected", "standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "standard_error",
)  # fmt: skip
_PERCENTILES = tuple(f"{prefix}p{share}" for prefix in ("", "all_areas_") for share in (10, 25, 50, 75, 90))

CORRECTIONS = (
    Correction(
        RATE,
        dict.fromkeys(_STANDARDISED, "NULL")
        | {name: f"CASE WHEN area_type = 'england' THEN {name} END" for name in _BELOW_ENGLAND},
        remove=_NO_PROVIDER,
    ),
    Correction(VARIATION, dict.fromkeys((*_PERCENTILES, "n_fold", "opportunity", "opportunity_share"), "NULL")),
    Correction(DAYS_BETWEEN, remove="true"),
    Correction(QUALITY, {"records": "CASE WHEN measure = 'records' THEN records END"}),
    Correction(
        COMPLETENESS,
        dict.fromkeys(("providers", "providers_low"), "NULL"),
        remove=f"status = 'withheld_small' OR ({_NO_PROVIDER})",
    ),
    Correction(RELEASE, {"disclosure_loss": "NULL"}),
)
