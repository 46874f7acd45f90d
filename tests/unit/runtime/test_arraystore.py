"""Arrays on disk: what was kept comes back, what was hurt is never used, and no neighbour or full disk does harm."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from judo_edge.runtime.arraystore import ArrayKey, ArrayStore, array_key
from tests.disks import file_size_limit, small_disk

ARRAYS = {
    "rows": np.arange(30, dtype=np.float32).reshape(3, 10),
    "half": np.linspace(0, 1, 7).astype(np.float16),
    "none": np.zeros((0, 4), np.float32),
}


def key(name: str, label: str = "a") -> ArrayKey:
    return array_key(label, name=name)


def same(found: object, wanted: object = None) -> bool:
    expected = ARRAYS if wanted is None else wanted
    assert isinstance(found, dict) and isinstance(expected, dict)
    return list(found) == list(expected) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array) for name, array in expected.items()
    )


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.arrays")
    return path


def block(value: int, size: int = 1000) -> dict[str, np.ndarray]:
    return {"x": np.full(size, value, np.uint8)}


def block_bytes(folder: Path) -> int:
    store = ArrayStore(folder)
    store.write(key("probe"), block(0))
    return store.num_bytes()


def test_arrays_come_back_mapped_and_read_only(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path / "s")
    assert store.read(key("k")) is None and not (tmp_path / "s").exists()
    assert same(store.write(key("k"), ARRAYS))
    again = ArrayStore(tmp_path / "s")
    found = again.read(key("k"))
    assert same(found) and found is not None
    assert found["rows"].ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        found["rows"][0, 0] = 1
    assert (again.counts.read, again.counts.damaged, store.counts.written) == (1, 0, 1)
    assert again.read(key("other")) is None


def test_a_key_tells_its_parts_apart() -> None:
    keys = {array_key("a", x="1", y="2"), array_key("a", x="12", y=""), array_key("a", x="1", z="2"),
            array_key("b", x="1", y="2"), array_key("a", x=b"1")}  # fmt: skip
    assert len(keys) == 5 and array_key("a", y=b"2", x=b"1") in keys
    with pytest.raises(ValueError, match="label"):
        array_key("../a", x="1")


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain numbers"):
        ArrayStore(tmp_path).write(key("k"), {"x": np.array([{}], dtype=object)})
    assert not list(tmp_path.glob("*.arrays*"))


def test_file_cut_anywhere_is_never_used(tmp_path: Path) -> None:
    ArrayStore(tmp_path).write(key("k"), ARRAYS)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    store = ArrayStore(tmp_path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert store.read(key("k")) is None, length
    assert store.counts.damaged == len(whole)
    path.write_bytes(whole + b"\0")
    assert store.read(key("k")) is None
    assert same(store.write(key("k"), ARRAYS)) and same(ArrayStore(tmp_path).read(key("k"))), "it is replaced"


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    ArrayStore(tmp_path).write(key("k"), ARRAYS)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        hurt = bytearray(whole)
        hurt[place] ^= 1 << place % 8
        path.write_bytes(bytes(hurt))
        assert ArrayStore(tmp_path).read(key("k")) is None, place


def test_change_after_the_first_opening_is_found_too(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path)
    store.write(key("k"), ARRAYS)
    hurt = bytearray(only_file(tmp_path).read_bytes())
    hurt[-1] ^= 1
    time.sleep(0.01)
    only_file(tmp_path).write_bytes(bytes(hurt))
    assert store.read(key("k")) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"P6 a photo", os.urandom(5000)])
def test_foreign_file_is_never_used(tmp_path: Path, content: bytes) -> None:
    store = ArrayStore(tmp_path)
    store.write(key("k"), ARRAYS)
    only_file(tmp_path).write_bytes(content)
    assert store.read(key("k")) is None and store.counts.damaged == 1


def test_file_of_another_key_is_never_used(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path)
    store.write(key("k"), ARRAYS)
    only_file(tmp_path).rename(tmp_path / f"a.{key('other').digest}.arrays")
    assert store.read(key("other")) is None and store.counts.damaged == 1


def test_folder_in_the_place_of_a_file_costs_only_time(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path)
    (tmp_path / f"a.{key('k').digest}.arrays").mkdir(parents=True)
    assert store.read(key("k")) is None
    assert same(store.write(key("k"), ARRAYS)) and store.counts.unsaved == 1


def test_least_recently_used_makes_room(tmp_path: Path) -> None:
    size = block_bytes(tmp_path / "probe")
    store = ArrayStore(tmp_path / "s", max_bytes=3 * size)
    for number in range(3):
        store.write(key(str(number)), block(number))
    assert store.read(key("0")) is not None, "used again: 1 is the oldest now"
    store.write(key("3"), block(3))
    assert [store.read(key(str(number))) is not None for number in range(4)] == [True, False, True, True]
    assert store.counts.evicted == 1 and store.num_bytes() == 3 * size
    store.write(key("3"), block(9))
    assert store.counts.evicted == 1, "replacing an entry needs no room"


def test_pinned_entries_stay_and_the_bound_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = block_bytes(tmp_path / "probe")
    pinned: set[str] = {"good"}
    store = ArrayStore(tmp_path / "s", max_bytes=3 * size, pinned=lambda: pinned)
    for number in range(2):
        store.write(key(str(number), "good"), block(number))
    for number in range(5):
        store.write(key(str(number), "other"), block(number))
    assert store.read(key("0", "good")) is not None and store.read(key("4", "other")) is not None
    store.write(key("2", "good"), block(2))
    assert store.read(key("4", "other")) is None and store.num_bytes() == 3 * size
    for number in (3, 4):
        assert same(store.write(key(str(number), "good"), block(number)), block(number))
    assert store.counts.unsaved == 2 and store.num_bytes() == 3 * size
    assert len([text for text in caplog.messages if "enrolled references take" in text]) == 1, "said once"
    pinned.clear()
    store.write(key("5"), block(5))
    assert store.read(key("5")) is not None, "no longer enrolled: it makes room"


def test_told_to_evict_pinned_entries_go_too(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path, pinned=lambda: {"a"})
    store.write(key("k"), ARRAYS)
    held = store.read(key("k"))
    assert store.evict(0) == 0 and store.evict(0, even_pinned=True) == 1
    assert store.read(key("k")) is None and same(held), "who has it mapped keeps it"


def test_half_written_file_of_a_power_cut_is_removed(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path)
    store.write(key("k"), ARRAYS)
    for name, age in (("old", 7200), ("fresh", 0)):
        partial = tmp_path / f"a.{name}.arrays.partial-1-1"
        partial.write_bytes(b"half")
        os.utime(partial, (time.time() - age, time.time() - age))
    store.write(key("l"), ARRAYS)
    assert [path.name for path in tmp_path.glob("*.partial-*")] == ["a.fresh.arrays.partial-1-1"]


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    store = ArrayStore(tmp_path)
    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        store.write(key("k"), ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("kind", ["real", "limit"])
def test_full_disk_is_said_once_and_loses_nothing(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    store = ArrayStore(tmp_path)
    big = {"x": np.random.default_rng(0).standard_normal(100_000).astype(np.float32)}
    full = small_disk(tmp_path, 256 << 10) if kind == "real" else file_size_limit(100_000)
    with full, caplog.at_level(logging.WARNING):
        store.write(key("small"), ARRAYS)
        for number in range(3):
            assert same(store.write(key(str(number)), big), big)
            assert store.read(key(str(number))) is None
        assert same(store.read(key("small"))) and not list(tmp_path.glob("*.partial-*"))
        assert store.counts.unsaved == 3 and store.counts.written == 1
    said = [text for text in caplog.messages if "working from memory" in text]
    assert len(said) == 1 and ("full" in said[0] or "size" in said[0])


def test_read_only_folder_is_read_and_not_written(tmp_path: Path) -> None:
    ArrayStore(tmp_path / "s").write(key("k"), ARRAYS)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    store = ArrayStore(blocked / "s")
    assert store.read(key("k")) is None and same(store.write(key("k"), ARRAYS))
    assert store.counts.unsaved == 1


def test_memory_that_is_used_again_is_copied(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for store in (ArrayStore(tmp_path / "s"), ArrayStore(tmp_path / "file")):
        reused = np.ones(4, np.float32)
        kept = store.write(key("k"), {"x": reused})
        reused[:] = 2
        assert kept["x"].tolist() == [1, 1, 1, 1]


def _use(folder: Path, seed: int, size: int, wrong: multiprocessing.Queue[str]) -> None:
    """Read and write few keys in a store that has room for half of them; report what is not as it should be."""
    rng = np.random.default_rng(seed)
    store = ArrayStore(folder, max_bytes=4 * size, pinned=_pinned)
    for _ in range(150):
        number = int(rng.integers(8))
        name = key(str(number), "good" if number == 0 else "other")
        found = store.read(name)
        if found is None:
            found = store.write(name, block(number))
        held = found["x"]
        if store.num_bytes() > 4 * size:
            wrong.put(f"{store.num_bytes()} bytes")
        if not (held == number).all():
            wrong.put(f"{number} holds {held[0]}")
    if store.counts.damaged or store.counts.unsaved:
        wrong.put(f"{store.counts}")


def _pinned() -> Collection[str]:
    return ("good",)


def test_several_processes_share_a_store(tmp_path: Path) -> None:
    size = block_bytes(tmp_path / "probe")
    context = multiprocessing.get_context("fork")
    wrong: multiprocessing.Queue[str] = context.Queue()
    ArrayStore(tmp_path / "s").write(key("0", "good"), block(0))
    before = only_file(tmp_path / "s").stat().st_ino
    workers = [context.Process(target=_use, args=(tmp_path / "s", seed, size, wrong)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert wrong.empty(), wrong.get()
    kept = {path.name.partition(".")[0]: path for path in (tmp_path / "s").glob("*.arrays")}
    assert kept["good"].stat().st_ino == before, "pinned: never evicted, never written again"
    assert not list((tmp_path / "s").glob("*.partial-*"))


def test_lock_that_is_not_let_go_costs_only_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    from judo_edge.runtime import arraystore

    monkeypatch.setattr(arraystore, "_PATIENCE", 0.05)
    with (tmp_path / ".lock").open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        store = ArrayStore(tmp_path)
        assert same(store.write(key("k"), ARRAYS)) and store.counts.unsaved == 1
    assert same(store.write(key("k"), ARRAYS)) and store.counts.written == 1
