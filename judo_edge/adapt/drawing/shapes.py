"""Elements of a drawn part: a shape knows how to paint itself and which pixels it covers.

Coordinates are pixels (x right, y down) of a square canvas; colours are RGB in 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

Canvas = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """One element: `form` is disc, ring, box, pill, chip, cross, text or path."""

    form: str
    x: float
    y: float
    size: float
    """Half of the larger extent, pixels."""
    colour: Colour
    aspect: float = 1.0
    angle: float = 0.0
    """Degrees."""
    accent: Colour = (30, 30, 30)
    text: str = ""
    points: tuple[tuple[float, float], ...] = ()
    thickness: int = 4

    def moved(self, dx: float, dy: float) -> Shape:
        """Return the shape shifted by (dx, dy) pixels."""
        return replace(self, x=self.x + dx, y=self.y + dy)

    def paint(self, canvas: Canvas) -> None:
        """Paint the shape on an RGB canvas, in place."""
        _PAINTERS[self.form](self, canvas, self.colour, self.accent)

    def coverage(self, size: int) -> npt.NDArray[np.bool_]:
        """Return the (size, size) pixels that the shape covers."""
        canvas = np.zeros((size, size, 3), np.uint8)
        _PAINTERS[self.form](self, canvas, (255, 255, 255), (255, 255, 255))
        return np.asarray(canvas[:, :, 0] > 127)

    def corners(self) -> npt.NDArray[np.int32]:
        """Return the four corners of the turned box, (4, 2) int32."""
        box = cv2.boxPoints(((self.x, self.y), (2 * self.size, 2 * self.size * self.aspect), self.angle))
        return np.asarray(np.round(box), dtype=np.int32)

    @property
    def centre(self) -> tuple[int, int]:
        """Return the rounded centre (x, y)."""
        return round(self.x), round(self.y)


def _disc(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    axes = (max(1, round(shape.size)), max(1, round(shape.size * shape.aspect)))
    cv2.ellipse(canvas, shape.centre, axes, shape.angle, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(canvas, shape.centre, axes, shape.angle, 0, 360, accent, 1, cv2.LINE_AA)


def _ring(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    cv2.circle(canvas, shape.centre, max(2, round(shape.size)), colour, -1, cv2.LINE_AA)
    cv2.circle(canvas, shape.centre, max(1, round(shape.size * 0.5)), accent, -1, cv2.LINE_AA)


def _box(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    cv2.fillConvexPoly(canvas, shape.corners(), colour, cv2.LINE_AA)
    cv2.polylines(canvas, [shape.corners()], True, accent, 1, cv2.LINE_AA)


def _pill(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    radians = np.deg2rad(shape.angle)
    reach = shape.size * (1 - min(0.9, shape.aspect))
    dx, dy = reach * np.cos(radians), reach * np.sin(radians)
    ends = [(round(shape.x - dx), round(shape.y - dy)), (round(shape.x + dx), round(shape.y + dy))]
    width = max(3, round(2 * shape.size * shape.aspect))
    cv2.line(canvas, ends[0], ends[1], accent, width, cv2.LINE_AA)
    cv2.line(canvas, ends[0], ends[1], colour, max(1, width - 3), cv2.LINE_AA)


def _chip(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    pins = replace(shape, aspect=shape.aspect * 1.35, colour=accent)
    for step in np.linspace(-0.8, 0.8, 5):
        radians = np.deg2rad(shape.angle)
        dx, dy = step * shape.size * np.cos(radians), step * shape.size * np.sin(radians)
        pin = replace(pins, x=shape.x + dx, y=shape.y + dy, size=shape.size * 0.09, aspect=shape.aspect * 14)
        cv2.fillConvexPoly(canvas, pin.corners(), accent, cv2.LINE_AA)
    cv2.fillConvexPoly(canvas, shape.corners(), colour, cv2.LINE_AA)


def _cross(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    for turn in (0.0, 90.0):
        bar = replace(shape, angle=shape.angle + turn, aspect=0.35)
        cv2.fillConvexPoly(canvas, bar.corners(), colour, cv2.LINE_AA)


def _text(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    scale = shape.size / 30.0
    (width, height), _ = cv2.getTextSize(shape.text, cv2.FONT_HERSHEY_SIMPLEX, scale, shape.thickness)
    origin = (round(shape.x - width / 2), round(shape.y + height / 2))
    cv2.putText(canvas, shape.text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, shape.thickness, cv2.LINE_AA)


def _path(shape: Shape, canvas: Canvas, colour: Colour, accent: Colour) -> None:
    points = np.round(np.asarray(shape.points) + np.array([shape.x, shape.y])).astype(np.int32)
    cv2.polylines(canvas, [points.reshape(-1, 1, 2)], False, colour, shape.thickness, cv2.LINE_AA)


_PAINTERS = {
    "disc": _disc,
    "ring": _ring,
    "box": _box,
    "pill": _pill,
    "chip": _chip,
    "cross": _cross,
    "text": _text,
    "path": _path,
}
