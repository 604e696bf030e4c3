"""What a form asks: whether the notes were found, each clause of the policy in the policy's words, and the verdict."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ebi_spark.policies.model import Clause

NOTES_FOUND, VERDICT = "notes_found", "verdict"
YES, NO, CANNOT_TELL = "yes", "no", "cannot_tell"
# The answer to a clause of this kind that supports the flag.
SUPPORTS_FLAG = {"scope": YES, "require": YES, "exclude": NO}
_ASKED = {
    "scope": "Do the notes show that this condition is met?",
    "require": "Do the notes show that this condition is met?",
    "exclude": "Do the notes show that this exclusion applies to the patient?",
    "note": "Do the notes show this? (No code can express it.)",
}


@dataclass(frozen=True)
class Question:
    """One question of a form. ``words`` are the policy's own; empty for the questions that every form has."""

    id: str
    kind: str
    asked: str
    words: str = ""


@dataclass(frozen=True)
class FormText:
    """The form of one policy revision: its heading and its questions in order."""

    policy_id: str
    revision: str
    title: str
    publisher: str
    source: str
    questions: tuple[Question, ...]

    @property
    def clauses(self) -> dict[str, str]:
        """The clauses that are asked about, with their kinds."""
        return {question.id: question.kind for question in self.questions if question.kind in _ASKED}


def form_texts(policy: Iterable[Mapping[str, Any]], reading: str) -> dict[str, FormText]:
    """The form of each revision, from the rows of ``gold/policy`` of one policy.

    It asks about the clauses of ``reading``, then about those that only other readings have, so that the answers can be used for
    every reading. A clause is left out if another clause covers it or has the same words, or if it is ``not_applicable``.
    """
    by_revision: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(policy, key=lambda row: (row["reading"] != reading, row["reading"])):
        by_revision.setdefault(row["revision"], []).append(row)
    texts = {}
    for revision, rows in by_revision.items():
        clauses: dict[str, Clause] = {}
        asked_words: set[tuple[str, str]] = set()
        for row in rows:
            for item in json.loads(row["definition"])["clauses"]:
                clause = Clause.from_definition(item)
                same = clause.id in clauses or (clause.kind, clause.source_text) in asked_words
                if not same and not clause.covered_by and clause.coding != "not_applicable":
                    clauses[clause.id] = clause
                    asked_words.add((clause.kind, clause.source_text))
        asked = [
            Question(clause.id, clause.kind, _ASKED[clause.kind], clause.source_text) for clause in clauses.values()
        ]
        questions = (
            Question(NOTES_FOUND, NOTES_FOUND, "Were the case notes of this stay or appointment found?"),
            *asked,
            Question(
                VERDICT, VERDICT,
                "Taking the notes as a whole: is this what the policy says should not be done routinely?",
            ),
        )  # fmt: skip
        texts[revision] = FormText(
            rows[0]["policy_id"], revision, rows[0]["title"], rows[0]["publisher"] or "", rows[0]["source"] or "",
            questions,
        )  # fmt: skip
    return texts
