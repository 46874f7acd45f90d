"""Pairs to fit a cell probe on: a user's good photos, each as query with or without a drawn defect, and a reference.

A query is drawn again whenever it is needed, from its seed, so that no photo is kept. Photos are split before pairs are
made of them: what the probe is judged on shares no photo with what it was fitted on. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from judo_edge.adapt.drawing.defects import Drawn, with_defect
from judo_edge.adapt.drawing.pairs import lit
from judo_edge.calibration.samples import Photo
from judo_edge.config import Frozen
from judo_edge.core import Bools, Image
from judo_edge.errors import InputError
from judo_edge.files import sha256_of_bytes
from judo_edge.items import items_from_csv
from judo_edge.vision.geometry import cells_from_mask_image
from judo_edge.vision.photos import PHOTO_SUFFIXES, image_from_file, sha256_from_image, thumbnail_from_image

MIN_PHOTOS = 8
"""Fewest different good photos: six to fit on and two to choose the tap by."""
_HELD_EVERY = 4
"""Of so many photos one is held out, and of so many pairs one is judged."""
_GOOD_EVERY = 4
"""Of so many queries one has no defect."""
_NEAREST = 3
"""A reference is one of so many photos that look most like the query."""


class Settings(Frozen):
    """What decides a probe besides checkpoint and photos."""

    pairs: Annotated[int, Field(ge=32)] = 200
    seed: Annotated[int, Field(ge=0)] = 0
    taps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Layers to try; empty for five between a quarter and three quarters of the model."""
    penalty: Annotated[float, Field(gt=0)] = 1e-2
    """Of half the squared weights on standardised features, against the mean loss of a token."""
    tokens: Annotated[int, Field(ge=1000)] = 20_000
    """Tokens to fit on, at most; memory is 4 bytes times this times the hidden size."""


@dataclass(frozen=True)
class Query:
    """A good photo in another light, with a defect or without."""

    base: Photo
    other: Photo
    """Where a patch may be copied from."""
    seed: tuple[int, int]
    has_defect: bool

    @property
    def sha256(self) -> str:
        """Name what `load` returns."""
        return sha256_of_bytes(f"{self.base.sha256} {self.other.sha256} {self.seed} {self.has_defect}".encode())

    def load(self) -> Image:
        """Draw the query."""
        return self.drawn().image

    def drawn(self) -> Drawn:
        """Draw the query with its mask; the same each time."""
        rng, photo = np.random.default_rng(self.seed), self.base.load()
        plain = Drawn(photo, np.zeros(photo.shape[:2], np.bool_))
        found = with_defect(rng, photo, self.other.load()) if self.has_defect else plain
        return Drawn(lit(rng, found.image.astype(np.float32)), found.mask)


@dataclass(frozen=True)
class ProbePair:
    """A query with its reference."""

    query: Query
    reference: Photo
    held_out: bool

    def truth(self, side: int, sub: int) -> Bools:
        """Return (tokens, sub-cells): which sub-cells of the query are defective, by the 2 % rule.

        `side` visual tokens lie along a photo, `sub` sub-cells along a token.
        """
        grid = cells_from_mask_image(self.query.drawn().mask, side * sub, side * sub).to_array()
        cells: Bools = grid.reshape(side, sub, side, sub).transpose(0, 2, 1, 3).reshape(side * side, sub * sub)
        return cells


@dataclass(frozen=True)
class ProbePairs:
    """All pairs of a fit."""

    photos: tuple[Photo, ...]
    pairs: tuple[ProbePair, ...]

    @cached_property
    def images(self) -> tuple[Photo | Query, ...]:
        """Return every different picture once, in the order of first use."""
        every = [picture for pair in self.pairs for picture in (pair.query, pair.reference)]
        return tuple({picture.sha256: picture for picture in every}.values())


def photos_from_paths(paths: Sequence[Path]) -> tuple[Photo, ...]:
    """Open good photos: files, folders of them, or an items.csv, of which the good train items are taken.

    Raises InputError when fewer than `MIN_PHOTOS` are different, ImageError or ItemsError for what cannot be read.
    """
    files = [file for path in paths for file in _files(path)]
    photos = [Photo(file, sha256_from_image(image_from_file(file))) for file in files]
    found = tuple({photo.sha256: photo for photo in photos}.values())
    if len(found) < MIN_PHOTOS:
        wanted = f"at least {MIN_PHOTOS}, some of which judge the probe"
        raise InputError(f"{len(found)} different good photos", wanted, "give more photos with --images")
    return found


def drawn_pairs(photos: Sequence[Photo], settings: Settings) -> ProbePairs:
    """Make pairs: every fourth photo is held out, and every fourth pair is made of those alone."""
    parts = [_Part([photo for i, photo in enumerate(photos) if _is_held(i) is held]) for held in (False, True)]
    pairs = []
    for number in range(settings.pairs):
        rng, held = np.random.default_rng((settings.seed, number, 1)), _is_held(number)
        base, other, reference = parts[held].chosen(rng)
        query = Query(base, other, (settings.seed, number), int(rng.integers(_GOOD_EVERY)) > 0)
        pairs.append(ProbePair(query, reference, held))
    return ProbePairs(tuple(photos), tuple(pairs))


def _is_held(number: int) -> bool:
    return number % _HELD_EVERY == _HELD_EVERY - 1


class _Part:
    """Some of the photos, used in turn, and for each the others that look most like it, by the runtime's measure."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos, self._used = photos, 0
        thumbnails = np.stack([thumbnail_from_image(photo.load()) for photo in photos])
        distances = np.stack([np.abs(thumbnails - one).mean(axis=(1, 2, 3)) for one in thumbnails])
        np.fill_diagonal(distances, np.inf)
        self._near = np.argsort(distances, axis=1)[:, : min(_NEAREST, len(photos) - 1)]

    def chosen(self, rng: np.random.Generator) -> tuple[Photo, Photo, Photo]:
        """Return the next photo, any photo, and a reference for the first."""
        index = self._used % len(self._photos)
        self._used += 1
        near = int(rng.choice(self._near[index]))
        return self._photos[index], self._photos[int(rng.integers(len(self._photos)))], self._photos[near]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES and file.is_file())
        if not found:
            wanted = f"files ending in {', '.join(sorted(PHOTO_SUFFIXES))}"
            raise InputError(f"no photo in {path}", wanted, "check the folder")
        return found
    if path.suffix.lower() == ".csv":
        return [item.image for item in items_from_csv(path) if item.split == "train" and not item.is_defect]
    return [path]
