"""What transformers writes: the yardstick of every reply, from the same pixels and the same prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from judo_edge.bundle import Bundle
from judo_edge.core import Image, Ints
from judo_edge.runtime.inspector import Inspector
from judo_edge.vision.patches import patches_from_image


def transformers_inputs(bundle: Bundle, inspector: Inspector, photos: tuple[Image, Image]) -> dict[str, Any]:
    """Return the arguments of transformers' forward for the inspector's prompt about two photos in prompt order."""
    patches = np.concatenate([patches_from_image(image, inspector.preprocessing) for image in photos])
    ids: Ints = inspector.prompt.ids[None]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.ones(ids.shape, dtype=torch.int64),
        "pixel_values": torch.from_numpy(patches),
        "image_grid_thw": torch.tensor([inspector.preprocessing.grid_thw] * 2),
        "mm_token_type_ids": torch.from_numpy((ids == bundle.manifest.model.image_pad_id).astype(np.int32)),
    }


def transformers_ids(
    model: Any, bundle: Bundle, inspector: Inspector, photos: tuple[Image, Image], num_new: int
) -> list[int]:
    """Let transformers write the reply by its own generate, from ids and pixels to tokens."""
    inputs = transformers_inputs(bundle, inspector, photos)
    eos = list(bundle.manifest.model.eos_ids)
    with torch.no_grad():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=num_new, eos_token_id=eos, pad_token_id=0)
    return [int(token) for token in out[0, inputs["input_ids"].shape[1] :]]
