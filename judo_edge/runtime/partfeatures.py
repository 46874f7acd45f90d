"""What a feature distance means for one part: learned from its enrolled good parts, each compared with the others.

Two things are learned: whether the part always lies in the same place, and how far good parts differ where they differ
most. One level serves the whole part: levels for single places (mean and spread, smoothed and shrunk) were no better on
drawn parts with 2, 8 and 30 references, and worse on photos of real ones with 2 and 8 (LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.core import CellMask, Floats
from judo_edge.errors import EngineError
from judo_edge.runtime.cells import resampled
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.features import ANYWHERE, SAME_PLACE, distances, neighbourhood, squared, unit_rows

STANDS_OUT = 1.5
"""A cell is marked above this many times the top of the good parts."""
_TOP_SHARE = 1 / 64
"""Share of a photo's places whose mean is its score: 4 patches of 16 x 16, as wide as a token."""
_LOOSE = 3.0
"""A part whose good photos differ this many times more at the same place than anywhere does not lie in one place."""
_LEAST_TOP = 1e-4
"""Cosine distance that counts as none: references that are copies of each other still give a level to divide by."""


class GoodLevel(Frozen):
    """What the references of a part say of good parts; JSON keeps it beside them."""

    num_references: Annotated[int, Field(ge=1)]
    """References that it was learned from."""
    is_aligned: bool
    """Whether patches are compared with those at the same place; else with those anywhere."""
    top: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Mean cosine distance over the highest places of a good part."""


@dataclass(frozen=True)
class FeatureMap:
    """How far a photo is from the good parts, place by place."""

    map: Floats
    """(side, side) float32 over the photo as the model saw it: 0 = as in a reference, 1 = the top of good parts."""

    top: float = 1.0
    """Cosine distance that 1 stands for."""

    @property
    def score(self) -> float:
        """Return the mean of the highest places, in the unit of the map."""
        return _top(self.map.ravel())

    @property
    def distance(self) -> float:
        """Return the score as plain cosine distance: for parts with one reference, whose level is a guess."""
        return self.score * self.top

    def cells(self, rows: int, cols: int) -> Floats:
        """Return (rows, cols) float32 in the unit of the map, at the centres of the cells."""
        return resampled(self.map, rows, cols)

    def heat(self, height: int, width: int) -> Floats:
        """Return (height, width) float32 in the unit of the map, interpolated linearly, to lie over the photo."""
        return resampled(self.map, height, width)

    def mask(self, rows: int, cols: int) -> CellMask:
        """Return the cells that stand out beyond good parts; empty for a photo that does not."""
        return CellMask.from_array(self.cells(rows, cols) > STANDS_OUT)


class PartFeatures:
    """The references of one part, ready to compare frames with."""

    def __init__(
        self, references: Sequence[Embedding], level: GoodLevel | None = None, is_aligned: bool | None = None
    ) -> None:
        """Take the references and the level that was learned from them, or learn it now.

        `is_aligned` overrules what the references say of the part's place. Raises EngineError when there is no
        reference, they do not fit together, or the level belongs to another number of them.
        """
        self._references = unit_rows(references)
        self.level = level or level_from_references(self._references, is_aligned)
        if self.level.num_references != len(self._references):
            found = f"a good level of {self.level.num_references} references for {len(self._references)}"
            raise EngineError(found, "the level of these references", "learn it again")

    def compare(self, query: Embedding) -> FeatureMap:
        """Return the map of a frame; EngineError when its features do not fit the references."""
        radius = SAME_PLACE if self.level.is_aligned else ANYWHERE
        apart = distances(unit_rows([query])[0], self._references, radius)
        return FeatureMap(squared(apart / np.float32(self.level.top)), self.level.top)


def level_from_references(references: Floats, is_aligned: bool | None = None) -> GoodLevel:
    """Learn the level of unit rows (R, P, F) by leaving out one reference at a time.

    One alone says nothing of its place (taken as aligned) and is compared with itself: the distance of each patch to
    its most alike neighbour is about what a shift by half a patch would cost.
    """
    if len(references) == 1:
        aligned = is_aligned is not False
        return GoodLevel(num_references=1, is_aligned=aligned, top=_level(_stepped(references[0], aligned)))
    at_place, anywhere = (_left_out(references, radius) for radius in (SAME_PLACE, ANYWHERE))
    if is_aligned is None:
        is_aligned = _level(at_place) <= _LOOSE * _level(anywhere)
    top = _level(at_place if is_aligned else anywhere)
    return GoodLevel(num_references=len(references), is_aligned=is_aligned, top=top)


def _left_out(references: Floats, radius: int | None) -> list[Floats]:
    """Return (P,) distances of each reference to all others."""
    numbers = range(len(references))
    return [distances(references[number], np.delete(references, number, axis=0), radius) for number in numbers]


def _stepped(reference: Floats, is_aligned: bool) -> list[Floats]:
    """Return (P,) distances of each patch to the nearest other one of its photo, next to it or anywhere."""
    places = len(reference)
    side = math.isqrt(places)
    near = neighbourhood(side, 1 if is_aligned else side) & ~np.eye(places, dtype=np.bool_)
    cosines = np.where(near, reference @ reference.T, np.float32(-1))
    return [np.maximum(1 - cosines.max(axis=1), 0)]


def _level(photos: Sequence[Floats]) -> float:
    """Return the mean of the photos' tops; sorted, so that the order of references changes nothing."""
    return max(float(np.mean(sorted(_top(photo) for photo in photos))), _LEAST_TOP)


def _top(values: Floats) -> float:
    """Return the mean of the highest values (P,)."""
    count = max(1, round(values.size * _TOP_SHARE))
    return float(np.partition(values, -count)[-count:].mean())
