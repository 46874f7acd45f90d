"""Names of bundles: a folder, a shipped checkpoint exported once, and what happens to a damaged export."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from judo_edge import shipped
from judo_edge.errors import BundleError, DependencyError
from tests.scripted import scripted_bundle


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ship a checkpoint called `little`; its export writes a scripted bundle."""
    folder = tmp_path / "assets" / "little"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr(shipped, "_assets", lambda: tmp_path / "assets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def exported(name: str, recipe: str, out: Path) -> Path:
        if out.is_dir():
            for path in out.iterdir():
                path.unlink()
            out.rmdir()
        out.parent.mkdir(parents=True, exist_ok=True)
        return scripted_bundle(out).folder

    monkeypatch.setattr(shipped, "_exported", exported)
    return folder


def test_shipped_name_is_exported_once(assets: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    first = shipped.bundle_from_name("little", notes.append)
    again = shipped.bundle_from_name("little", notes.append)
    assert first.digest == again.digest and len(notes) == 1 and "exporting little once" in notes[0]
    assert first.folder.parent == tmp_path / "cache" / "judo-edge"


def test_changed_checkpoint_is_another_export(assets: Path) -> None:
    first = shipped.bundle_from_name("little").folder
    (assets / "config.json").write_text("{ }")
    assert shipped.bundle_from_name("little").folder != first


def test_damaged_export_is_made_again_and_said(assets: Path) -> None:
    notes: list[str] = []
    folder = shipped.bundle_from_name("little").folder
    (folder / "decoder.data").write_text("decoder.dat!")
    assert shipped.bundle_from_name("little", notes.append).folder == folder
    assert len(notes) == 1 and "decoder.data was changed" in notes[0]


def test_folder_is_opened_as_it_is(tmp_path: Path) -> None:
    made = scripted_bundle(tmp_path / "bundle")
    assert shipped.bundle_from_name(str(tmp_path / "bundle")).digest == made.digest


def test_without_the_extra_it_says_both_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "judo_edge.export.pipeline", None)
    with pytest.raises(DependencyError, match=r"judo-edge\[export\].*judo-edge export judo-nano --out BUNDLE.*copy"):
        shipped.bundle_from_name("judo-nano")


def test_unknown_name_lists_what_is_shipped(assets: Path) -> None:
    with pytest.raises(BundleError, match="one of little"):
        shipped.bundle_from_name("large")
