"""Finds the codes of a step in the code lists of a record, such as ``,V385,V551,|,U212,Z665,`` (definitions in conf/)."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.pathway.definitions import definitions

# A repetition that gives nothing back (*+, ++), so that a look ahead starts at the end of a code.
_REST = "[^,|]*+"


def pattern(look: Mapping[str, Any]) -> str:
    """The regular expression of the codes that a look finds, with the code as its one group.

    | look                                    | list            | → found |
    |-----------------------------------------|-----------------|---------|
    | V544, site_after: lumbar                | ,V544,Y534,Z675,| V544    |
    | V544, site_after: lumbar                | ,V544,Z673,     |         |
    | V487, no_site_after: cervical_or_…      | ,V487,Z673,     |         |
    | M471, not_elsewhere (fifth character 2) | ,M4712,         |         |
    """
    codes = "|".join(look.get("procedures") or look["diagnoses"])
    not_there = f"(?![{''.join(definitions()['elsewhere']['fifth_characters'])}])" if look.get("not_elsewhere") else ""
    found = f",((?:{codes}){not_there}{_REST})"
    for key, sign in (("site_after", "="), ("no_site_after", "!")):
        if look.get(key):
            sites = "|".join(definitions()["sites"][look[key]]["procedures"])
            found += f"(?{sign}(?:,(?:{_starts(definitions()['sites']['subsidiary'])}){_REST})*?,(?:{sites}))"
    return found


def codes_found(listed: Column, look: Mapping[str, Any]) -> Column:
    """``array<string>``: the codes of a look in a code list; empty if the list has no such code."""
    return F.regexp_extract_all(F.coalesce(listed, F.lit("")), F.lit(pattern(look)), F.lit(1))


def elsewhere(diagnoses: Column) -> Column:
    """Whether a diagnosis of a record says cervical or thoracic: by itself, or by its fifth character."""
    item = definitions()["elsewhere"]
    named = "|".join(item["diagnoses"])
    by_site = f"(?:{'|'.join(item['of_categories'])}).[{''.join(item['fifth_characters'])}]"
    return F.coalesce(diagnoses.rlike(f",(?:{named}|{by_site})"), F.lit(False))


def look_evidence(look: Mapping[str, Any], diagnoses: Column, procedures: Column) -> Column:
    """``array<string>``: what a record shows of a look for diagnoses or procedures."""
    found = codes_found(procedures if "procedures" in look else diagnoses, look)
    if look.get("not_elsewhere"):
        found = F.when(~elsewhere(diagnoses), found).otherwise(nothing())
    return found


def nothing() -> Column:
    """An empty ``array<string>``."""
    return F.array().cast("array<string>")


def with_code(listed: Column, code: Column) -> Column:
    """A code list, with the code of the whole record added as an episode of its own if the list does not have it."""
    there = F.coalesce(F.contains(listed, F.concat(F.lit(","), code)), F.lit(False)) | code.isNull()
    return F.when(there, listed).otherwise(
        F.concat(F.coalesce(F.concat(listed, F.lit("|")), F.lit("")), F.lit(","), code, F.lit(","))
    )


def with_whole_lists(records: DataFrame) -> DataFrame:
    """Spells whose code lists also have the primary diagnosis and the dominant procedure, where the source's lists lack them.

    | dominant_procedure | procedure_codes | → procedure_codes |
    |--------------------|-----------------|-------------------|
    | V382               | ,V382,Z675,     | ,V382,Z675,       |
    | V382               | ,Z675,          | ,Z675,|,V382,     |
    | V382               | NULL            | ,V382,            |
    """
    return records.withColumns(
        {
            "diagnosis_codes": with_code(F.col("diagnosis_codes"), F.col("primary_diagnosis")),
            "procedure_codes": with_code(F.col("procedure_codes"), F.col("dominant_procedure")),
        }
    )


def steps(window: str | None = None, *, looked_for_in: str | None = None) -> list[dict[str, Any]]:
    """The steps of ``conf/pathway.yml``: those that have a window, or that are looked for in ``outpatients`` or
    ``admitted``."""
    return [
        step
        for step in definitions()["steps"]
        if (window is None or window in windows_of(step))
        and (looked_for_in is None or any(look["in"] == looked_for_in for look in step.get("look_in", ())))
    ]


def windows_of(step: Mapping[str, Any]) -> list[str]:
    """The windows of a step: all those before the operation, unless it names its own."""
    return list(step.get("windows") or definitions()["windows"])


def _starts(item: Mapping[str, Iterable[str]]) -> str:
    return "|".join(item["starts_with"])
