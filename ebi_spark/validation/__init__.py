"""Checks of every layer: the suites, counting violations in Spark, and evaluating the counts in Great Expectations."""
