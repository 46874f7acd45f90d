"""The motion between two photos of one scene, estimated by OpenCV. Knows nothing of what is done with it.

A motion is a (2, 3) float64 matrix: the place in the second photo of a place (x, y, 1) of the first, both in pixels.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats

Motion = npt.NDArray[np.float64]

_LEVELS = (0.25, 1.0)
"""Shares of the photos' size at which ECC runs, one after the other: the small one bridges large motions."""
_COARSE = 1 / 32
"""Sigma, as a share of the longer side, of the brightness that is taken away."""
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


def fine_from_grey(grey: Floats) -> Floats:
    """Return a (H, W) photo without its coarse brightness, which correlates for any two photos under one lamp."""
    coarse = cv2.GaussianBlur(grey, (0, 0), max(grey.shape) * _COARSE)
    return np.asarray(grey - coarse, dtype=np.float32)


def motion_from_ecc(first: Floats, second: Floats, kind: int) -> Motion:
    """Return the motion that makes two (H, W) float32 photos correlate most; MotionError when there is none.

    `kind` is OpenCV's motion type. Enhanced correlation coefficient maximization, Evangelidis and Psarakis, PAMI 2008,
    from the shift that phase correlation finds.
    """
    motion = _resized(_shift(first, second), 1.0, _LEVELS[0])
    for level, after in pairwise((*_LEVELS, 1.0)):
        here, there = (
            cv2.resize(photo, None, fx=level, fy=level, interpolation=cv2.INTER_AREA) for photo in (first, second)
        )
        try:
            _, found = cv2.findTransformECC(here, there, motion.astype(np.float32), kind, _STEPS)
        except cv2.error as error:
            raise MotionError("the photos do not correlate") from error
        motion = _resized(np.asarray(found, np.float64), level, after)
    if not np.isfinite(motion).all():
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


def _shift(first: Floats, second: Floats) -> Motion:
    """Return the shift that phase correlation finds, or none when the photos correlate better as they are."""
    window = cv2.createHanningWindow((first.shape[1], first.shape[0]), cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(first, second, window)
    shifted = np.array([[1, 0, x], [0, 1, y]], np.float64)
    return shifted if correlation(first, warped(second, shifted)) > correlation(first, second) else np.eye(2, 3)


def _resized(motion: Motion, level: float, wanted: float) -> Motion:
    return moved_to(motion, wanted / level, wanted / level)
