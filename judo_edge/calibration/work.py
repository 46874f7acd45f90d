"""The working folder of a run: hidden states between two parts of the model, and the results of finished parts.

It lies beside the output and outlives an interruption: the same command goes on after the last finished part. A folder
of other inputs is thrown away. Knows files and no model.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import numpy as np
from pydantic import ValidationError

from judo_edge.calibration.file import LayerEntry, LinearEntry
from judo_edge.calibration.writer import write_arrays
from judo_edge.config import Frozen
from judo_edge.core import Floats
from judo_edge.errors import OutputError
from judo_edge.files import output_errors, write_atomic

if TYPE_CHECKING:
    from typing_extensions import Self

_KEY = "key"


class StepFile(Frozen):
    """What a finished part of the model leaves behind, beside its arrays."""

    name: str
    linears: tuple[LinearEntry, ...] = ()
    layer: LayerEntry | None = None
    arrays: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Names and shapes of the arrays in the safetensors file of the same number."""


class HeldArray:
    """An array in memory, to be written."""

    def __init__(self, values: Floats) -> None:
        """Take the values."""
        self._values, self.shape = values, tuple(int(size) for size in values.shape)

    def load(self) -> Floats:
        """Return the values."""
        return self._values


class StepArray:
    """An array of a finished part, read when asked for."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...]) -> None:
        """Name the file and the array in it."""
        self._path, self._name, self.shape = path, name, shape

    def load(self) -> Floats:
        """Read it."""
        from safetensors import safe_open

        with safe_open(self._path, framework="numpy") as tensors:
            values: Floats = tensors.get_tensor(self._name)
            return values


class WorkFolder:
    """Context manager over `<out>.partial`; two runs never share one."""

    def __init__(self, out: Path, key: str) -> None:
        """Name the output and, by `key`, everything that the results depend on."""
        self.folder, self._key = out.with_name(f"{out.name}.partial"), key
        self._lock: TextIO | None = None

    def __enter__(self) -> Self:
        """Make or take over the folder; OutputError when another run holds it or it cannot be made."""
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / _KEY).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            action = "wait for it, or choose another folder"
            raise OutputError(f"{self.folder} is in use by another run", action=action) from error
        self._lock.seek(0)
        if self._lock.read() != self._key:
            self._clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder; an OSError becomes an OutputError."""
        if self._lock is not None:
            self._lock.close()
        if isinstance(error, OSError):
            with output_errors(self.folder):
                raise error

    def hidden(self, number: int) -> Path:
        """Return the file of hidden states that part `number` writes."""
        return self.folder / f"hidden-{number:03d}.bin"

    def step(self, number: int) -> StepFile | None:
        """Return what a finished part left, None when it is not finished."""
        try:
            return StepFile.model_validate_json((self.folder / f"{number:03d}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def arrays(self, number: int) -> dict[str, StepArray]:
        """Return the arrays of a finished part by name."""
        step, path = self.step(number), self.folder / f"{number:03d}.safetensors"
        return {name: StepArray(path, name, shape) for name, shape in step.arrays} if step else {}

    def finish(self, number: int, step: StepFile, arrays: Mapping[str, Floats]) -> None:
        """Record a part as finished and drop the hidden states that it read. Raises OSError."""
        held = {name: HeldArray(np.ascontiguousarray(values, np.float32)) for name, values in arrays.items()}
        if held:
            write_arrays(self.folder / f"{number:03d}.safetensors", held)
        shapes = tuple((name, array.shape) for name, array in held.items())
        full = step.model_copy(update={"arrays": shapes})
        write_atomic(self.folder / f"{number:03d}.json", full.model_dump_json().encode(), force=True)
        self.hidden(number - 1).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        assert self._lock is not None
        for path in self.folder.iterdir():
            if path.name != _KEY:
                path.unlink()
        self._lock.truncate(0)
        self._lock.write(self._key)
        self._lock.flush()
        os.fsync(self._lock.fileno())
