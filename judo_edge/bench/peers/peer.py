"""What a rival is: its name, its packages, the script that runs it and the one that converts a checkpoint for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Converter:
    """Makes what a rival loads from the hub folder of a checkpoint, once; never timed as part of a frame."""

    python: str
    """Key of the interpreter that has the packages."""
    packages: tuple[str, ...]
    install: str
    """How to install them, in words."""
    arguments: tuple[str, ...]
    """What the interpreter is given; {hub} and {out} stand for the folders."""
    folder: str
    """Name of the result beside the hub folder: the same name, the same content."""

    def command(self, python: Path, hub: Path, out: Path) -> list[str]:
        """Return the command line that converts `hub` into the folder `out`."""
        places = {"{hub}": str(hub), "{out}": str(out)}
        return [str(python), *(places.get(argument, argument) for argument in self.arguments)]


@dataclass(frozen=True)
class Peer:
    """One rival with its settings."""

    name: str
    python: str
    """Key of the interpreter that runs it."""
    packages: tuple[str, ...]
    install: str
    """How to install them, in words."""
    backend: str
    """Script for `worker.py`."""
    options: Mapping[str, bool | str]
    converter: Converter | None = None
    """None when it loads the hub folder itself."""
