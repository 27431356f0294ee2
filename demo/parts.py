"""The parts that lie in the tray of the demo data set of logical defects: their shapes, and what paints them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from demo.canvas import Canvas, Colour, Field, bezier, tint

LIGHT = np.array((0.006, 0.009))  # where a shadow falls
STEEL = (0.76, 0.77, 0.78)
DARK_STEEL = (0.25, 0.26, 0.28)
BRASS = (0.76, 0.60, 0.27)
COPPER = (0.93, 0.62, 0.42)
RED = (0.78, 0.16, 0.14)


@dataclass(frozen=True)
class Part:
    """A part: what it is, where its middle lies, how it is turned (radians), its colour; the cable's control points
    (from its middle); whether it is `broken`.
    """

    kind: str
    x: float
    y: float
    angle: float
    colour: Colour
    line: tuple[tuple[float, float], ...] = ()
    broken: bool = False


def lay_part(canvas: Canvas, part: Part) -> None:
    """Paints a part with its shadow."""
    local = _frame(canvas, part)
    dx, dy = (np.float32(value) for value in _turned(LIGHT, -part.angle))
    moved = Canvas(local.x - dx, local.y - dy, local.colour, local.pixel)
    local.shade(KINDS[part.kind].shape(moved, part, 0.010), 0.5)
    KINDS[part.kind].paint(local, part)


def mark(canvas: Canvas, part: Part) -> None:
    """Paints where a part is white."""
    local = _frame(canvas, part)
    local.paint(KINDS[part.kind].shape(local, part, 0.0), (1.0, 1.0, 1.0))


def _frame(canvas: Canvas, part: Part) -> Canvas:
    return canvas.around(part.x, part.y, KINDS[part.kind].reach, part.angle)


def _turned(vector: Field, angle: float) -> Field:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array((cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]))


def _screw_shape(canvas: Canvas, part: Part, soft: float = 0.0) -> Field:
    return np.maximum(
        canvas.box(0.125, 0.022, 0.02, 0, corner=0.004, soft=soft),
        canvas.box(0.030, 0.054, -0.055, 0, corner=0.010, soft=soft),
    )


def _screw(canvas: Canvas, part: Part) -> None:
    canvas.paint(_screw_shape(canvas, part), part.colour)
    shank = canvas.box(0.105, 0.022, 0.03, 0, corner=0.004)
    canvas.shade(shank * (0.5 + 0.5 * np.sign(np.sin(canvas.x * 560))), 0.55)
    canvas.shade(canvas.box(0.125, 0.005, 0.02, -0.004, soft=0.005), 1.6)
    canvas.shade(canvas.box(0.006, 0.044, -0.060, 0, soft=0.004), 1.5)


def _washer_shape(canvas: Canvas, part: Part, soft: float = 0.0) -> Field:
    ring = canvas.disc(0.044, soft=soft) - canvas.disc(0.021, soft=soft)
    if part.broken:  # a piece has broken out
        ring = ring * (
            1 - canvas.cover(np.abs(canvas.y) - 0.016 - 0.2 * np.maximum(canvas.x, 0), soft) * (canvas.x > 0)
        )
    return ring


def _washer(canvas: Canvas, part: Part) -> None:
    ring = _washer_shape(canvas, part)
    canvas.paint(ring, tint(part.colour, 1 - 2.5 * _towards_light(canvas, part)))
    canvas.shade(ring * (canvas.disc(0.044) - canvas.disc(0.039, soft=0.004)), 0.72)


def _nut_shape(canvas: Canvas, part: Part, soft: float = 0.0) -> Field:
    sides = [np.abs(np.cos(a) * canvas.x + np.sin(a) * canvas.y) for a in np.arange(3) * np.pi / 3]
    return canvas.cover(np.maximum.reduce(sides) - 0.036, soft) - canvas.disc(0.018, soft=soft)


def _nut(canvas: Canvas, part: Part) -> None:
    shape = _nut_shape(canvas, part)
    canvas.paint(shape, tint(part.colour, 1 - 2.5 * _towards_light(canvas, part)))
    canvas.shade(shape * (canvas.disc(0.024) - canvas.disc(0.020, soft=0.003)), 0.6)
    canvas.shade(shape * (1 - canvas.disc(0.036, soft=0.003)), 0.78)


def _towards_light(canvas: Canvas, part: Part) -> Field:
    """How far each place lies away from the light: the scene's direction, in the part's frame."""
    dx, dy = _turned(LIGHT / np.linalg.norm(LIGHT), -part.angle)
    return np.asarray(canvas.x * np.float32(dx) + canvas.y * np.float32(dy))


def _knob_shape(canvas: Canvas, part: Part, soft: float = 0.0) -> Field:
    return canvas.disc(0.056, soft=soft)


def _knob(canvas: Canvas, part: Part) -> None:
    turn = np.arctan2(canvas.y, canvas.x)
    canvas.paint(_knob_shape(canvas, part), part.colour)
    ridges = canvas.disc(0.056) - canvas.disc(0.044)
    canvas.shade(ridges * (0.5 + 0.5 * np.sin(24 * turn)), 0.6)
    canvas.shade(canvas.disc(0.042), 1.08)
    canvas.shade(canvas.disc(0.044) - canvas.disc(0.041, soft=0.003), 0.65)
    canvas.paint(canvas.box(0.008, 0.034, 0, -0.022, corner=0.003), (0.95, 0.95, 0.93))


def _cable_shape(canvas: Canvas, part: Part, soft: float = 0.0) -> Field:
    shape = canvas.stroke(bezier(part.line, 31), 0.024, soft=soft)
    for plug in _plugs(canvas, part):
        shape = np.maximum(shape, plug.box(0.055, 0.036, corner=0.006, soft=soft))
    return shape


def _cable(canvas: Canvas, part: Part) -> None:
    line = bezier(part.line, 31)
    canvas.paint(canvas.stroke(line, 0.024), part.colour)
    canvas.shade(canvas.stroke(line - np.float32(0.004), 0.006, soft=0.006), 1.35)
    if part.broken:  # the insulation is cut open
        canvas.paint(canvas.stroke(line[13:19], 0.026), (0.10, 0.09, 0.09))
        canvas.paint(canvas.stroke(line[13:19], 0.013), COPPER)
    for plug in _plugs(canvas, part):
        plug.paint(plug.box(0.055, 0.036, corner=0.006), (0.14, 0.14, 0.15))
        plug.paint(plug.box(0.016, 0.020, 0.014, 0), BRASS)


def _plugs(canvas: Canvas, part: Part) -> list[Canvas]:
    """The canvas in the frame of each end of the cable, x outwards."""
    frames = []
    for end, before in ((part.line[0], part.line[1]), (part.line[-1], part.line[-2])):
        angle = np.arctan2(end[1] - before[1], end[0] - before[0])
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = canvas.x - np.float32(end[0]), canvas.y - np.float32(end[1])
        frames.append(Canvas(cos * dx + sin * dy, cos * dy - sin * dx, canvas.colour, canvas.pixel))
    return frames


@dataclass(frozen=True)
class Kind:
    """A kind of part: where it covers its surroundings, by part and softness; what paints it; how far it reaches from
    its middle with its shadow; its colour; discs that cover it, x, y and radius each (of the cable, its line does).
    """

    shape: Callable[[Canvas, Part, float], Field]
    paint: Callable[[Canvas, Part], None]
    reach: float
    colour: Colour
    discs: tuple[tuple[float, float, float], ...] = ()


SCREW_DISCS = ((-0.055, 0.0, 0.029), *((x, 0.0, 0.015) for x in (-0.03, -0.01, 0.01, 0.03, 0.05, 0.068)))
KINDS = {
    "screw": Kind(_screw_shape, _screw, 0.12, DARK_STEEL, SCREW_DISCS),
    "washer": Kind(_washer_shape, _washer, 0.07, STEEL, ((0.0, 0.0, 0.044),)),
    "nut": Kind(_nut_shape, _nut, 0.07, BRASS, ((0.0, 0.0, 0.042),)),
    "knob": Kind(_knob_shape, _knob, 0.08, RED, ((0.0, 0.0, 0.056),)),
    "cable": Kind(_cable_shape, _cable, 0.31, RED),
}
# What one of a kind covers of the picture, in squares of its side.
AREAS = {
    "screw": 0.105 * 0.022 + 0.030 * 0.054,
    "washer": np.pi * (0.044**2 - 0.021**2),
    "nut": 2 * 3**0.5 * 0.036**2 - np.pi * 0.018**2,
    "cable": 0.38 * 0.024 + 2 * 0.028 * 0.036,  # laid straight
}
