"""The command line: arguments to plain functions of the rooms, their results to tables, errors to one line.

A room is imported when its command runs, so that `inspect` needs no torch. Exit codes: 0 done, 1 a bundle that failed a
gate of its verification, 2 an error that the line explains, 3 a run with a photo that could not be decided, 70 a fault
of judo-edge itself, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from judo_edge import __version__
from judo_edge.cli import benching as benching
from judo_edge.cli import building as building
from judo_edge.cli import calibrating as calibrating
from judo_edge.cli import deciding as deciding
from judo_edge.cli import exporting as exporting
from judo_edge.cli import fitting as fitting
from judo_edge.cli import inspecting as inspecting
from judo_edge.cli import ledgering as ledgering
from judo_edge.cli import opcua as opcua
from judo_edge.cli import running as running
from judo_edge.cli import signing as signing
from judo_edge.cli import station as station
from judo_edge.cli import verifying as verifying
from judo_edge.cli.app import EXIT_FAULT, EXIT_STOPPED, app
from judo_edge.errors import JudoEdgeError

__all__ = ["app", "main"]

DEBUG = "JUDO_EDGE_DEBUG"

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Click's base error; some versions of typer bring their own click, so it is found through typer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; an error is one line on stderr."""
    debug = os.environ.get(DEBUG) == "1"
    if not debug:  # a fault inside a frame is in its verdict; its trace is for developers
        logging.getLogger("judo_edge").addHandler(logging.NullHandler())
    try:
        return int(app(list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False) or 0)
    except _USAGE_ERROR as error:
        error.show()
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _failed("stopped", EXIT_STOPPED)
    except JudoEdgeError as error:
        if debug:
            raise
        return _failed(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        return _failed(f"fault of judo-edge: {type(error).__name__}: {error} ({DEBUG}=1 shows where)", EXIT_FAULT)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"judo-edge {__version__}")
        raise typer.Exit


def _failed(text: str, code: int) -> int:
    print(f"judo-edge: {text}", file=sys.stderr)
    return code
