"""The keys and values that a bundle brings for the tokens its prompts begin with.

They were computed in float when the bundle was made, so that a quantized decoder need not read these tokens itself.
"""

from __future__ import annotations

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import Floats, Ints
from judo_edge.errors import BundleError


def prefix_from_bundle(bundle: Bundle, ids: Ints) -> Floats | None:
    """Return the keys and values (P, L, 2, 1, Hkv, hd) float32 of a prompt's first P tokens.

    None when the bundle has none, or the prompt `ids` (S,) begin otherwise or end there. Raises BundleError when the
    file does not hold what the manifest says.
    """
    entry, model = bundle.manifest.prefix, bundle.manifest.model
    if entry is None:
        return None
    shape = (len(entry.ids), model.num_layers, 2, 1, model.num_kv_heads, model.head_dim)
    values = np.fromfile(bundle.path_of(entry.file), dtype=np.float32)
    if values.size != int(np.prod(shape)):
        found = f"{bundle.folder / entry.file} holds {values.nbytes} bytes"
        raise BundleError(found, f"float32 of shape {shape}", "export the bundle again")
    if model.image_pad_id in entry.ids:
        raise BundleError(
            "a prefix that holds a photo's tokens", "the text before the photos", "export the bundle again"
        )
    begins = ids.size > len(entry.ids) and np.array_equal(ids[: len(entry.ids)], entry.ids)
    return values.reshape(shape) if begins else None
