"""One side of a comparison: a bundle that inspects the items, and can be led along another's reply.

Knows the inspector and what is kept of an item; compares nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import CellMask, Floats, Frame, Image
from judo_edge.errors import EngineError
from judo_edge.evaluate import LabelledSet, Outcome
from judo_edge.items import Item
from judo_edge.runtime.decoder import Step
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.margins import MarginReader, landmarks_from_tokenizer
from judo_edge.runtime.prompt import embed_from_table
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.patches import patches_from_image
from judo_edge.vision.photos import image_from_file

CHUNK = 32
"""Tokens of a reply that are read in one pass: what a verify profile takes, and few enough logits to hold."""


@dataclass(frozen=True)
class Look:
    """What one bundle made of one item."""

    outcome: Outcome
    ids: tuple[int, ...]
    """Generated ids, the end token included; empty when the engine failed."""
    rows: Floats
    """(T, D) visual rows of the query photo, in order."""


@dataclass(frozen=True)
class Trail:
    """The logits along a given reply, where each token was chosen."""

    logits: Floats
    """(R, V) float32; not a number from the place on at which the engine failed."""
    margins: Mapping[str, float]
    """The named margins along it, logits; missing where they are not finite."""


class Subject:
    """A bundle with its engine and inspector over a labelled set; the engine must be entered."""

    def __init__(self, bundle: Bundle, engine: Engine, labelled: LabelledSet) -> None:
        """Make the inspector; what an earlier verification said of the bundle does not matter here."""
        self._engine, self._bundle, self._is_read = engine, bundle, False
        self._inspector = Inspector(bundle.without_acceptance(), engine, labelled.references, is_drafting=False)
        self._embed = embed_from_table(bundle.embedding_table())
        tokenizer = Tokenizer.open(bundle.path_of(bundle.manifest.tokenizer))
        question = self._inspector.question
        self._landmarks = landmarks_from_tokenizer(tokenizer, question.letters, *self.grid)

    @property
    def grid(self) -> tuple[int, int]:
        """Return the rows and columns of masks."""
        return self._inspector.grid

    def look(self, item: Item, truth: CellMask | None) -> Look:
        """Inspect an item as `judo-edge inspect` does; ImageError when its photo cannot be read."""
        image = image_from_file(item.image)
        rows = self._rows(image)
        frame = Frame(item.image.name, "verification", image, time.monotonic_ns(), str(item.image))
        inspection = self._inspector.look(frame)
        self._is_read = bool(inspection.ids)
        outcome = Outcome(item.is_defect, inspection.verdict, truth, inspection.cell_scores)
        return Look(outcome, inspection.ids, rows)

    def follow(self, ids: tuple[int, ...]) -> Trail:
        """Return the logits along `ids`, for the item that was looked at last: its prompt is still in the cache.

        Not a number throughout when that look failed.
        """
        parts: list[Floats] = []
        try:
            parts.extend(self._passes(ids))
        except EngineError:
            missing = len(ids) - sum(len(part) for part in parts)
            parts.append(np.full((missing, self._bundle.manifest.model.vocab_size), np.nan, dtype=np.float32))
        logits = np.concatenate(parts)
        return Trail(logits, self._margins(ids, logits))

    def _rows(self, image: Image) -> Floats:
        patches = patches_from_image(image, self._inspector.preprocessing)
        return np.array(self._engine.encode(patches[None]).rows[0], dtype=np.float32, copy=True)

    def _passes(self, ids: tuple[int, ...]) -> Iterator[Floats]:
        """Read the prompt's last token again and then the reply; each pass gives (S, V) logits."""
        if not self._is_read:
            raise EngineError("the prompt was not read", "a prompt that the engine reads", "see the verdict")
        prompt = self._inspector.prompt
        self._engine.rewind(len(prompt) - 1)
        read = np.array([prompt.ids[-1], *ids[:-1]], dtype=np.int64)
        for start in range(0, len(read), CHUNK):
            chunk = read[start : start + CHUNK]
            places = prompt.next_position - 1 + start + np.arange(len(chunk), dtype=np.int64)
            positions = np.ascontiguousarray(np.broadcast_to(places, (3, 1, len(chunk))))
            decoded = self._engine.advance(self._embed(chunk)[None], positions, np.arange(len(chunk), dtype=np.int64))
            yield np.array(decoded.logits[0], dtype=np.float32, copy=True)

    def _margins(self, ids: tuple[int, ...], logits: Floats) -> dict[str, float]:
        reader = MarginReader(self._landmarks, self._inspector.question)
        try:
            for number, token in enumerate(ids):
                reader.observe(Step(number, token, logits[number]))
        except EngineError:  # a margin that is not finite: those before it count
            pass
        return reader.margins
