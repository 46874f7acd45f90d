"""Frames laid over their references: known motions are found, distortions are refused in words, masks go back."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from judo_edge.core import CellMask, Image
from judo_edge.runtime.align import Aligner, Alignment, cells_in_frame
from judo_edge.runtime.motion import Motion, MotionError, moved_to, sizes_of_motion
from judo_edge.runtime.partrecipe import AlignMethod, PartRecipe
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.vision.photos import image_from_file, sha256_from_image

DATA = Path(__file__).parents[4] / "shared" / "data"
PHOTOS = {
    "board": DATA / "deeppcb" / "images" / "12000001_temp.jpg",
    "cube": DATA / "cubes" / "images" / "normal_000.jpg",
    "hazelnut": DATA / "hazelnut" / "images" / "good_train_00.jpg",
}
CROP = 0.75
"""A photo's middle is used, so that a moved frame shows what really lay beyond the border."""


@cache
def scene(name: str) -> Image:
    if name == "drawn":
        coarse = np.random.default_rng(0).uniform(0, 255, (60, 80, 3)).astype(np.float32)
        return np.clip(cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    if not PHOTOS[name].is_file():
        pytest.skip(f"needs {PHOTOS[name]}")
    return image_from_file(PHOTOS[name])


def reference_of(name: str) -> Image:
    whole = scene(name)
    height, width = (int(size * CROP) for size in whole.shape[:2])
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    return np.ascontiguousarray(whole[top : top + height, left : left + width])


def motion(name: str, turn: float = 0.0, scale: float = 1.0, x: float = 0.0, y: float = 0.0) -> Motion:
    """Return the motion from reference to frame about the reference's centre."""
    height, width = reference_of(name).shape[:2]
    found = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, scale)
    found[:, 2] += (x, y)
    return found


