"""Pictures with defects for methods that learn from them: made of good training images, and a few real ones.

Each good training view gets so many variants, each good validation view one, which measures what was learnt and
teaches nothing. All is settled by the seed, the view and the number of the variant, so it is made once and kept in the
store. What of real defects is known comes from the training images alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inpformer.errors import UserError
from inpformer.images.frame import Box
from inpformer.images.layouts.sample import IMAGE_SUFFIXES
from inpformer.images.opening import is_deep_file, open_image
from inpformer.images.pseudo.foreground import foreground
from inpformer.images.pseudo.paste import pasted
from inpformer.images.pseudo.patch import Mask, Picture, patched
from inpformer.images.pseudo.textures import procedural, recoloured
from inpformer.images.tiling import Tiling
from inpformer.images.transform import Transform, to_map_size
from inpformer.images.views import FORMS, View, views
from pipelines.features.encode import Encodable, read_content
from pipelines.features.index import Plan, row_views
from pipelines.features.settings import IMAGES, PROCEDURAL, FeatureSettings
from pipelines.manifest.build import read_mask
from pipelines.manifest.table import Manifest, Row, good_rows

# Raise it whenever the same settings would make other pictures: it is part of every picture's key.
FORMAT = 1
TEXTURES = 256  # pictures that patches are filled from: enough to differ, and few to remember
SHARE_PASTED = 0.5  # of the variants, where there are real defects


@dataclass(frozen=True)
class Texture:
    """A picture that patches are filled from: `row` of a training image, None for a file of the user's own. `white` is
    as in `View`.
    """

    path: Path
    sha256: str
    row: Row | None = None
    white: int | None = None

    @property
    def identity(self) -> str:
        """Names what is seen of it."""
        return View(white=self.white).key(self.sha256)

    def read(self, root: Path) -> bytes:
        """Raises UserError if the file is gone or changed."""
        if self.row is not None:
            return read_content(root, self.row)
        content = _content(self.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise UserError(f"{self.path} changed while it was read: run the same command again.")
        return content


@dataclass(frozen=True)
class Defect:
    """A real defect: a training image with its mask as PNG; `white` as in `View`."""

    row: Row
    mask: bytes
    white: int | None = None

    @property
    def identity(self) -> str:
        """Names image and mask."""
        return f"{View(white=self.white).key(self.row.sha256)} {hashlib.sha256(self.mask).hexdigest()}"

    @property
    def marked(self) -> Image.Image:
        """The mask as a picture of the image's size."""
        return open_image(self.mask, f"the mask of {self.row.path}")


Source: TypeAlias = Texture | Defect | None  # None: a procedural texture


@dataclass(frozen=True)
class AnomalyView:
    """A variant of a good view: what its defect is made of, and the seed that settles the rest."""

    view: View
    seed: int
    variant: int
    source: Source

    def key(self, sha256: str) -> str:
        """See `Keyed`."""
        source = self.source
        of = PROCEDURAL if source is None else source.identity
        text = f"anomaly {FORMAT} {self.seed} {self.variant} {self.view.key(sha256)} {of}"
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class DefectView:
    """A view of a real defect itself."""

    view: View
    defect: Defect

    def key(self, sha256: str) -> str:
        """See `Keyed`."""
        text = f"defect {FORMAT} {self.view.key(sha256)} {self.defect.identity}"
        return hashlib.sha256(text.encode()).hexdigest()


class Made(NamedTuple):
    """A picture before and after, where its object is, and where its defect: at the encoder's size."""

    good: Picture
    changed: Picture
    inside: Mask
    mask: Mask


