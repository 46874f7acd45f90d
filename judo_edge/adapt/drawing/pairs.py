"""Pairs of photos: a query and a normal reference of the same part, with the truth about the query.

Good pairs differ by light, noise, grain, weave phase, small shift and rotation: what does not matter.
Defective ones carry one defect besides; its mask is drawn with it, in the query's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from judo_edge.adapt.drawing.parts import DRAWERS, SIZE, Rng, Scene, contrasting, smooth_noise, spread
from judo_edge.adapt.drawing.shapes import Canvas, Shape
from judo_edge.core import Image

Mask = npt.NDArray[np.bool_]
SURFACE_DEFECTS = ("scratch", "spot", "stain")
FEATURE_DEFECTS = ("missing feature", "extra feature", "colour shift", "misplaced feature")
DEFECTS = SURFACE_DEFECTS + FEATURE_DEFECTS


@dataclass(frozen=True)
class Pair:
    """A drawn query with its reference and the truth."""

    query: Image
    reference: Image
    mask: Mask
    """(SIZE, SIZE) defective pixels of the query; all False for a good part."""
    kind: str
    defect: str | None
    """One of DEFECTS, None for a good part."""


def draw_pair(rng: Rng, kind: str, defective: bool) -> Pair:
    """Draw one pair of the given kind (a key of DRAWERS)."""
    return pair_from_scene(rng, DRAWERS[kind](rng), defective)


def pair_from_scene(rng: Rng, scene: Scene, defective: bool) -> Pair:
    """Photograph one part of a design, and a good part of the same design beside it."""
    reference, _ = _photo(rng, scene, scene.painted(scene.features), np.zeros((SIZE, SIZE), np.bool_))
    while defective:
        defect = _chosen_defect(rng, scene)
        if scene.weave is not None and defect in FEATURE_DEFECTS:
            canvas, mask = scene.painted(()), _weave_hole(rng)
            query, seen = _photo(rng, scene, canvas, mask, mask)
        else:
            canvas, mask = _with_defect(rng, scene, defect)
            query, seen = _photo(rng, scene, canvas, mask)
        if seen.sum() >= 60:
            return Pair(query, reference, seen, scene.kind, defect)
    query, seen = _photo(rng, scene, scene.painted(scene.features), np.zeros((SIZE, SIZE), np.bool_))
    return Pair(query, reference, seen, scene.kind, None)


def _chosen_defect(rng: Rng, scene: Scene) -> str:
    if scene.weave is not None and rng.random() < 0.6:
        return "missing feature"
    if scene.features and rng.random() < 0.5:
        return str(rng.choice(FEATURE_DEFECTS))
    return str(rng.choice(SURFACE_DEFECTS))


def _with_defect(rng: Rng, scene: Scene, defect: str) -> tuple[Canvas, Mask]:
    if defect in FEATURE_DEFECTS:
        return _with_feature_defect(rng, scene, defect)
    canvas = scene.painted(scene.features)
    return _SURFACE[defect](rng, scene, canvas)


def _weave_hole(rng: Rng) -> Mask:
    """Where threads are missing: a blob or a band of a few threads."""
    grid_y, grid_x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    x, y = rng.uniform(36, SIZE - 36, 2)
    turn = rng.uniform(0, np.pi)
    along = np.cos(turn) * (grid_x - x) + np.sin(turn) * (grid_y - y)
    across = np.cos(turn) * (grid_y - y) - np.sin(turn) * (grid_x - x)
    length, width = rng.uniform(24, 60), rng.uniform(14, 26)
    return np.asarray(np.hypot(along / length, across / width) + 0.1 * smooth_noise(rng, 14) < 1)


def _place(rng: Rng, scene: Scene) -> tuple[float, float]:
    """Choose where a surface defect lies; on a loose part it must lie on the part."""
    if scene.loose or scene.kind == "machined":
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0, 40 if scene.loose else 75)
        return 112 + radius * np.cos(angle), 112 + radius * np.sin(angle)
    x, y = rng.uniform(24, SIZE - 24, 2)
    return float(x), float(y)


def _local_colour(canvas: Canvas, x: float, y: float) -> npt.NDArray[np.float64]:
    row, col = int(np.clip(y, 6, SIZE - 7)), int(np.clip(x, 6, SIZE - 7))
    return np.asarray(canvas[row - 6 : row + 7, col - 6 : col + 7].reshape(-1, 3).mean(axis=0))


def _scratch(rng: Rng, scene: Scene, canvas: Canvas) -> tuple[Canvas, Mask]:
    x, y = _place(rng, scene)
    heading, points = rng.uniform(0, 2 * np.pi), [(0.0, 0.0)]
    for _ in range(int(rng.integers(2, 5))):
        step = rng.uniform(12, 24)
        points.append((points[-1][0] + step * np.cos(heading), points[-1][1] + step * np.sin(heading)))
        heading += rng.normal(0, 0.35)
    colour = contrasting(rng, _local_colour(canvas, x, y), 130)
    shape = Shape("path", x, y, 10, colour, points=tuple(points), thickness=int(rng.integers(3, 7)))
    shape.paint(canvas)
    return canvas, shape.coverage(SIZE)


def _spot(rng: Rng, scene: Scene, canvas: Canvas) -> tuple[Canvas, Mask]:
    x, y = _place(rng, scene)
    colour = contrasting(rng, _local_colour(canvas, x, y), 120)
    shape = Shape("disc", x, y, rng.uniform(8, 24), colour, rng.uniform(0.6, 1), rng.uniform(0, 180), colour)
    shape.paint(canvas)
    return canvas, shape.coverage(SIZE)


def _stain(rng: Rng, scene: Scene, canvas: Canvas) -> tuple[Canvas, Mask]:
    x, y = _place(rng, scene)
    grid_y, grid_x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    distance = np.hypot(grid_x - x, grid_y - y) / rng.uniform(16, 36) + 0.22 * smooth_noise(rng, 14)
    mask = distance < 1
    colour = np.asarray(contrasting(rng, _local_colour(canvas, x, y), 130), np.float32)
    opacity = rng.uniform(0.65, 0.95) * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)[:, :, None]
    return (canvas * (1 - opacity) + colour * opacity).astype(np.uint8), np.asarray(mask)


_SURFACE = {"scratch": _scratch, "spot": _spot, "stain": _stain}


def _with_feature_defect(rng: Rng, scene: Scene, defect: str) -> tuple[Canvas, Mask]:
    features, index = list(scene.features), int(rng.integers(0, len(scene.features)))
    victim = features.pop(index)
    before, after = victim.coverage(SIZE), np.zeros((SIZE, SIZE), np.bool_)
    if defect == "extra feature":
        changed, before = _extra(rng, scene, victim), after
        features = [*scene.features, changed]
        after = changed.coverage(SIZE)
    elif defect == "colour shift":
        changed = replace(victim, colour=contrasting(rng, victim.colour, 130))
        features.insert(index, changed)
    elif defect == "misplaced feature":
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(12, 22)
        changed = victim.moved(reach * np.cos(angle), reach * np.sin(angle))
        features.insert(index, changed)
        after = changed.coverage(SIZE)
    return scene.painted(tuple(features)), before | after


def _extra(rng: Rng, scene: Scene, like: Shape) -> Shape:
    taken = [(shape.x, shape.y) for shape in scene.features]
    free = [p for p in spread(rng, 12, 20) if all(np.hypot(p[0] - x, p[1] - y) > 30 for x, y in taken)]
    x, y = free[0] if free else spread(rng, 1, 1)[0]
    return replace(like, x=x, y=y)


def _photo(rng: Rng, scene: Scene, canvas: Canvas, mask: Mask, hole: Mask | None = None) -> tuple[Image, Mask]:
    """Photograph a painted part: surface (threads are missing where `hole` is True), pose, light, noise."""
    surface = canvas.astype(np.float32) + _surface(rng, scene, hole)
    turn = rng.uniform(0, 360) if scene.loose else rng.normal(0, 0.8)
    turned = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), turn, 1 + rng.normal(0, 0.006))
    pose = np.asarray(turned, dtype=np.float64)
    pose[:, 2] += rng.normal(0, 1.6, 2)
    posed = cv2.warpAffine(surface, pose, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    seen = cv2.warpAffine(mask.astype(np.uint8), pose, (SIZE, SIZE), flags=cv2.INTER_NEAREST)
    return lit(rng, np.asarray(posed, np.float32)), np.asarray(seen > 0)


def _surface(rng: Rng, scene: Scene, hole: Mask | None) -> npt.NDArray[np.float32]:
    cells = max(8, SIZE // scene.grain_scale)
    layer = smooth_noise(rng, cells) * scene.grain
    if scene.weave is not None:
        period, angle, amplitude = scene.weave
        grid_y, grid_x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) * (2 * np.pi / period)
        along = np.cos(angle) * grid_x + np.sin(angle) * grid_y + rng.uniform(0, 6.28)
        across = np.cos(angle) * grid_y - np.sin(angle) * grid_x + rng.uniform(0, 6.28)
        threads = amplitude * (np.sin(along) * np.sin(across)).astype(np.float32)
        layer = layer + (threads if hole is None else np.where(hole, 0, threads))
    return np.asarray(layer[:, :, None], dtype=np.float32)


def lit(rng: Rng, photo: npt.NDArray[np.float32]) -> Image:
    """Return a photo (H, W, 3) in another light and with another noise, as two shots of one part differ."""
    down, across = (np.linspace(-1, 1, size, dtype=np.float32) for size in photo.shape[:2])
    light = 1 + rng.normal(0, 0.05) * across[None, :, None] + rng.normal(0, 0.05) * down[:, None, None]
    gain = rng.normal(1, 0.06) * (1 + rng.normal(0, 0.015, 3)).astype(np.float32)
    noise = rng.standard_normal((*photo.shape[:2], 1), dtype=np.float32) * abs(rng.normal(0, 3))
    return np.clip(photo * light * gain + rng.normal(0, 4) + noise, 0, 255).astype(np.uint8)


def draw_pairs(seed: int, kinds: tuple[str, ...], count: int, defect_share: float = 0.5) -> list[Pair]:
    """Draw `count` pairs, kinds in turn, reproducibly from `seed`."""
    rng = np.random.default_rng(seed)
    return [draw_pair(rng, kinds[i % len(kinds)], bool(rng.random() < defect_share)) for i in range(count)]
