"""From an image file to what the encoder sees, and from a mask to what the metrics see."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inpformer.config import require
from inpformer.errors import UserError
from inpformer.images.deep import WHITE
from inpformer.images.frame import MAP_SIZE, Frame
from inpformer.images.opening import open_image


@dataclass(frozen=True)
class Transform:
    """Of 16 bits a channel to 8, `white` to 255. Resize to `resize`×`resize` (bilinear), centre crop to `crop`, scale
    by `mean` and `std` a colour.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: int = WHITE

    def __post_init__(self) -> None:
        require(self.crop >= 1, "crop", self.crop, "at least 1 pixel")
        require(self.resize >= self.crop, "resize", self.resize, f"at least the crop, {self.crop}")

    def open(self, source: Path | bytes, name: str | None = None) -> Image.Image:
        """A picture from its file, or the content of one: the first step, after which it has 8 bits a channel. `name`
        is what messages call it. Raises what `open_image` raises.
        """
        return open_image(source, str(source if name is None else name), self.white)

    def image(self, image: Image.Image) -> Tensor:
        """A picture of any size and 8 bits a channel to [3, crop, crop] float32."""
        return self.normalised(self.picture(image))

    def picture(self, image: Image.Image) -> NDArray[np.uint8]:
        """A picture of any size as the encoder sees it, before its colours are scaled: [crop, crop, 3].

        Raises UserError for one of more than 8 bits a channel, whose values Pillow would clip.
        """
        if image.mode.startswith(("I", "F")):
            raise UserError(
                f"the picture has the mode {image.mode}, more than 8 bits a channel: open its file by `open`."
            )
        return np.asarray(self._crop(image.convert("RGB")))

    def normalised(self, picture: NDArray[np.uint8]) -> Tensor:
        """What `picture` gives to [3, crop, crop] float32."""
        return self.scaled(torch.from_numpy(picture.copy())[None])[0]

    def scaled(self, pictures: Tensor) -> Tensor:
        """Pictures as `picture` gives them, uint8 [B, crop, crop, 3], to [B, 3, crop, crop] float32."""
        mean, std = (torch.tensor(values, device=pictures.device) for values in (self.mean, self.std))
        return ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def mask(self, mask: Image.Image) -> NDArray[np.bool_]:
        """A ground-truth mask, its size that of its image, to [256, 256]: true where the defect is.

        Binarised at half of full scale after the image's own resize and crop, then nearest neighbour.
        """
        return to_map_size(np.asarray(self._crop(mask.convert("L")), np.float32) / 255 > 0.5)

    def frame(self, size: tuple[int, int]) -> Frame:
        """The map of an image of `size` (width, height): MAP_SIZE pixels square, without the margin of the crop."""
        margin = round((self.resize - self.crop) / 2)
        edges = (margin, margin, margin + self.crop, margin + self.crop)
        left, top, right, bottom = (edge * size[n % 2] / self.resize for n, edge in enumerate(edges))
        return Frame(size, (left, top, right, bottom), (MAP_SIZE, MAP_SIZE))

    def _crop(self, image: Image.Image) -> Image.Image:
        resized = image.resize((self.resize, self.resize), Image.Resampling.BILINEAR)
        margin = round((self.resize - self.crop) / 2)
        return resized.crop((margin, margin, margin + self.crop, margin + self.crop))


def to_map_size(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of what the encoder sees, [crop, crop], to [256, 256]: nearest neighbour."""
    binary = torch.from_numpy(mask).float()[None, None]
    resized = torch.nn.functional.interpolate(binary, size=(MAP_SIZE, MAP_SIZE), mode="nearest")
    return resized[0, 0].numpy() > 0


def read_image(path: Path) -> Image.Image:
    """A fully decoded picture of 8 bits a channel, as `open_image` gives and refuses it."""
    return open_image(path, str(path))
