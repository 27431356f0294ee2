"""What can be wrong with a tray, and where: logical defects, and structural ones beside them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from demo import fabric, metal
from demo.canvas import Canvas, bezier
from demo.parts import Part
from demo.tray import COMPARTMENTS, LOOSE, SETS, Box, inside, outline, pack, scatter

Rng = np.random.Generator
HOMES = {kinds[0]: name for name, kinds in LOOSE.items()}  # the compartment of each kind of loose part


@dataclass(frozen=True)
class Region:
    """Where a defect is marked, by its kind: the places of parts, or a whole compartment, anywhere in which it lies."""

    defect: str
    parts: tuple[Part, ...] = ()
    box: Box | None = None


Flawed = tuple[list[Part], list[Region]]


def _missing(scene: Rng, rng: Rng) -> Flawed:
    """One part was forgotten."""
    kind = str(rng.choice((*HOMES, "knob", "cable")))
    if kind in HOMES:
        return pack(scene, _less(kind)), [Region(f"missing_{kind}", box=COMPARTMENTS[HOMES[kind]])]
    parts = pack(scene)
    gone = _one(rng, [part for part in parts if part.kind == kind])
    where = Region("missing_cable", box=COMPARTMENTS["cable"]) if kind == "cable" else Region("missing_knob", (gone,))
    return [part for part in parts if part != gone], [where]


def _additional(scene: Rng, rng: Rng) -> Flawed:
    """One part too many: which of them it is, nobody can say."""
    kind = str(rng.choice(tuple(HOMES)))
    name = HOMES[kind]
    parts = pack(scene, {**LOOSE, name: (*LOOSE[name], kind)})
    return parts, [Region(f"additional_{kind}", tuple(part for part in parts if part.kind == kind))]


def _swapped(scene: Rng, rng: Rng) -> Flawed:
    """Two parts lie in each other's compartment."""
    one, other = (str(kind) for kind in rng.choice(tuple(HOMES), 2, replace=False))
    here, there = HOMES[one], HOMES[other]
    loose = {**LOOSE, here: (*LOOSE[here][1:], other), there: (*LOOSE[there][1:], one)}
    parts = pack(scene, loose)
    strange = [part for part in parts if part.kind in HOMES and not inside(part, COMPARTMENTS[HOMES[part.kind]])]
    return parts, [Region("swapped_part", (part,)) for part in strange]


def _misplaced(scene: Rng, rng: Rng) -> Flawed:
    """A loose part lies with the cable or with the knobs, and is missing where it belongs."""
    kind = str(rng.choice(tuple(HOMES)))
    parts = pack(scene, _less(kind))
    strange = scatter(rng, COMPARTMENTS[str(rng.choice(("cable", "knobs")))], (kind,), parts)
    missing = Region(f"missing_{kind}", box=COMPARTMENTS[HOMES[kind]])
    return [*parts, *strange], [Region("misplaced_part", tuple(strange)), missing]


def _wrong_colour(scene: Rng, rng: Rng) -> Flawed:
    """A knob or the cable is of another set's colour, which by itself is as good as any."""
    parts = pack(scene)
    one = _one(rng, [part for part in parts if part.kind in ("knob", "cable")])
    others = [colour for colour in SETS if colour != one.colour]
    wrong = replace(one, colour=others[rng.integers(len(others))])
    return [wrong if part == one else part for part in parts], [Region("wrong_colour", (wrong,))]


def _less(kind: str) -> Mapping[str, tuple[str, ...]]:
    """What lies loose when one of a kind is missing."""
    return {**LOOSE, HOMES[kind]: LOOSE[HOMES[kind]][1:]}


def _one(rng: Rng, parts: list[Part]) -> Part:
    return parts[rng.integers(len(parts))]


def break_part(parts: list[Part], kind: str, rng: Rng) -> list[Part]:
    """One of a kind of parts is broken."""
    one = _one(rng, [part for part in parts if part.kind == kind])
    return [replace(part, broken=True) if part == one else part for part in parts]


def _scratch(canvas: Canvas, rng: Rng) -> None:
    """Along the tray's floor and over the walls between compartments."""
    middle, angle = rng.uniform((-0.25, -0.13), (0.25, 0.13)), rng.uniform(0, np.pi)
    half = rng.uniform(0.12, 0.20) * np.array((np.cos(angle), np.sin(angle)))
    metal.groove(canvas, rng, bezier(np.stack((middle - half, middle + rng.normal(0, 0.03, 2), middle + half))))


def _stain(canvas: Canvas, rng: Rng) -> None:
    """A cloth's stain, on the tray alone."""
    before = canvas.colour.copy()
    fabric.SPOILS["stain"](canvas, rng)
    canvas.colour[:] = before + outline(canvas) * (canvas.colour - before)


LOGICAL: dict[str, Callable[[Rng, Rng], Flawed]] = {
    "missing": _missing,
    "additional": _additional,
    "swapped": _swapped,
    "misplaced": _misplaced,
    "wrong_colour": _wrong_colour,
}
# Structural defects: parts that are broken, and what is painted on the floor below the parts, or on all.
BROKEN = {"broken_washer": "washer", "cut_cable": "cable"}
BELOW: dict[str, Callable[[Canvas, Rng], None]] = {"scratch": _scratch, "stain": _stain}
ABOVE: dict[str, Callable[[Canvas, Rng], None]] = {"thread": fabric.SPOILS["thread"]}
STRUCTURAL = (*BROKEN, *BELOW, *ABOVE)
