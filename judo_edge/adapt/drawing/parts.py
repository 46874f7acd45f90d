"""Kinds of parts: each draws a `Scene`, the design that all good parts of one number share.

A scene is a background, fixed elements and features (elements that a defect may remove, move or recolour).
What differs between two good parts (light, noise, grain, weave phase, pose) is added later, per photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from judo_edge.adapt.drawing.shapes import Canvas, Colour, Shape

SIZE = 224
"""Side of a drawn photo, pixels."""

Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """The design of one part number."""

    kind: str
    background: Canvas
    fixed: tuple[Shape, ...]
    features: tuple[Shape, ...]
    grain: float = 3.0
    """Standard deviation of the per-photo surface grain, grey levels."""
    grain_scale: int = 1
    """Size of a grain, pixels."""
    weave: tuple[float, float, float] | None = None
    """Period (pixels), angle (radians) and amplitude (grey levels) of a weave with a new phase in each photo."""
    loose: bool = False
    """Whether the part lies at any angle."""

    def painted(self, features: tuple[Shape, ...]) -> Canvas:
        """Paint the design with the given features."""
        canvas: Canvas = self.background.copy()
        for shape in (*self.fixed, *features):
            shape.paint(canvas)
        return canvas


def random_colour(rng: Rng, low: int = 20, high: int = 236) -> Colour:
    """Draw a colour with each channel in [low, high)."""
    red, green, blue = (int(v) for v in rng.integers(low, high, 3))
    return red, green, blue


def contrasting(rng: Rng, colour: npt.ArrayLike, distance: float = 110.0) -> Colour:
    """Draw a colour whose RGB distance to `colour` is at least `distance`."""
    for _ in range(64):
        other = random_colour(rng, 0, 256)
        if np.linalg.norm(np.subtract(other, colour)) >= distance:
            return other
    return (0, 0, 0) if float(np.mean(np.asarray(colour))) > 127 else (255, 255, 255)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(channel * factor) for channel in colour)
    return red, green, blue


def smooth_noise(rng: Rng, cells: int, size: int = SIZE) -> npt.NDArray[np.float32]:
    """Return (size, size) noise of unit deviation whose features are about size / cells pixels wide."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _plain(rng: Rng, colour: Colour, unevenness: float = 6.0) -> Canvas:
    shade = smooth_noise(rng, 4)[:, :, None] * unevenness
    return np.clip(np.asarray(colour, np.float32) + shade, 0, 255).astype(np.uint8)


def spread(rng: Rng, count: int, gap: float, margin: float = 22.0) -> list[tuple[float, float]]:
    """Draw up to `count` places at least `gap` pixels apart and `margin` from the border."""
    places: list[tuple[float, float]] = []
    for _ in range(count * 12):
        x, y = rng.uniform(margin, SIZE - margin, 2)
        if all(np.hypot(x - a, y - b) >= gap for a, b in places):
            places.append((float(x), float(y)))
        if len(places) == count:
            break
    return places


def _board(rng: Rng) -> Scene:
    base = (int(rng.integers(5, 40)), int(rng.integers(60, 120)), int(rng.integers(20, 110)))
    copper = (int(rng.integers(150, 220)), int(rng.integers(140, 190)), int(rng.integers(60, 120)))
    traces = tuple(_trace(rng, copper) for _ in range(int(rng.integers(4, 10))))
    forms = rng.choice(["chip", "ring", "box", "disc"], size=9)
    features = tuple(
        Shape(
            str(form),
            x,
            y,
            rng.uniform(10, 21),
            contrasting(rng, base),
            rng.uniform(0.5, 1),
            float(rng.choice([0, 90])),
            copper,
        )
        for form, (x, y) in zip(forms, spread(rng, int(rng.integers(4, 9)), 46), strict=False)
    )
    return Scene("board", _plain(rng, base), traces, features)


def _trace(rng: Rng, colour: Colour) -> Shape:
    x, y = rng.uniform(0, SIZE, 2)
    points, heading = [(0.0, 0.0)], int(rng.integers(0, 8))
    for _ in range(int(rng.integers(2, 5))):
        length, angle = rng.uniform(25, 80), np.pi / 4 * heading
        points.append((points[-1][0] + length * np.cos(angle), points[-1][1] + length * np.sin(angle)))
        heading += int(rng.choice([-1, 1]))
    return Shape("path", x, y, 10, colour, points=tuple(points), thickness=int(rng.integers(2, 5)))


