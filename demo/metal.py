"""A brushed steel plate with a drilled hole and a machined lower edge, for the demo data."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from demo.canvas import Canvas, Field, bezier, noise, tint

HOLE = (-0.24, -0.22)
EDGE = 0.385  # y where the bevel of the lower edge begins
STEEL = (0.98, 1.0, 1.03)


def draw(canvas: Canvas, rng: np.random.Generator, defect: str | None, defect_rng: np.random.Generator) -> None:
    """Paints the plate; `defect` is a key of DEFECTS or None."""
    highlight = np.exp(-(((canvas.x - rng.uniform(-0.15, 0.25)) / 0.38) ** 2))
    tone = 0.5 + 0.13 * highlight + 0.05 * _grain(canvas, rng)
    tone += 0.012 * noise(rng, tone.shape, (4, 4))
    canvas.colour[:] = tint(STEEL, tone)
    if defect:
        DEFECTS[defect](canvas, defect_rng)
    _drill(canvas.around(*HOLE, reach=0.13), rng)
    bevel = canvas.cover(EDGE - canvas.y)
    canvas.shade(bevel, 1.38)
    canvas.shade(canvas.cover(np.abs(canvas.y - EDGE) - 0.002), 0.75)
    canvas.paint(canvas.cover(EDGE + 0.03 - canvas.y, soft=0.002), (0.09, 0.09, 0.10))


def _grain(canvas: Canvas, rng: np.random.Generator) -> Field:
    """The strokes of the brush along x, long and short (rows, columns); about unit strength."""
    width = 2 * canvas.pixel
    side = int(1.3 / width)
    spare = side // 4
    columns = np.arange(side)
    grain = np.zeros((side, side), np.float32)
    for cells, thickness, strength in ((6, 0.8, 1.1), (16, 0.0, 0.5), (60, 0.0, 0.5), (200, 0.0, 0.25)):
        strokes = noise(rng, (side, side + spare), (side, cells + cells // 4 + 1))
        # each row starts elsewhere, or all strokes would begin and end in the same columns
        strokes = np.take_along_axis(strokes, columns + rng.integers(0, spare, (side, 1)), axis=1)
        if thickness:
            strokes = ndimage.gaussian_filter1d(strokes, thickness, axis=0) * np.float32(np.sqrt(3.5 * thickness))
        grain += np.float32(strength) * strokes
    at = np.stack((canvas.y, canvas.x)) / width + side / 2
    sampled: Field = ndimage.map_coordinates(grain, at, order=1, mode="nearest")
    return sampled


def _drill(canvas: Canvas, rng: np.random.Generator) -> None:
    """A countersunk hole at the origin."""
    facing = (canvas.x + canvas.y) / np.maximum(np.hypot(canvas.x, canvas.y), 1e-6) / 2**0.5
    turned = 0.04 * np.sin(np.hypot(canvas.x, canvas.y) * 1400 + rng.uniform(0, 6))
    canvas.paint(canvas.disc(0.105), tint(STEEL, 0.57 + 0.24 * facing + turned))
    canvas.shade(canvas.cover(np.abs(np.hypot(canvas.x, canvas.y) - 0.105) - 0.0015), 0.7)
    canvas.paint(canvas.disc(0.072), (0.07, 0.07, 0.08))
    canvas.paint(canvas.disc(0.072) * (1 - canvas.disc(0.07, -0.008, -0.008, soft=0.012)), (0.24, 0.24, 0.25))


def _place(rng: np.random.Generator, clear: float) -> tuple[float, float]:
    """A point of the plate at least `clear` from the hole's rim and the edge."""
    while True:
        x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, EDGE - clear)
        if np.hypot(x - HOLE[0], y - HOLE[1]) > 0.105 + clear:
            return float(x), float(y)


def _scratch(canvas: Canvas, rng: np.random.Generator) -> None:
    """A gently bent groove across the brushing, lit on one flank."""
    middle = np.array(_place(rng, 0.1))
    angle = rng.uniform(0.35, np.pi - 0.35)
    half = rng.uniform(0.1, 0.24) * np.array((np.cos(angle), np.sin(angle)))
    bend = rng.normal(0, 0.04, 2)
    line = bezier(np.stack((middle - half, middle + bend, middle + half)))
    groove(canvas, rng, line[line[:, 1] < EDGE - 0.02])


def groove(canvas: Canvas, rng: np.random.Generator, line: Field) -> None:
    """What a scratch along `line` (k, 2) looks like."""
    width, depth = rng.uniform(0.006, 0.012), rng.uniform(0.6, 1.0)
    canvas.shade(canvas.stroke(line + 0.3 * np.float32(width), 1.3 * width, soft=0.003), 1 - 0.5 * depth)
    canvas.shade(canvas.stroke(line - 0.3 * np.float32(width), 0.7 * width, soft=0.002), 1 + 0.6 * depth)


def _dent(canvas: Canvas, rng: np.random.Generator) -> None:
    """A shallow dimple: dark on the flank towards the light, bright on the other."""
    radius = rng.uniform(0.03, 0.06)
    local = canvas.around(*_place(rng, 2 * radius), reach=4 * radius, angle=rng.uniform(0, 0.5))
    x, y = local.x / radius, local.y / (radius * rng.uniform(0.75, 1.0))
    slope = np.tanh(2.5 * (x + y)) * np.exp(-(((x * x + y * y) / 1.5) ** 2))
    local.shade(slope, 1 + rng.uniform(0.2, 0.45))


def _stain(canvas: Canvas, rng: np.random.Generator) -> None:
    """A brown film with a darker rim, where a drop of oil or acid has dried."""
    radius = rng.uniform(0.04, 0.1)
    local = canvas.around(*_place(rng, 1.3 * radius), reach=2.2 * radius)
    outline = local.blob(rng, radius, rough=0.15)
    strength = rng.uniform(0.35, 0.8)
    hue = (1 - 0.35 * strength, 1 - 0.5 * strength, 1 - 0.72 * strength)
    mottle = np.clip(0.8 + 0.25 * noise(rng, outline.shape, (9, 9)), 0.4, 1)
    local.shade(local.cover(outline, soft=0.012) * mottle, hue)
    local.shade(local.cover(np.abs(outline + 0.006) - 0.004, soft=0.006), 1 - 0.3 * strength)


def _pits(canvas: Canvas, rng: np.random.Generator) -> None:
    """A cluster of corroded or chipped-out pits, each with a lit far wall."""
    middle = _place(rng, 0.09)
    for _ in range(rng.integers(4, 11)):
        radius = rng.uniform(0.007, 0.016)
        x, y = np.clip(rng.normal(middle, 0.03), np.subtract(middle, 0.075), np.add(middle, 0.075))
        local = canvas.around(float(x), float(y), reach=3 * radius)
        outline = local.blob(rng, radius, rough=0.15)
        local.shade(local.cover(outline - 0.2 * radius, soft=0.004), 1.25)
        local.paint(local.cover(outline, soft=0.003), (0.16, 0.15, 0.14))
        local.shade(local.disc(0.5 * radius, 0.3 * radius, 0.3 * radius, soft=0.006), 1.9)


DEFECTS: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "pits": _pits,
}
