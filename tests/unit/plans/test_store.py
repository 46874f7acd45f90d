"""Plans are opened only as they were sealed: by this user, for this bundle, environment and graph."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from judo_edge.errors import OutputError, PlanError
from judo_edge.plans import Environment, PlanHeader, PlanStore, decoder_profiles, key_of_user

ENVIRONMENT = Environment(
    backend="tensorrt", version="10.3.0", compute_capability="8.7", driver="12.6", platform="jetson-36.4.3"
)
BUNDLE = "ab" * 32
HEADER = PlanHeader(bundle=BUNDLE, graph="decoder", environment=ENVIRONMENT, profiles=decoder_profiles("legacy"))
DATA = bytes(range(256)) * 9
REBUILD = "judo-edge build it"


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "plans", b"k" * 32)


def test_what_was_sealed_is_read(store: PlanStore) -> None:
    path = store.write(HEADER, DATA)
    plan = store.read(BUNDLE, ENVIRONMENT, "decoder", REBUILD)
    assert bytes(plan.data) == DATA and plan.header == HEADER and store.holds(HEADER)
    assert path == store.path(BUNDLE, ENVIRONMENT, "decoder") and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("place", [0, 8, 40, 60, 400, -1])
def test_one_changed_byte_anywhere_is_refused(store: PlanStore, place: int) -> None:
    path = store.write(HEADER, DATA)
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(PlanError, match=rf"decoder\.plan .*{REBUILD}"):
        store.read(BUNDLE, ENVIRONMENT, "decoder", REBUILD)
    assert not store.holds(HEADER)


@pytest.mark.parametrize("size", [0, 7, 41, 300, -1])
def test_a_plan_cut_short_or_longer_is_refused(store: PlanStore, size: int) -> None:
    path = store.write(HEADER, DATA)
    raw = path.read_bytes()
    path.write_bytes(raw[:size] if size >= 0 else raw + b"\0")
    with pytest.raises(PlanError, match=REBUILD):
        store.read(BUNDLE, ENVIRONMENT, "decoder", REBUILD)


def test_another_users_plan_is_refused(store: PlanStore, tmp_path: Path) -> None:
    PlanStore(tmp_path / "plans", b"x" * 32).write(HEADER, DATA)
    with pytest.raises(PlanError, match="another user"):
        store.read(BUNDLE, ENVIRONMENT, "decoder", REBUILD)


@pytest.mark.parametrize(
    "change",
    [
        {"graph": "vision"},
        {"bundle": BUNDLE[:16] + "0" * 48},
        {"environment": ENVIRONMENT.model_copy(update={"driver": "13.0"})},
    ],
)
def test_an_authentic_plan_in_the_wrong_place_is_refused(store: PlanStore, change: dict[str, object]) -> None:
    other = store.write(HEADER.model_copy(update=change), DATA)
    place = store.path(BUNDLE, ENVIRONMENT, "decoder")
    place.parent.mkdir(parents=True, exist_ok=True)
    other.replace(place)
    with pytest.raises(PlanError, match="was made for"):
        store.read(BUNDLE, ENVIRONMENT, "decoder", REBUILD)


def test_a_missing_plan_names_the_command(store: PlanStore) -> None:
    with pytest.raises(PlanError, match=f"no plan of decoder.*{REBUILD}"):
        store.read(BUNDLE, ENVIRONMENT, "decoder", REBUILD)


def test_other_profiles_are_not_the_same_plan(store: PlanStore) -> None:
    store.write(HEADER, DATA)
    assert not store.holds(HEADER.model_copy(update={"profiles": decoder_profiles("legacy", 1024)}))


def test_a_failed_build_keeps_the_earlier_plan(store: PlanStore) -> None:
    path = store.write(HEADER, DATA)
    with pytest.raises(RuntimeError), store.writer(HEADER) as writer:
        writer.write(b"half")
        raise RuntimeError
    with pytest.raises(PlanError, match="no bytes"), store.writer(HEADER):
        pass
    assert bytes(store.read(BUNDLE, ENVIRONMENT, "decoder", "").data) == DATA and list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_an_output_error(store: PlanStore) -> None:
    with pytest.raises(OutputError, match=r"decoder\.plan"), store.writer(HEADER):
        raise OSError(28, "No space left on device")


def test_the_key_is_secret_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "config" / "plan.key"
    key = key_of_user(path)
    assert len(key) == 32 and key == key_of_user(path) and key != key_of_user(tmp_path / "other.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and list(path.parent.iterdir()) == [path]


def test_two_first_uses_agree_on_one_key(tmp_path: Path) -> None:
    path, keys = tmp_path / "plan.key", set()
    threads = [threading.Thread(target=lambda: keys.add(key_of_user(path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_key_that_others_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.key"
    key_of_user(path)
    path.chmod(0o640)
    with pytest.raises(PlanError, match="mode 640"):
        key_of_user(path)


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(PlanError, match="5 bytes"):
        key_of_user(path)
