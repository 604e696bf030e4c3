"""Policies loaded from YAML: dated revisions, their clauses and readings, and the Spark Columns that test them."""
