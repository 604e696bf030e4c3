"""The policies of a run as rows, so that a BI tool can show the policy text behind a figure."""

import json
from typing import Any

from ebi_spark.policies.compile import clause_in_words
from ebi_spark.policies.model import Policy


def policy_rows(policies: list[Policy], run_id: str) -> list[dict[str, Any]]:
    """The rows of ``gold/policy``: one for each policy, revision and reading, with its clauses in order.

    | policy_id | revision | reading        | is_default_reading | boards | clauses (their ids)         |
    |-----------|----------|----------------|--------------------|--------|-----------------------------|
    | P         | 2021-04  | as_published   | False              | None   | [procedure, age]            |
    | P         | 2021-04  | as_intended    | True               | None   | [procedure, age]            |
    | P         | 2021-04  | guidance_coded | False              | None   | [procedure, age, infection] |
    """
    rows: list[dict[str, Any]] = []
    for policy in policies:
        for revision in policy.revisions:
            for reading in revision.readings.values():
                rows.append(
                    {
                        "policy_id": policy.id,
                        "revision": revision.name,
                        "reading": reading.reading,
                        "is_default_reading": reading.reading == policy.default_reading,
                        "dataset": policy.dataset,
                        "title": policy.title,
                        "publisher": policy.source["publisher"],
                        "source": policy.source["page"],
                        "in_force_from": revision.start,
                        "in_force_to": revision.end,
                        "in_force_dated": revision.dated,
                        "extends": policy.extends or None,
                        "boards": list(policy.boards) or None,
                        "policy_fingerprint": reading.fingerprint,
                        "publish_years": policy.publish_years,
                        "publish_first_year": policy.publish_first_year,
                        "target": policy.target,
                        "clauses": [
                            {
                                "clause_id": clause.id,
                                "step": step,
                                "kind": clause.kind,
                                "words": clause.source_text,
                                "test": clause_in_words(clause),
                                "missing": clause.missing if clause.decides else None,
                                "coding": clause.coding,
                                "decision": clause.decision or None,
                                "because": clause.rationale or None,
                            }
                            for step, clause in enumerate(reading.clauses)
                        ],
                        "definition": json.dumps(reading.definition, ensure_ascii=False, sort_keys=True),
                        "run_id": run_id,
                    }
                )
    return rows
