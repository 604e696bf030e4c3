"""Clauses and readings as plain conditions, for comparison with the bit masks that apply all policies at once."""

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.policies.compile import holds
from ebi_spark.policies.model import AS_PUBLISHED, Clause


def passes(clause: Clause, dataset: str, reading: str = AS_PUBLISHED) -> Column:
    """Whether a clause lets a record through: where it cannot be decided, its ``missing`` decides. False for a scope that
    cannot be decided."""
    let_through = clause.kind != "scope" and clause.missing == "passes"
    return F.coalesce(holds(clause, dataset, reading), F.lit(let_through))


def all_pass(clauses: tuple[Clause, ...], dataset: str) -> Column:
    """Whether all clauses that have a test let a record through."""
    return reduce(lambda a, b: a & b, [passes(clause, dataset) for clause in clauses if clause.test])
