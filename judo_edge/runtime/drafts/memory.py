"""Earlier replies on the disk, so that drafts are good from the first frame after a restart.

One file for each part and question: a line of JSON for each reply, appended. It only saves time, so whatever is wrong
with it is passed over.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from judo_edge.errors import OutputError
from judo_edge.files import write_atomic
from judo_edge.runtime.references import folder_from_part

_log = logging.getLogger(__name__)
MAX_REPLIES = 256
SLACK = 4
"""The file is rewritten when it holds so many times more lines than are read."""


class ReplyMemory:
    """Keeps the token ids of replies by part."""

    def __init__(self, folder: Path | None, key: str, max_replies: int = MAX_REPLIES) -> None:
        """Keep files under a folder, `PART/replies-KEY.jsonl`; None keeps nothing on the disk.

        `key` is a digest of what token ids mean and of what was asked.
        """
        self._folder, self._name = folder, f"replies-{key[:12]}.jsonl"
        self._max_replies = max_replies

    def opened(self, part: str) -> list[tuple[int, ...]]:
        """Return a part's latest replies, oldest first."""
        path = self._path(part)
        if path is None or not path.is_file():
            return []
        try:
            with path.open("rb") as lines:
                latest = deque(lines, maxlen=SLACK * self._max_replies + 1)
            is_long = len(latest) == latest.maxlen
            latest = deque(latest, maxlen=self._max_replies)
            if is_long:
                write_atomic(path, b"".join(latest), force=True)
        except (OSError, OutputError) as error:
            _log.warning("earlier replies of %s are not used: %s", part, error)
            return []
        return [ids for ids in map(_ids_from_line, latest) if ids]

    def keep(self, part: str, ids: Sequence[int]) -> None:
        """Append a reply; a disk that cannot take it costs time later, nothing else."""
        path = self._path(part)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(json.dumps(list(ids)).encode() + b"\n")
        except OSError as error:
            _log.warning("a reply of %s is not remembered: %s", part, error)

    def _path(self, part: str) -> Path | None:
        return self._folder / folder_from_part(part) / self._name if self._folder else None


def _ids_from_line(line: bytes) -> tuple[int, ...]:
    """Read a line; a torn one is empty."""
    try:
        ids = json.loads(line)
    except ValueError:
        return ()
    is_ids = isinstance(ids, list) and all(type(item) is int and item >= 0 for item in ids)
    return tuple(ids) if is_ids else ()