@dataclass(frozen=True)
class AnomalyPictures:
    """A good image's content, and for each variant wanted of it the contents that its defect comes from."""

    content: bytes
    name: str
    views: Sequence[AnomalyView]
    keys: Sequence[str]
    sources: Sequence[bytes]

    def made(self, transform: Transform) -> list[Made]:
        """The variants, in their order."""
        image = transform.open(self.content, self.name)
        seen: dict[Box | None, tuple[Picture, Mask]] = {}  # variants and forms of a window have its picture in common
        found = []
        for view, key, source in zip(self.views, self.keys, self.sources, strict=True):
            window = view.view.window
            if window not in seen:
                picture = transform.picture(image if window is None else image.crop(window))
                seen[window] = picture, foreground(picture)
            picture, inside = seen[window]
            rng = np.random.default_rng(int(key[:16], 16))
            changed, mask = self._changed(picture, inside, view.source, source, transform, rng)
            found.append(Made(picture, changed, inside, mask))
        return found

    def _changed(
        self,
        picture: Picture,
        inside: Mask,
        source: Source,
        content: bytes,
        transform: Transform,
        rng: np.random.Generator,
    ) -> tuple[Picture, Mask]:
        if isinstance(source, Defect):
            marked = seen_mask(source.marked, transform)
            if marked.any():  # else it lies in the margin that the encoder does not see
                defective = transform.picture(transform.open(content, source.row.path))
                return pasted(picture, defective, marked, inside, rng)
        size = picture.shape[:2]
        if isinstance(source, Texture):
            fill = recoloured(transform.picture(transform.open(content, str(source.path))), size, rng)
        else:
            fill = procedural(size, rng)
        return patched(picture, fill, inside, rng)

    def encodables(self, transform: Transform) -> list[Encodable]:
        """See `Pictures`."""
        return _encodables(self.keys, [one.view for one in self.views], self.made(transform), transform)


@dataclass(frozen=True)
class DefectPictures:
    """A real defect's image, and the views wanted of it."""

    content: bytes
    name: str
    views: Sequence[DefectView]
    keys: Sequence[str]

    def made(self, transform: Transform) -> list[Made]:
        """The views, in their order, before their forms."""
        image = transform.open(self.content, self.name)
        found = []
        for one in self.views:
            window = one.view.window
            mask = one.defect.marked
            picture = transform.picture(image if window is None else image.crop(window))
            marked = seen_mask(mask if window is None else mask.crop(window), transform)
            found.append(Made(picture, picture, np.ones(marked.shape, np.bool_), marked))
        return found

    def encodables(self, transform: Transform) -> list[Encodable]:
        """See `Pictures`."""
        return _encodables(self.keys, [one.view for one in self.views], self.made(transform), transform)


def _encodables(
    keys: Sequence[str], views: Sequence[View], made: Sequence[Made], transform: Transform
) -> list[Encodable]:
    """In few-shot training, and of real defects, picture and mask in the same form."""
    found = []
    for key, view, one in zip(keys, views, made, strict=True):
        form = FORMS[view.form]
        mask: Tensor = form(torch.from_numpy(one.mask).float().expand(3, -1, -1))[0] > 0.5
        pixels = form(transform.normalised(one.changed))
        found.append(Encodable(key, pixels, torch.from_numpy(to_map_size(mask.numpy()))))
    return found


def seen_mask(mask: Image.Image, transform: Transform) -> NDArray[np.bool_]:
    """A mask of a whole image, or of a tile, as the encoder sees that: true where any of a pixel is defective."""
    return transform.picture(mask)[..., 0] > 0


def anomaly_plan(manifest: Manifest, settings: FeatureSettings, real: bool) -> Plan[AnomalyView | DefectView]:
    """All pictures with defects that a method learns from; with `real`, of the training images' own defects too.

    Raises UserError if there are no textures, or no real defects with a mask where they are asked for.
    """
    chosen, tiling = settings.anomalies, settings.tiling
    white = settings.encoder.white
    textures = find_textures(manifest, chosen.textures, white)
    defects = find_defects(manifest, white) if real else {}

    def of(row: Row) -> Sequence[AnomalyView | DefectView]:
        if row.label:
            mine = [defect for defect in defects.get(row.category, ()) if defect.row.path == row.path]
            return [DefectView(view, defect) for defect in mine for view in _defect_views(defect, tiling)]
        if row.split not in ("train", "val"):
            return ()
        training = row.split == "train"
        return [
            _variant(view, row, chosen.seed, number, textures, defects.get(row.category, ()) if training else ())
            for view in row_views(row, tiling, manifest.shots, white)
            for number in range(chosen.variants if training else 1)
        ]

    def read(row: Row, wanted: Sequence[AnomalyView | DefectView]) -> AnomalyPictures | DefectPictures:
        content, name = read_content(manifest.root, row), str(manifest.root / row.path)
        if defective := [view for view in wanted if isinstance(view, DefectView)]:
            return DefectPictures(content, name, defective, [view.key(row.sha256) for view in defective])
        made = [view for view in wanted if isinstance(view, AnomalyView)]
        sources = [_source_content(manifest.root, view.source) for view in made]
        return AnomalyPictures(content, name, made, [view.key(row.sha256) for view in made], sources)

    return Plan(of, read, with_masks=True)


