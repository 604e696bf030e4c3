"""Plain statistics on counts: limits of a proportion, agreement of two readers, survival, and weighted samples.

Plain functions on numbers, each with its formula and source. They do not use Spark, policies or tables.
"""
