"""The secret with which this user's plans are sealed. It never leaves the machine.

Deserialising a plan runs what is in it as native code, so only plans that carry this seal are opened.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from judo_edge.errors import PlanError
from judo_edge.files import config_folder, output_errors

KEY_BYTES = 32


def key_of_user(path: Path | None = None) -> bytes:
    """Return the 32 secret bytes, made at the first use in a file that only its owner reads.

    Two processes that make it at once get the same key. Raises PlanError when others may read or write the file, or it
    does not hold a key; OutputError when it cannot be made.
    """
    path = path or config_folder() / "plan.key"
    if not path.is_file():
        _make(path)
    mode = path.stat().st_mode
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise PlanError(f"{path} can be read by others (mode {stat.S_IMODE(mode):o})", "mode 600", _ACTION)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise PlanError(f"{path} holds {len(key)} bytes", f"{KEY_BYTES}", _ACTION)
    return key


_ACTION = "delete it, then judo-edge build --force: plans sealed with it are built again"


def _make(path: Path) -> None:
    """Write a key beside and link it into place: whoever is first wins, and nobody sees half a key."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_bytes(KEY_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(partial, path)
            except FileExistsError:
                return
        finally:
            partial.unlink(missing_ok=True)
