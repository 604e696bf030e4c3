"""What the record of an operation itself shows: diagnoses, levels, approach and decompression."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.pathway.before import NOT_VISIBLE
from ebi_spark.pathway.code_lists import look_evidence, nothing, steps, with_whole_lists
from ebi_spark.pathway.definitions import CANNOT_BE_SEEN, NOT_SEEN, OPERATION, SEEN, definitions
from ebi_spark.tables.table import YEAR

AT_OPERATION = "at_operation"
NOT_STATED, AMBIGUOUS = "not_stated", "ambiguous"


def fusions(operations: DataFrame) -> DataFrame:
    """The operations that have a lumbar fusion among their procedures or as dominant procedure. The dominant procedure and the
    primary diagnosis are added to their code lists if the source's lists lack them."""
    return with_whole_lists(operations).where(_has(_fusion_codes()))


def steps_at_operation(operations: DataFrame) -> DataFrame:
    """Rows of ``gold/pathway_step`` for the window ``at_operation``: one for each operation and each step that is looked for in
    its own record. ``operations`` has rows of :func:`fusions`.

    A record without any diagnosis shows none of them: ``cannot_be_seen``, not ``not_seen``.

    | diagnosis_codes | step spondylolisthesis | step stenosis_with_instability |
    |-----------------|------------------------|--------------------------------|
    | ,M545,M4316,    | seen [M4316]           | not_seen                       |
    | ,M4806,M532,    | not_seen               | seen [M4806, M532]             |
    | NULL            | cannot_be_seen         | cannot_be_seen                 |
    """
    found = {
        step["id"]: F.array_distinct(F.concat(*[_evidence(look) for look in step["look_in"]]))
        for step in steps(AT_OPERATION)
        if "look_in" in step
    }
    rows = []
    for step in steps(AT_OPERATION):
        evidence = _of_both(step["both"], found) if "both" in step else found.get(step["id"], nothing())
        seen_in = F.lit(step["coding"] != NOT_VISIBLE) & F.col("diagnosis_codes").isNotNull()
        state = F.when(F.size(evidence) > 0, SEEN).when(seen_in, NOT_SEEN).otherwise(CANNOT_BE_SEEN)
        rows.append(
            F.struct(
                F.lit(step["id"]).alias("step_id"),
                F.lit(AT_OPERATION).alias("window"),
                state.alias("state"),
                evidence.alias("evidence"),
            )
        )
    return operations.select(*OPERATION, YEAR, F.explode(F.array(*rows)).alias("row")).select(*OPERATION, YEAR, "row.*")


def _evidence(look: Mapping[str, Any]) -> Column:
    return look_evidence(look, F.col("diagnosis_codes"), F.col("procedure_codes"))


def _of_both(both: Mapping[str, list[str]], found: Mapping[str, Column]) -> Column:
    """The evidence of several steps, if every step of ``with`` is found and no step of ``without``."""
    holds = F.lit(True)
    for name in both["with"]:
        holds = holds & (F.size(found[name]) > 0)
    for name in both.get("without", ()):
        holds = holds & (F.size(found[name]) == 0)
    return F.when(holds, F.concat(*[found[name] for name in both["with"]])).otherwise(nothing())


def levels() -> Column:
    """How many levels were operated on (proxy): the first V55 code after a fusion code and before the next operation on the
    spine in the same episode.

    | procedure_codes          | → levels      |
    |--------------------------|---------------|
    | ,V385,Y032,V551,Z665,    | one           |
    | ,V385,V254,V552,         | not_stated    |
    | ,V385,V551,|,V394,V552,  | ambiguous     |
    | ,V385,V558,              | not_stated    |
    """
    item = definitions()["levels"]
    stated = F.regexp_extract_all(F.coalesce("procedure_codes", F.lit("")), F.lit(levels_pattern()), F.lit(1))
    numbers = F.array_distinct(F.filter(stated, lambda code: code.isin(*item["number"])))
    names = F.create_map(*[F.lit(text) for pair in item["number"].items() for text in pair])
    return (
        F.when(F.size(numbers) == 0, NOT_STATED)
        .when(F.size(numbers) > 1, AMBIGUOUS)
        .otherwise(names[F.get(numbers, F.lit(0))])
    )


def levels_pattern() -> str:
    """The regular expression of a fusion and the first V55 code that belongs to it, which is its one group."""
    item = definitions()["levels"]
    ends, level = "|".join(item["next_operation"]["starts_with"]), "|".join(item["procedures"])
    between = rf"(?:,(?!{ends}|{level})[^,|]++)*+"
    return rf",(?:{'|'.join(_fusion_codes())})[^,|]*+{between},({level})"


def approach() -> Column:
    """The approach: posterior, anterior, lateral or combined; NULL if the codes do not say."""
    item = definitions()["approach"]
    posterior, anterior, lateral, combined = (
        _has(item[way]) for way in ("posterior", "anterior", "lateral", "combined")
    )
    return (
        F.when(combined | (posterior & (anterior | lateral)), "combined")
        .when(anterior, "anterior")
        .when(lateral, "lateral")
        .when(posterior, "posterior")
    )


def decompression() -> Column:
    """Whether the spine was decompressed in the same spell (proxy)."""
    return _has(definitions()["decompression"]["procedures"])


def _fusion_codes() -> list[str]:
    ways = definitions()["approach"]
    return [code for way in ("posterior", "anterior", "lateral", "combined") for code in ways[way]]


def _has(codes: Iterable[str]) -> Column:
    return F.coalesce(F.col("procedure_codes").rlike(f",(?:{'|'.join(codes)})"), F.lit(False))
