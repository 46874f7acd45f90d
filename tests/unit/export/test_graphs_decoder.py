"""The decoder graph gives transformers' logits: whole, in chunks, step by step, in batches with padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from judo_edge.core import Bools, Floats, Ints
from judo_edge.vision.mrope import positions_from_ids
from tests.traced import Traced, causal_mask

PAD_ID, IMAGE_ID = 0, 4
TOLERANCE = 2e-4
"""Of a logit, in units of the logits' spread (at least 1)."""


@dataclass(frozen=True)
class Prompt:
    """A batch of two prompts with two photos each, the second one shorter and padded on the left."""

    ids: Ints
    valid: Bools
    embeds: Floats
    positions: Ints
    logits: Floats
    """transformers' logits of the whole batch, (B, S, V)."""


@pytest.fixture(scope="module")
def prompt(case: Traced) -> Prompt:
    rng = np.random.default_rng(5)
    photo = [2, *[IMAGE_ID] * case.merged_side**2, 3]
    rows = [[*rng.integers(6, 90, 4), *photo, 7, *photo, *rng.integers(6, 90, n)] for n in (9, 6)]
    length = max(map(len, rows))
    ids = np.array([[PAD_ID] * (length - len(row)) + row for row in rows], np.int64)
    valid = ids != PAD_ID
    patches = rng.normal(size=(4, (2 * case.merged_side) ** 2, 1176)).astype(np.float32)
    return Prompt(ids, valid, *inputs_from(case, ids, valid, patches), transformers_logits(case, ids, valid, patches))


def inputs_from(case: Traced, ids: Ints, valid: Bools, patches: Floats) -> tuple[Floats, Ints]:
    """Make the decoder's inputs as the runtime does: our vision graph, our positions."""
    embeds = case.model.get_input_embeddings().weight.detach().numpy()[ids]
    embeds[ids == IMAGE_ID] = case.encode(patches).reshape(-1, embeds.shape[-1])
    positions = np.zeros((3, *ids.shape), np.int64)
    for row, keep in enumerate(valid):
        side = case.merged_side
        positions[:, row, keep] = positions_from_ids(ids[row, keep], IMAGE_ID, side, side)[0]
    return embeds, positions


def transformers_logits(case: Traced, ids: Ints, valid: Bools, patches: Floats) -> Floats:
    """Run the original from pixels to logits with its own positions and masks."""
    with torch.no_grad():
        output = case.model(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(valid.astype(np.int64)),
            pixel_values=torch.from_numpy(patches).flatten(0, 1),
            image_grid_thw=torch.tensor([[1, 2 * case.merged_side, 2 * case.merged_side]] * 4),
            mm_token_type_ids=torch.from_numpy((ids == IMAGE_ID).astype(np.int32)),
        )
    return output.logits.numpy()


def in_chunks(case: Traced, prompt: Prompt, sizes: list[int]) -> tuple[Floats, Floats]:
    """Feed the prompt in chunks with the growing KV; return all logits and the whole KV."""
    past, logits, start = case.empty_past(2), [], 0
    for size in filter(None, sizes):
        stop = start + size
        mask = causal_mask(prompt.valid[:, :stop], past=start)
        part = slice(start, stop)
        found, present = case.decode(prompt.embeds[:, part], prompt.positions[:, :, part], mask, past, np.arange(size))
        past, start = np.concatenate([past, present]), stop
        logits.append(found)
    return np.concatenate(logits, axis=1), past


def assert_equal_where_valid(found: Floats, prompt: Prompt) -> None:
    spread = prompt.logits.std()
    assert spread > 0.1
    error = np.abs(found - prompt.logits)[prompt.valid].max()
    assert error < TOLERANCE * max(1.0, spread), error


def test_prefill_equals_transformers(case: Traced, prompt: Prompt) -> None:
    logits, present = in_chunks(case, prompt, [prompt.ids.shape[1]])
    assert_equal_where_valid(logits, prompt)
    s = case.shape
    assert present.shape == (prompt.ids.shape[1], s.layers, 2, 2, s.kv_heads, s.hidden_size // s.heads)


def test_one_token_at_a_time_equals_transformers(case: Traced, prompt: Prompt) -> None:
    steps = min(prompt.ids.shape[1], 60)
    logits, _ = in_chunks(case, prompt, [prompt.ids.shape[1] - steps, *[1] * steps])
    assert_equal_where_valid(logits, prompt)


def test_chunks_equal_one_prefill(case: Traced, prompt: Prompt) -> None:
    length = prompt.ids.shape[1]
    whole, whole_kv = in_chunks(case, prompt, [length])
    parts, parts_kv = in_chunks(case, prompt, [7, 1, 2, length - 10])
    np.testing.assert_allclose(parts[prompt.valid], whole[prompt.valid], atol=1e-5 * max(1, whole.std()))
    kept = [np.moveaxis(kv, 3, 0)[prompt.valid] for kv in (parts_kv, whole_kv)]  # padding sees what it likes
    np.testing.assert_allclose(*kept, atol=1e-4)


def test_only_the_asked_rows_in_the_asked_order(case: Traced, prompt: Prompt) -> None:
    whole, _ = in_chunks(case, prompt, [prompt.ids.shape[1]])
    for rows in ([20], [3, 20, 3], []):
        found, _ = case.decode(
            prompt.embeds, prompt.positions, causal_mask(prompt.valid), case.empty_past(2), np.array(rows, np.int64)
        )
        np.testing.assert_allclose(found, whole[:, rows], atol=1e-5 * max(1, whole.std()))


def test_batch_of_one_equals_its_row_in_a_batch_of_two(case: Traced, prompt: Prompt) -> None:
    keep = prompt.valid[1]
    embeds, positions = prompt.embeds[1:, keep], prompt.positions[:, 1:, keep]
    rows = np.arange(int(keep.sum()))
    alone, _ = case.decode(embeds, positions, causal_mask(np.ones((1, len(rows)), np.bool_)), case.empty_past(1), rows)
    error = np.abs(alone[0] - prompt.logits[1, keep]).max()
    assert error < TOLERANCE * max(1.0, prompt.logits.std())
