"""Photos for the slots of a workload: drawn parts, or the items of labelled sets. The same seed gives the same photos.

Knows no model. A drawn photo is never repeated; those of a set are, when the stream is longer than the set.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from judo_edge.adapt.drawing.pairs import pair_from_scene
from judo_edge.adapt.drawing.parts import DRAWERS, Scene
from judo_edge.bench.workloads import Slot
from judo_edge.core import Frame, Image
from judo_edge.errors import InputError, ItemsError
from judo_edge.items import Item, chosen_items, items_from_csv, reference_candidates
from judo_edge.runtime.references import ReferencePhoto, photo_from_file
from judo_edge.vision.photos import image_from_file, sha256_from_image

_SCENE, _REFERENCE, _GOOD, _DEFECT = range(4)
"""Streams of random numbers of a drawn part, so that none depends on how often another was asked."""


@dataclass(frozen=True)
class Shot:
    """One photo of the stream with the good part it is compared with, both in memory."""

    name: str
    part: str
    image: Image
    reference: ReferencePhoto
    is_repeat: bool = False
    """Whether the stream has shown the same photo before."""

    def frame(self, captured_ns: int | None = None) -> Frame:
        """Return the frame as if it were captured now, or at a given time of the monotonic clock."""
        return Frame(self.name, self.part, self.image, captured_ns or time.monotonic_ns())


class Parts(Protocol):
    """Part numbers that photos can be had of."""

    @property
    def names(self) -> tuple[str, ...]:
        """The part numbers."""
        ...

    def shot(self, slot: Slot) -> Shot:
        """Return the photo of a slot; InputError when the part has none with that label."""
        ...


class DrawnParts:
    """One drawn design for each part number."""

    def __init__(self, kinds: Sequence[str], seed: int) -> None:
        """Draw the designs; InputError for an unknown kind."""
        for kind in kinds:
            if kind not in DRAWERS:
                raise InputError(f"drawn kind {kind!r}", f"one of {', '.join(DRAWERS)}", "choose a kind from the list")
        self.names = tuple(f"{kind}-{index}" for index, kind in enumerate(kinds))
        self._seed = seed
        self._scenes = [DRAWERS[kind](self._rng(part, _SCENE)) for part, kind in enumerate(kinds)]
        self._references = [self._reference(part, scene) for part, scene in enumerate(self._scenes)]

    def shot(self, slot: Slot) -> Shot:
        """Draw the photo of a slot: every turn another light, pose, noise and defect."""
        rng = self._rng(slot.part, _DEFECT if slot.is_defect else _GOOD, slot.turn)
        image = pair_from_scene(rng, self._scenes[slot.part], slot.is_defect).query
        return Shot(f"{slot.number:06d}", self.names[slot.part], image, self._references[slot.part])

    def _reference(self, part: int, scene: Scene) -> ReferencePhoto:
        image = pair_from_scene(self._rng(part, _REFERENCE), scene, False).reference
        return ReferencePhoto(self.names[part], sha256_from_image(image), lambda: image)

    def _rng(self, part: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, part, *stream])


class LabelledParts:
    """The items of labelled sets; a part number is a group of a set, or the set itself where it has no groups."""

    def __init__(self, paths: Sequence[Path], split: str, seed: int) -> None:
        """Read the sets and shuffle each part's items; the part with most items of its rarer label comes first."""
        self._items: dict[str, dict[bool, list[Item]]] = {}
        self._references: dict[str, Path] = {}
        for path in paths:
            self._read(path, split)
        rng = np.random.default_rng(seed)
        for labels in self._items.values():
            for items in labels.values():
                rng.shuffle(items)
        rarer = {name: min(len(items) for items in labels.values()) for name, labels in self._items.items()}
        self.names = tuple(sorted(rarer, key=lambda name: -rarer[name]))
        self._photo = lru_cache(maxsize=64)(photo_from_file)

    def shot(self, slot: Slot) -> Shot:
        """Read the next photo of the part and label, from the beginning again when all were shown."""
        part = self.names[slot.part]
        items = self._items[part][slot.is_defect]
        if not items:
            label = "defective" if slot.is_defect else "good"
            raise ItemsError(f"no {label} item of part {part!r}", "at least one", "choose another workload or --split")
        item = items[slot.turn % len(items)]
        reference = self._photo(self._references[str(item.image)])
        name = f"{slot.number:06d}-{item.image.stem}"
        return Shot(name, part, image_from_file(item.image), reference, slot.turn >= len(items))

    def _read(self, path: Path, split: str) -> None:
        everything = items_from_csv(path)
        for item in chosen_items(everything, split):
            part = f"{path.parent.resolve().name}/{item.group}" if item.group else path.parent.resolve().name
            self._items.setdefault(part, {False: [], True: []})[item.is_defect].append(item)
            self._references[str(item.image)] = reference_candidates(item, everything)[0]


class ShotReferences:
    """Gives the inspector the good part that belongs to each frame at hand."""

    def __init__(self) -> None:
        """Know no frame yet."""
        self._now: dict[str, ReferencePhoto] = {}

    def expect(self, shots: Sequence[Shot]) -> None:
        """Say which frames come next; earlier ones are forgotten."""
        self._now = {shot.name: shot.reference for shot in shots}

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the reference of an expected frame."""
        return self._now[frame.frame_id]

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return the reference of an expected frame as the only one."""
        return (self._now[frame.frame_id],)
