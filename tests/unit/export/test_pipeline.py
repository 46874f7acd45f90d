"""The whole export: bundles that run as transformers runs the checkpoint, and failures that leave no trace."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.core import Floats
from judo_edge.errors import AdapterError, BundleError, CheckpointError, ConfigError, JudoEdgeError, OutputError
from judo_edge.export import pipeline, plan, preflight
from judo_edge.export.pipeline import ExportProgress, checkpoint_folder, export_bundle
from judo_edge.export.resume import work_folder
from judo_edge.vision.mrope import positions_from_ids
from tests.checkpoints import VOCABULARY, complete_checkpoint
from tests.disks import file_size_limit, small_disk
from tests.tiny import TinyShape, tiny_model
from tests.traced import causal_mask, session_from
from tests.traced_once import graphs_traced_once

SEED = 11
SHAPE = TinyShape(vocab_size=VOCABULARY)
IDS = np.array([20, 21, 2, *[4] * 64, 3, 2, *[4] * 64, 3, 30, 31, 32, 33])
"""Two photos of 64 tokens between text."""


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    with graphs_traced_once():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_checkpoint(tmp_path_factory.mktemp("single") / "tiny", seed=SEED)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "qkv", "lm_head"])
    return save_adapter(tmp_path_factory.mktemp("adapter") / "solar", config)


@pytest.fixture(scope="module")
def bundles(checkpoint: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one bundle for each shipped recipe, with the adapter merged."""
    folder = tmp_path_factory.mktemp("bundles")
    return {name: export_bundle(checkpoint, [adapter], name, folder / name) for name in ("cpu-fp32", "cpu-int8")}


