"""Training: the fast forward equals transformers', targets are valid replies, and the step learns."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `adapt` (torch)")
pytest.importorskip("transformers", reason="needs the extra `adapt` (transformers)")

from judo_edge.adapt.architecture import nano_config, nano_from_config
from judo_edge.adapt.dataset import set_from_pairs
from judo_edge.adapt.drawing.pairs import draw_pairs
from judo_edge.adapt.drawing.parts import BASE_KINDS
from judo_edge.adapt.forward import hidden_states, patches_from_photos, rotary_tables
from judo_edge.adapt.recipe import nano_tokenizer, starting_nano
from judo_edge.adapt.samples import nano_profile, sample_from_truth, split_prompt
from judo_edge.adapt.stages import Stage, run_stage
from judo_edge.adapt.tokenizer import special_ids
from judo_edge.adapt.train import TOKENS, Batches, Learner
from judo_edge.core import CellMask
from judo_edge.protocol.reply import reply_from_text
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import patches_from_image


@pytest.fixture(scope="module")
def drawn():
    return set_from_pairs(draw_pairs(11, BASE_KINDS, 24))


@pytest.fixture(scope="module")
def tokenizer(drawn):
    return nano_tokenizer(drawn)


def test_numbers_of_the_grid_are_single_tokens(tokenizer) -> None:
    assert [len(tokenizer.encode(f",{number}").ids) for number in range(1, 17)] == [2] * 16


def test_targets_are_valid_replies_that_answer_the_question(drawn) -> None:
    rng = np.random.default_rng(0)
    for index in range(len(drawn)):
        mask = CellMask.from_array(drawn.cells[index])
        sample = sample_from_truth(rng, mask, drawn.defect(index))
        reply = reply_from_text(sample.reply, 16, 16, sample.question.letters)
        assert reply.is_valid and reply.mask == mask
        if sample.question.defect_letter:
            assert sample.question.says_defect(reply.answer) == (len(mask) > 0)


def test_the_fast_forward_equals_transformers(drawn, tokenizer) -> None:
    config = nano_config(tokenizer.get_vocab_size(), special_ids(tokenizer), layers=4)
    model = nano_from_config(config, seed=3)
    batches = Batches(drawn, tokenizer, 2, seed=0)
    batch, (_, heads) = next(iter(batches)), starting_nano(tokenizer)
    learner = Learner(model, heads, len(batches.head))
    with torch.no_grad():
        language = model.model.language_model
        tables = rotary_tables(language.config, learner.positions(batch.ids))
        fast = model.lm_head(language.norm(hidden_states(language.layers, learner._embeds(batch), tables)))
        slow = model(**_transformers_inputs(batch, config)).logits
    assert torch.allclose(fast, slow, atol=2e-4), (fast - slow).abs().max()


def _transformers_inputs(batch, config) -> dict:
    patches = patches_from_photos(batch.photos.flatten(0, 1)).view(4, 256, 3, 1, 14, 14)
    pixels = patches.expand(-1, -1, -1, 2, -1, -1).reshape(4 * 256, -1)
    return {
        "input_ids": batch.ids,
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, 16, 16]] * 4),
        "attention_mask": torch.ones_like(batch.ids),
        "mm_token_type_ids": (batch.ids == config.image_token_id).int(),
    }


def test_training_patches_are_the_runtimes_patches(drawn) -> None:
    profile = nano_profile()
    preprocessing = Preprocessing(resize=profile.resize, image_size=profile.image_size)
    ours = patches_from_photos(torch.from_numpy(drawn.photos[:1, 0]))[0].numpy().reshape(256, 3, 14, 14)
    theirs = patches_from_image(drawn.photos[0, 0], preprocessing).reshape(256, 3, 2, 14, 14)
    assert np.abs(ours - theirs[:, :, 0]).max() < 1e-5 and np.abs(ours - theirs[:, :, 1]).max() < 1e-5


def test_the_training_prompt_is_the_runtimes_prompt(tokenizer) -> None:
    from judo_edge.protocol.profile import prompt_text
    from judo_edge.protocol.questions import detection_question

    head, tail = split_prompt(nano_profile(), detection_question(), TOKENS)
    whole = tokenizer.encode(prompt_text(nano_profile(), detection_question(), TOKENS)).ids
    assert tokenizer.encode(head).ids + tokenizer.encode(tail).ids == whole


@pytest.mark.slow
@pytest.mark.parametrize(("goal", "loss"), [("reading", "reply"), ("seeing", "cell"), ("pairs", "reply")])
def test_a_tiny_run_learns_and_resumes(drawn, tokenizer, tmp_path, goal: str, loss: str) -> None:
    model, heads = starting_nano(tokenizer)
    stage = Stage(goal, 8, lr=4e-3, batch=8, goal=goal, warmup=1, decay=0.0, save_every=4)
    run_stage(stage, model, heads, drawn, tokenizer, tmp_path, compiled=False)
    rows = [json.loads(line) for line in (tmp_path / f"{goal}.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(8))
    assert np.mean([row[loss] for row in rows[-3:]]) < 0.8 * np.mean([row[loss] for row in rows[:2]])
    run_stage(stage, model, heads, drawn, tokenizer, tmp_path, compiled=False)
    assert len((tmp_path / f"{goal}.jsonl").read_text().splitlines()) == 8, "a finished stage is not run again"
