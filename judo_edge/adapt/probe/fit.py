"""A whole fit: pairs through the lower part of the model, a probe at each tap, the best one written.

Knows the order and how it goes on after an interruption. Needs torch and transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import judo_edge
from judo_edge.adapt.probe.file import check_absent, write_probe
from judo_edge.adapt.probe.pairs import ProbePairs, Settings, drawn_pairs
from judo_edge.adapt.probe.steps import BIAS, FIGURES, WEIGHT, PassStep, TapStep, Truth
from judo_edge.calibration.run import Progress, check_space, run_steps
from judo_edge.calibration.samples import Photo
from judo_edge.calibration.stages import BlockStage, LayerStage, MergerStage, VisionPlan
from judo_edge.calibration.steps import PhotoStep, PromptStep, Step, Subject, text_lengths
from judo_edge.calibration.tokens import TokenReader, Tokens
from judo_edge.calibration.work import WorkFolder
from judo_edge.errors import InputError
from judo_edge.files import sha256_of_bytes
from judo_edge.protocol.questions import detection_question

_SHARES = (0.25, 0.375, 0.5, 0.625, 0.75)
"""Depths that are tried unless taps are given."""


@dataclass(frozen=True)
class TapFigures:
    """How well the probe of one tap tells held-out pairs."""

    tap: int
    """Decoder layers before it."""
    cell_auroc: float
    """Of sub-cells, defective or not."""
    image_auroc: float
    """Of whole photos by their largest sub-cell; not a number when the held-out pairs are all of one kind."""


@dataclass(frozen=True)
class ProbeFit:
    """What a fit found."""

    best: TapFigures
    taps: tuple[TapFigures, ...]
    """In order of depth."""
    photos: int
    pairs: int
    held_out: int
    """Pairs that the figures are of."""


def fit_probe(
    subject: Subject,
    photos: Sequence[Photo],
    out: Path,
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ProbeFit:
    """Fit a probe for each tap and write the one with the best AUROC of held-out cells to `out`.

    Interrupted, it keeps `<out>.partial`, and the same call goes on from the last finished part. Raises InputError for
    a tap beyond the model, OutputError when `out` exists and `force` is not given, or when the disk has no room.
    """
    check_absent(out, force)
    settings = settings or Settings()
    taps = taps_of(subject.config.text_config.num_hidden_layers, settings.taps)
    drawn = drawn_pairs(photos, settings)
    steps, numbers = _steps(subject.for_stages(), drawn, settings, taps)
    with WorkFolder(out, _key(subject, drawn, settings, taps)) as work:
        check_space(work, steps)
        with torch.no_grad():
            run_steps(steps, work, progress or (lambda _: None))
        fit = _written(subject, drawn, work, numbers, out, force)
        work.remove()
    return fit


def taps_of(layers: int, wanted: Sequence[int]) -> tuple[int, ...]:
    """Return the taps to try, sorted; InputError for one that the model does not have."""
    for tap in wanted:
        if not 1 <= tap <= layers:
            raise InputError(f"tap {tap}", f"1 to {layers}, the layers of the model", "correct --taps")
    return tuple(sorted(set(wanted) or {max(1, round(layers * share)) for share in _SHARES}))


def _steps(
    subject: Subject, drawn: ProbePairs, settings: Settings, taps: Sequence[int]
) -> tuple[list[Step], dict[int, int]]:
    """Return the chain up to the last tap, and the number of each tap's step in it."""
    pixels, text = subject.preprocessing, subject.config.text_config
    tokens = _tokens(subject)
    sequences = (tokens,) * len(drawn.pairs)
    truth = Truth.of(drawn, pixels.merged_side, pixels.merge_size)
    steps = [*_vision_steps(subject, drawn), PromptStep(subject, drawn.pairs, drawn.images, sequences)]
    numbers = {}
    for layer in range(taps[-1]):
        stage = LayerStage(text, layer, sequences)
        step = PassStep(stage, subject.weights, text_lengths(sequences), int(text.hidden_size))
        if layer + 1 in taps:
            numbers[layer + 1] = len(steps)
        steps.append(TapStep(step, truth, settings) if layer + 1 in taps else step)
    return steps, numbers


def _vision_steps(subject: Subject, drawn: ProbePairs) -> Iterator[Step]:
    config, pixels = subject.config.vision_config, subject.preprocessing
    plan, count = VisionPlan(config, pixels.grid_thw[1]), len(drawn.images)
    first = PhotoStep(subject, plan, drawn.images)
    yield first
    for number in range(config.depth):
        yield PassStep(BlockStage(plan, number), subject.weights, first.lengths, first.width)
    yield PassStep(MergerStage(plan), subject.weights, (pixels.num_tokens,) * count, int(config.out_hidden_size))


def _tokens(subject: Subject) -> Tokens:
    """Return what every pair is read as, up to the end of the second photo."""
    pad = subject.config.image_token_id
    reader = TokenReader(subject.tokenizer, subject.profile, subject.preprocessing, pad)
    return reader.photo_tokens(detection_question())


def _written(
    subject: Subject, drawn: ProbePairs, work: WorkFolder, numbers: dict[int, int], out: Path, force: bool
) -> ProbeFit:
    """Compare the taps and write the best."""
    figures = {tap: work.arrays(number)[FIGURES].load() for tap, number in numbers.items()}
    taps = tuple(TapFigures(tap, float(cell), float(image)) for tap, (cell, image) in figures.items())
    best = max(taps, key=lambda item: item.cell_auroc)
    held = sum(pair.held_out for pair in drawn.pairs)
    fit = ProbeFit(best, taps, len(drawn.photos), len(drawn.pairs), held)
    arrays = work.arrays(numbers[best.tap])
    write_probe(out, arrays[WEIGHT].load(), arrays[BIAS].load(), best.tap, _origin(subject, fit), force)
    return fit


def _origin(subject: Subject, fit: ProbeFit) -> dict[str, str]:
    """Return what the file says of where it comes from."""
    source = subject.source
    return {
        "source": "+".join([source.checkpoint, *(item.name for item in source.adapters)]),
        "checkpoint_sha256": source.digest,
        "adapters_sha256": " ".join(item.digest for item in source.adapters),
        "profile_sha256": subject.profile_sha256,
        "photos": str(fit.photos),
        "pairs": str(fit.pairs),
        "cell_auroc": f"{fit.best.cell_auroc:.4f}",
        "image_auroc": f"{fit.best.image_auroc:.4f}",
        "cell_auroc_by_tap": json.dumps({item.tap: round(item.cell_auroc, 4) for item in fit.taps}),
        "judo_edge": judo_edge.__version__,
    }


def _key(subject: Subject, drawn: ProbePairs, settings: Settings, taps: Sequence[int]) -> str:
    """Return a hash of everything that the probe depends on."""
    parts: list[Any] = [subject.source.model_dump_json(), subject.profile_sha256]
    parts += [subject.preprocessing.model_dump_json(), settings.model_dump_json(), list(taps)]
    parts += [picture.sha256 for picture in drawn.images]
    return sha256_of_bytes("\n".join(map(str, parts)).encode())
