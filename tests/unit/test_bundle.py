"""The bundle: what was written opens again, and every kind of tampering is named."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.bundle import (
    Bundle,
    BundleWriter,
    EmbeddingEntry,
    GraphEntry,
    Manifest,
    ModelFacts,
    Preprocessing,
    Source,
    TensorDecision,
    TensorSpec,
    info_rows,
    open_bundle,
)
from judo_edge.errors import BundleError, OutputError

MODEL = ModelFacts(
    architecture="Qwen2_5_VLForConditionalGeneration", hidden_size=4, num_layers=1, num_heads=2, num_kv_heads=1,
    head_dim=2, intermediate_size=8, vocab_size=3, rope_theta=10.0, mrope_section=(1, 0, 0), image_pad_id=0,
    vision_start_id=1, vision_end_id=2, eos_ids=(2,), vision_depth=1, vision_hidden_size=8, vision_window_size=112,
    patch_size=14, temporal_patch_size=2, spatial_merge_size=2,
)  # fmt: skip
TABLE = np.arange(12, dtype=np.float16).reshape(3, 4)


def manifest() -> Manifest:
    """Return a manifest as export would draft it, before the files are hashed."""
    spec = TensorSpec(dtype="float32", shape=("S", 4))
    graph = GraphEntry(file="decoder.onnx", data="decoder.data", opset=20, inputs={"x": spec}, outputs={"y": spec})
    return Manifest(
        name="tiny", created="2026-01-01T00:00:00Z", tools={"judo-edge": "0"}, model=MODEL, recipe={"name": "none"},
        source=Source(checkpoint="ck", digest="0" * 64), graphs={"decoder": graph},
        embedding=EmbeddingEntry(file="embedding.bin", dtype="float16", shape=(3, 4)),
        preprocessing=Preprocessing(image_size=224, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        decisions={"lm_head.weight": TensorDecision(form="int8-block32", stored_in="decoder.data", dtype="BF16")},
    )  # fmt: skip


def write(out: Path, force: bool = False) -> Path:
    """Write a bundle of a few bytes."""
    with BundleWriter(out, force) as writer:
        for name in ("decoder.onnx", "decoder.data", "tokenizer.json", "profile.toml"):
            writer.path(name).write_text(name)
        writer.path("embedding.bin").write_bytes(TABLE.tobytes())
        return writer.commit(manifest())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return the folder of a good bundle."""
    return write(tmp_path / "bundle")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest in place."""
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def refusal(folder: Path, verify: bool = True) -> str:
    """Return the one-line error of opening the folder."""
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_written_bundle_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert isinstance(opened, Bundle)
    assert opened.manifest.model == MODEL
    assert opened.manifest.decisions == manifest().decisions
    assert set(opened.manifest.files) == {path.name for path in bundle.iterdir()} - {"manifest.json"}
    np.testing.assert_array_equal(opened.embedding_table(), TABLE)
    path, entry = opened.graph("decoder")
    assert path == bundle / "decoder.onnx" and entry.inputs["x"].shape == ("S", 4)
    assert list(bundle.parent.iterdir()) == [bundle]


def test_digest_follows_the_content(bundle: Path, tmp_path: Path) -> None:
    same, other = write(tmp_path / "same"), write(tmp_path / "other")
    edit(other, lambda content: content.update(name="other"))
    assert open_bundle(bundle).digest == open_bundle(same).digest != open_bundle(other).digest


@pytest.mark.parametrize("name", ["decoder.onnx", "decoder.data", "embedding.bin", "tokenizer.json", "profile.toml"])
def test_changed_byte_is_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    assert f"{name} was changed" in refusal(bundle)


def test_without_verify_sizes_and_names_still_count(bundle: Path) -> None:
    (bundle / "decoder.data").write_text("decoder.dat!")
    assert open_bundle(bundle, verify=False)
    (bundle / "decoder.data").write_text("short")
    assert "decoder.data was changed: 5 bytes; wanted: 12 bytes" in refusal(bundle, verify=False)


def test_missing_extra_and_linked_files_are_named(bundle: Path) -> None:
    (bundle / "more").mkdir()
    (bundle / "more" / "extra.bin").write_text("x")
    assert "more/extra.bin is not listed" in refusal(bundle)
    (bundle / "more" / "extra.bin").unlink()
    (bundle / "decoder.data").rename(bundle.parent / "moved")
    assert "decoder.data is missing" in refusal(bundle)
    (bundle / "decoder.data").symlink_to(bundle.parent / "moved")
    assert "decoder.data is a symbolic link" in refusal(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../b", "a\\b", "C:x", "", ".", "manifest.json"])
def test_path_outside_the_folder_is_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda content: content["files"].update({name: {"sha256": "0" * 64, "bytes": 0}}))
    assert repr(name) in refusal(bundle)


def test_graph_cannot_use_a_file_that_is_not_listed(bundle: Path) -> None:
    edit(bundle, lambda content: content["graphs"]["decoder"].update(data="other.data"))
    assert "uses other.data but does not list it" in refusal(bundle)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_other_version_is_refused(bundle: Path, version: object) -> None:
    edit(bundle, lambda content: content.update(format_version=version))
    assert f"format_version {version!r}; wanted: format_version 1" in refusal(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format_version": 1}', "\xff"])
def test_broken_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    assert "manifest.json" in refusal(bundle)


def test_unknown_key_is_named(bundle: Path) -> None:
    edit(bundle, lambda content: content["model"].update(colour="red"))
    assert "model.colour" in refusal(bundle)


def test_embedding_of_the_wrong_size_is_refused(bundle: Path) -> None:
    edit(bundle, lambda content: content["embedding"].update(shape=[4, 4]))
    assert "embedding.bin holds 24 bytes; wanted: 32 bytes" in refusal(bundle)


def test_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "manifest.json" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "absent")


def test_unknown_names_list_the_choices(bundle: Path) -> None:
    opened = open_bundle(bundle)
    with pytest.raises(BundleError, match=r"no graph 'vision'; wanted: one of decoder"):
        opened.graph("vision")
    with pytest.raises(BundleError, match="not a file of this bundle"):
        opened.path_of("../x")


def test_existing_output_stays_without_force(bundle: Path) -> None:
    before = snapshot(bundle.parent)
    with pytest.raises(OutputError, match="exists already; do: pass --force"):
        write(bundle)
    assert snapshot(bundle.parent) == before


def test_force_replaces_a_bundle_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    write(bundle, force=True)
    assert open_bundle(bundle)
    assert list(tmp_path.iterdir()) == [bundle]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_text("x")
    with pytest.raises(OutputError, match="not a bundle, so --force does not replace it"):
        write(photos, force=True)
    assert snapshot(photos) == {"a.png": b"x"}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), ValueError("bug")])
def test_failure_keeps_the_earlier_bundle(bundle: Path, failure: BaseException) -> None:
    before = snapshot(bundle.parent)
    wanted = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(wanted), BundleWriter(bundle, force=True) as writer:
        writer.path("decoder.onnx").write_text("half")
        raise failure
    assert snapshot(bundle.parent) == before


def test_failed_rename_puts_the_earlier_bundle_back(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rename = snapshot(bundle.parent), Path.rename

    def failing(source: Path, target: Path) -> Path:
        if ".partial-" in source.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="Input/output error"):
        write(bundle, force=True)
    assert snapshot(bundle.parent) == before


def test_info_shows_decisions_and_hashes(bundle: Path) -> None:
    opened = open_bundle(bundle)
    rows = info_rows(opened)
    assert ("stored as int8-block32", "1 tensors") in rows
    assert any(what == "decoder.data" and opened.manifest.files[what].sha256 in value for what, value in rows)
    assert ("digest", opened.digest) in rows
