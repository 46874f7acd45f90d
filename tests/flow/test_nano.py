"""The shipped JUDO-nano with its adapter: equal to transformers after PEFT's merge, and int8 close to float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `export` (torch)")
peft = pytest.importorskip("peft", reason="needs the extra `adapt` (peft)")

from judo_edge.adapt.drawing.pairs import Pair
from judo_edge.adapt.drawing.parts import ADAPTER_KIND, BASE_KINDS
from judo_edge.adapt.heldout import heldout_pairs
from judo_edge.bundle import Bundle, open_bundle
from judo_edge.core import Decision, Frame
from judo_edge.export.pipeline import export_bundle, shipped_checkpoints
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN
from tests.pairs import PairReferences
from tests.parity import transformers_ids, transformers_inputs

NUM_PAIRS = 64
ROW_TOLERANCE = 1e-4
"""Largest distance of a vision row from transformers', as a share of the row's norm."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return heldout_pairs((*BASE_KINDS, ADAPTER_KIND), NUM_PAIRS, seed=78_000_000)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("nano")
    recipes = ("cpu-fp32", "cpu-int8")
    return {name: open_bundle(export_bundle("judo-nano", [ADAPTER_KIND], name, folder / name)) for name in recipes}


@pytest.fixture(scope="module")
def inspections(pairs: list[Pair], bundles: dict[str, Bundle]) -> dict[str, list[Inspection]]:
    return {name: inspected(bundle, pairs) for name, bundle in bundles.items()}


def inspected(bundle: Bundle, pairs: list[Pair], is_guarded: bool = True) -> list[Inspection]:
    with engine_from_bundle(bundle) as engine:
        inspector = Inspector(bundle, engine, PairReferences(pairs), is_guarded=is_guarded)
        return [inspector.look(Frame(str(i), pair.kind, pair.query, 0)) for i, pair in enumerate(pairs)]


@pytest.fixture(scope="module")
def merged() -> Any:
    """The checkpoint with its adapter merged by PEFT, in float32."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    folder = shipped_checkpoints()["judo-nano"]
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, folder / "adapters" / ADAPTER_KIND).merge_and_unload().eval()


def test_float32_replies_equal_transformers_token_for_token(
    pairs: list[Pair], bundles: dict[str, Bundle], inspections: dict[str, list[Inspection]], merged: Any
) -> None:
    bundle = bundles["cpu-fp32"]
    plain = inspected(bundle, pairs, is_guarded=False)
    with engine_from_bundle(bundle) as engine:
        inspector = Inspector(bundle, engine, PairReferences(pairs))
        for pair, greedy, guarded in zip(pairs, plain, inspections["cpu-fp32"], strict=True):
            cap = inspector.model.profile.max_new_tokens
            expected = transformers_ids(merged, bundle, inspector, (pair.query, pair.reference), cap)
            assert list(greedy.ids) == expected
            if greedy.verdict.decision is not Decision.NOT_DECIDABLE:
                assert guarded.ids == greedy.ids and guarded.verdict.num_held == 0
    assert len({inspection.ids for inspection in plain}) > NUM_PAIRS // 3


def test_vision_rows_equal_transformers_in_order(pairs: list[Pair], bundles: dict[str, Bundle], merged: Any) -> None:
    bundle = bundles["cpu-fp32"]
    with engine_from_bundle(bundle) as engine, torch.no_grad():
        inspector = Inspector(bundle, engine, PairReferences(pairs))
        for pair in pairs[:16]:
            inputs = transformers_inputs(bundle, inspector, (pair.query, pair.reference))
            patches = inputs["pixel_values"]
            rows = merged.model.get_image_features(patches, inputs["image_grid_thw"]).pooler_output
            theirs = torch.cat(list(rows)).numpy()
            ours = engine.encode(patches.numpy().reshape(2, -1, patches.shape[1])).rows.reshape(theirs.shape)
            distance = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
            assert distance.max() < ROW_TOLERANCE


def test_int8_says_what_float32_says(inspections: dict[str, list[Inspection]]) -> None:
    pooled = np.zeros(2)
    for exact, rounded in zip(inspections["cpu-fp32"], inspections["cpu-int8"], strict=True):
        assert exact.verdict.reply and rounded.verdict.reply
        one, other = (item.verdict.reply.mask.cells for item in (exact, rounded))  # type: ignore[union-attr]
        pooled += (2 * len(one & other), len(one) + len(other))
        margins = exact.verdict.margins
        if min(abs(margins[MASK_MARGIN]), abs(margins[ANSWER_MARGIN])) > 1:
            assert rounded.verdict.decision is exact.verdict.decision
    assert pooled[0] / pooled[1] >= 0.97


def test_the_shipped_model_is_small_and_documented() -> None:
    folder: Path = shipped_checkpoints()["judo-nano"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 24 * 2**20
    card = (folder / "MODEL_CARD.md").read_text()
    assert "python -m judo_edge.adapt" in card and "seed" in card.lower()
