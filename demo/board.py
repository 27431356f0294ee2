"""A small circuit board with screws, a chip, a connector and a wire on a grey mat, for the demo data."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from demo.canvas import Canvas, Colour, bezier, noise, tint

GREEN = (0.09, 0.36, 0.22)
TRACK = (0.17, 0.47, 0.30)
TIN = (0.74, 0.75, 0.74)
SILK = (0.83, 0.86, 0.82)
LIGHT = (0.006, 0.009)  # where a shadow falls, per step of height


@dataclass(frozen=True)
class Part:
    """A part on the board: what it is, where its middle lies, how it is turned (radians), its colour."""

    kind: str
    x: float
    y: float
    colour: Colour
    angle: float = 0.0


PARTS = (
    *(Part("screw", x, y, (0.70, 0.70, 0.68)) for x in (-0.355, 0.355) for y in (-0.265, 0.265)),
    Part("connector", -0.305, 0.0, (0.88, 0.84, 0.72)),
    Part("chip", -0.02, 0.03, (0.13, 0.13, 0.14)),
    Part("capacitor", 0.20, -0.19, (0.16, 0.24, 0.55)),
    Part("capacitor", 0.32, -0.06, (0.16, 0.24, 0.55)),
    Part("crystal", 0.24, 0.10, (0.78, 0.79, 0.80)),
    *(Part("resistor", x, 0.24, (0.15, 0.14, 0.14)) for x in (-0.12, -0.02, 0.08)),
    Part("led", 0.24, 0.25, (0.86, 0.13, 0.10)),
    Part("wire", -0.10, -0.26, (0.93, 0.76, 0.14)),
)
# the copper pads below a part, seen when it is missing: x and y from its middle
PADS: dict[str, tuple[tuple[float, float], ...]] = {
    "screw": (),
    "connector": tuple((0.0, y) for y in (-0.1, -0.05, 0.0, 0.05, 0.1)),
    "chip": tuple(
        pad for at in (-0.066, -0.033, 0, 0.033, 0.066) for k in (-0.112, 0.112) for pad in ((at, k), (k, at))
    ),
    "capacitor": ((-0.02, 0.0), (0.02, 0.0)),
    "crystal": ((-0.035, 0.0), (0.035, 0.0)),
    "resistor": ((-0.026, 0.0), (0.026, 0.0)),
    "led": ((-0.014, 0.0), (0.014, 0.0)),
    "wire": (),
}
WIRE_ENDS = ((-0.24, -0.18), (0.08, -0.17))
TRACKS = (
    ((-0.305, -0.05), (-0.2, -0.05), (-0.16, -0.033), (-0.13, -0.033)),
    ((-0.305, 0.0), (-0.13, 0.0)),
    ((-0.305, 0.05), (-0.2, 0.05), (-0.17, 0.066), (-0.13, 0.066)),
    ((-0.305, 0.1), (-0.26, 0.14), (-0.16, 0.24), (-0.146, 0.24)),
    ((-0.305, -0.1), (-0.24, -0.16), WIRE_ENDS[0]),
    ((0.09, 0.066), (0.17, 0.066), (0.205, 0.1)),
    ((0.09, 0.03), (0.15, 0.03), (0.24, -0.02), (0.30, -0.06)),
    ((0.046, -0.08), (0.08, -0.12), WIRE_ENDS[1], (0.18, -0.19)),
    ((-0.053, 0.14), (-0.053, 0.19), (-0.09, 0.24)),
    ((0.013, 0.14), (0.013, 0.2), (0.006, 0.24)),
    ((0.106, 0.24), (0.226, 0.25)),
    ((0.254, 0.25), (0.33, 0.19), (0.33, 0.0)),
)
WRONG_COLOURS: dict[str, tuple[Colour, ...]] = {
    "capacitor": ((0.10, 0.10, 0.11), (0.55, 0.30, 0.14), (0.16, 0.45, 0.50)),
    "led": ((0.16, 0.62, 0.20), (0.20, 0.35, 0.85), (0.93, 0.80, 0.20)),
    "connector": ((0.16, 0.16, 0.17), (0.20, 0.38, 0.66), (0.70, 0.24, 0.18)),
    "wire": ((0.78, 0.14, 0.12), (0.15, 0.25, 0.65), (0.14, 0.14, 0.15)),
}


def draw(canvas: Canvas, rng: np.random.Generator, defect: str | None, defect_rng: np.random.Generator) -> None:
    """Paints the mat, the board and its parts; `defect` is a key of DEFECTS or None."""
    parts = [
        replace(
            part,
            x=part.x + rng.normal(0, 0.0015),
            y=part.y + rng.normal(0, 0.006 if part.kind == "wire" else 0.0015),
            angle=rng.uniform(0, np.pi) if part.kind == "screw" else rng.normal(0, 0.012),
        )
        for part in PARTS
    ]
    _bare_board(canvas, rng)
    if defect in PART_DEFECTS:
        parts = PART_DEFECTS[defect](parts, defect_rng)
    for part in parts:
        reach, painter = PAINTERS[part.kind]
        painter(canvas.around(part.x, part.y, reach, part.angle), part)
    if defect == "solder_splash":
        _solder_splash(canvas, defect_rng)


def _bare_board(canvas: Canvas, rng: np.random.Generator) -> None:
    mat = 0.60 + 0.012 * noise(rng, canvas.x.shape, (6, 6)) + 0.02 * noise(rng, canvas.x.shape, (160, 160))
    canvas.colour[:] = tint((0.98, 1.0, 1.03), mat)
    canvas.shade(canvas.box(0.84, 0.66, 0.012, 0.016, corner=0.03, soft=0.03), 0.45)
    grain = 1 + 0.02 * noise(rng, canvas.x.shape, (200, 200)) + 0.02 * noise(rng, canvas.x.shape, (5, 5))
    canvas.paint(canvas.box(0.84, 0.66, corner=0.03), (0.44, 0.48, 0.30))
    canvas.paint(canvas.box(0.832, 0.652, corner=0.027), tint(GREEN, grain))
    for track in TRACKS:
        middle = np.mean(track, axis=0)
        reach = float(np.abs(track - middle).max()) + 0.02
        local = canvas.around(middle[0], middle[1], reach)
        local.paint(local.stroke(track - middle, 0.009), TRACK)
    for part in PARTS:
        local = canvas.around(part.x, part.y, PAINTERS[part.kind][0])
        for x, y in PADS[part.kind]:
            pad = local.around(x, y, 0.02)
            pad.paint(pad.box(0.02, 0.02, corner=0.006), TIN)
        if part.kind == "screw":
            local.paint(local.disc(0.042), (0.72, 0.60, 0.30))
            local.paint(local.disc(0.024), (0.05, 0.05, 0.06))
        elif part.kind == "capacitor":
            local.paint(local.disc(0.06) - local.disc(0.056), SILK)
    for x, y in WIRE_ENDS:
        local = canvas.around(x, y, 0.04)
        local.paint(local.disc(0.017), TIN)


def _shadow(canvas: Canvas, width: float, height: float, corner: float, steps: float) -> None:
    dx, dy = LIGHT
    soft = 0.008 * steps
    canvas.shade(canvas.box(width, height, steps * dx, steps * dy, corner, soft), 0.5)


def _screw(canvas: Canvas, part: Part) -> None:
    canvas.shade(canvas.disc(0.036, *LIGHT, soft=0.008), 0.5)
    gleam = 1 + 3.5 * (-canvas.x - canvas.y)
    canvas.paint(canvas.disc(0.035), tint(part.colour, gleam))
    canvas.shade(canvas.disc(0.035) - canvas.disc(0.030, soft=0.004), 0.72)
    cross = np.maximum(canvas.box(0.042, 0.009), canvas.box(0.009, 0.042))
    canvas.paint(cross, (0.17, 0.17, 0.18))


def _connector(canvas: Canvas, part: Part) -> None:
    _shadow(canvas, 0.1, 0.28, 0.008, steps=1.6)
    canvas.paint(canvas.box(0.1, 0.28, corner=0.008), part.colour)
    canvas.shade(canvas.box(0.078, 0.256, corner=0.004, soft=0.004), 0.80)
    for _, y in PADS["connector"]:
        pin = canvas.around(0, y, 0.03)
        pin.paint(pin.box(0.034, 0.030, corner=0.003), (0.16, 0.15, 0.14))
        pin.paint(pin.box(0.013, 0.013), (0.86, 0.70, 0.32))
    canvas.shade(canvas.box(0.012, 0.26, -0.042, 0, soft=0.006), 1.10)


def _chip(canvas: Canvas, part: Part) -> None:
    for x, y in PADS["chip"]:
        pin = canvas.around(0.97 * x, 0.97 * y, 0.02)
        pin.paint(pin.box(*((0.03, 0.014) if abs(x) > abs(y) else (0.014, 0.03))), TIN)
    _shadow(canvas, 0.2, 0.2, 0.006, steps=1.0)
    canvas.paint(canvas.box(0.2, 0.2, corner=0.006), part.colour)
    canvas.shade(canvas.box(0.2, 0.2, corner=0.006) - canvas.box(0.186, 0.186, soft=0.004), 1.5)
    canvas.paint(canvas.disc(0.010, -0.07, -0.07), (0.28, 0.28, 0.29))
    for y, width in ((-0.015, 0.11), (0.015, 0.08), (0.045, 0.1)):
        canvas.paint(0.6 * canvas.box(width, 0.011, 0, y), (0.62, 0.62, 0.60))


def _capacitor(canvas: Canvas, part: Part) -> None:
    canvas.shade(canvas.disc(0.055, 2.2 * LIGHT[0], 2.2 * LIGHT[1], soft=0.016), 0.5)
    canvas.paint(canvas.disc(0.053), part.colour)
    canvas.shade(canvas.disc(0.053) * canvas.disc(0.030, -0.028, -0.028, soft=0.04), 1.7)
    canvas.paint(canvas.disc(0.042), (0.73, 0.74, 0.75))
    canvas.shade(canvas.disc(0.042) - canvas.disc(0.037, soft=0.006), 0.85)
    minus = canvas.cover(0.022 - canvas.x) * canvas.disc(0.042)
    canvas.paint(minus, part.colour)
    canvas.shade(np.maximum(canvas.box(0.05, 0.003, -0.005), canvas.box(0.003, 0.05, -0.005)), 0.78)


def _crystal(canvas: Canvas, part: Part) -> None:
    _shadow(canvas, 0.12, 0.055, 0.025, steps=1.0)
    canvas.paint(canvas.box(0.12, 0.055, corner=0.025), part.colour)
    canvas.shade(canvas.box(0.12, 0.055, corner=0.025) - canvas.box(0.108, 0.043, corner=0.02), 0.72)
    canvas.shade(canvas.box(0.08, 0.008, -0.003, -0.01, soft=0.008), 1.2)
    canvas.paint(0.6 * canvas.box(0.05, 0.008, 0, 0.008), (0.35, 0.35, 0.36))


def _resistor(canvas: Canvas, part: Part) -> None:
    _shadow(canvas, 0.062, 0.034, 0.002, steps=0.5)
    canvas.paint(canvas.box(0.062, 0.034, corner=0.002), TIN)
    canvas.paint(canvas.box(0.040, 0.034), part.colour)
    canvas.paint(0.7 * canvas.box(0.022, 0.007), (0.75, 0.75, 0.74))


def _led(canvas: Canvas, part: Part) -> None:
    canvas.shade(canvas.disc(0.03, 1.2 * LIGHT[0], 1.2 * LIGHT[1], soft=0.010), 0.5)
    canvas.paint(canvas.disc(0.029), part.colour)
    canvas.shade(canvas.disc(0.029) - canvas.disc(0.023, soft=0.003), 0.75)
    canvas.paint(0.8 * canvas.disc(0.006, -0.009, -0.009, soft=0.006), (1.0, 0.95, 0.93))


def _wire(canvas: Canvas, part: Part) -> None:
    """The wire's place is the top of its arc; its ends stay soldered to their pads."""
    (x0, y0), (x1, y1) = (np.subtract(end, (part.x, part.y)) for end in WIRE_ENDS)
    line = bezier(((x0, y0), (0.5 * x0, -0.05), (0.5 * x1, -0.05), (x1, y1)))
    canvas.shade(canvas.stroke(line + np.float32(0.009), 0.02, soft=0.012), 0.55)
    canvas.paint(canvas.stroke(line, 0.022), part.colour)
    canvas.shade(canvas.stroke(line - np.float32(0.003), 0.006, soft=0.006), 1.25)
    for x, y in (line[0], line[-1]):
        canvas.paint(canvas.disc(0.014, x, y), TIN)
        canvas.shade(canvas.disc(0.005, x - 0.004, y - 0.004, soft=0.004), 1.25)


