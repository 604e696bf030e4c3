"""The files of an audit for each provider: a worklist, and its forms as CSV and as a page to print.

They name records, so they are restricted: only the owner can read them. They do not say whether a record is flagged, because
readers of notes should not know.
"""

import csv
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ebi_spark.case_audit.questions import NOTES_FOUND, VERDICT, FormText
from ebi_spark.errors import InputError
from ebi_spark.own_files import refuse_place, write_whole
from ebi_spark.tables.table import RECORD_KEY

WORKLIST_COLUMNS = (
    *RECORD_KEY, "provider_code", "provider_spell_number", "admission_date", "discharge_date", "readers",
)  # fmt: skip
READERS = ("first", "second", "adjudicated")
FORM_COLUMNS = (
    "audit_id", "policy_version", *RECORD_KEY, "readers", "clause_id", "question", "words", *READERS,
)  # fmt: skip
# A spreadsheet treats a cell that begins so as a formula.
_FORMULA = re.compile(r"\s*[=+\-@]")


def refuse_folder(out: Path, lake: Path | None) -> None:
    """Raise an :class:`InputError` if the files must not be written to ``out``: it has something in it, or it is in the part
    of the lake that others can read."""
    refuse_place("--out", out, folder=True)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out: {out} is not empty", remedy="name a new or empty folder; nothing is overwritten")
    if lake is not None:
        open_places = [(lake / name).resolve() for name in ("published", "docs")]
        if any(out.resolve().is_relative_to(place) for place in open_places):
            raise InputError(
                f"--out: {out} is in a part of the lake that others can read, and the files name records of patients",
                remedy="name a folder that only you can read",
            )


def write_files(
    out: Path, drawn: Sequence[Mapping[str, Any]], texts: Mapping[str, FormText], audit_id: str
) -> list[str]:
    """Write the files of every provider, a folder for each, and return the names of the folders.

    ``drawn``: rows of ``gold/audit_sample`` with the dates and the spell number of silver. ``out`` does not exist or is empty. All
    files appear in it at once, so an interrupted draw leaves it as it was.
    """
    by_provider: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(drawn, key=lambda row: (row["provider_code"], *(row[name] for name in RECORD_KEY))):
        by_provider.setdefault(row["provider_code"], []).append(row)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))  # only the owner can read it
    try:
        names = {provider: _folder_name(provider) for provider in by_provider}
        for provider, rows in by_provider.items():
            folder = part / names[provider]
            folder.mkdir(mode=0o700)
            write_whole(folder / "worklist.csv", _csv(WORKLIST_COLUMNS, map(_worklist_row, rows)))
            write_whole(folder / "forms.csv", _csv(FORM_COLUMNS, _form_rows(rows, texts, audit_id)))
            write_whole(folder / "forms.html", forms_page(provider, rows, texts, audit_id))
        os.rename(part, out)  # noqa: PTH104 (Path.rename may replace files)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return sorted(names.values())


def _folder_name(provider: str) -> str:
    """A provider's code as the name of a folder. Any other text gets a hash, so that names are safe and differ."""
    if re.fullmatch(r"[A-Za-z0-9]{1,20}", provider):
        return provider
    safe = re.sub(r"[^A-Za-z0-9]+", "_", provider)[:20]
    return f"{safe}-{hashlib.sha256(provider.encode()).hexdigest()[:8]}"


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in columns} for row in rows)
    return "\ufeff" + text.getvalue()  # spreadsheets recognise UTF-8 by this mark


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value.isoformat() if isinstance(value, date) else str(value)
    return f"'{text}" if _FORMULA.match(text) else text


def _worklist_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "readers": 2 if row["read_twice"] else 1}


def _form_rows(
    rows: Iterable[Mapping[str, Any]], texts: Mapping[str, FormText], audit_id: str
) -> Iterable[dict[str, Any]]:
    for row in rows:
        for question in texts[row["revision"]].questions:
            yield {
                "audit_id": audit_id,
                "policy_version": row["policy_fingerprint"],
                **{name: row[name] for name in RECORD_KEY},
                "readers": 2 if row["read_twice"] else 1,
                "clause_id": question.id,
                "question": question.asked,
                "words": question.words,
                **dict.fromkeys(READERS, ""),
            }


def forms_page(provider: str, rows: Sequence[Mapping[str, Any]], texts: Mapping[str, FormText], audit_id: str) -> str:
    """The forms of one provider as a page to print: one for each record and reader."""
    forms = [
        {"row": row, "reader": reader, "text": texts[row["revision"]], "number": number}
        for number, row in enumerate(rows, start=1)
        for reader in (("first", "second") if row["read_twice"] else ("first",))
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("forms.html.j2")
    return template.render(
        provider=provider, rows=rows, forms=forms, audit_id=audit_id, texts=list(texts.values()),
        notes_found=NOTES_FOUND, verdict=VERDICT, record_key=RECORD_KEY,
        spells=any(row["dataset"] == "apc" for row in rows),
    )  # fmt: skip
