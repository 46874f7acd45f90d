"""The bundle's own keys and values: used for the prompts that begin with their tokens, and for no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judo_edge.bundle import Bundle, FileEntry
from judo_edge.bundle.manifest import PrefixEntry
from judo_edge.core import Decision, Floats, Frame
from judo_edge.errors import BundleError
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.prefix import prefix_from_bundle
from judo_edge.runtime.references import NearestReference, ReferencePhoto
from tests.scripted import HEAD_DIM, KV_HEADS, LAYERS, ScriptedEngine, photo, red_means_bad, scripted_bundle

SHAPE = (LAYERS, 2, 1, KV_HEADS, HEAD_DIM)


def with_prefix(folder: Path, ids: tuple[int, ...], num_values: int | None = None) -> Bundle:
    """Return a scripted bundle with a prefix of counting numbers."""
    bundle = scripted_bundle(folder)
    values = np.arange(num_values or len(ids) * int(np.prod(SHAPE)), dtype=np.float32)
    (bundle.folder / "prefix.bin").write_bytes(values.tobytes())
    files = {**bundle.manifest.files, "prefix.bin": FileEntry(sha256="0" * 64, bytes=values.nbytes)}
    entry = PrefixEntry(file="prefix.bin", ids=ids)
    manifest = bundle.manifest.model_copy(update={"prefix": entry, "files": files})
    return Bundle(bundle.folder, manifest, bundle.digest)


def test_prefix_belongs_to_prompts_that_begin_with_its_tokens(tmp_path: Path) -> None:
    bundle = with_prefix(tmp_path / "b", (7, 8, 9))
    known = prefix_from_bundle(bundle, np.array([7, 8, 9, 10]))
    assert known is not None and known.shape == (3, *SHAPE) and known[1].flat[0] == np.prod(SHAPE)
    assert prefix_from_bundle(bundle, np.array([7, 8, 10, 9])) is None
    assert prefix_from_bundle(bundle, np.array([7, 8, 9])) is None, "something must be left to read"
    assert prefix_from_bundle(scripted_bundle(tmp_path / "plain"), np.array([7, 8, 9, 10])) is None


def test_file_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"prefix\.bin holds 20 bytes"):
        prefix_from_bundle(with_prefix(tmp_path / "b", (7, 8, 9), 5), np.array([7, 8, 9, 10]))


def test_prefix_over_a_photo_is_refused(tmp_path: Path) -> None:
    pad = scripted_bundle(tmp_path / "plain").manifest.model.image_pad_id
    with pytest.raises(BundleError, match="photo"):
        prefix_from_bundle(with_prefix(tmp_path / "b", (7, pad)), np.array([7, pad, 9]))


def test_inspector_hands_the_prefix_to_the_engine(tmp_path: Path) -> None:
    plain = scripted_bundle(tmp_path / "plain")
    references = NearestReference([ReferencePhoto("ref", "0" * 64, lambda: photo(0))])
    ids = Inspector(plain, ScriptedEngine(red_means_bad), references).prompt.ids
    bundle = with_prefix(tmp_path / "b", tuple(int(i) for i in ids[:4]))
    started: list[Floats | None] = []

    class Watched(ScriptedEngine):
        def start(self, capacity: int, prefix: Floats | None = None) -> None:
            started.append(prefix)
            super().start(capacity, prefix)

    verdict = Inspector(bundle, Watched(red_means_bad), references).inspect(Frame("f", "p", photo(200), 0))
    assert verdict.decision is Decision.NOK
    assert started[0] is not None and started[0].shape == (4, *SHAPE)
