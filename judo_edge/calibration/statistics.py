"""What is gathered of a linear group's input while all samples pass: ranges, means, chosen rows, second moments.

Kinds of token stay apart, and so do held-out samples. Needs torch; holds one layer's numbers at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from judo_edge.calibration.file import TOKEN_KINDS, Settings
from judo_edge.calibration.tokens import KIND, Kinds
from judo_edge.core import Ints

VISUAL = (KIND["query"], KIND["reference"])
TEXT = (KIND["question"], KIND["mask"], KIND["prose"])
"""Kinds that ranges cover; the prefix is computed once in float32, so it is in neither."""


@dataclass(frozen=True)
class Record:
    """The rows of one sample, or photo, in one part of the model."""

    kinds: Kinds
    """(n,)"""
    held_out: bool
    picked: Ints
    """Rows that are kept: to choose scales on, or of a held-out sample to measure errors on."""


def records_from_kinds(kinds: Sequence[Kinds], held_out: Sequence[bool], settings: Settings, salt: int) -> list[Record]:
    """Choose rows, evenly over the kinds that occur, at random by the seed; `salt` tells parts of the model apart."""
    generator = np.random.default_rng((settings.seed, salt))
    owners = np.repeat(np.arange(len(kinds)), [len(part) for part in kinds])
    rows = np.concatenate([np.arange(len(part)) for part in kinds])
    codes, is_held = np.concatenate(kinds), np.array(held_out, np.bool_)[owners]
    chosen = [np.zeros(0, np.int64)]
    for held, quota in ((False, settings.search_tokens), (True, settings.error_tokens)):
        present = [code for code in (*VISUAL, *TEXT) if (codes[is_held == held] == code).any()]
        for code in present:
            among = np.flatnonzero((codes == code) & (is_held == held))
            chosen.append(generator.choice(among, min(len(among), max(1, quota // len(present))), replace=False))
    places = np.sort(np.concatenate(chosen))
    return [
        Record(part, held, rows[places[owners[places] == owner]])
        for owner, (part, held) in enumerate(zip(kinds, held_out, strict=True))
    ]


class InputStatistics:
    """Running statistics of one input of width `in_features`."""

    def __init__(self, in_features: int, has_gram: bool = False) -> None:
        """Start empty; `has_gram` adds second moments, (in, in) float32."""
        kinds = len(TOKEN_KINDS)
        self.largest = torch.zeros(2, kinds, in_features)
        """Magnitudes, (held-out, kind, in)."""
        self.sums = torch.zeros(kinds, in_features, dtype=torch.float64)
        self.counts = torch.zeros(kinds, dtype=torch.int64)
        self._gram = torch.zeros(in_features, in_features) if has_gram else None
        self._rows: dict[bool, list[Tensor]] = {False: [], True: []}
        self._row_kinds: dict[bool, list[Kinds]] = {False: [], True: []}

    def see(self, inputs: Tensor, record: Record) -> None:
        """Take in the rows (n, in) of one record."""
        magnitude = inputs.abs()
        for code in np.unique(record.kinds):
            rows = torch.from_numpy(np.flatnonzero(record.kinds == code))
            part = magnitude if rows.numel() == len(magnitude) else magnitude[rows]
            place = self.largest[int(record.held_out), int(code)]
            torch.maximum(place, part.amax(dim=0), out=place)
            self.sums[int(code)] += part.sum(dim=0, dtype=torch.float64)
            self.counts[int(code)] += len(part)
        if self._gram is not None and (record.kinds != KIND["system"]).all():
            self._gram.addmm_(inputs.T, inputs)
        if record.picked.size:
            self._rows[record.held_out].append(inputs[torch.from_numpy(record.picked)].clone())
            self._row_kinds[record.held_out].append(record.kinds[record.picked])

    def absmax(self, kinds: Sequence[int], held_out: bool | None = None) -> Tensor:
        """Return the largest magnitude of each channel (in,) over some kinds, and over all samples or one part."""
        parts = self.largest if held_out is None else self.largest[int(held_out)][None]
        return parts[:, list(kinds)].flatten(0, 1).amax(dim=0)

    @property
    def ranges(self) -> Tensor:
        """Return the largest magnitudes (in,) of everything but the prefix."""
        return self.absmax((*VISUAL, *TEXT))

    @property
    def mean_magnitude(self) -> Tensor:
        """Return mean magnitudes (in,) float32, both kinds of token weighing the same however many there are."""
        counts = [(list(kinds), int(self.counts[list(kinds)].sum())) for kinds in (VISUAL, TEXT)]
        means = [self.sums[kinds].sum(dim=0) / count for kinds, count in counts if count]
        return torch.stack(means).mean(dim=0).float()

    @property
    def gram(self) -> Tensor | None:
        """Return x^T x / tokens, (in, in) float32, without the prefix; None when not gathered."""
        count = int(self.counts[[*VISUAL, *TEXT]].sum())
        return None if self._gram is None else self._gram / max(1, count)

    def rows(self, held_out: bool) -> tuple[Tensor, Kinds]:
        """Return the rows that were kept (n, in) with their kinds (n,)."""
        return torch.cat(self._rows[held_out]), np.concatenate(self._row_kinds[held_out])
