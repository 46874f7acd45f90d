"""M-RoPE positions of a prompt with photos: time, height and width of each token.

Equals `get_rope_index` of Qwen2.5-VL for still images. Knows token ids only; the tables themselves are in the graph.
"""

from __future__ import annotations

import numpy as np

from judo_edge.core import Bools, Ints
from judo_edge.errors import InputError


def positions_from_ids(token_ids: Ints, image_pad_id: int, merged_h: int, merged_w: int) -> tuple[Ints, int]:
    """Return the (3, S) int64 positions of a prompt of S token ids, and the position of the token that comes next.

    Text counts on in all three rows. A photo is a run of merged_h * merged_w pad ids: its time stands still, its rows
    and columns count from the same start, and the text after it goes on at start + max(merged_h, merged_w). Raises
    InputError when a run of pad ids has another length.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    image = _image_positions(merged_h, merged_w)
    parts, position = [np.zeros((3, 0), dtype=np.int64)], 0
    for is_image, length in _runs(ids == image_pad_id):
        if is_image:
            _check_run(length, merged_h, merged_w)
            parts.append(image + position)
            position += max(merged_h, merged_w)
        else:
            parts.append(text_positions(position, length))
            position += length
    return np.concatenate(parts, axis=1), position


def text_positions(start: int, length: int) -> Ints:
    """Return the (3, length) int64 positions of text tokens that begin at position `start`."""
    return np.tile(np.arange(start, start + length, dtype=np.int64), (3, 1))


def _image_positions(merged_h: int, merged_w: int) -> Ints:
    grid = np.indices((1, merged_h, merged_w), dtype=np.int64)
    return grid.reshape(3, -1)


def _runs(flags: Bools) -> list[tuple[bool, int]]:
    if flags.size == 0:
        return []
    starts = np.flatnonzero(np.diff(flags, prepend=~flags[:1]))
    lengths = np.diff(starts, append=flags.size)
    return [(bool(flags[start]), int(length)) for start, length in zip(starts, lengths, strict=True)]


def _check_run(length: int, merged_h: int, merged_w: int) -> None:
    if length != merged_h * merged_w:
        raise InputError(
            f"a run of {length} image tokens in the prompt",
            f"{merged_h} x {merged_w} = {merged_h * merged_w} for each photo",
            "make the prompt with the image size of the bundle's profile",
        )
