"""Looks of pictures of all kinds, held against those of good ones."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageFilter
from tqdm import tqdm

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.tokens import token_wants
from inpformer.judging.plausibility import FAR, Look, Plausibility, look
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.platform.params import read_section

GRID = 16
GOOD, DEFECTIVE, OTHERS = "good", "defective", "other products"
# What may happen to a camera, of the good test pictures.
SPOILT: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "black": lambda image: Image.new("RGB", image.size),
    "half as bright": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "blurred by 1/50 of its width": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 50)),
    "shifted by a quarter": lambda image: _shifted(image, image.width // 4),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
}


def run(folders: Sequence[Path], known: Sequence[int], images: int) -> None:
    """Prints a table for each count of known good pictures: the share that is doubted, by category and kind."""
    settings = read_section("features", FeatureSettings)
    torch.set_num_threads(1)  # one picture at a time
    encoder = load_encoder(settings.encoder).to(best_device())
    train, seen = _looks(folders, encoder, images)
    for count in known:
        kept = {name: own[:count] for name, own in train.items() if len(own) >= count}
        held = Plausibility.of(kept)
        kinds = [GOOD, DEFECTIVE, *SPOILT, OTHERS]
        print(f"\n{count} good pictures known\n\n| | {' | '.join(kinds)} | nearest other picture |")
        print(f"|---|{'---|' * (len(kinds) + 1)}")
        for name in held.looks:
            others = np.concatenate([own[GOOD] for other, own in seen.items() if other != name])
            shares = [_doubted(held, looks, name) for looks in (*seen[name].values(), others)]
            nearest = min((held.times(one, name) for one in others), default=float("nan"))
            print(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} | {nearest:.1f} |", flush=True)
    print(f"\nDoubted from {FAR} times as far as the farthest good one on; the last column says how far that is.")


def _looks(
    folders: Sequence[Path], encoder: Encoder, images: int
) -> tuple[dict[str, Look], dict[str, dict[str, Look]]]:
    """By category the looks of good training pictures, and those of test pictures by kind."""
    train: dict[str, Look] = {}
    seen: dict[str, dict[str, Look]] = {}
    draw = np.random.default_rng(0)
    for folder in folders:
        manifest = build_manifest(folder, ManifestSettings("unused"))
        for category in tqdm(manifest.categories, desc=str(folder), disable=None):
            rows = [row for row in manifest.rows if row.category == category]
            kinds = {
                "train": [row for row in rows if row.split != "test"],
                GOOD: [row for row in rows if row.split == "test" and not row.label],
                DEFECTIVE: [row for row in rows if row.split == "test" and row.label],
            }
            pictures = {
                kind: [encoder.transform.open(folder / own[n].path) for n in draw.permutation(len(own))[:images]]
                for kind, own in kinds.items()
            }
            spoilt = {kind: [spoil(image) for image in pictures[GOOD]] for kind, spoil in SPOILT.items()}
            own_looks = {kind: _seen(encoder, own) for kind, own in (pictures | spoilt).items()}
            train[category] = own_looks.pop("train")
            seen[category] = own_looks
    return train, seen


@torch.inference_mode()
def _seen(encoder: Encoder, pictures: Sequence[Image.Image]) -> Look:
    wants = token_wants(encoder.shape, GRID if encoder.shape.heads is None else None)
    return np.array([look(wants.of(encoder.encode([one])))[0].cpu().numpy() for one in pictures], np.float32)


def _doubted(held: Plausibility, looks: Look, category: str) -> float:
    return float(np.mean([held.doubt(one, category) is not None for one in looks]))


def _shifted(image: Image.Image, pixels: int) -> Image.Image:
    """Moved to the right; what comes in is the mirrored edge."""
    moved = ImageChops.offset(image, pixels, 0)
    moved.paste(image.crop((0, 0, pixels, image.height)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), (0, 0))
    return moved
