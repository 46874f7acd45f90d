"""The reference of a verification: the same weights, asked the same question, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from judo_edge.bundle import AdapterSource, Bundle, BundleWriter, Manifest, Source
from judo_edge.errors import ConfigError, InputError, JudoEdgeError
from judo_edge.parity.sources import reference_bundle
from tests.scripted import scripted_bundle

WOVEN = AdapterSource(name="woven", digest="a" * 64, tensors=3)
Change = Callable[[Manifest], Manifest]


def changed(bundle: Bundle, folder: Path, change: Change, profile: Bundle | None = None) -> Bundle:
    """Write a bundle again with another manifest."""
    from judo_edge.bundle import open_bundle

    with BundleWriter(folder) as writer:
        for name in bundle.manifest.files:
            source = profile if profile and name == bundle.manifest.profile else bundle
            writer.path(name).write_bytes(source.path_of(name).read_bytes())
        writer.commit(change(bundle.manifest))
    return open_bundle(folder)


def with_source(source: Source) -> Change:
    return lambda manifest: manifest.model_copy(update={"source": source})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    adapted = Source(checkpoint="ck", digest="0" * 64, adapters=(WOVEN,))
    return changed(scripted_bundle(tmp_path / "plain"), tmp_path / "bundle", with_source(adapted))


def opened(reference: Bundle, bundle: Bundle, **more: bool) -> Bundle:
    return reference_bundle(str(reference.folder), [], bundle, Path("cache"), **more)


def test_a_bundle_of_the_same_source_is_a_reference(bundle: Bundle, tmp_path: Path) -> None:
    renamed = Source(checkpoint="moved", digest="0" * 64, adapters=(WOVEN.model_copy(update={"name": "w2"}),))
    reference = changed(bundle, tmp_path / "reference", with_source(renamed))
    assert opened(reference, bundle) == reference


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (Source(checkpoint="other", digest="1" * 64, adapters=(WOVEN,)), "checkpoint other"),
        (Source(checkpoint="ck", digest="0" * 64), "no adapter"),
        (
            Source(checkpoint="ck", digest="0" * 64, adapters=(WOVEN.model_copy(update={"digest": "b" * 64}),)),
            "bbbbbbbbbbbb",
        ),
        (Source(checkpoint="ck", digest="0" * 64, adapters=(WOVEN.model_copy(update={"tensors": 2}),)), "2 tensors"),
    ],
)
def test_another_source_is_refused_unless_allowed(bundle: Bundle, tmp_path: Path, source: Source, found: str) -> None:
    reference = changed(bundle, tmp_path / "reference", with_source(source))
    with pytest.raises(InputError, match=found) as caught:
        opened(reference, bundle)
    assert "--allow-other-source" in str(caught.value)
    assert opened(reference, bundle, allow_other_source=True) == reference


def test_another_question_is_refused_whatever_is_allowed(bundle: Bundle, tmp_path: Path) -> None:
    longer = scripted_bundle(tmp_path / "longer", max_new_tokens=99)
    reference = changed(bundle, tmp_path / "reference", lambda manifest: manifest, profile=longer)
    with pytest.raises(InputError, match="another prompt profile"):
        opened(reference, bundle, allow_other_source=True)


def test_another_preprocessing_or_shape_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    def change(manifest: Manifest) -> Manifest:
        pixels = manifest.preprocessing.model_copy(update={"mean": (0.1, 0.1, 0.1)})
        model = manifest.model.model_copy(update={"rope_theta": 5.0})
        return manifest.model_copy(update={"preprocessing": pixels, "model": model})

    reference = changed(bundle, tmp_path / "reference", change)
    with pytest.raises(InputError, match="another preprocessing and another shape of the model"):
        opened(reference, bundle)


def test_adapters_belong_to_a_checkpoint(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="--adapter"):
        reference_bundle(str(bundle.folder), ["woven"], bundle, Path("cache"))


def test_what_is_neither_bundle_nor_checkpoint_is_said(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `export` (torch)")
    with pytest.raises(JudoEdgeError, match="nowhere"):
        reference_bundle(str(tmp_path / "nowhere"), [], bundle, tmp_path / "cache")
