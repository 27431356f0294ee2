"""The pictures that trials are judged on, held-out good ones and anomalous ones, as features: made once for all.

No test image is among them or in them. With tiles, each tile is a picture of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.errors import UserError
from inpformer.images.frame import MAP_SIZE
from inpformer.images.pseudo.foreground import foreground
from inpformer.images.pseudo.patch import patched
from inpformer.images.pseudo.textures import recoloured
from inpformer.images.tiling import Tiling
from inpformer.images.transform import Transform, to_map_size
from inpformer.images.views import View
from inpformer.streams import chunks
from pipelines.features.encode import read_image_views
from pipelines.features.index import row_views
from pipelines.manifest.build import read_mask
from pipelines.manifest.table import Manifest, Row
from pipelines.tune.settings import LABELLED, TuneSettings

BATCH_SIZE = 16
TEXTURES = 256  # of which patches are taken: enough to differ, and few to remember
Seen = tuple[Row, View]  # an image, and what of it


@dataclass(frozen=True)
class JudgedSet:
    """n pictures: `features` the groups that the method wants, each [n, N, C] float16, `masks` [n, 256, 256], `labels`
    [n], true for anomalous, `mask_known` [n], false for anomalous ones whose mask says nothing, and `categories` [n],
    each with pictures of both labels. `image_size` in pixels is the encoder's.
    """

    features: tuple[NDArray[np.float16], ...]
    masks: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    mask_known: NDArray[np.bool_]
    categories: NDArray[np.str_]
    image_size: int


@dataclass(frozen=True)
class Picture:
    """One of them before the encoder: `pixels` [3, S, S], `mask` [256, 256]."""

    pixels: Tensor
    mask: NDArray[np.bool_]
    anomalous: bool
    mask_known: bool
    category: str


def judged_set(
    manifest: Manifest, encoder: Encoder, wants: Wants, tiling: Tiling | None, settings: TuneSettings
) -> JudgedSet:
    """Reads, makes and encodes the pictures.

    Raises UserError if an image changed, or if there is no labelled validation image where these are asked for.
    """
    white = encoder.settings.white
    if settings.objective != LABELLED:
        good = choose(manifest.held_out, tiling, settings.images, white)
        count, pictures = 2 * len(good), _with_pseudo_anomalies(manifest, good, encoder.transform, settings.seed)
    else:
        defective = _labelled(manifest, tiling, white)
        wanted = {row.category for row, _ in defective}
        held_out = (row for row in manifest.held_out if row.category in wanted)
        good = choose(held_out, tiling, settings.images, white)
        if lacking := wanted - {row.category for row, _ in good}:
            raise UserError(
                f"params.yaml: tune.images is {settings.images}, too few for good ones of every category with labelled "
                f"defects (none of {min(lacking)}), or it has none in val: raise it, or hold some out."
            )
        seen = [*good, *defective]
        count, pictures = len(seen), _with_labels(manifest, seen, encoder.transform, tiling)
    features, made = [], []
    with tqdm(total=count, desc="encoding what trials are judged on", unit="image", disable=None) as progress:
        for batch in chunks(pictures, BATCH_SIZE):
            groups = wants.of(encoder.features(torch.stack([picture.pixels for picture in batch])))
            features.append([group.to(torch.float16).cpu().numpy() for group in groups])
            made += [(p.mask, p.anomalous, p.mask_known, p.category) for p in batch]
            progress.update(len(batch))
    together = tuple(np.concatenate(group) for group in zip(*features, strict=True))
    masks, labels, known, categories = (np.array(column) for column in zip(*made, strict=True))
    return JudgedSet(together, masks, labels, known, categories, encoder.transform.crop)


def choose(rows: Iterable[Row], tiling: Tiling | None, most: int, white: int) -> list[Seen]:
    """At most so many views of the images, as many of each category as of the others, chosen by content alone. The rows
    stream by. `white` is the encoder's.
    """
    kept: dict[str, dict[str, Seen]] = defaultdict(dict)
    for row in rows:
        mine = kept[row.category]
        mine |= {view.key(row.sha256): (row, view) for view in row_views(row, tiling, None, white)}
        if len(mine) > 2 * most:
            kept[row.category] = dict(nsmallest(most, mine.items()))
    ranked = [(rank, seen) for mine in kept.values() for rank, (_, seen) in enumerate(sorted(mine.items()))]
    chosen = sorted(ranked, key=lambda item: (item[0], item[1][0].category))[:most]
    return sorted((seen for _, seen in chosen), key=lambda seen: (seen[0].path, seen[1].window or ()))


def _with_pseudo_anomalies(
    manifest: Manifest, good: Sequence[Seen], transform: Transform, seed: int
) -> Iterator[Picture]:
    """Each good picture as it is, and with a patch of some training image."""
    learnt = (row for row in manifest.rows if row.split == "train" and not row.label)
    textures = nsmallest(TEXTURES, learnt, key=lambda row: row.sha256)
    nothing = np.zeros((MAP_SIZE, MAP_SIZE), np.bool_)
    for row, view, image in _read(manifest, good, transform):
        rng = np.random.default_rng([seed, int(view.key(row.sha256)[:16], 16)])
        texture = transform.picture(_image(manifest, textures[rng.integers(len(textures))], transform))
        picture = transform.picture(image if view.window is None else image.crop(view.window))
        fill = recoloured(texture, picture.shape[:2], rng)
        changed, mask = patched(picture, fill, foreground(picture), rng)
        yield Picture(transform.normalised(picture), nothing, False, True, row.category)
        yield Picture(transform.normalised(changed), to_map_size(mask), True, True, row.category)


def _labelled(manifest: Manifest, tiling: Tiling | None, white: int) -> list[Seen]:
    # Which tile of a defective image is anomalous, only its mask says.
    rows = [row for row in manifest.split("val") if row.label and (tiling is None or row.mask_pixels)]
    if not rows:
        with_mask = "" if tiling is None else " with a mask, which tiles take"
        raise UserError(
            f"params.yaml: tune.objective is 'labelled', but the data has no defective image in split val{with_mask}: "
            "name some in a table (samples.csv, column split), or set tune.objective to pseudo."
        )
    return [(row, view) for row in rows for view in row_views(row, tiling, None, white)]


def _with_labels(
    manifest: Manifest, seen: Sequence[Seen], transform: Transform, tiling: Tiling | None
) -> Iterator[Picture]:
    """The user's own images with their masks."""
    for row, view, image in _read(manifest, seen, transform):
        whole = read_mask(manifest.root, row)
        mask = transform.mask(whole if view.window is None else whole.crop(view.window))
        anomalous = bool(row.label) if tiling is None else bool(mask.any())
        known = bool(mask.any()) or not anomalous
        yield Picture(view.pixels(image, transform), mask, anomalous, known, row.category)


def _read(manifest: Manifest, seen: Sequence[Seen], transform: Transform) -> Iterator[tuple[Row, View, Image.Image]]:
    """Each view with its image, which is read once for all views of it that follow each other."""
    path, image = "", Image.new("L", (1, 1))
    for row, view in seen:
        if row.path != path:
            path, image = row.path, _image(manifest, row, transform)
        yield row, view, image


def _image(manifest: Manifest, row: Row, transform: Transform) -> Image.Image:
    """The picture of a row, if it is still the one that the manifest saw."""
    return transform.open(read_image_views(manifest.root, row, []).content, row.path)
