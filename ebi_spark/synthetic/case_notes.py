"""Made-up answers for the forms of a case-note audit of made-up data. What the notes "say" is known, so estimates can be tested.

``python -m ebi_spark.synthetic.case_notes --lake LAKE --forms DIR --out DIR`` fills the forms of a draw. It refuses records that are not
made up, so that nobody mistakes these answers for those of real notes.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ebi_spark.case_audit.forms import READERS
from ebi_spark.case_audit.questions import NO, NOTES_FOUND, SUPPORTS_FLAG, VERDICT, YES
from ebi_spark.config.lake_location import lake_location
from ebi_spark.errors import InputError
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.own_files import write_whole
from ebi_spark.synthetic.places import INDEPENDENT, MADE_UP_TRUSTS, uniform
from ebi_spark.tables.monitoring_audit import AUDIT_SAMPLE
from ebi_spark.tables.silver import APC_SPELL

# The share of records that the notes would confirm: of flagged ones, and of others by their stratum.
CONFIRMED = {"flagged": 0.76, "readings_disagree": 0.3, "rest": 0.03}
CONFIRMED_NEAR_MISS = 0.08
NOT_RETURNED, WITHOUT_NOTES, READERS_DIFFER = 0.05, 0.03, 0.08


def confirmed(record_id: str, stratum: str, seed: int = 1) -> bool:
    """Whether the notes of a record would confirm it: the truth that an audit estimates."""
    return _uniform(seed, "truth", record_id) < CONFIRMED.get(stratum, CONFIRMED_NEAR_MISS)


def returned(record_id: str, seed: int = 1) -> bool:
    """Whether the form of a record comes back."""
    return _uniform(seed, "returned", record_id) >= NOT_RETURNED


def notes_found(record_id: str, seed: int = 1) -> bool:
    """Whether the notes of a record are found."""
    return _uniform(seed, "notes", record_id) >= WITHOUT_NOTES


def fill_forms(
    forms: Iterable[Path], strata: Mapping[str, str], clauses: Mapping[str, str], out: Path, seed: int = 1
) -> int:
    """Fill the forms of a draw and write them to ``out``, a file for each provider. Returns how many are filled.

    ``strata`` has the stratum of each drawn record, ``clauses`` the kind of each clause that the forms ask about. If the
    verdict of a form is no, one of its clauses does not support the flag. A second reader sometimes differs; the adjudicated answer
    is then the true one.
    """
    out.mkdir(parents=True, exist_ok=True)
    filled: set[str] = set()
    for path in sorted(forms):
        rows, names = _rows_of(path)
        for row in rows:
            record = row["record_id"].removeprefix("'")
            if returned(record, seed):
                filled.add(record)
                row.update(zip(READERS, _answers(row, strata[record], clauses, seed), strict=True))
        lines = [names, *([row[name] for name in names] for row in rows)]
        write_whole(out / f"{path.parent.name}.csv", _csv(lines))
    return len(filled)


def _rows_of(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of a file of forms, and its columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader), list(reader.fieldnames or ())


def _answers(row: Mapping[str, str], stratum: str, clauses: Mapping[str, str], seed: int) -> tuple[str, str, str]:
    record, question = row["record_id"].removeprefix("'"), row["clause_id"]
    twice = row["readers"] == "2"
    if not notes_found(record, seed):
        answer = NO if question == NOTES_FOUND else ""
        return answer, answer if twice else "", ""
    true = confirmed(record, stratum, seed)
    # If a record is not confirmed, one clause says why.
    reasons = [name for name, kind in clauses.items() if kind in ("require", "exclude", "note")]
    reason = reasons[int(_uniform(seed, "reason", record) * len(reasons))]
    supports = SUPPORTS_FLAG.get(clauses.get(question, ""), NO if question in clauses else YES)
    wrong = not true and question in (VERDICT, reason)
    answer = _other(supports) if wrong else supports
    differs = question != NOTES_FOUND and _uniform(seed, "second", record + question) < READERS_DIFFER
    if not twice:
        return answer, "", ""
    return (answer, _other(answer), answer) if differs else (answer, answer, "")


def _other(answer: str) -> str:
    return NO if answer == YES else YES


def _uniform(seed: int, purpose: str, text: str) -> float:
    """A number in [0, 1) that depends only on the seed, the purpose and the text."""
    return uniform(f"{seed}|{purpose}|{text}")


def _csv(lines: Iterable[list[str]]) -> str:
    return "\r\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines) + "\r\n"


def main(argv: list[str] | None = None) -> int:
    """Fill the forms of a draw. Returns 2 if the lake has real data, or no draw of these forms."""
    parser = argparse.ArgumentParser(prog="python -m ebi_spark.synthetic.case_notes", description=__doc__)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--forms", required=True, type=Path, help="the folder that `audit draw` wrote")
    parser.add_argument("--out", required=True, type=Path, help="a folder for the filled forms")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    try:
        filled = _fill_draw(given.lake, given.forms, given.out, given.seed)
    except InputError as error:
        print(f"{parser.prog}: {error.message}\nwhat to do: {error.remedy}", file=sys.stderr)
        return 2
    print(f"{filled:,} forms are filled with made-up answers: {given.out}")
    return 0


def _fill_draw(where: str, forms: Path, out: Path, seed: int) -> int:
    lake = LocalLake(lake_location(where, Path.cwd(), "--lake"))
    providers = {row["provider_code"] for row in lake.grouped(APC_SPELL, ["provider_code"])} - {None}
    made_up = [code for code in providers if code.startswith((*MADE_UP_TRUSTS, INDEPENDENT))]
    if len(made_up) < len(providers) / 2:
        raise InputError("the lake does not have made-up data", remedy="fill the forms from the case notes")
    found = sorted(forms.glob("*/forms.csv"))
    audits = {row["audit_id"] for path in found for row in _rows_of(path)[0]}
    sample = lake.small_rows(AUDIT_SAMPLE, ["record_id", "stratum", "clauses"], {"audit_id": sorted(audits)})
    if not sample:
        raise InputError(
            f"--forms: {forms} has no forms of a sample that was drawn in this lake",
            remedy="name the folder that `ebi-spark audit draw` wrote",
        )
    clauses = {name: kind for row in sample for name, kind in dict(row["clauses"]).items()}
    return fill_forms(found, {row["record_id"]: row["stratum"] for row in sample}, clauses, out, seed)


if __name__ == "__main__":
    sys.exit(main())
