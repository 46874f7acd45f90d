"""The chain of parts against transformers' forward of the whole model, and its statistics against plain hooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import Qwen2_5_VLForConditionalGeneration

from judo_edge.calibration import Calibration, open_calibration
from judo_edge.calibration.job import Job
from judo_edge.calibration.run import calibrate
from judo_edge.calibration.samples import PairSet
from judo_edge.calibration.scratch import Scratch
from judo_edge.calibration.steps import Subject
from judo_edge.calibration.tokens import KIND
from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from judo_edge.vision.patches import patches_from_image
from tests.unit.calibration.conftest import SETTINGS

VISUAL, TEXT = ("query", "reference"), ("question", "mask", "prose")


@dataclass
class Whole:
    """What transformers' model gives for every pair."""

    logits: list[torch.Tensor] = field(default_factory=list)
    """(S, V) of each pair."""
    inputs: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    """Inputs of each linear by hub name, one tensor of rows for each pair."""
    cache: Any = None
    """Keys and values of the last pair."""


@pytest.fixture(scope="module")
def whole(checkpoint: Path, job: Job) -> Whole:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    result = Whole()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            rows = result.inputs.setdefault(f"{checkpoint_name_from_module_name(name)}.weight", [])
            module.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(args[0].detach().flatten(0, -2)))
    for tokens, pair in zip(job.sequences, job.chosen.pairs, strict=True):
        photos = job.subject.profile.in_image_order(pair.query, pair.reference)
        pixels = job.subject.preprocessing
        ids = torch.from_numpy(tokens.ids)[None]
        with torch.no_grad():
            output = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=torch.from_numpy(np.concatenate([patches_from_image(p.load(), pixels) for p in photos])),
                image_grid_thw=torch.tensor([pixels.grid_thw] * 2),
                mm_token_type_ids=(ids == job.subject.config.image_token_id).int(),
                use_cache=True,
            )
        result.logits.append(output.logits[0])
        result.cache = output.past_key_values
    return result


@pytest.fixture(scope="module")
def calibration(subject: Subject, chosen: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    out = tmp_path_factory.mktemp("out") / "calibration"
    calibrate(subject, chosen, out, SETTINGS)
    return open_calibration(out)


def final_rows(job: Job, folder: Path) -> Iterator[torch.Tensor]:
    """Run every step by itself and yield what the last layer gives for each pair."""
    steps = job.steps()[:-1]
    before: Scratch | None = None
    with torch.no_grad():
        for number, step in enumerate(steps):
            target = Scratch(folder / f"{number}.bin", step.lengths, step.width)
            target.__enter__()
            step.run(before, target, lambda *_: None)
            before = target
    assert before is not None
    for index in range(len(job.sequences)):
        yield torch.from_numpy(before.read(index + 1))


def test_logits_equal_those_of_the_whole_model(job: Job, whole: Whole, tmp_path: Path) -> None:
    weights, text = job.subject.weights, job.subject.config.text_config
    norm = torch.from_numpy(weights.rows("model.norm.weight", 0, text.hidden_size))
    head = torch.from_numpy(weights.rows("lm_head.weight", 0, text.vocab_size))
    for tokens, rows, wanted in zip(job.sequences, final_rows(job, tmp_path), whole.logits, strict=True):
        normed = torch.nn.functional.rms_norm(rows, norm.shape, norm, text.rms_norm_eps)
        torch.testing.assert_close(normed @ head.T, wanted[tokens.prefix :], atol=2e-5, rtol=1e-5)


def test_every_linear_layer_is_calibrated(calibration: Calibration, whole: Whole) -> None:
    assert set(calibration.weights) == set(whole.inputs)
    assert calibration.linear("model.layers.0.self_attn.q_norm.weight") is None


def test_ranges_equal_those_of_plain_hooks(calibration: Calibration, whole: Whole, job: Job) -> None:
    for weight in calibration.weights:
        found = calibration.linear(weight)
        assert found is not None
        for kinds, values in ((VISUAL, found.absmax_visual), (TEXT, found.absmax_text)):
            wanted = largest_by_hooks(weight, kinds, whole, job)
            np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5, err_msg=f"{weight} {kinds}")


