"""The store keeps what was enrolled, refuses what it has, notices what was changed; the nearest reference is picked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from judo_edge.core import Frame
from judo_edge.errors import ConfigError, ImageError, InputError
from judo_edge.runtime.arraystore import array_key
from judo_edge.runtime.partrecipe import PartRecipe, changed_recipe
from judo_edge.runtime.references import (
    NearestReference,
    ReferencePhoto,
    ReferenceStore,
    folder_from_part,
    photo_from_file,
)
from judo_edge.vision.photos import image_from_file, sha256_from_image
from tests.scripted import photo, save_photo


def test_enrolled_pixels_come_back_exactly(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path / "store")
    image = photo(120)
    reference = store.enroll("lid", image, "a.jpg")
    again = ReferenceStore(tmp_path / "store")
    assert again.parts() == ("lid",) and again.references("lid") == (reference,)
    assert np.array_equal(again.image(reference), image)
    assert reference.sha256 == sha256_from_image(image) and (reference.width, reference.height) == (80, 60)


def test_same_pixels_are_refused_for_a_part_only(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.enroll("lid", photo(120), "a.jpg")
    with pytest.raises(InputError, match=r"b\.jpg: the same pixels as a\.jpg"):
        store.enroll("lid", photo(120), "b.jpg")
    store.enroll("base", photo(120), "b.jpg")
    assert len(store.references("lid")) == len(store.references("base")) == 1


def test_retired_reference_stays_on_disk_and_may_come_back(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    reference = store.enroll("lid", photo(120), "a.jpg")
    store.enroll("lid", photo(10), "b.jpg")
    store.retire("lid", reference.reference_id)
    assert [ref.source for ref in store.references("lid")] == ["b.jpg"]
    assert len(store.references("lid", retired=True)) == 2
    assert store.known("lid", photo(120)) is None
    store.enroll("lid", photo(120), "c.jpg")
    assert len(store.references("lid")) == 2


def test_retiring_an_unknown_reference_lists_the_known(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    reference = store.enroll("lid", photo(120), "a.jpg")
    with pytest.raises(InputError, match=reference.reference_id):
        store.retire("lid", "nothing")


def test_changed_pixels_are_noticed(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    reference = store.enroll("lid", photo(120), "a.jpg")
    save_photo(tmp_path / "lid" / f"{reference.reference_id}.png", 121)
    with pytest.raises(InputError, match="changed since enrolment"):
        store.photos("lid").pick(Frame("f", "lid", photo(1), 0)).load()


def test_pixels_without_description_do_not_exist(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    save_photo(tmp_path / "lid" / "0123456789abcdef.png", 121)
    assert store.references("lid") == ()
    with pytest.raises(InputError, match="no reference of part 'lid'"):
        store.photos("lid")


def test_unreadable_description_names_its_file(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    reference = store.enroll("lid", photo(120), "a.jpg")
    path = tmp_path / "lid" / f"{reference.reference_id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))
    with pytest.raises(InputError, match=reference.reference_id):
        store.references("lid")


@pytest.mark.parametrize("part", ["../outside", "a/b", ".", "..", "schräg 5%", "~", "x" * 60])
def test_part_names_stay_inside_the_store(tmp_path: Path, part: str) -> None:
    store = ReferenceStore(tmp_path / "store")
    store.enroll(part, photo(120), "a.jpg")
    assert (tmp_path / "store" / folder_from_part(part)).parent == tmp_path / "store"
    assert [path.name for path in tmp_path.iterdir()] == ["store"] and store.parts() == (part,)


def test_empty_part_is_refused() -> None:
    with pytest.raises(InputError, match="empty part"):
        folder_from_part("")


def test_nearest_by_scene_not_by_brightness() -> None:
    left, right = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    left[:, :20], right[:, 44:] = 120, 120
    photos = [ReferencePhoto(name, name, lambda image=image: image) for name, image in (("l", left), ("r", right))]
    brighter = np.clip(right.astype(int) + 90, 0, 255).astype(np.uint8)
    assert NearestReference(photos).pick(Frame("f", "p", brighter, 0)).reference_id == "r"
    assert NearestReference(photos).pick(Frame("f", "p", left, 0)).reference_id == "l"
    twins = [ReferencePhoto(name, name, lambda: left) for name in ("first", "second")]
    assert NearestReference(twins).pick(Frame("f", "p", brighter, 0)).reference_id == "first"


def test_latest_references_are_used_when_the_recipe_has_fewer(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    for red in (10, 20, 30):
        store.enroll("lid", photo(red), f"{red}.jpg")
    store.set_recipe("lid", PartRecipe(max_references=2))
    frame = Frame("f", "lid", photo(1), 0)
    used = [found.reference_id for found in store.photos("lid").candidates(frame)]
    assert used == [ref.reference_id for ref in store.references("lid")[1:]]


def test_recipe_of_a_part_is_read_back_and_its_errors_are_named(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    assert store.recipe("lid") == PartRecipe()
    wanted = changed_recipe(PartRecipe(), ["align=ecc-euclidean", "reasoning = nok-only", "max_shift=0.05"])
    assert wanted == PartRecipe(align="ecc-euclidean", reasoning="nok-only", max_shift=0.05)
    store.set_recipe("lid", wanted)
    assert store.recipe("lid") == wanted and store.recipe("base") == PartRecipe()
    (tmp_path / "lid" / "part.toml").write_text("alin = 'none'")
    with pytest.raises(ConfigError, match=r"part\.toml: unknown key 'alin'.*did you mean 'align'"):
        store.recipe("lid")
    for setting in ("align", "align=sideways", "max_shift=2", "colour=red"):
        with pytest.raises(ConfigError, match="--set"):
            changed_recipe(PartRecipe(), [setting])


def test_what_was_computed_is_no_part_and_is_pinned_while_enrolled(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    kept, retired = (store.enroll("lid", photo(red), f"{red}.jpg") for red in (1, 2))
    (tmp_path / "store.toml").write_text("max_megabytes = 1")
    arrays = store.arrays()
    for reference in (kept, retired):
        arrays.write(array_key(reference.reference_id, x="1"), {"x": np.zeros(100_000, np.float32)})
    store.retire("lid", retired.reference_id)
    assert store.parts() == ("lid",) and store.ids_in_use() == {kept.reference_id}
    for number in range(3):
        arrays.write(array_key("other", x=str(number)), {"x": np.zeros(100_000, np.float32)})
    assert arrays.read(array_key(kept.reference_id, x="1")) is not None
    assert arrays.read(array_key(retired.reference_id, x="1")) is None
    (tmp_path / "lid" / f"{retired.reference_id}.json").write_text("{")
    assert retired.reference_id in store.ids_in_use(), "what cannot be read is spared"


def test_photo_from_file_has_the_same_key_as_the_store(tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.png", 33)
    assert photo_from_file(path).sha256 == ReferenceStore(tmp_path / "s").enroll("p", image_from_file(path), "a").sha256


def test_shape_is_part_of_the_key() -> None:
    image = photo(5)
    assert sha256_from_image(image) != sha256_from_image(image.reshape(80, 60, 3))


@pytest.mark.parametrize(("name", "content"), [("t.png", b"no picture"), ("e.jpg", b""), ("t.txt", b"hello")])
def test_what_is_no_photo_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=name) as caught:
        image_from_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_truncated_and_deep_photos_are_refused(tmp_path: Path) -> None:
    from PIL import Image as PillowImage

    whole = save_photo(tmp_path / "whole.png", 200, size=(200, 200))
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:30000])
    with pytest.raises(ImageError, match=r"half\.png"):
        image_from_file(tmp_path / "half.png")
    PillowImage.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match="8 bits per channel"):
        image_from_file(tmp_path / "deep.png")
