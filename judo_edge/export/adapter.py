"""One PEFT LoRA adapter folder: its settings, and which tensor of the base each of its tensors changes.

Refuses by name whatever would not be a plain low-rank sum. Does not look at the base; `lora` does that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judo_edge.errors import AdapterError, CheckpointError
from judo_edge.export.checkpoint import digest_of_files, json_object
from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from judo_edge.export.tensorfile import StoredTensor, tensors_from_file

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?(embedding)|\.weight)")

_USED = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights"}
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "eva_config", "exclude_modules"),
    *("fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core"),
    *("modules_to_save", "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules"),
    *("task_type",),
}
"""Settings that only train or place the adapter: its tensor names say all that the merge needs. `fan_in_fan_out` is
for layers stored as (in, out); Qwen2.5-VL has none and PEFT ignores it there too."""
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to start an adapter that leave the base weights as they are."""


@dataclass(frozen=True)
class LoraPair:
    """The two factors that change one weight of the base."""

    down: StoredTensor
    """lora_A: (rank, in) or, for an embedding, (rank, vocabulary)."""
    up: StoredTensor
    """lora_B: (out, rank) or, for an embedding, (hidden, rank)."""
    scaling: float
    is_embedding: bool


@dataclass(frozen=True)
class Adapter:
    """An opened adapter; tensors go by the hub name of the base tensor that they change."""

    name: str
    folder: Path
    digest: str
    """SHA-256 over the names and hashes of its two files."""
    pairs: dict[str, LoraPair]
    replacements: dict[str, StoredTensor]
    """Tensors stored whole: modules_to_save, trained biases."""

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the hub names of the base tensors that it changes."""
        return tuple(dict.fromkeys([*self.pairs, *self.replacements]))


def open_adapter(folder: str | Path, name: str = "") -> Adapter:
    """Open a PEFT adapter folder and read the header of its weights.

    Raises AdapterError that names the setting or the tensor which is not supported, missing or unknown.
    """
    folder = Path(folder)
    config, tensors = _config_of(folder), _tensors_of(folder)
    pairs: dict[str, LoraPair] = {}
    replacements: dict[str, StoredTensor] = {}
    for module, parts in _by_module(folder, tensors).items():
        if "whole" in parts:
            replacements[checkpoint_name_from_module_name(module)] = parts["whole"]
        else:
            pairs[f"{checkpoint_name_from_module_name(module)}.weight"] = _pair(folder, config, module, parts)
    digest = digest_of_files([folder / _CONFIG, folder / _WEIGHTS])
    return Adapter(name or folder.name, folder, digest, pairs, replacements)


def _config_of(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise AdapterError(f"{folder} is not a folder", f"a PEFT adapter folder with {_CONFIG} and {_WEIGHTS}")
    try:
        config = json_object(folder / _CONFIG)
    except CheckpointError as error:
        raise AdapterError(error.found, f"the {_CONFIG} of a PEFT LoRA adapter") from error
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder / _CONFIG}: peft_type is {config.get('peft_type')!r}", "LORA")
    for key, value in config.items():
        if value and key not in _USED | _WITHOUT_EFFECT:
            found = f"{folder / _CONFIG}: {key} = {value!r} is not supported"
            raise AdapterError(found, "a plain LoRA", "merge it with PEFT and export the merged checkpoint")
    if (start := config.get("init_lora_weights")) not in _PLAIN_STARTS:
        found = f"{folder / _CONFIG}: init_lora_weights = {start!r} changed the base weights before training"
        raise AdapterError(
            found, "a plain LoRA", "convert it to a plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        )
    return config


def _tensors_of(folder: Path) -> dict[str, StoredTensor]:
    path = folder / _WEIGHTS
    if not path.is_file():
        pickle = (folder / "adapter_model.bin").exists()
        found = f"{folder} has only a pickle (adapter_model.bin)" if pickle else f"{path} is missing"
        raise AdapterError(found, _WEIGHTS, "save the adapter with safe_serialization=True")
    try:
        return tensors_from_file(path)
    except CheckpointError as error:
        raise AdapterError(error.found, error.wanted, error.action) from error


def _by_module(folder: Path, tensors: dict[str, StoredTensor]) -> dict[str, dict[str, StoredTensor]]:
    """Group tensors: module -> {`A` or `embedding_A`, ...}, or tensor name -> {`whole`}."""
    groups: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX):
            raise AdapterError(f"{folder}: unknown tensor {name}", f"names that start with {_PREFIX}")
        module, part = _module_and_part(folder, name.removeprefix(_PREFIX))
        groups.setdefault(module, {})[part] = tensor
    return groups


def _module_and_part(folder: Path, name: str) -> tuple[str, str]:
    if match := _PART.fullmatch(name):
        return match["module"], f"{match['embedding'] or ''}{match['side']}"
    if "lora_" in name:
        kind = "DoRA" if "lora_magnitude_vector" in name else "this kind of adapter"
        action = "merge it with PEFT and export the merged checkpoint"
        raise AdapterError(f"{folder}: {name}: {kind} is not supported", "a plain LoRA", action)
    return name.replace(".base_layer.", "."), "whole"


def _pair(folder: Path, config: dict[str, Any], module: str, parts: dict[str, StoredTensor]) -> LoraPair:
    """Build the pair of a module; raises AdapterError when a half is missing or the rank is another one."""
    is_embedding = any(part.startswith("embedding_") for part in parts)
    sides = ("embedding_A", "embedding_B") if is_embedding else ("A", "B")
    if set(parts) != set(sides):
        missing = sorted(set(sides) - set(parts)) or ["one kind of factors only"]
        raise AdapterError(f"{folder}: {module} has lora_{', lora_'.join(sorted(parts))}", f"also lora_{missing[0]}")
    down, up = (parts[side] for side in sides)
    rank, alpha = _rank_and_alpha(folder, config, module)
    if down.shape[:1] != (rank,) or up.shape[1:2] != (rank,):
        found = f"{folder}: {module} has lora_A {list(down.shape)} and lora_B {list(up.shape)}"
        raise AdapterError(found, f"rank {rank} by {_CONFIG}")
    divisor = math.sqrt(rank) if config.get("use_rslora") else rank
    return LoraPair(down, up, alpha / divisor, is_embedding)


def _rank_and_alpha(folder: Path, config: dict[str, Any], module: str) -> tuple[int, float]:
    rank = _by_pattern(config.get("rank_pattern") or {}, module, config.get("r"))
    alpha = _by_pattern(config.get("alpha_pattern") or {}, module, config.get("lora_alpha"))
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)):
        raise AdapterError(f"{folder / _CONFIG}: r = {rank!r}, lora_alpha = {alpha!r}", "two positive numbers")
    return rank, alpha


def _by_pattern(patterns: dict[str, Any], module: str, default: Any) -> Any:
    """Return the value of the first pattern that matches the end of the module's name, by PEFT's rule."""
    matches: Iterator[Any] = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matches, default)
