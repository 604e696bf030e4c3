"""A short hash of a definition, by which a later run sees whether it has changed."""

import hashlib
import json
from typing import Any


def fingerprint(definition: Any) -> str:
    """A hash (16 hexadecimal digits) of a definition as JSON with sorted keys: the same for the same content."""
    canonical = json.dumps(definition, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
