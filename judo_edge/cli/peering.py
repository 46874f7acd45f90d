"""The rivals of a bench, from the command line's words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judo_edge.cli.app import noted
from judo_edge.errors import InputError

if TYPE_CHECKING:
    from judo_edge.bench.peers.rivals import PeerPlan


def peer_plan(names: str, checkpoint: Path | None, pythons: Sequence[str], threads: int) -> PeerPlan:
    """Return which rivals run; what stops one of them is told, and it is left out when `installed` was asked for.

    Raises InputError when no checkpoint is given, a name is unknown or none can run.
    """
    from judo_edge.bench.peers.rivals import PeerPlan
    from judo_edge.files import cache_folder

    if checkpoint is None or not (checkpoint / "profile.toml").is_file():
        found = f"--peers with the checkpoint {checkpoint or '(none)'}"
        raise InputError(found, "the folder that the bundle was made from, with its profile.toml", "give --checkpoint")
    by_key, work = dict(map(python_from_text, pythons)), cache_folder() / "peers"
    chosen = _chosen(names, by_key, checkpoint, work)
    return PeerPlan(checkpoint, chosen, by_key, work, threads or os.cpu_count() or 1)


def python_from_text(text: str) -> tuple[str, Path]:
    """Read KEY=PATH; InputError for anything else."""
    key, separator, path = text.partition("=")
    if not (key and separator and path):
        raise InputError(f"--peer-python {text}", "KEY=PATH", "name the rival's key and its Python")
    return key, Path(path)


def _chosen(names: str, pythons: Mapping[str, Path], checkpoint: Path, work: Path) -> tuple[str, ...]:
    from judo_edge.bench.peers.registry import DEFAULT_PEERS
    from judo_edge.bench.peers.run import installed_peers

    if names != "installed":
        return tuple(name.strip() for name in names.split(","))
    obstacles = installed_peers(DEFAULT_PEERS, pythons, checkpoint, work)
    for name, obstacle in obstacles.items():
        if obstacle:
            noted(f"{name} is left out: {obstacle}")
    found = tuple(name for name, obstacle in obstacles.items() if not obstacle)
    if not found:
        raise InputError("no rival that can run", "one that is installed", "see the notes above, or leave out --peers")
    return found
