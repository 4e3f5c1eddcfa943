"""Painting with exact sub-pixel edges: shaded strokes (limbs, heads, trunks) and flat convex facets.

In: a float32 canvas (H, W, 3), 0..255, that the caller owns and lets be painted on, and shapes in pixels, pixel
centres at integers. Out: the canvas with the shape blended over it; coverage of a pixel comes from the signed
distance of its centre to the shape's edge. It knows no depth: the caller paints from far to near.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, hypot

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
Bounds = tuple[float, float, float, float]

# Towards the light, in the picture: right, down, towards the viewer. Unit length.
LIGHT = (-0.46, -0.66, 0.594)
AMBIENT, DIFFUSE = 0.50, 0.58


@dataclass(frozen=True, slots=True)
class Stroke:
    """A tapered bar from (ax, ay) to (bx, by) with half-widths ra and rb and rounded ends, in pixels.

    `roundness` is the corners' radius in half-widths: 1 gives a capsule (a limb, a ball), less a trunk with shoulders.
    `depth` in metres orders the shapes; `colour` is 0..255.
    """

    ax: float
    ay: float
    bx: float
    by: float
    ra: float
    rb: float
    depth: float
    colour: tuple[float, float, float]
    roundness: float = 1.0

    def bounds(self) -> Bounds:
        """Left, top, right and bottom of what it touches, in pixels."""
        wide = max(self.ra, self.rb) + 1.0
        left, right, top, bottom = *sorted((self.ax, self.bx)), *sorted((self.ay, self.by))
        return left - wide, top - wide, right + wide, bottom + wide

    def paint(self, canvas: Canvas) -> None:
        """Blend it over the canvas, shaded like a round body lit from the upper left."""
        rows, columns = window(canvas, self.bounds())
        length = hypot(self.bx - self.ax, self.by - self.ay)
        ex, ey = ((self.bx - self.ax) / length, (self.by - self.ay) / length) if length > 1e-6 else (1.0, 0.0)
        dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(self.ax)
        dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(self.ay)
        along = dx * ex + dy * ey - length / 2  # from the middle
        across = dy * ex - dx * ey
        half: float | NDArray[np.floating] = self.ra
        if self.rb != self.ra and length > 1e-6:
            half = self.ra + (self.rb - self.ra) * np.clip(along / length + 0.5, 0.0, 1.0)
        corner = self.roundness * half
        beyond = np.abs(along) - length / 2
        aside = np.abs(across) - (half - corner)
        beyond_out = np.maximum(beyond, 0.0)
        aside_out = np.maximum(aside, 0.0)
        distance = np.sqrt(beyond_out * beyond_out + aside_out * aside_out) - corner
        if self.roundness < 1.0:
            distance += np.minimum(np.maximum(beyond, aside), 0.0)
        cover = np.clip(0.5 - distance, 0.0, 1.0)
        tilt = across / half
        nose = np.copysign(beyond_out, along) / corner
        facing = np.sqrt(np.maximum(1.0 - tilt * tilt - nose * nose, 0.0))
        lit = tilt * (LIGHT[1] * ex - LIGHT[0] * ey) + nose * (LIGHT[0] * ex + LIGHT[1] * ey) + facing * LIGHT[2]
        shade = AMBIENT + DIFFUSE * np.clip(0.35 + 0.65 * lit, 0.0, 1.0)
        _blend(canvas, rows, columns, cover, shade, self.colour)


@dataclass(frozen=True, slots=True)
class Facet:
    """A flat convex polygon of points (n, 2) in pixels, in either sense of rotation; otherwise as a Stroke."""

    points: tuple[tuple[float, float], ...]
    depth: float
    colour: tuple[float, float, float]

    def bounds(self) -> Bounds:
        """Left, top, right and bottom of what it touches, in pixels."""
        xs, ys = zip(*self.points, strict=True)
        return min(xs) - 1.0, min(ys) - 1.0, max(xs) + 1.0, max(ys) + 1.0

    def paint(self, canvas: Canvas) -> None:
        """Blend it over the canvas."""
        rows, columns = window(canvas, self.bounds())
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :]
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        sense = 1.0 if _area(self.points) > 0 else -1.0
        distance = np.full((rows.stop - rows.start, columns.stop - columns.start), -np.inf, dtype=np.float32)
        for (px, py), (qx, qy) in zip(self.points, self.points[1:] + self.points[:1], strict=True):
            edge = hypot(qx - px, qy - py)
            if edge > 1e-6:
                outward = sense * ((x - px) * ((qy - py) / edge) - (y - py) * ((qx - px) / edge))
                np.maximum(distance, outward, out=distance)
        _blend(canvas, rows, columns, np.clip(0.5 - distance, 0.0, 1.0), np.float32(1.0), self.colour)


@dataclass(frozen=True, slots=True)
class Shadow:
    """Soft darkness about (x, y): a Gaussian of standard deviations `wide` and `high` in pixels, under all else."""

    x: float
    y: float
    wide: float
    high: float
    strength: float
    depth: float = float("inf")

    def bounds(self) -> Bounds:
        """Left, top, right and bottom of what it touches, in pixels."""
        wide, high = 2.6 * self.wide, 2.6 * self.high
        return self.x - wide, self.y - high, self.x + wide, self.y + high

    def paint(self, canvas: Canvas) -> None:
        """Darken the canvas by `strength` (0..1) in the middle."""
        rows, columns = window(canvas, self.bounds())
        dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - self.x) / self.wide
        dy = (np.arange(rows.start, rows.stop, dtype=np.float32) - self.y) / self.high
        dark = np.exp(-0.5 * dy * dy)[:, None] * np.exp(-0.5 * dx * dx)[None, :]
        canvas[rows, columns] *= (1.0 - self.strength * dark)[..., None]


Shape = Stroke | Facet | Shadow


def paint(canvas: Canvas, shapes: list[Shape]) -> None:
    """Blend all shapes over the canvas, from the farthest to the nearest."""
    for shape in sorted(shapes, key=lambda shape: -shape.depth):
        shape.paint(canvas)


def window(canvas: Canvas, bounds: Bounds) -> tuple[slice, slice]:
    """Rows and columns of the canvas that the bounds cover; empty slices if they lie outside."""
    height, width = canvas.shape[:2]
    left, top, right, bottom = bounds
    rows = slice(min(max(floor(top), 0), height), max(min(ceil(bottom) + 1, height), 0))
    columns = slice(min(max(floor(left), 0), width), max(min(ceil(right) + 1, width), 0))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else (slice(0, 0), slice(0, 0))


def _area(points: tuple[tuple[float, float], ...]) -> float:
    """Twice the signed area of a polygon."""
    return sum(px * qy - qx * py for (px, py), (qx, qy) in zip(points, points[1:] + points[:1], strict=True))


def _blend(
    canvas: Canvas,
    rows: slice,
    columns: slice,
    cover: NDArray[np.floating],
    shade: NDArray[np.floating] | np.float32,
    colour: tuple[float, float, float],
) -> None:
    """Lay `colour` times `shade` over a part of the canvas, `cover` (0..1) deep."""
    part = canvas[rows, columns]
    light = cover * shade
    for channel, value in enumerate(colour):  # three thin operations are faster than one with a last axis of 3
        plane = part[..., channel]
        plane += light * np.float32(value) - cover * plane
