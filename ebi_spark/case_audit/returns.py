"""Reads returned forms, validates each, and turns them into rows of ``gold/audit_result``.

A form that cannot be used is rejected with the reason; the others are taken. Messages name the file and line of a form, never a
record.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebi_spark.case_audit.forms import READERS
from ebi_spark.case_audit.questions import CANNOT_TELL, NO, NOTES_FOUND, VERDICT, YES
from ebi_spark.errors import InputError
from ebi_spark.small_files import refuse_special
from ebi_spark.tables.table import RECORD_KEY

Key = tuple[str, ...]  # the audit, then the record's key

NEEDED_COLUMNS = ("audit_id", "policy_version", *RECORD_KEY, "clause_id", *READERS)
# The forms of a whole audit are far smaller.
MOST_BYTES = 1 << 27
_ANSWERS = {
    "yes": YES, "y": YES, "no": NO, "n": NO, "cannot tell": CANNOT_TELL, "cannot_tell": CANNOT_TELL,
    "can't tell": CANNOT_TELL,
}  # fmt: skip
# How a spreadsheet shows a long number.
_ROUNDED = re.compile(r"[0-9][.,]?[0-9]*E\+[0-9]+", re.IGNORECASE)

UNREADABLE_FILE, MISSING_COLUMN, UNKNOWN_AUDIT = "unreadable_file", "missing_column", "unknown_audit"
UNKNOWN_RECORD, NEVER_DRAWN, FILLED_TWICE, HALF_FILLED = "unknown_record", "never_drawn", "filled_twice", "half_filled"
OTHER_VERSION, UNKNOWN_CLAUSE, UNREADABLE_VALUE = "other_policy_version", "unknown_clause", "unreadable_value"
ANSWERS_WITHOUT_NOTES, NOT_ADJUDICATED = "answers_without_notes", "not_adjudicated"
NOTHING_TO_ADJUDICATE, IMPORTED_BEFORE = "nothing_to_adjudicate", "imported_before"
REASONS = {
    UNREADABLE_FILE: "the file cannot be read as CSV text",
    MISSING_COLUMN: "a column of the form is missing",
    UNKNOWN_AUDIT: "the lake has no audit of this audit_id",
    UNKNOWN_RECORD: "no record with this key is in scope of the policy",
    NEVER_DRAWN: "the record is in scope of the policy but was not drawn for this audit",
    FILLED_TWICE: "two forms of this record are filled",
    HALF_FILLED: "a question has no answer",
    OTHER_VERSION: "the form is of another version of the policy",
    UNKNOWN_CLAUSE: "the form has a clause that this version of the policy does not have",
    UNREADABLE_VALUE: "an answer is not yes, no or cannot tell",
    ANSWERS_WITHOUT_NOTES: "a question is answered although the notes were not found",
    NOT_ADJUDICATED: "the readers differ and no adjudicated answer is given",
    NOTHING_TO_ADJUDICATE: "an adjudicated answer is given where the readers do not differ",
    IMPORTED_BEFORE: "a form of this record with other answers was imported before (`--replace` takes this one)",
}


@dataclass
class Form:
    """The form of one record as it is in a file. ``answers``: by question, the texts of first, second and adjudicated."""

    file: str
    line: int
    key: Key
    version: str
    answers: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    @property
    def filled(self) -> bool:
        """Whether anything was written in it."""
        return any(text for texts in self.answers.values() for text in texts)


@dataclass(frozen=True)
class Rejected:
    """A form that was not taken; ``line`` is its first line in the file, 0 for a whole file."""

    file: str
    line: int
    reason: str
    detail: str = ""

    @property
    def words(self) -> str:
        """The reason in words."""
        return REASONS[self.reason] + (f": {self.detail}" if self.detail else "")


@dataclass
class Returned:
    """``taken``: rows of ``gold/audit_result`` by record, without the columns of the import. ``empty``: forms without any
    answer, which count as not returned."""

    taken: dict[Key, list[dict[str, str]]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    empty: int = 0


def read_forms(paths: Iterable[Path]) -> tuple[list[Form], list[Rejected]]:
    """The forms of some files, and the files that cannot be read. Raises an :class:`InputError` if a file is not there."""
    forms: list[Form] = []
    rejected: list[Rejected] = []
    for path in dict.fromkeys(path.resolve() for path in paths):
        refuse_special(path, "", MOST_BYTES)
        if not path.is_file():
            raise InputError(f"there is no file {path}", remedy="name the CSV files with the filled forms")
        try:
            text = _text(path)
            delimiter = max(",;\t", key=text.partition("\n")[0].count)
            reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            missing = [name for name in NEEDED_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                rejected.append(Rejected(path.name, 1, MISSING_COLUMN, missing[0]))
                continue
            forms += _forms_of(path.name, reader)
        except (OSError, UnicodeDecodeError, csv.Error):
            rejected.append(Rejected(path.name, 0, UNREADABLE_FILE))
    return forms, rejected


def _text(path: Path) -> str:
    content = path.read_bytes()
    if b"\0" in content:
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "NUL")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")  # as spreadsheets save it


def _forms_of(file: str, reader: "csv.DictReader[str]") -> list[Form]:
    """The forms of a file. A new form begins where the record or the policy version changes, or where a question is repeated."""
    forms: list[Form] = []
    for row in reader:
        cells = {name: (row[name] or "").strip() for name in NEEDED_COLUMNS}
        if not any(cells.values()):
            continue
        key = tuple(cells[name].removeprefix("'") for name in ("audit_id", *RECORD_KEY))
        clause = cells["clause_id"]
        last = forms[-1] if forms else None
        if last is None or last.key != key or clause in last.answers or last.version != cells["policy_version"]:
            last = Form(file, reader.line_num, key, cells["policy_version"])
            forms.append(last)
        first, second, adjudicated = (cells[name] for name in READERS)
        last.answers[clause] = (first, second, adjudicated)
    return forms


def validate(
    forms: Sequence[Form],
    sample: Mapping[Key, Mapping[str, Any]],
    in_scope: Collection[Key],
    before: Mapping[Key, list[dict[str, str]]],
    *,
    replace: bool = False,
) -> Returned:
    """Take the forms that can be used.

    ``sample``: rows of ``gold/audit_sample`` by audit and record; ``in_scope``: keys of other records of the frames;
    ``before``: rows of earlier imports. ``replace``: a form replaces an earlier one with other answers.
    """
    returned = Returned()
    audits = {key[0] for key in sample}
    times = Counter(form.key for form in forms if form.filled)
    for form in forms:
        if not form.filled:
            returned.empty += 1
            continue
        row = sample.get(form.key)
        problem: tuple[str, str] | None = None
        if form.key[0] not in audits:
            problem = UNKNOWN_AUDIT, ""
        elif row is None:
            rounded = "a spreadsheet has rounded the key" if _ROUNDED.fullmatch(form.key[-1]) else ""
            problem = (NEVER_DRAWN, "") if form.key in in_scope else (UNKNOWN_RECORD, rounded)
        elif form.version != row["policy_fingerprint"]:
            problem = OTHER_VERSION, ""
        elif times[form.key] > 1:
            problem = FILLED_TWICE, ""
        if problem is None and row is not None:
            rows, problem = _rows_of(form, row["clauses"], row["read_twice"])
            if (
                problem is None
                and form.key in before
                and not replace
                and answers_of(before[form.key]) != answers_of(rows)
            ):
                problem = IMPORTED_BEFORE, ""
            if problem is None:
                returned.taken[form.key] = rows
        if problem is not None:
            returned.rejected.append(Rejected(form.file, form.line, *problem))
    return returned


def _rows_of(
    form: Form, clauses: Collection[str], read_twice: bool
) -> tuple[list[dict[str, str]], tuple[str, str] | None]:
    """The rows of one form, or what is wrong with it."""
    questions = (NOTES_FOUND, *clauses, VERDICT)
    unknown = [name for name in form.answers if name not in questions]
    if unknown:
        return [], (UNKNOWN_CLAUSE, "")
    read: dict[str, tuple[str, ...]] = {}
    for question, texts in form.answers.items():
        answers = tuple(_ANSWERS.get(text.casefold(), "" if not text else "?") for text in texts)
        if "?" in answers or (question == NOTES_FOUND and CANNOT_TELL in answers):
            return [], (UNREADABLE_VALUE, question)
        read[question] = answers
    # If the second reader answered anything, there are two readers, even if one was asked for.
    second = read_twice or any(answers[1] for answers in read.values())
    rows: list[dict[str, str]] = []
    own, others, decision = read.get(NOTES_FOUND, ("", "", ""))
    notes = decision or own
    for question in questions:
        first, other, decided = read.get(question, ("", "", ""))
        # A reader who did not find the notes answers nothing else.
        needed = second and (others != NO if question != NOTES_FOUND else own != NO)
        if question != NOTES_FOUND and notes == NO:
            if first or other or decided:
                return [], (ANSWERS_WITHOUT_NOTES, question)
            continue
        if question != NOTES_FOUND and own == NO:
            # Only the second reader found the notes, so that reader's answers count.
            if first or decided:
                return [], (ANSWERS_WITHOUT_NOTES, question)
            if not other:
                return [], (HALF_FILLED, question)
            rows += [{"reader": reader, "clause_id": question, "found": other} for reader in ("second", "adjudicated")]
            continue
        if not first or (needed and not other):
            return [], (HALF_FILLED, question)
        if second and other and first != other and not decided:
            return [], (NOT_ADJUDICATED, question)
        if decided and (not other or first == other) and decided != first:
            return [], (NOTHING_TO_ADJUDICATE, question)
        by_reader = {"first": first}
        if second and other:
            by_reader["second"] = other
            if first != other:
                by_reader["adjudicated"] = decided
        rows += [{"reader": reader, "clause_id": question, "found": found} for reader, found in by_reader.items()]
    return rows, None


def answers_of(rows: Iterable[Mapping[str, str]]) -> set[tuple[str, str, str]]:
    """(reader, question, answer) of some rows of one record, to compare two forms."""
    return {(row["reader"], row["clause_id"], row["found"]) for row in rows}
