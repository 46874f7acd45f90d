"""Stored forms put together in memory, for tests that look at their values."""

from __future__ import annotations

import numpy as np

from judo_edge.export.forms import StoredForm


def filled(form: StoredForm) -> list[np.ndarray]:
    """Put the pieces of a form together; every byte must be written exactly once."""
    arrays = [np.zeros(part.num_bytes, np.uint8) for part in form.parts]
    counts = [np.zeros(part.num_bytes, np.uint8) for part in form.parts]
    for piece in form.pieces():
        rows = piece.values.reshape(len(piece.values) if piece.stride else 1, -1).view(np.uint8)
        for i, raw in enumerate(rows):
            first = piece.offset + i * piece.stride
            arrays[piece.part][first : first + raw.size] = raw
            counts[piece.part][first : first + raw.size] += 1
    assert all((count == 1).all() for count in counts)
    return [raw.view(part.dtype).reshape(part.shape) for raw, part in zip(arrays, form.parts, strict=True)]
