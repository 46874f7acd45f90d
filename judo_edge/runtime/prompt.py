"""The juxtaposed prompt: text rows from the embedding table, visual rows of both photos, and their positions.

Knows where rows go, not what they mean. The text, its ids and its positions are made once per question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats, Ints
from judo_edge.errors import BundleError
from judo_edge.runtime.decoder import PromptInputs
from judo_edge.vision.mrope import positions_from_ids

ImageOrder = Literal["query-first", "normal-first"]
Embed = Callable[[Ints], Floats]


def embed_from_table(table: npt.NDArray[np.floating]) -> Embed:
    """Return a function from ids (S,) to rows (S, D) float32 of a memory-mapped (V, D) table."""

    def embed(ids: Ints) -> Floats:
        return np.asarray(table[ids], dtype=np.float32)

    return embed


class Prompt:
    """One question about two photos, complete but for the photos' rows."""

    def __init__(self, ids: Ints, embed: Embed, image_pad_id: int, merged_side: int, order: ImageOrder) -> None:
        """Embed the text ids (S,) once; `merged_side` is the side of a photo's grid of visual tokens.

        Raises BundleError when the ids do not hold exactly two photos' worth of placeholders.
        """
        self.ids = ids
        self.order = order
        self.num_image_tokens = merged_side * merged_side
        self._slots = np.flatnonzero(ids == image_pad_id)
        if self._slots.size != 2 * self.num_image_tokens:
            found = f"a prompt with {self._slots.size} image tokens"
            raise BundleError(found, f"2 photos of {self.num_image_tokens}", "export the bundle with a fitting profile")
        positions, self.next_position = positions_from_ids(ids, image_pad_id, merged_side, merged_side)
        self._positions = positions[:, None, :]
        self._text_rows = embed(ids)

    def __len__(self) -> int:
        """Count the tokens of the prompt."""
        return int(self.ids.size)

    def juxtapose(self, query: Floats, reference: Floats) -> PromptInputs:
        """Put the (T, D) rows of both photos into their places, in the order that the checkpoint was trained with."""
        photos = (query, reference) if self.order == "query-first" else (reference, query)
        rows = self._text_rows.copy()
        rows[self._slots] = np.concatenate(photos)
        return PromptInputs(rows[None], self._positions, self.next_position)

    def leading_ids(self) -> Ints:
        """Return the ids (P,) before the first position that the query decides: what all frames' prompts share.

        With the query first they are text; with the reference first they hold its photo, and all up to the query's.
        """
        first_of_query = 0 if self.order == "query-first" else self.num_image_tokens
        return self.ids[: int(self._slots[first_of_query])]

    def second_photo(self) -> Ints:
        """Return the T indices of the second photo's tokens: these have seen both photos."""
        return self._slots[self.num_image_tokens :]
