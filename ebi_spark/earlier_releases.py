"""What releases of earlier versions disclosed: emptied in every release kept when a lake is brought up to date.

Schema 1 published figures from which withheld ones could be worked out: how many cells were truly small, exact expected
events and the rates made from them, the days between records, national measures that can be one area's or provider's, and
whatever was mapped to the provider. Counts, their status and England's counts stay: the next release is protected
together with them, since they may have been read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ebi_spark.schemas import COMPLETENESS, DAYS_BETWEEN, QUALITY, RATE, RELEASE, VARIATION, Table

# The first schema whose releases disclose none of it.
CORRECTED_IN = 2
EMPTIED = "what earlier versions disclosed was emptied, and old files removed"


@dataclass(frozen=True)
class Correction:
    """Of a published table: the SQL value that columns get, and the SQL condition of rows that are removed."""

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
