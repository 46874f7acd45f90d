"""The steps of a calibration in order: photos to hidden rows, blocks, merger, prompts, layers, LM head.

Each step reads the hidden states of the one before and writes its own; none holds more than one part of the model and
one sample. Needs torch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from judo_edge.bundle import Source
from judo_edge.calibration.file import PREFIX_TENSOR, LayerEntry, Settings, array_name
from judo_edge.calibration.observe import GroupResult, Tick, group_result, passed, stage_result
from judo_edge.calibration.scratch import Scratch
from judo_edge.calibration.stages import LayerStage, Stage, VisionPlan, final_norm, patch_embedding
from judo_edge.calibration.statistics import InputStatistics, Record
from judo_edge.calibration.tokens import Tokens
from judo_edge.calibration.weights import StoredMatrix, Weights
from judo_edge.calibration.work import StepFile
from judo_edge.core import Floats, Image
from judo_edge.protocol.profile import PromptProfile
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import patches_from_image


class AnyPhoto(Protocol):
    """A photo by its content."""

    @property
    def sha256(self) -> str:
        """Name what `load` returns."""
        ...

    def load(self) -> Image:
        """Decode or draw it."""
        ...


class AnyPair(Protocol):
    """A part and its normal reference."""

    @property
    def query(self) -> AnyPhoto:
        """Return the part."""
        ...

    @property
    def reference(self) -> AnyPhoto:
        """Return the reference."""
        ...


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Subject:
    """The model to calibrate, and how it is asked."""

    config: Any
    """transformers' Qwen2_5_VLConfig."""
    weights: Weights
    source: Source
    profile: PromptProfile
    profile_sha256: str
    """Of the profile file."""
    preprocessing: Preprocessing
    tokenizer: Path

    def for_stages(self) -> Subject:
        """Return the subject with the kind of attention that the stages call."""
        config = copy.deepcopy(self.config)
        for part in (config.text_config, config.vision_config):
            part._attn_implementation = "sdpa"
        return replace(self, config=config)


@dataclass(frozen=True)
class StepResult:
    """What a step found, ready to be stored."""

    file: StepFile
    arrays: dict[str, Floats]


class Step(Protocol):
    """One step; what it writes has records of `lengths` rows and `width` values."""

    name: str
    lengths: tuple[int, ...]
    """Empty for the last step, which writes nothing."""
    width: int

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Read `source` (None for the first step) and fill `target`."""
        ...


class PhotoStep:
    """Photos to hidden rows: patches, their embedding, the order of windows."""

    name = "photos"

    def __init__(self, subject: Subject, plan: VisionPlan, photos: Sequence[AnyPhoto]) -> None:
        """Take every different photo."""
        self._subject, self._plan, self._photos = subject, plan, photos
        self.lengths = (subject.preprocessing.num_patches,) * len(photos)
        self.width = int(subject.config.vision_config.hidden_size)

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Embed one photo at a time."""
        module = patch_embedding(self._subject.config.vision_config, self._subject.weights)
        for index, photo in enumerate(self._photos):
            patches = patches_from_image(photo.load(), self._subject.preprocessing)
            target.write(index, self._plan.ordered(module(torch.from_numpy(patches))).numpy())
            tick(self.name, 1)
        return StepResult(StepFile(name=self.name), {})


