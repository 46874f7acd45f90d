"""One calibration worked out before the first weight is read: tokens of every pair, steps of the model, provenance.

Knows what the steps are and which rows pass through them; runs none of them. Needs torch and transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

import judo_edge
from judo_edge.calibration.file import Provenance, SampleEntry, Settings
from judo_edge.calibration.samples import SPLIT, PairSet
from judo_edge.calibration.stages import BlockStage, LayerStage, MergerStage, Stage, VisionPlan
from judo_edge.calibration.statistics import Record, records_from_kinds
from judo_edge.calibration.steps import HeadStep, PhotoStep, PromptStep, StageStep, Step, Subject, text_lengths
from judo_edge.calibration.tokens import KIND, Kinds, TokenReader, Tokens, common_prefix, counts_by_kind
from judo_edge.core import Ints
from judo_edge.files import sha256_of_bytes

_TOOLS = ("torch", "transformers", "numpy", "tokenizers", "pillow")


@dataclass(frozen=True)
class Job:
    """Everything that a run depends on, worked out before the first weight is read."""

    subject: Subject
    chosen: PairSet
    settings: Settings
    sequences: tuple[Tokens, ...]
    prefix: Ints

    @classmethod
    def of(cls, subject: Subject, chosen: PairSet, settings: Settings) -> Job:
        """Write every pair as tokens; InputError when the prompt does not fit the model."""
        subject = subject.for_stages()
        reader = TokenReader(subject.tokenizer, subject.profile, subject.preprocessing, subject.config.image_token_id)
        sequences = tuple(reader.tokens(pair) for pair in chosen.pairs)
        return cls(subject, chosen, settings, sequences, common_prefix(sequences))

    @property
    def provenance(self) -> Provenance:
        """Describe where the numbers come from; the same run describes itself by the same bytes."""
        subject, chosen = self.subject, self.chosen
        return Provenance(
            source=subject.source,
            profile=subject.profile.name,
            profile_sha256=subject.profile_sha256,
            split=SPLIT,
            samples=tuple(_sample_entries(chosen, self.sequences)),
            left_out=dict(sorted(chosen.left_out.items())),
            checked_against=chosen.checked_against,
            tokens=counts_by_kind(self.sequences),
            photos=len(chosen.photos),
            settings=self.settings,
            tools={"judo-edge": judo_edge.__version__, **{tool: version(tool) for tool in _TOOLS}},
        )

    @property
    def key(self) -> str:
        """Return a hash of everything that the hidden states depend on."""
        texts = [self.provenance.model_dump_json(), self.subject.preprocessing.model_dump_json()]
        return sha256_of_bytes("\n".join(texts).encode() + b"".join(part.ids.tobytes() for part in self.sequences))

    def steps(self) -> list[Step]:
        """Return the chain."""
        return [*self._vision_steps(), *self._text_steps()]

    def _vision_steps(self) -> list[Step]:
        subject, photos = self.subject, self.chosen.photos
        config, pixels = subject.config.vision_config, subject.preprocessing
        plan = VisionPlan(config, pixels.grid_thw[1])
        queries = {pair.query.sha256: pair.held_out for pair in self.chosen.pairs}
        codes = [KIND["query"] if photo.sha256 in queries else KIND["reference"] for photo in photos]
        held = [queries.get(photo.sha256, False) for photo in photos]
        patches = self._photo_records(codes, held, pixels.num_patches, salt=0)
        tokens = self._photo_records(codes, held, pixels.num_tokens, salt=1)
        first = PhotoStep(subject, plan, photos)
        blocks = [
            self._stage(BlockStage(plan, number), patches, first.lengths, first.width) for number in range(config.depth)
        ]
        lengths = (pixels.num_tokens,) * len(photos)
        return [first, *blocks, self._stage(MergerStage(plan), tokens, lengths, int(config.out_hidden_size))]

    def _text_steps(self) -> list[Step]:
        subject, sequences = self.subject, self.sequences
        config, prefix = subject.config.text_config, self.prefix.size
        held = [pair.held_out for pair in self.chosen.pairs]
        kinds: list[Kinds] = [np.full(prefix, KIND["system"], np.int8), *(part.kinds[prefix:] for part in sequences)]
        records = records_from_kinds(kinds, [False, *held], self.settings, salt=2)
        choosing = records_from_kinds([part.kinds[part.prompt - 1 :] for part in sequences], held, self.settings, 3)
        layers = [
            self._stage(LayerStage(config, number, sequences), records, text_lengths(sequences), config.hidden_size)
            for number in range(config.num_hidden_layers)
        ]
        prompts = PromptStep(subject, self.chosen.pairs, self.chosen.photos, sequences)
        return [prompts, *layers, HeadStep(subject, sequences, choosing, self.settings)]

    def _stage(self, stage: Stage, records: Sequence[Record], lengths: tuple[int, ...], width: int) -> Step:
        return StageStep(stage, self.subject.weights, records, lengths, width, self.settings)

    def _photo_records(self, codes: list[int], held: list[bool], rows: int, salt: int) -> list[Record]:
        return records_from_kinds([np.full(rows, code, np.int8) for code in codes], held, self.settings, salt)


def _sample_entries(chosen: PairSet, sequences: Sequence[Tokens]) -> list[SampleEntry]:
    return [
        SampleEntry(
            image=pair.query.path.name,
            sha256=pair.query.sha256,
            reference_sha256=pair.reference.sha256,
            label="defect" if pair.item.is_defect else "good",
            group=pair.item.group,
            answer=pair.answer,
            cells=len(pair.truth),
            tokens=len(tokens),
            held_out=pair.held_out,
        )
        for pair, tokens in zip(chosen.pairs, sequences, strict=True)
    ]
