"""Applies every policy, under each reading, to the records in its scope, and lists the clauses that each record failed."""