class StageStep:
    """One block, the merger or one decoder layer."""

    def __init__(
        self, stage: Stage, weights: Weights, records: Sequence[Record], lengths: tuple[int, ...], width: int,
        settings: Settings,
    ) -> None:  # fmt: skip
        """Take the stage with the records that pass through it and the shape of what comes out."""
        self.name, self.lengths, self.width = stage.name, lengths, width
        self._stage, self._weights, self._records, self._settings = stage, weights, records, settings

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Load the module, pass every record, search and measure."""
        assert source is not None
        module = self._stage.load(self._weights)
        seen = passed(self._stage, module, self._records, source, target, self._settings, tick)
        result = stage_result(self._stage, module, seen, self._records, source, self._settings, tick)
        arrays = _arrays(result.groups)
        if isinstance(self._stage, LayerStage):
            arrays[PREFIX_TENSOR] = self._stage.prefix.numpy()
        linears = tuple(entry for group in result.groups for entry in group.entries)
        return StepResult(StepFile(name=self.name, linears=linears, layer=result.layer), arrays)


class PromptStep:
    """Visual tokens and the embedding table to the decoder's inputs: the prefix first, then the rest of each pair."""

    name = "prompts"

    def __init__(
        self, subject: Subject, pairs: Sequence[AnyPair], photos: Sequence[AnyPhoto], sequences: Sequence[Tokens]
    ) -> None:
        """Take the pairs with their tokens, and the photos in the order of the records before."""
        self._subject, self._pairs, self._sequences = subject, pairs, sequences
        self._place = {photo.sha256: index for index, photo in enumerate(photos)}
        self.lengths = text_lengths(sequences)
        self.width = int(subject.config.text_config.hidden_size)

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Juxtapose one pair at a time."""
        assert source is not None
        table = self._table()
        prefix = self._sequences[0].prefix
        target.write(0, _text_rows(table, self._sequences[0].ids[:prefix]))
        pad = self._subject.config.image_token_id
        for index, (pair, tokens) in enumerate(zip(self._pairs, self._sequences, strict=True), start=1):
            ids = tokens.ids[prefix:]
            rows = _text_rows(table, ids)
            photos = self._subject.profile.in_image_order(pair.query, pair.reference)
            rows[ids == pad] = np.concatenate([source.read(self._place[photo.sha256]) for photo in photos])
            target.write(index, rows)
            tick(self.name, 1)
        return StepResult(StepFile(name=self.name), {})

    def _table(self) -> dict[int, Floats]:
        """Read the rows of the tokens that occur, one by one: the whole table is gigabytes."""
        ids = np.unique(np.concatenate([tokens.ids for tokens in self._sequences]))
        weights = self._subject.weights
        return {int(i): weights.rows(EMBEDDING, int(i), int(i) + 1)[0] for i in ids}


class HeadStep:
    """The final norm and the LM head, on the rows whose logits choose a token of the reply."""

    name, width = "lm_head", 0
    lengths: tuple[int, ...] = ()

    def __init__(
        self, subject: Subject, sequences: Sequence[Tokens], records: Sequence[Record], settings: Settings
    ) -> None:
        """Take the tokens and the records of `head_kinds`."""
        self._subject, self._sequences, self._records, self._settings = subject, sequences, records, settings

    def run(self, source: Scratch | None, target: Scratch, tick: Tick) -> StepResult:
        """Pass every pair's rows through the norm, then read the head in pieces."""
        assert source is not None
        text = self._subject.config.text_config
        norm = final_norm(text, self._subject.weights)
        width = int(text.hidden_size)
        seen = InputStatistics(width, self._settings.gram and width <= self._settings.gram_max_features)
        for index, (tokens, record) in enumerate(zip(self._sequences, self._records, strict=True), start=1):
            rows = source.read(index)[tokens.prompt - tokens.prefix - 1 :]
            seen.see(norm(torch.from_numpy(rows)), record)
            tick(self.name, 1)
        tick(f"{self.name}: scales", 0)
        matrix = StoredMatrix(self._subject.weights, HEAD, (int(text.vocab_size), width))
        group = group_result({HEAD: matrix}, seen, self._settings)
        layer = LayerEntry(name=self.name, output_errors=group.entries[0].errors, update_errors={})
        return StepResult(StepFile(name=self.name, linears=group.entries, layer=layer), _arrays([group]))


def text_lengths(sequences: Sequence[Tokens]) -> tuple[int, ...]:
    """Return the rows of the decoder's records: the prefix, then what follows it in each pair."""
    prefix = sequences[0].prefix
    return (prefix, *(len(tokens) - prefix for tokens in sequences))


def _text_rows(table: dict[int, Floats], ids: np.typing.NDArray[np.int64]) -> Floats:
    return np.stack([table[int(i)] for i in ids]).astype(np.float32)


def _arrays(groups: Sequence[GroupResult]) -> dict[str, Floats]:
    """Name the arrays of each group after its first matrix."""
    arrays: dict[str, Floats] = {}
    for group in groups:
        name = group.entries[0].group
        arrays[array_name(name, "absmax_visual")] = group.absmax_visual.numpy()
        arrays[array_name(name, "absmax_text")] = group.absmax_text.numpy()
        arrays[array_name(name, "smooth")] = group.scales.smooth.numpy()
        arrays[array_name(name, "awq")] = group.scales.awq.numpy()
        if group.gram is not None:
            arrays[array_name(name, "gram")] = group.gram.numpy()
    return arrays
