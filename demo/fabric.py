"""A plain weave of blue weft through pale warp, yarn by yarn, for the demo data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from demo.canvas import Canvas, Field, noise, tint

YARNS = 32  # yarns across the image, each way
WARP = (0.84, 0.81, 0.74)
WEFT = (0.30, 0.42, 0.58)
BEHIND = (0.06, 0.06, 0.07)  # what is seen where there is no yarn


@dataclass(frozen=True)
class Yarns:
    """The yarns of one direction, each field (rows, columns): which yarn, where across it, how far along it.

    `number` counts the yarns, `across` runs from -1 to 1 over the yarn's pitch, `along` counts the yarns
    crossed. `whole` is True where the yarn is there and False where it is torn away; defects write it.
    """

    number: npt.NDArray[np.int64]
    across: Field
    along: Field
    whole: npt.NDArray[np.bool_]


def draw(canvas: Canvas, rng: np.random.Generator, defect: str | None, defect_rng: np.random.Generator) -> None:
    """Paints the cloth; `defect` is a key of DEFECTS or None."""
    shape = canvas.x.shape
    u, v = (
        (at * YARNS + 2 * YARNS + rng.uniform(0, 2) + 0.16 * noise(rng, shape, (5, 5))).astype(np.float32)
        for at in (canvas.x, canvas.y)
    )
    warp, weft = (
        Yarns(n := np.floor(a).astype(np.int64), 2 * (a - n) - 1, b, np.ones(shape, np.bool_))
        for a, b in ((u, v), (v, u))
    )
    if defect in TEARS:
        TEARS[defect](canvas, warp, weft, defect_rng)
    warp_tone, warp_height = _spin(warp, rng, noise(rng, shape, (6, 2 * YARNS)), up=1)
    weft_tone, weft_height = _spin(weft, rng, noise(rng, shape, (2 * YARNS, 6)), up=-1)
    # a yarn that has nothing to bind it over lies lower, and in the shadow
    warp_tone = np.where(weft.whole, warp_tone, 0.8 * warp_tone)
    weft_tone = np.where(warp.whole, weft_tone, 0.8 * weft_tone)
    canvas.colour[:] = np.where(warp_height > weft_height, tint(WARP, warp_tone), tint(WEFT, weft_tone))
    gap = np.maximum(warp_height, weft_height) < -1
    canvas.paint(gap.astype(np.float32), BEHIND)
    if defect in SPOILS:
        SPOILS[defect](canvas, defect_rng)


def _spin(yarns: Yarns, rng: np.random.Generator, slubs: Field, up: int) -> tuple[Field, Field]:
    """Brightness and height of the yarns (rows, columns each); `up` 1 or -1 says which crossings are over.

    Height is below -1 where there is no yarn.
    """
    count = 6 * YARNS
    # thickness, offset, tone and twist vary from yarn to yarn
    varied = rng.normal((0.93, 0, 1, 0), (0.035, 0.05, 0.035, 3), (count, 4)).astype(np.float32)
    thick, off, tone, twist = (each.take(yarns.number) for each in varied.T)
    thick += 0.05 * slubs
    across = (yarns.across - off) / thick
    round_top = np.sqrt(np.clip(1 - across * across, 0, 1))
    wave = up * np.where(yarns.number % 2, np.float32(-1), np.float32(1)) * np.sin(np.pi * yarns.along)
    fibre = np.sin(2 * np.pi * (2.5 * yarns.along + 0.55 * across) + twist)
    fibre = 0.06 * fibre + 0.05 * rng.standard_normal(across.shape, np.float32)
    light = tone * (0.5 + 0.34 * round_top + 0.16 * wave - 0.07 * across + fibre)
    height = np.where(yarns.whole & (round_top > 0), 0.6 * round_top + 0.5 * wave, np.float32(-2))
    return light, height


def _hole(canvas: Canvas, warp: Yarns, weft: Yarns, rng: np.random.Generator) -> None:
    """A torn hole; every yarn ends at its own length, so the rim frays."""
    radius = rng.uniform(0.03, 0.07)
    x, y = rng.uniform(-0.36, 0.36, 2)
    moved = Canvas(canvas.x - np.float32(x), canvas.y - np.float32(y), canvas.colour, canvas.pixel)
    outline = moved.blob(rng, radius, rough=0.16)
    for yarns in (warp, weft):
        length = rng.normal(0, 0.25 * radius, 6 * YARNS).astype(np.float32)
        yarns.whole[outline < length[yarns.number]] = False


def _missing_yarn(canvas: Canvas, warp: Yarns, weft: Yarns, rng: np.random.Generator) -> None:
    """One yarn, or two side by side, has broken and pulled out over some length."""
    first = int(2.1 * YARNS + rng.uniform(-0.36, 0.36) * YARNS)
    start, length = 2 * YARNS + rng.uniform(-0.4, 0.0) * YARNS, rng.uniform(0.2, 0.6) * YARNS
    yarns = (warp, weft)[rng.integers(2)]
    gone = (yarns.number >= first) & (yarns.number <= first + rng.integers(2))
    yarns.whole[gone & (yarns.along > start) & (yarns.along < start + length)] = False


def _stain(canvas: Canvas, rng: np.random.Generator) -> None:
    """Coffee, oil or ink soaked into the cloth."""
    radius = rng.uniform(0.05, 0.12)
    x, y = rng.uniform(-0.34, 0.34, 2)
    local = canvas.around(x, y, reach=2.2 * radius)
    outline = local.blob(rng, radius, rough=0.15)
    hue = np.array(((0.55, 0.38, 0.22), (0.48, 0.46, 0.40), (0.30, 0.30, 0.55)))[rng.integers(3)]
    r, g, b = 1 - rng.uniform(0.5, 1.0) * (1 - hue)
    soak = np.clip(0.85 + 0.2 * noise(rng, outline.shape, (7, 7)), 0.5, 1)
    local.shade(local.cover(outline, soft=0.02) * soak, (r, g, b))


def _thread(canvas: Canvas, rng: np.random.Generator) -> None:
    """A foreign thread lying on the cloth, with its shadow."""
    bends = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.1) + rng.normal(0, 0.25, 16))
    line = np.cumsum(rng.uniform(0.012, 0.035) * np.stack((np.cos(bends), np.sin(bends)), axis=1), axis=0)
    line -= line.mean(axis=0)
    x, y = rng.uniform(-0.3, 0.3, 2)
    canvas = canvas.around(x, y, reach=float(np.abs(line).max()) + 0.05)
    width = rng.uniform(0.008, 0.015)
    colours = ((0.10, 0.10, 0.11), (0.72, 0.12, 0.13), (0.93, 0.86, 0.35), (0.13, 0.40, 0.18))
    red, green, blue = colours[rng.integers(len(colours))]
    canvas.shade(canvas.stroke(line + 0.006, width, soft=0.008), 0.55)
    canvas.paint(canvas.stroke(line, width, soft=0.002), (red, green, blue))
    canvas.shade(canvas.stroke(line - 0.15 * width, 0.3 * width, soft=0.004), 1.4)


TEARS: dict[str | None, Callable[[Canvas, Yarns, Yarns, np.random.Generator], None]] = {
    "hole": _hole,
    "missing_yarn": _missing_yarn,
}
SPOILS: dict[str | None, Callable[[Canvas, np.random.Generator], None]] = {
    "stain": _stain,
    "thread": _thread,
}
DEFECTS = ("hole", "missing_yarn", "stain", "thread")
