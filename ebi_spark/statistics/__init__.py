"""Plain statistics on counts: limits of a proportion, agreement of two readers, survival, and weighted samples.

Plain functions on numbers, each with its formula and source. They know nothing of Spark, policies or tables.
"""