def frame_of(name: str, moved: Motion) -> Image:
    """Return the scene as a camera that moved saw it: brighter, and with noise of its own."""
    whole, (height, width) = scene(name), reference_of(name).shape[:2]
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    matrix = (np.vstack([moved, [0, 0, 1]]) @ np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]]))[:2]
    seen = cv2.warpAffine(whole, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    noise = np.random.default_rng(1).normal(0, 3, seen.shape)
    return np.clip(seen * 1.05 + 6 + noise, 0, 255).astype(np.uint8)


def aligned(frame: Image, reference: Image, method: AlignMethod, **limits: float) -> Alignment:
    sha256 = sha256_from_image(reference)
    photo = ReferencePhoto(sha256[:16], sha256, lambda: reference)
    return Aligner(PartRecipe(align=method, **limits)).align(frame, photo)  # type: ignore[arg-type]


def error_of(found: Alignment, wanted: Motion) -> float:
    """Return the largest miss of a place in the middle three fifths, in pixels of the frame."""
    assert found.matrix is not None, found.refusal
    height, width = found.image.shape[:2]
    places = np.array([[x * width, y * height, 1.0] for x in (0.2, 0.8) for y in (0.2, 0.8)]).T
    return float(np.abs(found.matrix @ places - wanted @ places).max())


SCENES = ("drawn", *PHOTOS)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("method", ["ecc-translation", "ecc-euclidean", "ecc-affine", "features"])
def test_known_shift_is_found(name: str, method: AlignMethod) -> None:
    if (name, method) == ("hazelnut", "features"):
        found = aligned(frame_of(name, motion(name, x=13.3)), reference_of(name), method)
        assert "corners are in both photos" in found.refusal, "a smooth part has none to register by"
        return
    for x, y in ((13.3, -7.6), (40.0, -30.0)):
        moved = motion(name, x=x, y=y)
        found = aligned(frame_of(name, moved), reference_of(name), method)
        assert error_of(found, moved) < 2.0 and found.after > 0.8 > found.before


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(("turn", "x", "y"), [(3.0, 10.0, 5.0), (-8.0, -12.0, 10.0)])
def test_known_turn_is_found(name: str, turn: float, x: float, y: float) -> None:
    moved = motion(name, turn, 1.0, x, y)
    found = aligned(frame_of(name, moved), reference_of(name), "ecc-euclidean")
    assert error_of(found, moved) < 1.0 and found.after > 0.9


@pytest.mark.parametrize("name", ["drawn", "board", "cube"])
@pytest.mark.parametrize("method", ["ecc-affine", "features"])
def test_known_scale_is_found(name: str, method: AlignMethod) -> None:
    moved = motion(name, 2.0, 1.05, 5.0, 5.0)
    found = aligned(frame_of(name, moved), reference_of(name), method)
    assert error_of(found, moved) < 2.5 and found.after > 0.9
    refused = aligned(frame_of(name, moved), reference_of(name), method, max_scale=0.03)
    assert "scaled by" in refused.refusal and refused.refusal.endswith("more than 0.03 allows")


def test_aligned_frame_looks_like_its_reference() -> None:
    reference, moved = reference_of("drawn"), motion("drawn", 5.0, 1.0, 20.0, -10.0)
    frame = frame_of("drawn", moved)
    found = aligned(frame, reference, "ecc-euclidean")
    misses = [np.abs(photo.astype(float) * 1.0 - (reference * 1.05 + 6)).mean() for photo in (frame, found.image)]
    assert misses[1] < 8 < 30 < misses[0]
    assert 0.04 < found.outside < 0.2 and abs(found.outside - found.lost) < 0.02


def test_border_is_filled_from_the_reference_in_the_frame_s_colour() -> None:
    reference, moved = reference_of("drawn"), motion("drawn", x=40.0)
    found = aligned(frame_of("drawn", moved), reference, "ecc-translation")
    strip = found.image[:, -39:].astype(float)
    assert found.matrix is not None and np.abs(strip - reference[:, -39:]).mean() < 20
    assert abs(strip.mean() - (reference[:, -39:] * 1.05 + 6).mean()) < 5
    assert np.std(strip, axis=1).mean() > 10, "not one repeated column"
    assert found.outside == pytest.approx(40 / reference.shape[1], abs=0.01)


@pytest.mark.parametrize("method", ["ecc-translation", "ecc-euclidean", "ecc-affine", "features"])
@pytest.mark.parametrize(("name", "other"), [("board", "cube"), ("cube", "hazelnut"), ("drawn", "board")])
def test_unrelated_photo_is_used_as_it_is(name: str, other: str, method: AlignMethod) -> None:
    frame = scene(other)
    found = aligned(frame, scene(name), method)
    assert found.image is frame and found.matrix is None and found.outside == found.lost == 0.0
    assert any(
        why in found.refusal
        for why in ("not alike", "do not correlate", "corners", "would be", "overlap", "lies no better")
    )


def test_other_part_of_the_same_kind_is_moved_by_little() -> None:
    paths = [DATA / "cubes" / "images" / f"normal_0{number:02d}.jpg" for number in (0, 40)]
    if not paths[1].is_file():
        pytest.skip(f"needs {paths[1]}")
    reference, frame = (image_from_file(path) for path in paths)
    found = aligned(frame, reference, "ecc-translation")
    assert found.after > found.before + 0.2 and found.matrix is not None
    assert 0 < sizes_of_motion(found.matrix, *frame.shape[:2]).shift < 16


@pytest.mark.parametrize(
    ("moved", "limits", "why"),
    [
        ({"x": 40.0}, {"max_shift": 0.05}, r"shifted by \d+\.\d% of its side, more than 0\.05"),
        ({"turn": 8.0}, {"max_rotation": 5.0}, r"turned by [78]\.\d degrees, more than 5"),
        ({"x": 60.0, "y": 40.0}, {"min_overlap": 0.9}, r"overlap by 7\d%, less than 90%"),
        ({"x": 10.0}, {"min_correlation": 1.0}, r"not alike: correlation 1\.00, less than 1"),
        ({}, {}, r"lies no better when moved: correlation 0\.9\d+ before"),
    ],
)
def test_more_than_the_recipe_allows_is_refused(moved: dict[str, float], limits: dict[str, float], why: str) -> None:
    frame = frame_of("drawn", motion("drawn", **moved))
    found = aligned(frame, reference_of("drawn"), "ecc-euclidean", **limits)
    assert found.image is frame and found.matrix is None
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.refusal)