@dataclass(frozen=True)
class Showing:
    """Which made pictures show an image, by its sha256: keys of 32 bytes of those `made` of it, and of those of other
    images whose defect is `filled` from it.
    """

    made: Mapping[str, set[bytes]]
    filled: Mapping[str, set[bytes]]


def showing(manifest: Manifest, settings: FeatureSettings, real: bool) -> Showing:
    """Which pictures of `anomaly_plan` show which good image. Raises what that raises."""
    plan = anomaly_plan(manifest, settings, real)
    made, filled = defaultdict(set), defaultdict(set)
    for row in good_rows(manifest.rows):
        for view in plan.views(row):
            key = bytes.fromhex(view.key(row.sha256))
            made[row.sha256].add(key)
            if isinstance(view, AnomalyView) and isinstance(view.source, Texture):
                filled[view.source.sha256].add(key)
    return Showing(made, filled)


def _variant(
    view: View, row: Row, seed: int, number: int, textures: Sequence[Texture], defects: Sequence[Defect]
) -> AnomalyView:
    rng = np.random.default_rng([seed, number, int(view.key(row.sha256)[:16], 16)])
    if defects and rng.random() < SHARE_PASTED:
        return AnomalyView(view, seed, number, defects[int(rng.integers(len(defects)))])
    if not textures:
        return AnomalyView(view, seed, number, None)
    at = int(rng.integers(len(textures)))
    own = textures[at].sha256 == row.sha256  # a picture on itself would show too little
    return AnomalyView(view, seed, number, textures[(at + 1) % len(textures)] if own else textures[at])


def _defect_views(defect: Defect, tiling: Tiling | None) -> list[View]:
    """A defect's whole image in all forms, or those of its tiles that are marked."""
    seen = views((defect.row.width, defect.row.height), tiling, True, defect.white)
    if tiling is None:
        return seen
    mask = np.asarray(defect.marked)
    return [
        v for v in seen if v.window is not None and mask[v.window[1] : v.window[3], v.window[0] : v.window[2]].any()
    ]


def _source_content(root: Path, source: Source) -> bytes:
    if source is None:
        return b""
    return read_content(root, source.row) if isinstance(source, Defect) else source.read(root)


def find_textures(manifest: Manifest, where: str, white: int) -> list[Texture]:
    """None for procedural textures. Raises UserError if a folder holds no pictures."""
    if where == PROCEDURAL:
        return []
    if where == IMAGES:
        good = (row for row in manifest.rows if row.split == "train" and not row.label)
        chosen = nsmallest(TEXTURES, good, key=lambda row: (row.sha256, row.path))
        return [Texture(manifest.root / row.path, row.sha256, row, row.white(white)) for row in chosen]
    folder = Path(where).expanduser()
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    if not files:
        raise UserError(
            f"params.yaml: features.anomalies.textures is {where}: there are no pictures in such a folder, name one, "
            f"or set it to {PROCEDURAL} or {IMAGES}."
        )
    found = [Texture(file, hashlib.sha256(_content(file)).hexdigest()) for file in files]
    few = nsmallest(TEXTURES, found, key=lambda texture: texture.sha256)
    return [replace(one, white=white) if is_deep_file(_content(one.path), str(one.path)) else one for one in few]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): make it readable or remove it.") from None


def find_defects(manifest: Manifest, white: int) -> Mapping[str, list[Defect]]:
    """The training images with defects whose mask marks something, by category.

    Raises UserError if there is none.
    """
    found: dict[str, list[Defect]] = defaultdict(list)
    for row in manifest.rows:
        if row.split == "train" and row.label and row.mask_pixels:
            file = BytesIO()
            read_mask(manifest.root, row).save(file, "PNG")
            found[row.category].append(Defect(row, file.getvalue(), row.white(white)))
    if not found:
        raise UserError(
            "params.yaml: train.setting is semi-supervised, but no training image has a defect with a mask: put some "
            "into <category>/train/<kind of defect> and ground_truth/<kind of defect>, or into split train of a table."
        )
    return found
