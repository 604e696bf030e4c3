"""Writes sheets as an accessible workbook: XLSX by `gptables`, ODS by `odfpy`. Both have a cover, contents or notes, and one
table a sheet with a header row."""

import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from ebi_spark.exports.sheets import Cell, Sheet

TITLE = "Evidence-Based Interventions: flagged hospital activity"


def write_xlsx(path: Path, sheets: Sequence[Sheet], cover: Sequence[str], notes: Sequence[tuple[str, str]]) -> None:
    """Write an XLSX workbook."""
    import gptables as gpt

    tables = {
        sheet.name: gpt.GPTable(
            table=pd.DataFrame([list(map(_for_excel, row)) for row in sheet.rows], columns=list(sheet.columns)),
            table_name=f"table_{sheet.name.lower()}",
            title=sheet.title,
            subtitles=[sheet.about],
            instructions="This sheet has one table. [c]: suppressed. [x]: not available.",
            scope="England",
            source="Hospital records of England, by ebi-spark",
        )
        for sheet in [_notes(notes), *sheets]
    }
    with warnings.catch_warnings():
        # Notes are a sheet like the others: gptables wants a reference to each in a heading.
        warnings.filterwarnings("ignore", "No note text provided")
        workbook = gpt.produce_workbook(
            filename=str(path),
            sheets=tables,
            notes_table=None,
            cover=gpt.Cover(title=TITLE, intro=list(cover), cover_label="Cover"),
            # A text that looks like a formula stays a text.
            workbook_options={"strings_to_formulas": False, "strings_to_urls": False},
        )
    workbook.close()


def _notes(notes: Sequence[tuple[str, str]]) -> Sheet:
    return Sheet("Notes", "Notes", "A row is one note or symbol.", ("Note", "Text"), [*notes])


def _for_excel(value: Cell) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def write_ods(path: Path, sheets: Sequence[Sheet], cover: Sequence[str], notes: Sequence[tuple[str, str]]) -> None:
    """Write an ODS workbook with the same sheets."""
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.style import ParagraphProperties, Style, TableColumnProperties, TextProperties

    document = OpenDocumentSpreadsheet()
    bold = Style(name="heading", family="table-cell")
    bold.addElement(TextProperties(fontweight="bold"))
    bold.addElement(ParagraphProperties(textalign="start"))
    wide = Style(name="wide", family="table-column")
    wide.addElement(TableColumnProperties(columnwidth="5cm"))
    for style in (bold, wide):
        document.automaticstyles.addElement(style)

    _ods_sheet(document, "Cover", [(TITLE,), *((line,) for line in cover)], headings={0}, bold=bold, wide=wide)
    for sheet in [_notes(notes), *sheets]:
        rows: list[Sequence[Cell]] = [(sheet.title,), (sheet.about,), sheet.columns, *sheet.rows]
        _ods_sheet(document, sheet.name, rows, headings={0, 2}, bold=bold, wide=wide)
    with path.open("wb") as file:
        document.write(file)


def _ods_sheet(
    document: Any, name: str, rows: Sequence[Sequence[Cell]], *, headings: set[int], bold: Any, wide: Any
) -> None:
    from odf.table import Table, TableCell, TableColumn, TableRow
    from odf.text import P

    table = Table(name=name)
    table.addElement(TableColumn(numbercolumnsrepeated=max(map(len, rows)), stylename=wide))
    for number, row in enumerate(rows):
        line = TableRow()
        for value in row:
            style = {"stylename": bold} if number in headings else {}
            if isinstance(value, int | float) and not isinstance(value, bool):
                cell = TableCell(valuetype="float", value=repr(value), **style)
            elif isinstance(value, date):
                cell = TableCell(valuetype="date", datevalue=value.isoformat(), **style)
            else:
                cell = TableCell(valuetype="string", **style)
            cell.addElement(P(text=str(value)))
            line.addElement(cell)
        table.addElement(line)
    document.spreadsheet.addElement(table)
