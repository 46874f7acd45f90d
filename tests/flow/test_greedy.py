"""The whole path on a tiny random model: what the runtime writes is what transformers writes, token for token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.cli import main
from judo_edge.core import Frame
from judo_edge.protocol.profile import load_profile, save_profile
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.prompt import ImageOrder
from judo_edge.runtime.references import NearestReference, ReferencePhoto
from tests.checkpoints import complete_checkpoint
from tests.scripted import photo, save_photo

torch = pytest.importorskip("torch", reason="needs the extra export")
from tests.parity import transformers_ids

NUM_NEW = 16


@pytest.fixture(scope="module", params=[(56, 1), (504, 3)], ids=["56px", "504px-sharded"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small single file, and JUDO's 18x18 tokens (ragged windows) from several shards."""
    size, shards = request.param
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    complete_checkpoint(folder, image_size=size, seed=3, shards=shards)
    profile = load_profile(folder / "profile.toml")
    save_profile(profile.model_copy(update={"max_new_tokens": NUM_NEW}), folder / "profile.toml", force=True)
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Bundle:
    """Export as a user does."""
    out = checkpoint.parent / "bundle"
    assert main(["export", str(checkpoint), "--recipe", "cpu-fp32", "--out", str(out)]) == 0
    return open_bundle(out)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.mark.parametrize("order", ["query-first", "normal-first"])
def test_replies_equal_transformers_greedy(model: Any, bundle: Bundle, order: ImageOrder) -> None:
    normal = photo(30, seed=5, size=(90, 70))
    references = NearestReference([ReferencePhoto("n", "0" * 64, lambda: normal)])
    written = []
    with engine_from_bundle(bundle, threads=1) as engine:
        inspector = Inspector(bundle, engine, references)
        inspector.prompt.order = order
        for seed in range(3):
            query = photo(80 * seed, seed=seed)
            photos = (query, normal) if order == "query-first" else (normal, query)
            inspection = inspector.look(Frame(f"f{seed}", "p", query, 0))
            assert list(inspection.ids) == transformers_ids(model, bundle, inspector, photos, NUM_NEW)
            written.append(inspection.ids)
    assert len(set(written)) > 1, "the replies must depend on the photos, or this test proves little"
    assert len({token for ids in written for token in ids}) > 3


def test_random_model_is_not_decidable_but_timed(bundle: Bundle) -> None:
    references = NearestReference([ReferencePhoto("n", "0" * 64, lambda: photo(30))])
    with engine_from_bundle(bundle, threads=1) as engine:
        verdict = Inspector(bundle, engine, references).inspect(Frame("f", "p", photo(9), 0))
    assert verdict.decision.value == "NOT_DECIDABLE" and verdict.reason.startswith("invalid reply")
    unused = {"verify"}  # nothing is foreseen of a random model
    assert all(seconds > 0 for stage, seconds in verdict.timing.seconds.items() if stage not in unused)


def test_broken_graph_is_an_engine_error(bundle: Bundle, tmp_path: Path) -> None:
    from judo_edge.errors import EngineError
    from judo_edge.runtime.engines.onnxruntime import SessionBackend

    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        SessionBackend({"vision": tmp_path / "broken.onnx"})
    with engine_from_bundle(bundle, threads=1) as engine, pytest.raises(EngineError, match=r"vision\.onnx"):
        engine.encode(np.zeros((1, 3, 1176), np.float32))


def test_inspect_command_runs_the_real_engine(bundle: Bundle, tmp_path: Path) -> None:
    save_photo(tmp_path / "photos" / "a.png", 90)
    good = save_photo(tmp_path / "good.png", 10)
    command = ["inspect", str(bundle.folder), "--part", "lid", "--images", str(tmp_path / "photos"), "--threads", "1"]
    assert main([*command, "--reference", str(good), "--out", str(tmp_path / "out")]) == 3, "random weights say nothing"
    (entry,) = [json.loads(text) for text in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert entry["decision"] == "NOT_DECIDABLE" and entry["reply"]["text"] and entry["seconds"]["decode"] > 0


def test_second_export_to_the_same_folder_is_refused(
    checkpoint: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "--recipe", "cpu-fp32", "--out", str(bundle.folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert open_bundle(bundle.folder).digest == bundle.digest
