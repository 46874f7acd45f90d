"""The recipe of the shipped JUDO-nano: data, seeds, stages, in the order in which they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from judo_edge.adapt.adapter import with_adapter
from judo_edge.adapt.architecture import HIDDEN_SIZE, nano_config, nano_from_config
from judo_edge.adapt.dataset import DrawnSet, drawn_set
from judo_edge.adapt.drawing.parts import ADAPTER_KIND, BASE_KINDS
from judo_edge.adapt.publish import adapter_to_folder, checkpoint_from_model
from judo_edge.adapt.samples import nano_profile, sample_from_truth, split_prompt
from judo_edge.adapt.stages import Stage, run_stage
from judo_edge.adapt.tokenizer import SPECIALS, number_texts, special_ids, tokenizer_from_texts
from judo_edge.adapt.train import TAP, Heads
from judo_edge.core import CellMask

BASE_SEED, BASE_SHARDS = 1_000, 48
ADAPTER_SEED, ADAPTER_SHARDS = 900_000, 6
READING = Stage(
    "reading", 600, 4e-3, goal="reading", schedule=1500, decay=0.15, warmup=60, skip_good=0.85, row_weight=0
)
SEEING = Stage("seeing", 2000, 3e-3, goal="seeing", schedule=2400, decay=0.25)
PAIRS = Stage("pairs", 1000, 2.5e-3, schedule=1900, decay=0.7, row_weight=0)
WRITING = Stage("writing", 1000, 2e-3, decay=0.85, warmup=20, skip_good=0.55)
ADAPTER = Stage("adapter", 250, 3e-3, decay=0.7, warmup=20, skip_good=0.33)


def remade_nano(out: Path, work: Path, shrink: float = 1.0, compiled: bool = True) -> None:
    """Make the checkpoint folder `out` (base weights and the adapter) from nothing; states lie in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    drawn = drawn_set(work / "base", BASE_SEED, BASE_KINDS, max(4, round(BASE_SHARDS * shrink)))
    tokenizer = nano_tokenizer(drawn)
    model, heads = starting_nano(tokenizer)
    for stage in (READING, SEEING, PAIRS, WRITING):
        freeze_for(stage, model, heads)
        run_stage(stage.shrunk(shrink), model, heads, drawn, tokenizer, work, compiled)
    checkpoint_from_model(model, heads, tokenizer, out)
    special = drawn_set(work / ADAPTER_KIND, ADAPTER_SEED, (ADAPTER_KIND,), max(1, round(ADAPTER_SHARDS * shrink)))
    adapter_from_model(model, heads, special, tokenizer, work, out / "adapters" / ADAPTER_KIND, shrink, compiled)


def nano_tokenizer(drawn: DrawnSet) -> Tokenizer:
    """Train the tokenizer on the prompts and replies of the first 2,000 pairs."""
    rng, profile, texts = np.random.default_rng(0), nano_profile(), number_texts()
    for index in range(min(2000, len(drawn))):
        sample = sample_from_truth(rng, CellMask.from_array(drawn.cells[index]), drawn.defect(index))
        head, tail = split_prompt(profile, sample.question, 1)
        texts += [_without_specials(head + tail), sample.reply]
    return tokenizer_from_texts(texts, vocab_size=1017)


def _without_specials(text: str) -> str:
    for special in SPECIALS:
        text = text.replace(special, "")
    return text


@torch.no_grad()
def starting_nano(tokenizer: Tokenizer) -> tuple[Any, Heads]:
    """Build model and heads as training starts: matrices wide enough for a network this narrow."""
    model = nano_from_config(nano_config(tokenizer.get_vocab_size(), special_ids(tokenizer)), seed=0)
    torch.manual_seed(1)
    heads = Heads(HIDDEN_SIZE)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            weight.mul_(20.0 if "embed_tokens" in name else 1.5 if "lm_head" in name else 2.5)
    return model, heads


def freeze_for(stage: Stage, model: Any, heads: Heads) -> None:
    """Let train what the stage trains: in the seeing stage, vision and the layers below the tap; else everything.

    The cell head stays fixed while seeing, so that the upper layers still read what the reading stage taught them.
    """
    seeing = stage.goal == "seeing"
    for weight in (*model.parameters(), *heads.parameters()):
        weight.requires_grad_(not seeing)
    for part in (model.model.visual, *model.model.language_model.layers[:TAP]):
        part.requires_grad_(True)


def adapter_from_model(
    model: Any,
    heads: Heads,
    drawn: DrawnSet,
    tokenizer: Tokenizer,
    work: Path,
    out: Path,
    shrink: float,
    compiled: bool,
) -> None:
    """Train a LoRA adapter on another kind of part and write it as a PEFT folder."""
    adapted = with_adapter(model)
    heads.requires_grad_(False)
    run_stage(ADAPTER.shrunk(shrink), adapted.base_model.model, heads, drawn, tokenizer, work, compiled)
    adapter_to_folder(adapted, out)