def save_adapter(folder: Path, config: LoraConfig, shape: TinyShape = SHAPE) -> Path:
    model = get_peft_model(tiny_model(SEED, shape), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(str(folder))
    return folder


def run_transformers(adapter: Path, patches: Floats) -> tuple[Floats, Floats]:
    """Return visual tokens (2, 64, D) and logits (S, V) of the checkpoint merged by PEFT."""
    model: Any = PeftModel.from_pretrained(tiny_model(SEED, SHAPE), str(adapter)).merge_and_unload().eval()
    grid, flat = torch.tensor([[1, 16, 16]] * 2), torch.from_numpy(patches).flatten(0, 1)
    ids = torch.from_numpy(IDS)[None]
    with torch.no_grad():
        tokens = torch.stack(list(model.model.get_image_features(flat, image_grid_thw=grid).pooler_output))
        logits = model(input_ids=ids, pixel_values=flat, image_grid_thw=grid, mm_token_type_ids=(ids == 4).int()).logits
    return tokens.numpy(), logits[0].numpy()


def run_bundle(bundle: Bundle, patches: Floats) -> tuple[Floats, Floats]:
    """Return the same from the two graphs and the table of a bundle."""
    (vision, _), (decoder, _) = bundle.graph("vision"), bundle.graph("decoder")
    tokens = session_from(vision).run(None, {"pixel_values": patches})[0]
    embeds = np.array(bundle.embedding_table()[IDS], np.float32)
    embeds[bundle.manifest.model.image_pad_id == IDS] = tokens.reshape(-1, embeds.shape[1])
    model = bundle.manifest.model
    feeds = {
        "inputs_embeds": embeds[None],
        "positions": positions_from_ids(IDS, model.image_pad_id, 8, 8)[0][:, None],
        "mask": causal_mask(np.ones((1, len(IDS)), np.bool_)),
        "past": np.zeros((0, model.num_layers, 2, 1, model.num_kv_heads, model.head_dim), np.float32),
        "rows": np.arange(len(IDS)),
    }
    return tokens, session_from(decoder).run(None, feeds)[0][0]


def relative_rms(found: Floats, wanted: Floats) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean()))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def unchanged(folder: Path, error: type[BaseException], match: str) -> Iterator[None]:
    """Expect a one-line error and a folder that is afterwards what it was before."""
    before = snapshot(folder)
    with pytest.raises(error, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert snapshot(folder) == before


def test_fp32_bundle_equals_transformers_and_int8_is_close(
    checkpoint: Path, adapter: Path, bundles: dict[str, Path]
) -> None:
    patches = np.random.default_rng(0).standard_normal((2, 256, 1176)).astype(np.float32)
    tokens, logits = run_transformers(adapter, patches)
    for name, limits in (("cpu-fp32", (1e-5, 1e-5)), ("cpu-int8", (1e-5, 0.05))):
        found_tokens, found_logits = run_bundle(open_bundle(bundles[name]), patches)
        losses = relative_rms(found_tokens, tokens), relative_rms(found_logits, logits)
        assert losses[0] < limits[0] and losses[1] < limits[1], (name, losses)
    assert losses[1] > 1e-4  # the int8 bundle really holds int8
    fp32 = run_bundle(open_bundle(bundles["cpu-fp32"]), patches)[1]
    assert (fp32.argmax(1) == logits.argmax(1)).all()


def test_manifest_states_every_decision(checkpoint: Path, adapter: Path, bundles: dict[str, Path]) -> None:
    for name, linear, head, table in (
        ("cpu-fp32", "float32", "float32", "float32"),
        ("cpu-int8", "int8-block128", "int8-block128", "float16"),
    ):
        manifest = open_bundle(bundles[name]).manifest
        forms = {tensor: item.form for tensor, item in manifest.decisions.items()}
        assert forms["model.layers.0.mlp.down_proj.weight"] == linear and forms["lm_head.weight"] == head
        assert forms["model.embed_tokens.weight"] == manifest.embedding.dtype == table
        assert forms["visual.blocks.0.attn.qkv.weight"] == forms["model.norm.weight"] == "float32"
        assert "unused" not in forms.values()
        changed = {tensor for tensor, item in manifest.decisions.items() if item.adapters == ("solar",)}
        assert "model.layers.1.self_attn.q_proj.weight" in changed and "model.norm.weight" not in changed
        assert len(changed) == manifest.source.adapters[0].tensors
        assert manifest.recipe["name"] == name and manifest.name == f"tiny+solar-{name}"
        assert manifest.model.eos_ids == (1,) and manifest.preprocessing.image_size == 224
        assert manifest.graphs["decoder"].inputs["past"].shape == ("P", 2, 2, "B", 2, 8)
        assert manifest.embedding.shape == (VOCABULARY, 32)


def test_graph_files_hold_no_numbers_and_no_paths(bundles: dict[str, Path]) -> None:
    for path in bundles.values():
        for graph in ("vision.onnx", "decoder.onnx"):
            raw = (path / graph).read_bytes()
            assert b"site-packages" not in raw and os.fsencode(Path.cwd()) not in raw


def test_sharded_checkpoint_gives_the_same_bytes(
    checkpoint: Path, adapter: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    sharded = complete_checkpoint(tmp_path / "tiny", seed=SEED, shards=4)
    assert (sharded / "model.safetensors.index.json").exists()
    again = export_bundle(sharded, [adapter], "cpu-int8", tmp_path / "out")
    one, many = snapshot(bundles["cpu-int8"]), snapshot(again)
    assert one.pop("manifest.json") != many.pop("manifest.json")
    assert one == many


def test_tied_head_and_keep_float(tmp_path: Path) -> None:
    folder = complete_checkpoint(tmp_path / "tiny", tied=True)
    text = (Path("export") / "cpu-int8.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("keep_float = []", 'keep_float = ["*.0.mlp.down_proj.weight"]'))
    manifest = open_bundle(export_bundle(folder, [], tmp_path / "mine.toml", tmp_path / "out")).manifest
    head, kept = manifest.decisions["lm_head.weight"], manifest.decisions["model.layers.0.mlp.down_proj.weight"]
    assert (head.form, head.reason) == ("int8-block128", "shares model.embed_tokens.weight")
    assert (kept.form, kept.reason) == ("float32", "keep_float")
    assert manifest.decisions["model.layers.1.mlp.down_proj.weight"].form == "int8-block128"


def test_progress_counts_every_byte(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[ExportProgress] = []
    out = export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out", progress=seen.append)
    steps = [step for step in dict.fromkeys(item.step for item in seen) if step != "source"]
    assert steps == ["reading", "tracing", "vision", "decoder", "embedding", "hashing"]
    written = [item for item in seen if item.step in ("vision", "decoder", "embedding")]
    assert [item.done for item in written] == sorted(item.done for item in written)
    assert written[-1].done == written[-1].total > 0
    assert sum(path.stat().st_size for path in out.glob("*.data")) >= written[-1].done - 2 * VOCABULARY * 32
    assert seen[-1].done == seen[-1].total == sum(item.bytes for item in open_bundle(out).manifest.files.values())


def test_existing_output_is_kept(checkpoint: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    out = Path(shutil.copytree(bundles["cpu-int8"], tmp_path / "out"))
    with unchanged(tmp_path, OutputError, r"out exists already; do: pass --force"):
        export_bundle(checkpoint, recipe="cpu-fp32", out=out)
    export_bundle(checkpoint, recipe="cpu-fp32", out=out, force=True)
    assert open_bundle(out).manifest.recipe["name"] == "cpu-fp32"
    assert list(tmp_path.iterdir()) == [out]


def refused_checkpoint(folder: Path, kind: str) -> tuple[type[JudoEdgeError], str]:
    """Break a complete checkpoint; return the error that its export must give."""
    shard = sorted(folder.glob("*.safetensors"))[1]
    config = json.loads((folder / "config.json").read_text())
    if kind == "missing shard":
        shard.unlink()
        return CheckpointError, rf"the shard \S*{shard.name} is missing"
    if kind == "cut off shard":
        shard.write_bytes(shard.read_bytes()[:-1])
        return CheckpointError, rf"{shard.name} is cut off"
    if kind == "other config":
        config["text_config"]["intermediate_size"] = 64
        (folder / "config.json").write_text(json.dumps(config))
        return CheckpointError, r"gate_proj\.weight has shape \[48, 32\]; wanted: shape \[64, 32\] by config\.json"
    if kind == "more layers":
        config["text_config"].update(num_hidden_layers=3, layer_types=["full_attention"] * 3)
        (folder / "config.json").write_text(json.dumps(config))
        return CheckpointError, r"lacks the tensor model\.layers\.2\."
    if kind == "no profile":
        (folder / "profile.toml").unlink()
        return CheckpointError, r"profile\.toml is missing.*judo-edge prompt import"
    if kind == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        return CheckpointError, r"tokenizer\.json is missing; do: make it"
    if kind == "other tokenizer":
        config["image_token_id"] = 5
        (folder / "config.json").write_text(json.dumps(config))
        return CheckpointError, r"<\|image_pad\|> is 4 in tokenizer\.json and 5 in config\.json"
    if kind == "other family":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
        return CheckpointError, r"llama"
    if kind == "broken profile":
        text = (folder / "profile.toml").read_text()
        (folder / "profile.toml").write_text(text.replace("image_size = 224", "image_size = 225"))
        return CheckpointError, r"image size 225; wanted: a multiple of 28"
    (folder / "preprocessor_config.json").unlink()
    return CheckpointError, r"no image_mean and image_std; wanted: preprocessor_config\.json"


KINDS = [
    *("missing shard", "cut off shard", "other config", "more layers", "no profile", "no tokenizer"),
    *("other tokenizer", "other family", "broken profile", "no statistics"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_unusable_checkpoint_is_refused_before_anything_is_written(
    kind: str, bundles: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = complete_checkpoint(tmp_path_factory.mktemp("broken") / "tiny", shards=3)
    out = Path(shutil.copytree(bundles["cpu-int8"], tmp_path / "out"))
    error, match = refused_checkpoint(folder, kind)
    with unchanged(tmp_path, error, match):
        export_bundle(folder, recipe="cpu-int8", out=out, force=True)


def test_adapter_of_another_base_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = TinyShape(vocab_size=VOCABULARY, hidden_size=64, mrope_section=(2, 3, 3))
    adapter = save_adapter(tmp_path / "in" / "a", LoraConfig(r=4, target_modules=["q_proj"]), other)
    match = r"a: model\.layers\.0\.self_attn\.q_proj\.weight: lora_A has shape \[4, 64\]; wanted: \[4, 32\]"
    with unchanged(tmp_path, AdapterError, match):
        export_bundle(checkpoint, [adapter], "cpu-int8", tmp_path / "out")


def test_unknown_names_list_the_choices(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with unchanged(tmp_path, ConfigError, r"wanted: one of cpu-fp32, cpu-int4, cpu-int8"):
        export_bundle(checkpoint, recipe="nothing", out=tmp_path / "out")
    monkeypatch.setattr(pipeline, "shipped_checkpoints", lambda: {"judo-nano": checkpoint})
    assert checkpoint_folder("judo-nano") == checkpoint
    with unchanged(tmp_path, CheckpointError, r"judo-giga is not a folder; wanted: .*one of judo-nano"):
        export_bundle("judo-giga", out=tmp_path / "out")


def test_adapter_beside_its_checkpoint_goes_by_name(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "tiny"))
    shutil.copytree(adapter, folder / "adapters" / "solar")
    assert pipeline.adapter_folder(folder, "solar") == folder / "adapters" / "solar"
    with pytest.raises(AdapterError, match=r"lunar is not a folder; wanted: an adapter folder, or one of solar"):
        pipeline.adapter_folder(folder, "lunar")


def test_tampered_bundle_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    for name in sorted(path.name for path in bundles["cpu-int8"].iterdir() if path.name != "manifest.json"):
        folder = Path(shutil.copytree(bundles["cpu-int8"], tmp_path / name))
        raw = bytearray((folder / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (folder / name).write_bytes(raw)
        with unchanged(folder, BundleError, rf"{name} was changed"):
            open_bundle(folder)


def test_interrupt_keeps_the_earlier_bundle_and_the_work(
    checkpoint: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(bundles["cpu-int8"], tmp_path / "out"))

    def interrupt(item: ExportProgress) -> None:
        if item.step == "decoder":
            raise KeyboardInterrupt("Ctrl-C")  # what the signal raises, wherever the export happens to be

    before = snapshot(out)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, recipe="cpu-fp32", out=out, force=True, progress=interrupt)
    assert snapshot(out) == before and work_folder(out).is_dir()
    export_bundle(checkpoint, recipe="cpu-fp32", out=out, force=True)
    assert open_bundle(out).manifest.recipe["name"] == "cpu-fp32" and list(tmp_path.iterdir()) == [out]


def test_full_disk_is_found_before_and_while_writing(
    checkpoint: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {
        name: sum(-(-len(raw) // 4096) * 4096 for raw in snapshot(path).values()) for name, path in bundles.items()
    }
    with small_disk(tmp_path, sizes["cpu-int8"] + sizes["cpu-fp32"] // 2) as disk:
        out = disk / "out"
        monkeypatch.setattr(preflight, "MARGIN_BYTES", 50_000)
        export_bundle(checkpoint, recipe="cpu-int8", out=out)
        with unchanged(disk, OutputError, r"GB free; wanted: .* GB for out; do: free space"):
            export_bundle(checkpoint, recipe="cpu-fp32", out=out, force=True)
        monkeypatch.setattr(preflight, "MARGIN_BYTES", -(1 << 30))
        with pytest.raises(OutputError, match=r"cannot write \S*out: the disk is full; do: free space"):
            export_bundle(checkpoint, recipe="cpu-fp32", out=out, force=True)
        assert open_bundle(out).manifest.recipe["name"] == "cpu-int8"


def test_refused_write_keeps_the_earlier_bundle(checkpoint: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    out = Path(shutil.copytree(bundles["cpu-int8"], tmp_path / "out"))
    match = r"cannot write \S*out: the file would exceed"
    with unchanged(out, OutputError, match), file_size_limit(100_000):
        export_bundle(checkpoint, recipe="cpu-fp32", out=out, force=True)


def test_disk_that_fills_during_the_last_table(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a disk that another program fills: the write of the table fails, the graphs are complete."""
    write = os.pwrite

    def full(fd: int, data: memoryview, place: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name == plan.EMBEDDING_FILE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, place)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=r"the disk is full; do: .*; the same command goes on from"):
        export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out")
    monkeypatch.undo()
    seen: list[ExportProgress] = []
    export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out", progress=seen.append)
    assert {item.step for item in seen} <= {"reading", "tracing", "embedding", "source", "hashing"}


def test_missing_parent_folder_is_made_and_unwritable_one_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with unchanged(tmp_path, OutputError, r"cannot write"):
        export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "file" / "out")
