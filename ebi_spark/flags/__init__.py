"""Every record in scope of a policy judged under each reading, with the clauses that kept it from being flagged."""
