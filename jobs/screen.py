"""Consoles that print text literally, and the lines and tables that commands print."""

from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ebi_spark.errors import shown


class SafeConsole(Console):
    """A console that prints text literally: nothing in it is read as markup, and nothing reaches the terminal that it
    would act on. Only line breaks keep their meaning."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Where nobody reads any more, rich would end with status 1, which means here that the data failed."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """Render as rich does, from a text that is safe to print."""
        return super().render_str("\n".join(map(shown, text.split("\n"))), **options)


def headed(head: str, rest: str = "", style: str = "bold") -> Text:
    """A line that begins with a few words in bold."""
    return Text.assemble((shown(head), style), shown(rest))


def counted(number: int, what: str) -> str:
    """A number with its noun, such as ``1 policy`` or ``4 policies``."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def table_of_lines(title: str, lines: list[str]) -> RichTable:
    """Lines for the summary, unchanged."""
    table = RichTable(title=title, title_justify="left", show_header=False)
    table.add_column("what", overflow="fold")
    for line in lines:
        table.add_row(line)
    return table


def output_console() -> Console:
    """Standard output. It is wide enough for the tables where it is not a terminal but a file or a log."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=140)
