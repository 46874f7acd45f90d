"""What the command line shows: consoles without markup, progress bars, tables. Knows rich and no room."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_UNFOLDED = 100_000
"""Columns of what no terminal shows: more than any row of ours has."""


def console(stderr: bool = True) -> Console:
    """Return a console that prints file names and model text as they are: markup in them means nothing."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not stderr)


def bar() -> Progress:
    """Return a bar for counted work, on stderr: description, bar, count, time left, and a free text."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    return Progress(*columns, console=console())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print rows of text under a header (empty for none): folded to a terminal's width, a line each into a pipe."""
    table = Table(
        show_header=bool(header), box=None, padding=(0, 2, 0, 0), caption=caption or None, caption_justify="left"
    )
    for title in header or [""] * len(rows[0]):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out = console(stderr=False)
    if out.is_terminal:
        out.print(table)
        return
    out.width = _UNFOLDED
    with out.capture() as text:
        out.print(table)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def note(text: str) -> None:
    """Tell the user something on stderr, on one line."""
    console().print(" ".join(text.split()), soft_wrap=True)
