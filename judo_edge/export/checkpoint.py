"""A checkpoint folder, opened lazily: names, shapes and rows of its tensors, one file or sharded.

Tensors go by their hub names (`model.layers.*`, `visual.*`, `lm_head.*`), which the graphs use too; files may follow
either naming scheme. Values are read row by row when asked for; nothing is kept. Knows nothing of adapters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError
from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from judo_edge.export.tensorfile import StoredTensor, tensors_from_file
from judo_edge.files import sha256_of_bytes, sha256_of_file

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"

_HASHES: dict[tuple[str, int, int], str] = {}
"""Path, size and time of a file -> SHA-256: planning and writing both need those of a checkpoint of 16 GB."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint folder."""

    folder: Path
    config: dict[str, Any]
    """Content of config.json."""
    tensors: dict[str, StoredTensor]
    """By hub name, in natural order of the names."""
    beside: dict[str, StoredTensor] = field(default_factory=dict)
    """Tensors of other files that are exported with it; no part of its digest."""

    @property
    def is_tied(self) -> bool:
        """Tell whether the LM head is the embedding table: as config.json says, else when there is no head."""
        return bool(self.config.get("tie_word_embeddings", _HEAD not in self.tensors))

    def tensor(self, name: str) -> StoredTensor:
        """Return a tensor by hub name; a tied head is the embedding. Raises CheckpointError when missing."""
        source = _EMBEDDING if name == _HEAD and self.is_tied else name
        if source in self.beside:
            return self.beside[source]
        if source not in self.tensors:
            action = "use a complete checkpoint: every file of the model's folder"
            raise CheckpointError(f"{self.folder} lacks the tensor {source}", action=action)
        return self.tensors[source]

    def checked(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        """Return a readable tensor of this shape; raises CheckpointError that names both shapes."""
        tensor = self.tensor(name)
        if tensor.shape != shape:
            wanted = f"shape {list(shape)} by config.json"
            action = "use the config.json that belongs to these weights"
            raise CheckpointError(f"{tensor.path}: {name} has shape {list(tensor.shape)}", wanted, action)
        tensor.check_readable()
        return tensor

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Read rows of a tensor as float32."""
        return self.tensor(name).rows(start, stop)

    def digest(self) -> str:
        """Return the SHA-256 over the names and hashes of config.json and every weight file; reads them all."""
        return digest_of_files(self.files)

    @property
    def files(self) -> list[Path]:
        """Return config.json and every weight file, sorted."""
        return sorted({tensor.path for tensor in self.tensors.values()} | {self.folder / "config.json"})


def digest_of_files(paths: list[Path]) -> str:
    """Return the SHA-256 over lines of `hash name`, in the order given; raises CheckpointError."""
    try:
        return digest_from_hashes(paths, {path.name: hash_of_file(path) for path in paths})
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror or error}", "a readable file") from error


def digest_from_hashes(paths: list[Path], hashes: Mapping[str, str]) -> str:
    """Return the same from hashes that are known already, by file name."""
    return sha256_of_bytes("".join(f"{hashes[path.name]} {path.name}\n" for path in paths).encode())


def hash_of_file(path: Path, report: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file; read again in this process only when its size or time changed. Raises OSError."""
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _HASHES:
        _HASHES[key] = sha256_of_file(path, report)
    return _HASHES[key]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint folder and read the headers of its weight files.

    Raises CheckpointError for a missing or cut off file (named), a pickle checkpoint, or two tensors of one name.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder", "a checkpoint folder with config.json and safetensors files")
    config = json_object(folder / "config.json")
    stored = _sharded_tensors(folder) if (folder / _INDEX).exists() else _single_tensors(folder)
    tensors: dict[str, StoredTensor] = {}
    for name in stored:
        hub = checkpoint_name_from_module_name(name)
        if hub in tensors:
            raise CheckpointError(f"{folder} has {hub} twice: as {tensors[hub].name} and as {name}")
        tensors[hub] = stored[name]
    return Checkpoint(folder, config, {name: tensors[name] for name in sorted(tensors, key=natural_key)})


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts layer 2 before layer 10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("."))


def json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint or adapter; raises CheckpointError that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}", "a readable file") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def _single_tensors(folder: Path) -> dict[str, StoredTensor]:
    path = folder / _SINGLE
    if path.exists():
        return tensors_from_file(path)
    pickles = sorted(item.name for item in folder.iterdir() if item.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        action = "load it where you trust it and save it with save_pretrained(..., safe_serialization=True)"
        found = f"{folder} holds a pickle ({pickles[0]}), which can run code when it is opened"
        raise CheckpointError(found, _SINGLE, action)
    raise CheckpointError(f"{folder} has no weights", f"{_SINGLE} or {_INDEX}", "copy the complete checkpoint folder")


def _sharded_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read every shard that the index names, and check that it holds what the index says."""
    index = folder / _INDEX
    weight_map = json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map of names", action="copy the file again")
    shards = {name: _shard(folder, name) for name in sorted(set(weight_map.values()))}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise CheckpointError(f"{folder / shard} lacks the tensor {name} that {_INDEX} puts there")
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def _shard(folder: Path, name: str) -> dict[str, StoredTensor]:
    path = folder / name
    if Path(name).name != name:
        raise CheckpointError(f"{folder / _INDEX} points outside its folder: {name}")
    if not path.is_file():
        raise CheckpointError(f"the shard {path} is missing", action="copy the complete checkpoint folder")
    return tensors_from_file(path)
