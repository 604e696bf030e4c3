"""The six stages of a run. Each is one object that says what it reads, computes and writes; jobs, replay and tests call it.

A stage takes a :class:`~ebi_spark.stages.run_context.RunContext` and returns a typed summary. It prints nothing itself.
"""