def test_shear_and_mirror_are_seen() -> None:
    sizes = sizes_of_motion(np.array([[1.1, 0, 3], [0, 1, 0]], np.float64), 100, 200)
    assert sizes.shear == pytest.approx(1.1) and sizes.scale == pytest.approx(1.1**0.5)
    with pytest.raises(MotionError, match="mirrored"):
        sizes_of_motion(np.array([[-1, 0, 100], [0, 1, 0]], np.float64), 100, 100)


def test_recipe_that_aligns_nothing_leaves_the_frame() -> None:
    frame = scene("drawn")
    found = aligned(frame, frame, "none")
    assert found.image is frame and not found.matrix and "aligns nothing" in found.refusal


def test_plain_photo_is_refused() -> None:
    plain = np.full((120, 160, 3), 80, np.uint8)
    for method in ("ecc-translation", "ecc-affine", "features"):
        found = aligned(plain, reference_of("drawn"), method)  # type: ignore[arg-type]
        assert found.image is plain and found.refusal


def test_reference_of_another_size_is_laid_over() -> None:
    moved = motion("drawn", x=20.0, y=10.0)
    half = cv2.resize(reference_of("drawn"), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    found = aligned(frame_of("drawn", moved), half, "ecc-translation")
    assert error_of(found, moved) < 2.0 and found.image.shape == reference_of("drawn").shape


def test_reference_is_decoded_once() -> None:
    loads: list[int] = []
    reference = reference_of("drawn")

    def load() -> Image:
        loads.append(1)
        return reference

    aligner, photo = Aligner(PartRecipe(align="ecc-translation")), ReferencePhoto("r", "0" * 64, load)
    for x in (5.0, 9.0):
        aligner.align(frame_of("drawn", motion("drawn", x=x)), photo)
    assert len(loads) == 1


def test_pixels_are_counted_from_their_centres() -> None:
    shift = np.array([[1, 0, 3], [0, 1, -2]], np.float64)
    assert np.allclose(moved_to(shift, 2, 4), [[1, 0, 6], [0, 1, -8]])
    turned = cv2.getRotationMatrix2D((49.5, 29.5), 30, 1)
    assert np.allclose(moved_to(turned, 2, 2), cv2.getRotationMatrix2D((99.5, 59.5), 30, 1))


def test_cells_go_back_to_where_the_defect_is() -> None:
    moved = motion("drawn", x=60.0)  # two cells of 480 / 16 = 30 pixels
    found = aligned(frame_of("drawn", moved), reference_of("drawn"), "ecc-translation")
    marks = CellMask.of(16, 16, [(3, 4), (3, 5), (9, 16)])
    assert cells_in_frame(marks, found) == CellMask.of(16, 16, [(3, 6), (3, 7)]), "what lies outside is dropped"
    as_it_was = aligned(scene("drawn"), scene("drawn"), "none")
    assert cells_in_frame(marks, as_it_was) is marks


@pytest.mark.parametrize("turn", [0.0, 7.0, -13.0])
def test_no_cell_is_lost_between_cells(turn: float) -> None:
    image = reference_of("drawn")
    found = Alignment(image, matrix=motion("drawn", turn, 1.0, 13.0, 9.0))
    for cell in ((8, 8), (5, 11), (12, 6)):
        marked = cells_in_frame(CellMask.of(16, 16, [cell]), found)
        assert 1 <= len(marked) <= 2