# how far a part reaches from its middle with its shadow, and what paints it there
PAINTERS: dict[str, tuple[float, Callable[[Canvas, Part], None]]] = {
    "screw": (0.06, _screw),
    "connector": (0.18, _connector),
    "chip": (0.17, _chip),
    "capacitor": (0.1, _capacitor),
    "crystal": (0.09, _crystal),
    "resistor": (0.06, _resistor),
    "led": (0.06, _led),
    "wire": (0.24, _wire),
}


def _missing_part(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """One part was never put on; its pads lie bare."""
    gone = rng.integers(len(parts))
    return [part for number, part in enumerate(parts) if number != gone]


def _misplaced_part(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """One part sits beside its place, and is turned."""
    number = rng.choice([n for n, part in enumerate(parts) if part.kind not in ("screw", "wire")])
    part, way = parts[number], rng.uniform(0, 2 * np.pi)
    shift, turn = rng.uniform(0.025, 0.05), rng.choice((-1, 1)) * rng.uniform(0.1, 0.6)
    moved = replace(
        part,
        x=part.x + shift * np.cos(way),
        y=part.y + shift * np.sin(way),
        angle=part.angle + turn,
    )
    return [*parts[:number], moved, *parts[number + 1 :]]


def _wrong_part(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """A part of the right shape, but of another colour: another type."""
    number = rng.choice([n for n, part in enumerate(parts) if part.kind in WRONG_COLOURS])
    part = parts[number]
    colours = WRONG_COLOURS[part.kind]
    wrong = replace(part, colour=colours[rng.integers(len(colours))])
    return [*parts[:number], wrong, *parts[number + 1 :]]


def _solder_splash(canvas: Canvas, rng: np.random.Generator) -> None:
    """Drops of solder where none belong."""
    x, y = rng.uniform(-0.3, 0.3), rng.uniform(-0.22, 0.22)
    for number in range(rng.integers(2, 6)):
        radius = rng.uniform(0.018, 0.030) if number == 0 else rng.uniform(0.006, 0.014)
        dx, dy = (0.0, 0.0) if number == 0 else rng.normal(0, 0.035, 2)
        local = canvas.around(x + dx, y + dy, reach=3 * radius)
        outline = local.blob(rng, radius)
        local.shade(local.disc(1.1 * radius, *LIGHT, soft=0.008), 0.6)
        dome = 0.72 + 0.22 * np.clip(-(local.x + local.y) / radius, -1, 1)
        local.paint(local.cover(outline), tint((0.98, 1.0, 1.02), dome))
        local.paint(0.9 * local.disc(0.25 * radius, -0.3 * radius, -0.3 * radius, soft=0.004), (1.0, 1.0, 1.0))


PART_DEFECTS: dict[str | None, Callable[[list[Part], np.random.Generator], list[Part]]] = {
    "missing_part": _missing_part,
    "misplaced_part": _misplaced_part,
    "wrong_part": _wrong_part,
}
DEFECTS = ("missing_part", "misplaced_part", "wrong_part", "solder_splash")
