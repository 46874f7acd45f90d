"""Versions of a decision in the store: numbers, rollback, and what is not applied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from judo_edge.errors import ConfigError, InputError, OutputError
from judo_edge.runtime.decisions import DecisionStore, applicable_decision
from judo_edge.runtime.references import ReferenceStore
from tests.decisions import HERE, made_decision
from tests.scripted import photo


@pytest.fixture
def store(tmp_path: Path) -> DecisionStore:
    """A store with two decisions of one part."""
    shelf = DecisionStore(tmp_path)
    for seed in (0, 1):
        shelf.add(made_decision(seed))
    return shelf


def folder(store: DecisionStore) -> Path:
    return store.folder / "lid" / "decisions"


def test_the_newest_is_in_use_and_an_older_one_comes_back(store: DecisionStore) -> None:
    first, second = store.versions("lid")
    assert (first.version, second.version) == (1, 2) and first.threshold != second.threshold
    assert store.in_use("lid") == second
    assert store.use("lid", 1) == first == DecisionStore(store.folder).in_use("lid")
    assert store.add(made_decision(2)).version == 3 and [one.version for one in store.versions("lid")] == [1, 2, 3]


def test_decisions_are_no_references(store: DecisionStore) -> None:
    ReferenceStore(store.folder).enroll("lid", photo(5), "g.png")
    assert len(ReferenceStore(store.folder).references("lid")) == 1 and len(store.versions("lid")) == 2


def test_a_part_without_a_decision_says_so(tmp_path: Path) -> None:
    assert DecisionStore(tmp_path).in_use("lid") is None and DecisionStore(tmp_path).versions("lid") == ()
    decision, reason = applicable_decision(tmp_path, "lid", HERE)
    assert decision is None and "no calibrated decision for part lid" in reason


def test_the_decision_in_use_is_applied_where_it_was_made(store: DecisionStore) -> None:
    store.use("lid", 1)
    decision, reason = applicable_decision(store.folder, "lid", HERE)
    assert decision is not None and decision.version == 1 and reason == ""


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"bundle_digest": "b" * 64}, "made with bundle"),
        ({"engine": "tensorrt"}, "made with engine scripted"),
        ({"reference_ids": ("r1",)}, "0 new, 1 no longer in use"),
    ],
)
def test_another_setting_is_not_applied(store: DecisionStore, change: dict[str, object], found: str) -> None:
    decision, reason = applicable_decision(store.folder, "lid", HERE.model_copy(update=change))
    assert decision is None and found in reason and "decision 2 of part lid is not applied" in reason


def test_an_unknown_number_changes_nothing(store: DecisionStore) -> None:
    with pytest.raises(InputError, match="no decision 7 of part 'lid'; wanted: one of 1, 2"):
        store.use("lid", 7)
    in_use = store.in_use("lid")
    assert in_use is not None and in_use.version == 2


def test_a_changed_file_stops_the_line(store: DecisionStore) -> None:
    path = folder(store) / "0002.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": 99.0}))
    with pytest.raises(ConfigError, match="changed after it was written"):
        applicable_decision(store.folder, "lid", HERE)
    assert store.use("lid", 1).version == 1


def test_a_file_under_another_number_or_part_is_refused(store: DecisionStore) -> None:
    (folder(store) / "0003.json").write_bytes((folder(store) / "0001.json").read_bytes())
    with pytest.raises(InputError, match="is decision 1 of part 'lid'"):
        store.use("lid", 3)


def test_a_spoilt_choice_is_named(store: DecisionStore) -> None:
    (folder(store) / "in-use").write_text("newest")
    with pytest.raises(InputError, match="holds 'newest'"):
        store.in_use("lid")


def test_a_version_is_never_written_over(store: DecisionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder(store) / "0002.json").read_bytes()
    monkeypatch.setattr(store, "_numbers", lambda part: [1])  # another process wrote 2 in between
    with pytest.raises(OutputError, match="exists already"):
        store.add(made_decision(5))
    assert (folder(store) / "0002.json").read_bytes() == before


def test_a_version_that_could_not_be_put_in_use_leaves_the_old_one(
    store: DecisionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(part: str, number: int) -> None:
        raise OutputError("the power went")

    monkeypatch.setattr(store, "use", refuse)
    with pytest.raises(OutputError):
        store.add(made_decision(5))
    fresh = DecisionStore(store.folder)
    in_use = fresh.in_use("lid")
    assert in_use is not None and in_use.version == 2 and len(fresh.versions("lid")) == 3
