"""Drawn pairs as frames: each is compared with the reference that it was drawn with."""

from __future__ import annotations

from judo_edge.adapt.drawing.pairs import Pair
from judo_edge.core import Frame
from judo_edge.runtime.references import ReferencePhoto


class PairReferences:
    """The reference of the pair whose number is the frame's name."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs

    def pick(self, frame: Frame) -> ReferencePhoto:
        number = int(frame.frame_id)
        return ReferencePhoto(frame.frame_id, f"{number:064x}", lambda: self.pairs[number].reference)

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        return (self.pick(frame),)
