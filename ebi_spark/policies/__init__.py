"""Policies as data: dated revisions of clauses from YAML, their readings, and the Columns they compile to."""