def test_largest_values_by_kind_equal_those_of_plain_hooks(calibration: Calibration, whole: Whole, job: Job) -> None:
    entries = {entry.weight: entry for entry in calibration.file.linears}
    entry = entries["model.layers.1.mlp.down_proj.weight"]
    assert set(entry.amax) == {"system", *VISUAL, *TEXT}
    for kind, value in entry.amax.items():
        wanted = largest_by_hooks(entry.weight, (kind,), whole, job).max()
        np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_second_moments_equal_those_of_plain_hooks(calibration: Calibration, whole: Whole, job: Job) -> None:
    for weight in ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        rows = torch.cat([x[t.prefix :] for x, t in zip(whole.inputs[weight], job.sequences, strict=True)])
        gram = calibration.gram(weight)
        assert gram is not None
        np.testing.assert_allclose(gram, (rows.T @ rows / len(rows)).numpy(), rtol=1e-4, atol=1e-5)


def test_head_sees_the_rows_that_choose_the_reply(calibration: Calibration, whole: Whole, job: Job) -> None:
    rows = [x[t.prompt - 1 :] for x, t in zip(whole.inputs["lm_head.weight"], job.sequences, strict=True)]
    found = calibration.linear("lm_head.weight")
    assert found is not None and not found.absmax_visual.any()
    np.testing.assert_allclose(found.absmax_text, torch.cat(rows).abs().amax(dim=0).numpy(), rtol=1e-5, atol=1e-6)


def test_prefix_is_the_cache_of_the_whole_model(calibration: Calibration, whole: Whole, job: Job) -> None:
    prefix = calibration.prefix
    assert prefix is not None and prefix.ids.tolist() == job.prefix.tolist()
    length = len(prefix.ids)
    assert prefix.keys_values.shape == (length, 2, 2, 1, 2, 8)
    for number, layer in enumerate(whole.cache.layers):
        for side, values in enumerate((layer.keys, layer.values)):
            wanted = values[:, :, :length].permute(2, 0, 1, 3).numpy()
            np.testing.assert_allclose(prefix.keys_values[:, number, side], wanted, atol=1e-5)


def test_arrays_of_a_group_are_shared_and_stored_once(calibration: Calibration) -> None:
    query, key = (calibration.linear(f"model.layers.0.self_attn.{name}.weight") for name in ("q_proj", "k_proj"))
    assert query and key and query.entry.group == key.entry.group == query.entry.weight
    np.testing.assert_array_equal(query.smooth, key.smooth)
    with safe_open(calibration.folder / "calibration.safetensors", framework="numpy") as tensors:
        assert not any("k_proj" in name for name in tensors.keys())  # noqa: SIM118


def test_static_scale_covers_every_value_that_was_seen(calibration: Calibration) -> None:
    for weight in calibration.weights:
        found = calibration.linear(weight)
        assert found is not None
        ranges = np.maximum(found.absmax_visual, found.absmax_text)
        np.testing.assert_allclose(found.input_scale * 127, (ranges / found.smooth).max(), rtol=1e-5)


def largest_by_hooks(weight: str, kinds: tuple[str, ...], whole: Whole, job: Job) -> np.ndarray[Any, Any]:
    """Return the largest magnitudes (in,) of a linear's inputs over some kinds of token."""
    codes = [KIND[kind] for kind in kinds]  # type: ignore[index]
    parts = []
    for rows, tokens in zip(whole.inputs[weight], job.sequences, strict=True):
        if weight.startswith("visual."):  # both photos of a pair pass together
            parts.append(rows if kinds == VISUAL else rows[:0])
        elif weight == "lm_head.weight":
            chosen = np.isin(tokens.kinds[tokens.prompt - 1 :], codes)
            parts.append(rows[tokens.prompt - 1 :][torch.from_numpy(chosen)])
        else:
            parts.append(rows[torch.from_numpy(np.isin(tokens.kinds, codes))])
    together = torch.cat(parts).abs()
    return (together.amax(dim=0) if len(together) else torch.zeros(together.shape[1])).numpy()
