"""What identifies the inputs of an export, and the hashes of the checkpoint, computed beside the writing.

The identity is cheap (sizes, times and headers of the large files) and says whether an unfinished export may go on; the
hashes read every byte and go into the manifest. Reading for them beside the writing costs no second read while the
system's cache holds what the tensors were just read from.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import judo_edge
from judo_edge.errors import CheckpointError
from judo_edge.export.checkpoint import Checkpoint, digest_from_hashes, hash_of_file
from judo_edge.export.lora import MergedWeights
from judo_edge.export.recipe import Recipe
from judo_edge.files import sha256_of_bytes, sha256_of_file

if TYPE_CHECKING:
    from typing_extensions import Self

_TOOLS = ("torch", "transformers", "onnx-ir", "onnxscript", "numpy")
_TICK = 0.2
"""Seconds between two reports."""


def tool_versions() -> dict[str, str]:
    """Return the versions of judo-edge and of the packages that make the graphs and the numbers."""
    return {"judo-edge": judo_edge.__version__, **{tool: version(tool) for tool in _TOOLS}}


def export_inputs(
    weights: MergedWeights, recipe: Recipe, profile: Path | None, calibration: str = "", probe: str = ""
) -> dict[str, str]:
    """Return name -> identity of everything that decides the bytes of a bundle; reads no weights."""
    folder = weights.checkpoint.folder
    return {
        "checkpoint": _digest([*_weight_lines(weights.checkpoint), *_file_lines(folder.glob("*.json"))]),
        "adapters": " ".join(adapter.digest for adapter in weights.adapters),
        "recipe": recipe.model_dump_json(),
        "prompt profile": _digest(_file_lines([profile] if profile else folder.glob("*.toml"))),
        "calibration": calibration,
        "cell probe": probe,
        "versions of tools": json.dumps(tool_versions()),
        "version of judo-edge": _digest(_file_lines(Path(judo_edge.__file__).parent.rglob("*.py"))),
    }


def created_now() -> str:
    """Return the time in UTC, ISO 8601; SOURCE_DATE_EPOCH (seconds) sets it for bundles that must not differ."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(given) if given.isdigit() else time.time(), timezone.utc).isoformat(
        timespec="seconds"
    )


class SourceHashes:
    """Context manager that hashes a checkpoint's files in a thread of its own."""

    def __init__(self, checkpoint: Checkpoint, known: Mapping[str, str], note: Callable[[str, str], None]) -> None:
        """`known` hashes are not computed again; `note` is told each new one, in the thread."""
        self._paths, self._hashes, self._note = checkpoint.files, dict(known), note
        self._stop = threading.Event()
        self._error: CheckpointError | None = None
        self.done = sum(path.stat().st_size for path in self._paths if path.name in known)
        """Bytes hashed so far."""
        self.total = sum(path.stat().st_size for path in self._paths)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start hashing."""
        self._thread.start()
        return self

    def digest(self, report: Callable[[int, int], None]) -> str:
        """Wait for the last file and return the checkpoint's digest; `report` is told done and total bytes."""
        while self._thread.is_alive():
            self._thread.join(_TICK)
            report(self.done, self.total)
        if self._error:
            raise self._error
        return digest_from_hashes(self._paths, self._hashes)

    def _run(self) -> None:
        try:
            for path in self._paths:
                if path.name not in self._hashes:
                    self._hashes[path.name] = hash_of_file(path, self._count)
                    with suppress(OSError):  # a full disk, which the writing finds too: this hash is made again
                        self._note(path.name, self._hashes[path.name])
        except OSError as error:
            found = f"{error.filename or self._paths[0].parent}: {error.strerror or error}"
            self._error = CheckpointError(found, "a readable file")
            self._error.__cause__ = error
        except _StoppedError:
            pass

    def _count(self, size: int) -> None:
        self.done += size
        if self._stop.is_set():
            raise _StoppedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop hashing."""
        self._stop.set()
        self._thread.join()


class _StoppedError(Exception):
    """The export ended before the hashes did."""


def _weight_lines(checkpoint: Checkpoint) -> list[str]:
    """Describe the weight files: what their headers say, their sizes and times."""
    lines = [f"{t.name} {t.path.name} {t.dtype} {t.shape} {t.offset}" for t in checkpoint.tensors.values()]
    for path in checkpoint.files:
        state = path.stat()
        lines.append(f"{path.name} {state.st_size} {state.st_mtime_ns}")
    return lines


def _file_lines(paths: Iterable[Path]) -> list[str]:
    return [f"{path.name} {sha256_of_file(path)}" for path in sorted(paths)]


def _digest(lines: Iterable[str]) -> str:
    return sha256_of_bytes("\n".join(lines).encode())
