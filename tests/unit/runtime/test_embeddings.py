"""Embeddings of references: computed once, kept over a restart, copied from the engine; the nearest is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judo_edge.errors import EngineError
from judo_edge.runtime.arraystore import ArrayKey, ArrayStore
from judo_edge.runtime.choice import NearestEmbedding, global_feature
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.embeddings import EmbeddingCache, embedding_key
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.vision.geometry import Preprocessing

PREPROCESSING = Preprocessing(resize=56, image_size=56)


def reference(number: int) -> ReferencePhoto:
    return ReferencePhoto(f"r{number}", f"{number:064x}", lambda: np.zeros((8, 8, 3), np.uint8))


class Vision:
    """Returns one buffer again and again, as an engine may."""

    def __init__(self, has_features: bool = True) -> None:
        self.num_passes = 0
        self.rows = np.zeros((4, 6), np.float32)
        self.features = np.zeros((16, 3), np.float32) if has_features else None

    def __call__(self, value: float) -> Embedding:
        self.num_passes += 1
        self.rows[:] = value
        if self.features is not None:
            self.features[:] = -value
        return Embedding(self.rows, self.features)


def key(number: int, engine: str = "e") -> ArrayKey:
    return embedding_key(reference(number), PREPROCESSING, engine)


def test_embeddings_are_copied_and_the_oldest_is_dropped() -> None:
    cache, vision = EmbeddingCache(max_entries=2), Vision()
    first = cache.get(key(1), lambda: vision(1))
    cache.get(key(2), lambda: vision(2))
    assert cache.get(key(1), lambda: vision(9)) is first, "the same object: what hangs on it need not be made again"
    assert (first.rows == 1).all() and first.features is not None and (first.features == -1).all()
    cache.get(key(3), lambda: vision(3))
    cache.get(key(2), lambda: vision(4))
    assert vision.num_passes == 4 and len(cache) == 2
    assert (cache.counts.computed, cache.counts.hits, cache.counts.read) == (4, 1, 0)
    with pytest.raises(ValueError, match="read-only"):
        first.rows[0, 0] = 5


@pytest.mark.parametrize("has_features", [True, False])
def test_after_a_restart_nothing_is_computed(tmp_path: Path, has_features: bool) -> None:
    vision = Vision(has_features)
    before = EmbeddingCache(ArrayStore(tmp_path)).get(key(1), lambda: vision(1))
    again = EmbeddingCache(ArrayStore(tmp_path))
    for _ in range(2):
        found = again.get(key(1), lambda: vision(2))
        assert np.array_equal(found.rows, before.rows) and (found.features is not None) == has_features
    assert vision.num_passes == 1
    assert (again.counts.computed, again.counts.read, again.counts.hits) == (0, 1, 1)


def test_all_that_decides_an_embedding_is_in_its_key() -> None:
    other = PREPROCESSING.model_copy(update={"mean": (0.5, 0.5, 0.5)})
    keys = {key(1), key(2), key(1, "f"), embedding_key(reference(1), other, "e")}
    assert len(keys) == 4 and key(1).label == "r1"


def test_what_was_dropped_from_memory_is_read_from_disk(tmp_path: Path) -> None:
    cache, vision = EmbeddingCache(ArrayStore(tmp_path), max_entries=1), Vision()
    for number in (1, 2, 1):
        assert (cache.get(key(number), lambda number=number: vision(number)).rows == number).all()
    assert (cache.counts.computed, cache.counts.read) == (2, 1)


def test_hurt_embedding_is_computed_again_and_replaced(tmp_path: Path) -> None:
    vision = Vision()
    EmbeddingCache(ArrayStore(tmp_path)).get(key(1), lambda: vision(1))
    (path,) = tmp_path.glob("*.arrays")
    path.write_bytes(path.read_bytes()[:-1])
    store = ArrayStore(tmp_path)
    assert (EmbeddingCache(store).get(key(1), lambda: vision(7)).rows == 7).all()
    assert store.counts.damaged == 1 and vision.num_passes == 2
    after = EmbeddingCache(ArrayStore(tmp_path))
    assert (after.get(key(1), lambda: vision(9)).rows == 7).all() and vision.num_passes == 2


def test_nearest_by_direction_not_by_length() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((4, 6)).astype(np.float32) for _ in range(64)]
    photos = [reference(number) for number in range(64)]
    asked: list[str] = []

    def embedding_of(photo: ReferencePhoto) -> Embedding:
        asked.append(photo.reference_id)
        return Embedding(rows[int(photo.sha256, 16)])

    choice = NearestEmbedding(embedding_of)
    for wanted in (41, 3):
        found = choice.nearest(Embedding(3 * rows[wanted] + 0.01), photos)
        assert found.photo is photos[wanted] and found.embedding.rows is rows[wanted]
        assert 0.99 < found.similarity <= 1.0001
    assert len(asked) == 64 + 2, "embedded once; a choice asks for the chosen one only"
    cosines = [float(global_feature(Embedding(r)) @ global_feature(Embedding(rows[0]))) for r in rows]
    assert int(np.argmax(cosines)) == 0 and abs(cosines[0] - 1) < 1e-6


def test_one_reference_needs_no_choice_and_the_first_wins_a_tie() -> None:
    rows = np.ones((4, 6), np.float32)
    choice = NearestEmbedding(lambda photo: Embedding(rows))
    assert choice.nearest(Embedding(-rows), [reference(5)]).photo.reference_id == "r5"
    assert choice.nearest(Embedding(rows), [reference(2), reference(1)]).photo.reference_id == "r2"
    with pytest.raises(ValueError, match="no reference"):
        choice.nearest(Embedding(rows), [])


def test_where_things_are_counts_and_many_tokens_are_averaged() -> None:
    rng = np.random.default_rng(1)
    fields = np.zeros((2, 18, 18, 5), np.float32)
    fields[0, 2:6, 2:6], fields[1, 12:16, 12:16] = 1, 1  # the same thing in two places
    rows = [Embedding(field.reshape(324, 5)) for field in fields]
    choice = NearestEmbedding(lambda photo: rows[int(photo.sha256, 16)])
    photos = [reference(0), reference(1)]
    for wanted in (0, 1):
        noisy = rows[wanted].rows + rng.normal(0, 0.1, (324, 5)).astype(np.float32)
        assert choice.nearest(Embedding(noisy), photos).photo is photos[wanted]
    assert global_feature(rows[0]).size == 8 * 8 * 5 and global_feature(Embedding(rows[0].rows[:16])).size == 16 * 5
    with pytest.raises(EngineError, match="5 visual rows"):
        global_feature(Embedding(rows[0].rows[:5]))
