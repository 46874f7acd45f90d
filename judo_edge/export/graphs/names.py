"""Names of Qwen2.5-VL tensors: in a checkpoint, and as transformers' modules.

Checkpoints on the hub say `model.layers.*` and `visual.*` (hub names, used for every graph initializer); newer writers
may say `model.language_model.*` and `model.visual.*`, which are the module names. Text only, no torch.
"""

from __future__ import annotations

_TEXT, _VISION = "model.language_model.", "model.visual."


def checkpoint_name_from_module_name(name: str) -> str:
    """Return the hub name of a parameter of `Qwen2_5_VLForConditionalGeneration`; a hub name stays itself.

    `model.language_model.norm.weight` gives `model.norm.weight`, `model.visual.*` gives `visual.*`.
    """
    if name.startswith(_TEXT):
        return "model." + name.removeprefix(_TEXT)
    return name.removeprefix("model.") if name.startswith(_VISION) else name
