"""What the gate's near duplicates find and take for such: exposures of tiles, planted copies, neighbouring places."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage

from demo.data.render import CATEGORIES, render
from inpformer.images.opening import open_image
from pipelines.gate.likeness import ALIKE, Likeness
from pipelines.gate.look import Look, look_at_picture

NEAR, FAR = 100, 300  # frames: related pairs of tiles are at most so far apart, unrelated ones farther
COPIES = 25  # pictures of a category that are planted once more
PIXELS, OVERLAP, PLACES = 240, 12, 3  # of a stand-in's pictures: side, what neighbours share, and how many an object
OBJECTS = 60

Picture = Image.Image


def _cropped(share: float) -> Callable[[Picture], Picture]:
    def crop(image: Picture) -> Picture:
        left, top = (round(share * side / 2) for side in image.size)
        return image.crop((left, top, image.width - left, image.height - top))

    return crop


def _brighter(factor: float) -> Callable[[Picture], Picture]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def _encoded(image: Picture) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return open_image(buffer.getvalue(), "a made copy")


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG, quality 30": _encoded,
    "brightness .6": _brighter(0.6),
    "brightness 1.4": _brighter(1.4),
    "gamma 2": lambda image: image.point([int(255 * (v / 255) ** 2) for v in range(256)] * 3),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "turned by 2°": lambda image: image.rotate(2, Image.Resampling.BILINEAR),
    "3 % cropped": _cropped(0.03),
    "5 % cropped": _cropped(0.05),
    "8 % cropped": _cropped(0.08),
    "4 % cropped, brighter, JPEG": lambda image: _encoded(_brighter(1.25)(_cropped(0.04)(image))),
}


def likeness_of(looks: Sequence[Look]) -> tuple[Likeness, NDArray[np.bool_], NDArray[np.bool_]]:
    """Of pictures that are no copies of each other: with which pairs [n, n] reach the cosine, and which are linked."""
    likeness = Likeness.of(looks, [f"{n}" for n in range(len(looks))])
    whitened = likeness.whitened.astype(np.float32)
    linked = np.zeros((len(looks), len(looks)), np.bool_)
    pairs = likeness.links(np.arange(len(looks)))
    linked[pairs[:, 0], pairs[:, 1]] = True
    return likeness, np.triu(whitened @ whitened.T >= ALIKE, 1), linked


def tiles(names: Sequence[str], looks: Sequence[Look]) -> None:
    """Prints how many related and unrelated pairs of tiles are found."""
    split = [Path(name).stem.split("_num_") for name in names]
    frame, exposure = np.array([int(n) for _, n in split]), np.array([e for e, _ in split])
    _, alike, linked = likeness_of(looks)
    apart = np.abs(frame[:, None] - frame)
    upper = np.triu(np.ones(apart.shape, bool), 1)
    kinds = {"related": upper & (apart <= NEAR) & (exposure[:, None] != exposure), "far apart": upper & (apart > FAR)}
    print(f"{len(names)} tiles")
    for kind, pairs in kinds.items():
        print(f"{kind} pairs: cosine {(alike & pairs).sum()}, linked {(linked & pairs).sum()} of {pairs.sum()}")


def copies(name: str, pictures: Sequence[Picture]) -> None:
    """Prints how many planted copies of the first pictures are found, change by change, and false pairs without any."""
    looks = [look_at_picture(picture) for picture in pictures]
    _, alike, linked = likeness_of(looks)
    print(f"{name}, {len(pictures)} pictures: pairs among them: cosine {alike.sum()}, linked {linked.sum()}")
    count = min(COPIES, len(pictures) // 2)
    for change, work in CHANGES.items():
        planted = [look_at_picture(work(picture)) for picture in pictures[:count]]
        _, alike, linked = likeness_of([*looks, *planted])
        own = np.arange(count), len(pictures) + np.arange(count)
        print(f"  {change}: cosine {alike[own].sum()}, linked {linked[own].sum()} of {count}", flush=True)


def neighbours(name: str, shoot: Callable[[int], list[tuple[int, Picture]]], objects: int) -> None:
    """Prints how many pairs are found that show one place of one object, neighbouring places of it, and the same place
    of two objects. `shoot` gives an object's pictures with their places.
    """
    shown = [(number, place, look_at_picture(picture)) for number in range(objects) for place, picture in shoot(number)]
    number, place = (np.array([one[n] for one in shown]) for n in (0, 1))
    _, alike, linked = likeness_of([look for *_, look in shown])
    one, here = number[:, None] == number, place[:, None] == place
    upper = np.triu(np.ones(one.shape, bool), 1)
    print(f"{name}, {len(shown)} pictures of {objects} objects")
    kinds = {"one place, another light": one & here, "neighbouring places": one & ~here, "two objects": ~one}
    for kind, pairs in kinds.items():
        found = f"cosine {(alike & pairs).sum()}, linked {(linked & pairs).sum()}"
        print(f"  {kind}: {found} of {(upper & pairs).sum()}", flush=True)


def machined(number: int) -> list[tuple[int, Picture]]:
    """A part with teeth, grooves along it and a surface of its own, photographed at PLACES that follow each other; each
    twice, in two lights.
    """
    rng = np.random.default_rng([number, 11])
    step = PIXELS - OVERLAP
    width = step * (PLACES - 1) + PIXELS
    down, along = np.mgrid[0:PIXELS, 0:width].astype(float)
    turns = 2 * np.pi * (along + rng.normal(0, 0.25) * down) / (step / rng.integers(3, 5)) + rng.uniform(0, 6)
    teeth = 1 / (1 + np.exp(-4 * rng.uniform(0.5, 1.5) * np.sin(turns)))
    grooves = ndimage.gaussian_filter1d(rng.normal(size=PIXELS), 3)[:, None]
    surface = sum(a * ndimage.gaussian_filter(rng.normal(size=down.shape), s) * s for a, s in ((0.05, 1), (0.03, 2)))
    part = 0.4 + 0.12 * teeth + 0.25 * grooves + surface
    slope = rng.uniform(-0.3, 0.3, 2)
    shown = []
    for place in range(PLACES):
        for light in range(2):
            left = np.clip(place * step + light * rng.integers(-5, 6), 0, width - PIXELS)
            tilt = slope + light * rng.uniform(-0.3, 0.3, 2)
            pixels = _photograph(part[:, left : left + PIXELS], rng, tilt, light * rng.uniform(-0.5, 0.5))
            shown.append((place, Image.fromarray(pixels)))
    return shown


def product(category: str) -> Callable[[int], list[tuple[int, Picture]]]:
    """Objects of the demo's product, photographed in nine places; every other one twice."""

    def shoot(number: int) -> list[tuple[int, Picture]]:
        seed = list(CATEGORIES).index(category)
        image = render(category, None, (seed, number, 77), 600)[0].mean(2) / 255
        rng = np.random.default_rng([number, 5])
        shown = []
        for place in range(9):
            for light in range(1 + place % 2):
                top, left = (np.clip(190 * at + light * rng.integers(-4, 5), 0, 380) for at in divmod(place, 3))
                tilt, gamma = light * rng.uniform(-0.25, 0.25, 2), light * rng.uniform(-0.4, 0.6)
                pixels = _photograph(image[top : top + 220, left : left + 220], rng, tilt, gamma)
                shown.append((place, Image.fromarray(pixels)))
        return shown

    return shoot


def _photograph(
    scene: NDArray[np.float64], rng: np.random.Generator, tilt: NDArray[np.float64], gamma: float
) -> NDArray[np.uint8]:
    side = np.linspace(-1, 1, len(scene))
    lit = np.clip(scene * (1 + tilt[0] * side[:, None] + tilt[1] * side), 0, 1) ** (1 + gamma)
    return np.asarray(255 * np.clip(lit + rng.normal(0, 0.012, lit.shape), 0, 1), np.uint8)
