"""The motion between two photos of one scene, estimated by OpenCV. Knows nothing of what is done with it.

A motion is a (2, 3) float64 matrix: the place in the second photo of a place (x, y, 1) of the first, both in pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats

Motion = npt.NDArray[np.float64]

_COARSE_LEVEL, _NUM_TURNED = 0.25, 2
"""Share of the photos' size at which ECC runs first, to bridge large motions, and from how many turned starts."""
_TURNS = (0.0, 5.0, -5.0, 10.0, -10.0, 15.0, -15.0, 20.0, -20.0)
"""Degrees from which ECC may start; it finds what lies between."""
_FINE, _ROUGH = 1 / 32, 1 / 12
"""Sigmas of the brightness that is taken away for the last steps and for the first ones."""
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
_NUM_CORNERS, _MIN_MATCHES = 1000, 20
_CORNER_CONTRAST = 8
"""Grey values; ORB's own 20 finds nothing on a plain part."""
_MAX_ERROR = 2.0
"""Pixels by which a match may miss a motion that it supports."""


class MotionError(Exception):
    """No motion was found; the message says why."""


class MotionSizes(NamedTuple):
    """How much of each a motion does."""

    shift: float
    """Pixels, of the photo's centre."""
    rotation: float
    """Degrees, without sign."""
    scale: float
    """1 for none."""
    shear: float
    """Larger by smaller stretch, 1 for none."""


def fine_from_grey(grey: Floats, coarse_share: float = _FINE) -> Floats:
    """Return a (H, W) photo without its coarse brightness, which correlates for any two photos under one lamp.

    `coarse_share` is the sigma of what is taken away, as a share of the longer side.
    """
    coarse = cv2.GaussianBlur(grey, (0, 0), max(grey.shape) * coarse_share)
    return np.asarray(grey - coarse, dtype=np.float32)


def motion_from_ecc(first: Floats, second: Floats, kind: int) -> Motion:
    """Return the motion that makes two (H, W) float32 grey photos correlate most; MotionError when there is none.

    `kind` is OpenCV's motion type. Enhanced correlation coefficient maximization, Evangelidis and Psarakis, PAMI 2008,
    from the best of a few turns, each with the shift that phase correlation finds.
    """
    here, there = (fine_from_grey(_shrunk(photo), _ROUGH) for photo in (first, second))
    rigid = min(kind, cv2.MOTION_EUCLIDEAN)  # little is left to see at first, and shear would fit itself to that
    starts = _starts(here, there, (0.0,) if kind == cv2.MOTION_TRANSLATION else _TURNS)
    climbed = (_climbed(here, there, start, rigid) for start in starts)
    found = [moved_to(motion, 1 / _COARSE_LEVEL, 1 / _COARSE_LEVEL) for motion in climbed if motion is not None]
    here, there = fine_from_grey(first), fine_from_grey(second)
    best = max((*found, np.eye(2, 3)), key=lambda motion: correlation(here, warped(there, motion)))
    motion = _climbed(here, there, best, kind)
    if motion is None:
        raise MotionError("the photos do not correlate")
    return motion


def motion_from_features(first: Floats, second: Floats) -> Motion:
    """Return the shift, turn and scale that most corners of two (H, W) float32 grey photos agree on; or MotionError.

    ORB (Rublee et al., ICCV 2011), matched both ways, and RANSAC.
    """
    detector = cv2.ORB.create(_NUM_CORNERS, fastThreshold=_CORNER_CONTRAST)
    (points, marks), (others, other_marks) = (
        detector.detectAndCompute(np.clip(photo, 0, 255).astype(np.uint8), None) for photo in (first, second)
    )
    if marks is None or other_marks is None:
        raise MotionError("no corners to register by")
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(marks, other_marks)
    if len(matches) < _MIN_MATCHES:
        raise MotionError(f"{len(matches)} corners are in both photos, fewer than {_MIN_MATCHES}")
    here = np.array([points[match.queryIdx].pt for match in matches])
    there = np.array([others[match.trainIdx].pt for match in matches])
    found, agreeing = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=_MAX_ERROR)
    count = 0 if found is None else int(agreeing.sum())
    if count < _MIN_MATCHES:
        raise MotionError(f"{count} of {len(matches)} corners agree on a motion, fewer than {_MIN_MATCHES}")
    return np.asarray(found, np.float64)


def sizes_of_motion(motion: Motion, height: int, width: int) -> MotionSizes:
    """Return how far a motion moves, turns, scales and shears a photo of that size; MotionError when it mirrors it."""
    linear = motion[:, :2]
    if np.linalg.det(linear) <= 0:
        raise MotionError("the frame would be mirrored")
    larger, smaller = np.linalg.svd(linear, compute_uv=False)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = float(np.linalg.norm(linear @ centre + motion[:, 2] - centre))
    rotation = math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    return MotionSizes(shift, abs(rotation), math.sqrt(larger * smaller), larger / smaller)


def correlation(first: Floats, second: Floats) -> float:
    """Return the correlation coefficient of two arrays of grey values, 0 where one is constant."""
    one, other = (values - values.mean() for values in (first, second))
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norm if norm else 0.0


def moved_to(motion: Motion, x_scale: float, y_scale: float) -> Motion:
    """Return a motion for photos that are so many times as large; pixels are counted from their centres."""
    scale = np.array([[x_scale, 0, (x_scale - 1) / 2], [0, y_scale, (y_scale - 1) / 2], [0, 0, 1]])
    square = np.vstack([motion, [0, 0, 1]])
    found: Motion = (scale @ square @ np.linalg.inv(scale))[:2]
    return found


def warped(photo: Floats, motion: Motion) -> Floats:
    """Return a (H, W) photo with each place filled from where a motion leads, 0 where that is outside."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(photo, motion, photo.shape[::-1], flags=flags), dtype=np.float32)


def _starts(first: Floats, second: Floats, turns: tuple[float, ...]) -> list[Motion]:
    """Return none, the shift that phase correlation finds, and the best of the turns, each with its shift."""
    height, width = first.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    motions: list[Motion] = []
    for turn in turns:
        motion = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0), np.float64)
        shift, _ = cv2.phaseCorrelate(first, warped(second, motion), window)
        motion[:, 2] += motion[:, :2] @ shift
        motions.append(motion)
    turned = sorted(motions[1:], key=lambda motion: -correlation(first, warped(second, motion)))
    return [np.eye(2, 3), motions[0], *turned[:_NUM_TURNED]]


def _climbed(first: Floats, second: Floats, start: Motion, kind: int) -> Motion | None:
    """Return where ECC ends from a start, None when it does not converge."""
    try:
        _, found = cv2.findTransformECC(first, second, start.astype(np.float32), kind, _STEPS)
    except cv2.error:
        return None
    motion = np.asarray(found, np.float64)
    return motion if np.isfinite(motion).all() else None


def _shrunk(photo: Floats) -> Floats:
    small = cv2.resize(photo, None, fx=_COARSE_LEVEL, fy=_COARSE_LEVEL, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)
