"""Versions of recipes: what changes their id, what they are restored from, and which piece is said to be missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from judo_edge import shipped
from judo_edge.bundle import open_bundle
from judo_edge.bundle.acceptance import Outcome, write_acceptance
from judo_edge.calibration.fit import fit_from_observations
from judo_edge.errors import BundleError, StationError
from judo_edge.files import cache_folder
from judo_edge.runtime.decisions import DecisionStore, circumstances_of
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.config import StationConfig
from judo_edge.station.judge.prepared import Plan, Preparer
from judo_edge.station.judge.versions import FOLDER, VersionShelf
from tests.decisions import decision_of, observed
from tests.judging import enrolled, station_config
from tests.scripted import photo, scripted_bundle


@pytest.fixture
def config(tmp_path: Path) -> StationConfig:
    scripted_bundle(tmp_path / "bundle")
    config = station_config(tmp_path)
    enrolled(config, photo(5), photo(6))
    return config


def plan(config: StationConfig, internal_id: str = "") -> Plan:
    return Preparer(config).plan("lid", internal_id)


def calibrated(config: StationConfig, seed: int) -> int:
    """Put a decision in use that holds for the present bundle and references; return its number."""
    bundle = plan(config).bundle
    ids = [one.reference_id for one in ReferenceStore(config.store).references("lid")]
    fit = fit_from_observations(observed(60, seed=seed), 0.05, 0.9)
    made = decision_of(fit, "lid", circumstances_of(bundle, config.station.engine, ids))
    return DecisionStore(config.store).add(made).version


def other_bundle(folder: Path) -> None:
    shutil.rmtree(folder)
    scripted_bundle(folder, max_new_tokens=100)


def test_same_pieces_are_the_same_version_over_restarts(config: StationConfig) -> None:
    first, again = plan(config).recipe, plan(config).recipe
    assert first == again and first.is_prepared and len(first.internal_id) == 32
    assert len(first.reference_ids) == 2 and first.decision_version is None


def test_every_piece_changes_the_version(config: StationConfig) -> None:
    store, seen = ReferenceStore(config.store), [plan(config).recipe.internal_id]
    enrolled(config, photo(7))
    seen.append(plan(config).recipe.internal_id)
    store.retire("lid", store.references("lid")[0].reference_id)
    seen.append(plan(config).recipe.internal_id)
    assert calibrated(config, seed=1) == plan(config).recipe.decision_version
    seen.append(plan(config).recipe.internal_id)
    store.set_recipe("lid", PartRecipe(reasoning="nok-only"))
    seen.append(plan(config).recipe.internal_id)
    other_bundle(config.folder / "bundle")
    seen.append(plan(config).recipe.internal_id)
    assert len(set(seen)) == len(seen) == 6


def test_rollback_brings_back_references_decision_and_settings_without_touching_the_store(
    config: StationConfig,
) -> None:
    store, decisions = ReferenceStore(config.store), DecisionStore(config.store)
    number = calibrated(config, seed=1)
    before = plan(config)
    store.retire("lid", before.recipe.reference_ids[0])
    enrolled(config, photo(9))
    store.set_recipe("lid", PartRecipe(place="anywhere"))
    assert calibrated(config, seed=2) == number + 1
    now = plan(config)
    back = plan(config, before.recipe.internal_id)
    assert back.recipe == before.recipe and back.version == before.version
    assert [one.reference_id for one in back.store.references("lid")] == [
        one.reference_id for one in before.store.references("lid")
    ]
    in_use = back.decisions.in_use("lid")
    assert in_use is not None and in_use.version == number and back.store.recipe("lid") == PartRecipe()
    latest = decisions.in_use("lid")
    assert latest is not None and latest.version == number + 1 and plan(config).recipe == now.recipe
    assert set(before.recipe.reference_ids) <= back.store.ids_in_use()  # their embeddings are spared


def test_a_version_without_a_decision_comes_back_without(config: StationConfig) -> None:
    before = plan(config).recipe
    calibrated(config, seed=1)
    back = plan(config, before.internal_id)
    assert back.recipe.decision_version is None and back.decisions.in_use("lid") is None


@pytest.mark.parametrize("place", ["bundles/old", "elsewhere"])
def test_an_earlier_bundle_is_found_by_its_digest(config: StationConfig, place: str) -> None:
    if place == "elsewhere":  # a folder that another version names
        scripted_bundle(config.folder / place)
        plan(station_config(config.folder, place))
    before = plan(config).recipe
    if place != "elsewhere":
        shutil.copytree(config.folder / "bundle", config.folder / place)
    other_bundle(config.folder / "bundle")
    back = plan(config, before.internal_id)
    assert back.bundle.folder.resolve() == (config.folder / place).resolve()
    assert back.recipe.bundle_digest == before.bundle_digest and Path(back.recipe.bundle) == back.bundle.folder


def test_what_is_missing_is_named(config: StationConfig) -> None:
    number = calibrated(config, seed=1)
    before = plan(config).recipe
    part = config.store / "lid"
    decision = part / "decisions" / f"{number:04d}.json"
    decision.rename(config.folder / "away")
    with pytest.raises(StationError, match=f"decision {number} of part 'lid' cannot be read"):
        plan(config, before.internal_id)
    (config.folder / "away").rename(decision)
    description = part / f"{before.reference_ids[0]}.json"
    description.rename(config.folder / "away")
    with pytest.raises(StationError, match=f"reference {before.reference_ids[0]} of part 'lid' is gone"):
        plan(config, before.internal_id)
    (config.folder / "away").rename(description)
    other_bundle(config.folder / "bundle")
    with pytest.raises(StationError, match=f"no bundle {before.bundle_digest[:12]} for recipe 'lid'"):
        plan(config, before.internal_id)


def test_a_decision_of_the_same_number_is_not_taken_for_another(config: StationConfig) -> None:
    calibrated(config, seed=1)
    before = plan(config).recipe
    for path in (config.store / "lid" / "decisions").iterdir():
        path.unlink()
    calibrated(config, seed=2)
    with pytest.raises(StationError, match="is another one"):
        plan(config, before.internal_id)


def test_a_damaged_bundle_of_the_right_digest_is_refused(config: StationConfig) -> None:
    before = plan(config).recipe
    (config.folder / "bundle" / "decoder.data").write_text("decoder.dat!")
    with pytest.raises(BundleError, match=r"decoder\.data was changed"):
        plan(config, before.internal_id)
    with pytest.raises(BundleError, match=r"decoder\.data was changed"):
        plan(config)


def test_records_are_sealed_by_their_name(config: StationConfig) -> None:
    recipe = plan(config).recipe
    shelf, path = VersionShelf(config.data / FOLDER), config.data / FOLDER / f"{recipe.internal_id}.json"
    assert shelf.read(recipe.internal_id).version.reference_ids == recipe.reference_ids
    path.write_text(path.read_text().replace('"engine": "onnxruntime"', '"engine": "tensorrt"'))
    with pytest.raises(StationError, match="was changed"):
        plan(config, recipe.internal_id)
    assert shelf.records() == () and plan(config).recipe.internal_id == recipe.internal_id
    assert shelf.read(recipe.internal_id).version.engine == "onnxruntime"  # what was prepared anew replaces it


@pytest.mark.parametrize("internal_id", ["0" * 32, "../../etc/passwd", "x", "0" * 31 + "\n"])
def test_unknown_version_is_refused(config: StationConfig, internal_id: str) -> None:
    with pytest.raises(StationError, match="no version"):
        plan(config, internal_id)


def test_another_parts_version_is_refused(config: StationConfig) -> None:
    enrolled(config, photo(5), part="cap")
    other = station_config(config.folder, part="cap")
    cap = Preparer(other).plan("cap").recipe.internal_id
    with pytest.raises(StationError, match="judges part 'cap'"):
        plan(config, cap)


def test_another_engine_is_refused(config: StationConfig) -> None:
    before = plan(config).recipe.internal_id
    faster = config.model_copy(update={"station": config.station.model_copy(update={"engine": "tensorrt"})})
    with pytest.raises(StationError, match="made with engine 'onnxruntime'"):
        plan(faster, before)
    assert plan(faster).recipe.internal_id != before


def test_a_shipped_model_is_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "shipped_names", lambda: ("little",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shipped, "_cached", lambda name, recipe, note: scripted_bundle(cache_folder() / name))
    cache_folder().mkdir(parents=True)
    config = station_config(tmp_path, "little")
    enrolled(config, photo(5))
    first = plan(config)
    shutil.move(first.bundle.folder, tmp_path / "old")
    back = plan(config, first.recipe.internal_id)  # the folder that the version names is gone: it is made again
    assert first.recipe.bundle == "little" and back.recipe == first.recipe


def test_a_bundle_that_failed_a_gate_is_refused_unless_it_is_accepted(config: StationConfig) -> None:
    outcome = Outcome(failed=("recall",), against="ck", items="items", engine="scripted")
    digest = plan(config).recipe.bundle_digest
    write_acceptance(open_bundle(config.folder / "bundle"), outcome, {"figures": {}})
    with pytest.raises(BundleError, match="recall"):
        plan(config)
    accepting = station_config(config.folder, recipe={"accept_failed": ("recall",)})
    assert plan(accepting).recipe.bundle_digest == digest  # a verification makes no other version


def test_a_part_without_references_and_an_unknown_recipe_are_refused(tmp_path: Path) -> None:
    scripted_bundle(tmp_path / "bundle")
    config = station_config(tmp_path)
    with pytest.raises(StationError, match="no reference of part 'lid'"):
        plan(config)
    with pytest.raises(StationError, match="no recipe 'cap'"):
        Preparer(config).plan("cap")
