"""Two integers of 4 bits in a byte, as ONNX stores INT4: the first of two neighbours in the low half.

Neighbours are neighbours of the flattened tensor; the last axis must be even so that no byte spans two rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judo_edge.export.quantize.grid import Codes

Bytes = npt.NDArray[np.uint8]


def nibbles_from_codes(codes: npt.NDArray[np.int8] | Bytes) -> Bytes:
    """Pack integers (..., even) into bytes (..., even / 2), contiguous."""
    halves = codes.view(np.uint8)
    packed = (halves[..., 0::2] & 15) | (halves[..., 1::2] << 4)
    return np.ascontiguousarray(packed, np.uint8)


def codes_from_nibbles(packed: Bytes) -> Codes:
    """Unpack bytes (..., k) to integers -8..7 (..., 2 k)."""
    halves = np.stack([packed << 4, packed & 0xF0], axis=-1).view(np.int8) >> 4
    return halves.reshape(*packed.shape[:-1], -1)
