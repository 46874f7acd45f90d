"""The steps of a fit: the calibration's chain without its statistics, and a regression where a layer is tapped.

One part of the model is in memory at a time, and one pair; hidden states lie on disk. Needs torch and transformers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from judo_edge.adapt.probe.logistic import Regression, regression
from judo_edge.adapt.probe.pairs import ProbePairs, Settings
from judo_edge.calibration.observe import Tick
from judo_edge.calibration.scratch import Scratch
from judo_edge.calibration.stages import Stage
from judo_edge.calibration.steps import StepResult
from judo_edge.calibration.weights import Weights
from judo_edge.calibration.work import StepFile
from judo_edge.core import Bools
from judo_edge.metrics import auroc

WEIGHT, BIAS, FIGURES = "weight", "bias", "figures"
"""Arrays that a tapped layer leaves: (values, hidden), (values,), and the AUROC of cells and of images."""


class PassStep:
    """One block, the merger or one decoder layer: every record through it."""

    def __init__(self, stage: Stage, weights: Weights, lengths: tuple[int, ...], width: int) -> None:
        """Take the stage and the shape of what comes out."""
        self.name, self.lengths, self.width = stage.name, lengths, width
        self._stage, self._weights = stage, weights

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Load the module and pass one record at a time."""
        assert source is not None
        module = self._stage.load(self._weights)
        for index in range(len(self.lengths)):
            rows = torch.from_numpy(source.read(index))
            target.write(index, self._stage.forward(module, index, rows).numpy())
            tick(self.name, 1)
        return StepResult(StepFile(name=self.name), {})


@dataclass(frozen=True)
class Truth:
    """What the probe shall say at the second photo's tokens of every pair."""

    cells: Bools
    """(pairs, tokens, values)"""
    held_out: Bools
    """(pairs,)"""

    @classmethod
    def of(cls, drawn: ProbePairs, side: int, sub: int) -> Truth:
        """Draw every pair once for its mask."""
        cells = np.stack([pair.truth(side, sub) for pair in drawn.pairs])
        return cls(cells, np.array([pair.held_out for pair in drawn.pairs]))


class TapStep:
    """A decoder layer whose output a probe is fitted on."""

    def __init__(self, inner: PassStep, truth: Truth, settings: Settings) -> None:
        """Take the layer; its record 0 is the prefix, the others end with the second photo's tokens."""
        self.name, self.lengths, self.width = inner.name, inner.lengths, inner.width
        self._inner, self._truth, self._settings = inner, truth, settings

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Pass every record, fit on some pairs and judge on the others."""
        result = self._inner.run(source, target, tick)
        tick(f"{self.name}: probe", 0)
        fitted = regression(*self._chosen(target), self._settings.penalty)
        figures = np.array(self._judged(fitted, target), np.float32)
        arrays = {WEIGHT: fitted.weight.numpy(), BIAS: fitted.bias.numpy(), FIGURES: figures}
        return StepResult(result.file, arrays)

    def _chosen(self, target: Scratch) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, labels and counts of some tokens of each pair, defective ones first."""
        rng, pairs = np.random.default_rng(self._settings.seed), np.flatnonzero(~self._truth.held_out)
        quota = max(16, self._settings.tokens // len(pairs))
        parts = []
        for pair in pairs:
            labels = self._truth.cells[pair]
            for among in (labels.any(axis=1), ~labels.any(axis=1)):
                rows = _sampled(rng, np.flatnonzero(among), quota // 2)
                count = among.sum() / max(1, rows.size)
                features = self._features(target, int(pair))[rows]
                parts.append((features, torch.from_numpy(labels[rows]).float(), torch.full((rows.size,), float(count))))
        features, labels_of, counts = (torch.cat(list(column)) for column in zip(*parts, strict=True))
        return features, labels_of, counts

    def _judged(self, fitted: Regression, target: Scratch) -> tuple[float, float]:
        """Return the AUROC of cells, and of whole photos by their largest value, on the held-out pairs."""
        pairs = np.flatnonzero(self._truth.held_out)
        scores = np.stack([fitted.logits(self._features(target, int(pair))).numpy() for pair in pairs])
        truth = self._truth.cells[pairs]
        return _auroc(scores, truth), _auroc(scores.max(axis=(1, 2)), np.asarray(truth.any(axis=(1, 2))))

    def _features(self, target: Scratch, pair: int) -> Tensor:
        """Return the normed stream (tokens, hidden) at the second photo's tokens, as the graph norms it."""
        rows = torch.from_numpy(target.read(pair + 1)[-self._truth.cells.shape[1] :])
        return F.rms_norm(rows, rows.shape[-1:])


def _sampled(rng: np.random.Generator, rows: np.typing.NDArray[np.int64], count: int) -> np.typing.NDArray[np.int64]:
    return rows if rows.size <= count else np.sort(rng.choice(rows, count, replace=False))


def _auroc(scores: np.typing.NDArray[np.float32], truth: Bools) -> float:
    return auroc(scores.reshape(-1), truth.reshape(-1))(np.ones(truth.size))
