"""Checks of every layer: suites, how they are measured, and what Great Expectations makes of them."""