def _machined(rng: Rng) -> Scene:
    level = int(rng.integers(90, 200))
    metal = (level, level, min(255, level + int(rng.integers(0, 14))))
    background = _plain(rng, random_colour(rng, 20, 90))
    body = Shape(
        str(rng.choice(["disc", "box"])), 112, 112, rng.uniform(88, 106), metal, rng.uniform(0.8, 1), 0, (60, 60, 60)
    )
    count, radius, start = int(rng.integers(3, 7)), rng.uniform(48, 66), rng.uniform(0, 6.28)
    angles = start + 2 * np.pi * np.arange(count) / count
    dark = random_colour(rng, 15, 70)
    form = str(rng.choice(["disc", "ring", "pill", "cross"]))
    holes = [
        Shape(
            form,
            112 + radius * np.cos(a),
            112 + radius * np.sin(a),
            rng.uniform(10, 12),
            dark,
            0.4 if form == "pill" else 1,
            float(np.rad2deg(a)),
            metal,
        )
        for a in angles
    ]
    if rng.random() < 0.7:
        holes.append(
            Shape(
                "ring", 112, 112, rng.uniform(16, 26), random_colour(rng, 40, 120), accent=random_colour(rng, 150, 220)
            )
        )
    return Scene("machined", background, (body,), tuple(holes), grain=rng.uniform(3, 8))


def _cast(rng: Rng) -> Scene:
    base = random_colour(rng, 60, 190) if rng.random() < 0.4 else (int(rng.integers(70, 180)),) * 3
    ribs = tuple(
        Shape(
            "box",
            x,
            y,
            rng.uniform(18, 34),
            _scaled(base, 0.75),
            rng.uniform(0.3, 0.6),
            rng.uniform(0, 180),
        )
        for x, y in spread(rng, int(rng.integers(0, 4)), 70, 40)
    )
    return Scene("cast", _plain(rng, base, 10), (), ribs, grain=rng.uniform(8, 20), grain_scale=int(rng.integers(1, 5)))


def _label(rng: Rng) -> Scene:
    paper = random_colour(rng, 180, 250) if rng.random() < 0.7 else random_colour(rng, 30, 120)
    ink = contrasting(rng, paper, 170)
    words = ["LOT 27", "M8x20", "24V DC", "IP67", "PASS", "R-104", "MADE", "5.0 A", "QC OK", "TYPE B", "KX-9", "380"]
    rows = np.linspace(34, 190, int(rng.integers(3, 6)))
    lines = [
        Shape(
            "text",
            rng.uniform(75, 150),
            float(y),
            rng.uniform(20, 34),
            ink,
            text=str(rng.choice(words)),
            thickness=int(rng.integers(2, 4)),
        )
        for y in rows
    ]
    form = str(rng.choice(["disc", "ring", "cross", "box"]))
    x, y = rng.choice([34, 190], 2)
    logo = Shape(
        form,
        float(x),
        float(y),
        rng.uniform(14, 22),
        contrasting(rng, paper),
    )
    frame = Shape("path", 0, 0, 10, ink, points=((8, 8), (216, 8), (216, 216), (8, 216), (8, 8)), thickness=2)
    return Scene("label", _plain(rng, paper, 3), (frame,), (*lines, logo), grain=2.0)


def _assembly(rng: Rng) -> Scene:
    tray = random_colour(rng, 20, 230)
    per_side, form = int(rng.integers(2, 5)), str(rng.choice(["disc", "ring", "pill", "cross", "box"]))
    pitch, colour = SIZE / per_side, contrasting(rng, tray)
    angle = rng.uniform(0, 180)
    places = [((i + 0.5) * pitch, (j + 0.5) * pitch) for i in range(per_side) for j in range(per_side)]
    size = min(pitch * rng.uniform(0.24, 0.36), 30)
    features = tuple(
        Shape(form, x, y, size, colour, 0.4 if form == "pill" else rng.uniform(0.7, 1), angle, contrasting(rng, colour))
        for x, y in places
    )
    return Scene("assembly", _plain(rng, tray), (), features)


def _loose(rng: Rng) -> Scene:
    ground, skin = random_colour(rng, 10, 240), (0, 0, 0)
    skin = contrasting(rng, ground, 120)
    body = Shape(
        str(rng.choice(["disc", "disc", "box"])),
        112,
        112,
        rng.uniform(52, 84),
        skin,
        rng.uniform(0.75, 1),
        0,
        _scaled(skin, 0.7),
    )
    return Scene(
        "loose",
        _plain(rng, ground, 3),
        (body,),
        (),
        grain=rng.uniform(3, 9),
        grain_scale=int(rng.integers(1, 6)),
        loose=True,
    )


def _woven(rng: Rng) -> Scene:
    cloth = random_colour(rng, 50, 200)
    weave = (rng.uniform(9, 22), rng.uniform(0, np.pi), rng.uniform(28, 60))
    return Scene("woven", _plain(rng, cloth, 6), (), (), grain=rng.uniform(3, 9), weave=weave)


DRAWERS: dict[str, Callable[[Rng], Scene]] = {
    "board": _board,
    "machined": _machined,
    "cast": _cast,
    "label": _label,
    "assembly": _assembly,
    "loose": _loose,
    "woven": _woven,
}
BASE_KINDS = ("board", "machined", "cast", "label", "assembly", "loose")
"""Kinds that the base weights are trained on."""
ADAPTER_KIND = "woven"
"""Kind that is left to the adapter."""
