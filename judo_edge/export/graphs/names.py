"""Names of Qwen2.5-VL tensors: in a checkpoint, and as transformers' modules.

Checkpoints on the hub say `model.layers.*` and `visual.*` (hub names, used for every graph initializer); newer writers
may say `model.language_model.*` and `model.visual.*`, which are the module names. Text only, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable

_TEXT, _VISION = "model.language_model.", "model.visual."


def checkpoint_name_from_module_name(name: str) -> str:
    """Return the hub name of a parameter of `Qwen2_5_VLForConditionalGeneration` (`model.language_model.norm.weight`
    gives `model.norm.weight`)."""
    if name.startswith(_TEXT):
        return "model." + name.removeprefix(_TEXT)
    return name.removeprefix("model.") if name.startswith(_VISION) else name


def module_name_from_checkpoint_name(name: str) -> str:
    """Return the parameter name of `Qwen2_5_VLForConditionalGeneration` for a hub name; a module name stays itself."""
    if name.startswith((_TEXT, _VISION)):
        return name
    if name.startswith("visual."):
        return "model." + name
    return _TEXT + name.removeprefix("model.") if name.startswith("model.") else name


def stored_names(keys: Iterable[str]) -> dict[str, str]:
    """Map the hub name of each tensor to the name that a checkpoint really uses, whichever of the two that is."""
    return {checkpoint_name_from_module_name(module_name_from_checkpoint_name(key)): key for key in keys}
