"""Diagnosis and procedure codes, as frequent as in the national tables and suited to the patient.

The national counts are of all positions together. A first position only takes codes that can be first (no history of a
disease, no site of an operation). The other positions make up the difference, so that all positions together have the
national frequencies. In the same way a code that only some groups of patients can have is drawn for those groups only,
and more often there.
"""

import csv
import re
from collections.abc import Mapping
from functools import lru_cache
from random import Random

from ebi_spark.config.shipped_files import resource
from ebi_spark.synthetic.draws import sampled

# Groups of patients, in the order of the tables: the newborn, children, women giving birth, then by age and sex.
NEWBORN, CHILD, MATERNITY, WOMAN, MAN, OLDER_WOMAN, OLDER_MAN = range(7)
# Assumed share of all codes that belongs to each group, and the average number of codes in an episode.
CODE_VOLUMES = (0.015, 0.035, 0.04, 0.11, 0.09, 0.36, 0.35)
MEAN_DIAGNOSES = 6.5
MEAN_PROCEDURES = 2.7  # in an episode that has any
# A group's episodes draw their codes from 2**LIST_BITS lists. The maximum numbers are the lengths of these lists.
LIST_BITS = 13
MOST_DIAGNOSES, MOST_PROCEDURES = 20, 12

# How often each group has a code, relative to the other groups. The first pattern that matches a code decides.
Rules = tuple[tuple[str, tuple[float, ...]], ...]
_DIAGNOSIS_GROUPS: Rules = (
    (r"P|Z38|Q[0-2]", (1, 0.02, 0, 0, 0, 0, 0)),
    (r"O|Z3[3-7]", (0, 0, 1, 0.04, 0, 0, 0)),
    (r"Q", (0.3, 1, 0, 0.3, 0.3, 0.1, 0.1)),
    (r"C61|C6[0-3]|N4|N5[01]|D29|D40", (0, 0.05, 0, 0, 0.15, 0, 1)),
    (r"C5[1-8]|D2[5-8]|N8[13]|N95|D39|D06", (0, 0, 0.02, 0.5, 0, 1, 0)),
    (r"N7|N8|N9[0-8]", (0, 0.02, 0.1, 1, 0, 0.3, 0)),
    (r"C50", (0, 0, 0, 0.3, 0.01, 1, 0.01)),
    (r"F0[0-7]|G30|G20|R54|M8[01]|H2[56]|H35|I4[4-9]|I50|I2[0-5]|J4[34]|N18|N40|Z95|Z921|I6|I7|S72|Z74|Z99",
     (0, 0.005, 0, 0.05, 0.07, 1, 1)),
    (r"I1|E1[14]|E78|C|D[0-4]|K57|M1[5-9]|Z8[56]|Z92|M48|R29|N39|N17|J18", (0, 0.03, 0.05, 0.2, 0.2, 1, 1)),
    (r"J2[01]|J05|J06|H6[56]|J35|B08|B34|A08|R11|R50|R56|K02|Z27", (0.05, 1, 0.03, 0.2, 0.2, 0.1, 0.1)),
    (r"F1|F2|F3|F4|F6|X[67]|T4", (0, 0.1, 0.25, 1, 1, 0.7, 0.7)),
    (r"", (0.01, 0.6, 0.15, 1, 1, 1, 1)),
)  # fmt: skip
_PROCEDURE_GROUPS: Rules = (
    (r"R", (0, 0, 1, 0.1, 0, 0, 0)),
    (r"P|Q", (0, 0.01, 0.1, 1, 0, 0.5, 0)),
    (r"N|M6", (0, 0.6, 0, 0, 0.4, 0, 1)),
    (r"B[23]|Y13", (0, 0, 0, 0.4, 0.01, 1, 0.02)),
    (r"C7|K|L|W3|W4|W9|U10|M", (0, 0.02, 0, 0.15, 0.15, 1, 1)),
    (r"F0|F3|F1|D15|E20", (0, 1, 0, 0.5, 0.4, 0.1, 0.1)),
    (r"X[78]|X29", (0.02, 0.3, 0.05, 0.6, 0.5, 1, 1)),
    (r"", (0.01, 0.5, 0.1, 1, 1, 1, 1)),
)
# Codes that cannot be first: history, status, external causes and risk factors; sites, methods and levels.
_NOT_FIRST_DIAGNOSIS = r"Z(?!38|49|51|45|46|08|09|12|30|3[57]|4[0-8])|[VWXY]|I10|E78|F17|B9[5-7]|R54|E66|E11|Z86"
_NOT_FIRST_PROCEDURE = r"[YZO]|V55|X7|X8|X9"


@lru_cache(maxsize=4)
def national_counts(table: str) -> dict[str, int]:
    """How often each code of ``icd10`` or ``opcs4`` was used in 2023-24, from the shipped reference table."""
    path = resource("conf", "reference", f"{table}_codes.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["code"]: int(row["uses_2023_24"]) for row in csv.DictReader(file) if row["uses_2023_24"]}


def diagnosis_lists(group: int, seed: int) -> list[str]:
    """``2**LIST_BITS`` lists of twenty ICD-10 codes, ``J440,I10X,...``, for a group of patients."""
    return _lists("icd10", _DIAGNOSIS_GROUPS, _NOT_FIRST_DIAGNOSIS, 1 / MEAN_DIAGNOSES, MOST_DIAGNOSES, group, seed)


def procedure_lists(group: int, seed: int) -> list[str]:
    """``2**LIST_BITS`` lists of twelve OPCS-4 codes, for a group of patients."""
    return _lists("opcs4", _PROCEDURE_GROUPS, _NOT_FIRST_PROCEDURE, 1 / MEAN_PROCEDURES, MOST_PROCEDURES, group, seed)


def _lists(
    table: str, rules: Rules, not_first: str, share_first: float, length: int, group: int, seed: int
) -> list[str]:
    weights = _weights(table, rules)[group]
    barred = re.compile(not_first)
    first = {code: weight for code, weight in weights.items() if not barred.match(code)}
    other = _left_over(weights, first, share_first)
    random = Random(f"{seed}:{table}:{group}")
    count = 1 << LIST_BITS
    # Systematic sampling gives the first codes their exact shares. Shuffling then puts them in random order.
    firsts = sampled(first, count)
    random.shuffle(firsts)
    others = random.choices(list(other), list(other.values()), k=count * (length - 1))
    step = length - 1
    return [",".join([firsts[i], *others[i * step : (i + 1) * step]]) for i in range(count)]


@lru_cache(maxsize=2)
def _weights(table: str, rules: Rules) -> list[dict[str, float]]:
    """Code → weight for each group."""
    weights: list[dict[str, float]] = [{} for _ in CODE_VOLUMES]
    compiled = [(re.compile(pattern), rates) for pattern, rates in rules]
    for code, uses in national_counts(table).items():
        rates = next(rates for pattern, rates in compiled if pattern.match(code))
        volume = sum(share * rate for share, rate in zip(CODE_VOLUMES, rates, strict=True))
        for group, rate in enumerate(rates):
            if rate:
                weights[group][code] = uses * rate / volume
    return weights


def _left_over(group: Mapping[str, float], first: Mapping[str, float], share_first: float) -> dict[str, float]:
    """The weights for the further positions. All positions together then have the weights of ``group``."""
    taken = share_first * sum(group.values()) / sum(first.values())
    return {code: left for code, weight in group.items() if (left := weight - taken * first.get(code, 0.0)) > 1e-9}
