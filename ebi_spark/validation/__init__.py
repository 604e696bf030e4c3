"""Checks of every layer. Spark counts violations and Great Expectations evaluates the counts, and the published tables itself."""
