"""A tray with loose and fixed parts in compartments, for the demo data set of logical defects.

A loose part may lie anywhere in its compartment; how many there are, of which kind, and that knobs and cable have one
colour, is what makes a tray good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from demo.canvas import Canvas, Colour, Field, bezier, noise, tint
from demo.parts import KINDS, RED, Part

BENCH = (0.66, 0.60, 0.52)
PLASTIC = (0.30, 0.32, 0.35)
FLOOR = (0.47, 0.49, 0.51)
SETS: tuple[Colour, ...] = (RED, (0.16, 0.34, 0.72), (0.90, 0.72, 0.16))  # of knobs and cable
CLEARANCE = 0.006  # between two parts, and to a wall
CABLE_RADIUS = 0.02  # of its plugs
TRIES = 60  # to find room for a part


@dataclass(frozen=True)
class Box:
    """A compartment, by its middle."""

    x: float
    y: float
    width: float
    height: float


COMPARTMENTS = {
    "screws": Box(-0.29, -0.165, 0.27, 0.31),
    "washers": Box(0.0, -0.165, 0.27, 0.31),
    "nuts": Box(0.29, -0.165, 0.27, 0.31),
    "cable": Box(-0.145, 0.165, 0.56, 0.31),
    "knobs": Box(0.29, 0.165, 0.27, 0.31),
}
# What belongs into each, of the parts that lie loose.
LOOSE: Mapping[str, tuple[str, ...]] = {
    "screws": ("screw",) * 3,
    "washers": ("washer",) * 4,
    "nuts": ("nut",) * 3,
}
KNOBS = ((0.225, 0.165), (0.355, 0.165))


def pack(rng: np.random.Generator, loose: Mapping[str, Sequence[str]] = LOOSE) -> list[Part]:
    """The parts of a tray, the loose ones scattered over their compartments, `loose` of them in each."""
    colour = SETS[rng.integers(len(SETS))]
    cable = COMPARTMENTS["cable"]
    ends = [(side * 0.19 + rng.uniform(-0.02, 0.02), rng.uniform(-0.08, 0.08)) for side in (-1, 1)]
    bends = [(side * rng.uniform(0.02, 0.10), rng.uniform(-0.17, 0.17)) for side in (-1, 1)]
    parts = [Part("knob", x, y, rng.uniform(-0.9, 0.9), colour) for x, y in KNOBS]
    parts.append(Part("cable", cable.x, cable.y, 0.0, colour, (ends[0], *bends, ends[1])))
    for name, kinds in loose.items():
        parts += scatter(rng, COMPARTMENTS[name], kinds, parts)
    return parts


def scatter(rng: np.random.Generator, box: Box, kinds: Sequence[str], there: Sequence[Part]) -> list[Part]:
    """Parts of these kinds anywhere in the box, beside each other and beside what is `there`."""
    placed: list[Part] = []
    while len(placed) < len(kinds):
        part = _anywhere(rng, box, kinds[len(placed)], [*there, *placed])
        placed = [*placed, part] if part else []  # there may be no room for the last ones: all anew
    return placed


def _anywhere(rng: np.random.Generator, box: Box, kind: str, there: Sequence[Part]) -> Part | None:
    """A part in the box that touches no other; None if none was found."""
    tone = rng.uniform(0.9, 1.08)
    red, green, blue = (tone * value for value in KINDS[kind].colour)
    size = np.array((box.width, box.height, 2 * np.pi))
    tried = rng.uniform(-0.5, 0.5, (TRIES, 3)) * size + (box.x, box.y, 0)
    others = np.concatenate([np.empty((0, 3)), *(discs(part) for part in there)])
    for x, y, angle in tried.tolist():
        part = Part(kind, x, y, angle, (red, green, blue))
        if inside(part, box) and _apart(discs(part), others):
            return part
    return None


def discs(part: Part) -> Field:
    """Discs that cover a part: x, y and radius [n, 3]."""
    along = [(x, y, CABLE_RADIUS) for x, y in bezier(part.line, 31)] if part.line else KINDS[part.kind].discs
    x, y, radius = np.array(along).T
    cos, sin = np.cos(part.angle), np.sin(part.angle)
    return np.stack((part.x + cos * x - sin * y, part.y + sin * x + cos * y, radius), axis=1)


def inside(part: Part, box: Box) -> bool:
    """Whether a part lies in a compartment with room to its walls."""
    x, y, radius = discs(part).T
    room = np.minimum(box.width / 2 - np.abs(x - box.x), box.height / 2 - np.abs(y - box.y))
    return bool((room - radius >= CLEARANCE).all())


def _apart(one: Field, other: Field) -> bool:
    distance = np.hypot(one[:, None, 0] - other[:, 0], one[:, None, 1] - other[:, 1])
    return bool((distance - one[:, None, 2] - other[:, 2] >= CLEARANCE).all())


def outline(canvas: Canvas) -> Field:
    """Coverage of the whole tray."""
    return canvas.box(0.92, 0.70, corner=0.03)


def floor(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints the bench and the empty tray."""
    wood = 1 + 0.03 * noise(rng, canvas.x.shape, (90, 8)) + 0.03 * noise(rng, canvas.x.shape, (6, 3))
    canvas.colour[:] = tint(BENCH, wood)
    canvas.shade(canvas.box(0.92, 0.70, 0.014, 0.020, corner=0.03, soft=0.03), 0.5)
    grain = 1 + 0.02 * noise(rng, canvas.x.shape, (200, 200))
    canvas.paint(outline(canvas), tint(PLASTIC, grain))
    canvas.shade(outline(canvas) - canvas.box(0.905, 0.685, corner=0.025, soft=0.004), 1.3)
    for box in COMPARTMENTS.values():
        canvas.paint(canvas.box(box.width, box.height, box.x, box.y, corner=0.02), tint(FLOOR, grain))
        inner = canvas.box(box.width, box.height, box.x + 0.012, box.y + 0.016, corner=0.02, soft=0.02)
        canvas.shade(canvas.box(box.width, box.height, box.x, box.y, corner=0.02) * (1 - inner), 0.62)
