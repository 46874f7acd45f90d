"""How an export looks on the command line: its progress, what it needs, and how it is stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from judo_edge.export.pipeline import ExportProgress
    from judo_edge.export.preflight import Preflight

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _SignalledError(BaseException):
    """A signal asks to stop; no Exception, so that nothing on the way mistakes it for a fault."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopping(out: Path) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the block in order: one line says how to go on, the exit code is 128 + signal.

    A second signal while it is ending is ignored.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise _SignalledError(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    except _SignalledError as error:
        from judo_edge.export.resume import remaining_note

        note = remaining_note(out) or "nothing is left behind"
        typer.echo(f"judo-edge: stopped by {signal.Signals(error.number).name}; {note}", err=True)
        raise typer.Exit(128 + error.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def export_bar() -> Iterator[Callable[[ExportProgress], None]]:
    """Show a bar on stderr while the block runs; yields what moves it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from judo_edge.terminal import console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        step = "reading"

        def report(state: ExportProgress) -> None:
            nonlocal task, step
            if state.step != step:  # a task of its own: the speed of one step says nothing of the next
                bar.remove_task(task)
                task, step = bar.add_task(state.step, total=None, completed=state.done), state.step
            bar.update(task, completed=state.done, total=state.total or None)

        yield report


def print_needs(recipe: str, needed: Preflight) -> None:
    """Print what an export needs beside what there is."""
    from judo_edge.bundle.info import size_text
    from judo_edge.terminal import print_table

    rows = [(f"  {name}", size_text(size), "") for name, size in sorted(needed.files.items())]
    rows = [("disk", size_text(needed.disk), f"{size_text(needed.free_disk)} free"), *rows]
    if needed.written:
        rows.append(("  written already", size_text(needed.written), "by an unfinished export"))
    rows.append(("memory", size_text(needed.memory), f"{size_text(needed.free_memory + needed.held)} free"))
    rows.append(("time", f"{max(1, round(needed.seconds))} s", "measured on this machine, after tracing"))
    short = [name for name, is_enough in (("disk", needed.has_disk), ("memory", needed.has_memory)) if not is_enough]
    print_table((recipe, "needs", "here"), rows, f"too little {' and '.join(short)}" if short else "")
