"""What the encoder sees of one image: the whole of it, or its tiles, and in few-shot training 22 forms of each."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inpformer.images.augment import augmentations
from inpformer.images.frame import Box
from inpformer.images.tiling import Tiling
from inpformer.images.transform import Transform

FORMS = augmentations()


@dataclass(frozen=True)
class View:
    """`window` is a tile of the image, None the whole; `form` the number of an augmentation, 0 none; `white` the value
    that becomes 255 of an image of 16 bits a channel, None of one of 8, which does not depend on it.
    """

    window: Box | None = None
    form: int = 0
    white: int | None = None

    def key(self, sha256: str) -> str:
        """Names the view of the image whose file has that sha256 (hex): the same digest for the plain image."""
        if self == View():
            return sha256
        white = "" if self.white is None else f" white {self.white}"
        return hashlib.sha256(f"{sha256} window {self.window} form {self.form}{white}".encode()).hexdigest()

    def pixels(self, image: Image.Image, transform: Transform) -> Tensor:
        """The encoder's input: [3, S, S]."""
        return FORMS[self.form](transform.normalised(self.picture(image, transform)))

    def picture(self, image: Image.Image, transform: Transform) -> NDArray[np.uint8]:
        """The view before its form and before colours are scaled: [S, S, 3]."""
        return transform.picture(image if self.window is None else image.crop(self.window))


def views(size: tuple[int, int], tiling: Tiling | None, augmented: bool, white: int | None = None) -> list[View]:
    """All views of an image of `size` (width, height), in a fixed order; `white` as theirs."""
    windows = [None] if tiling is None else tiling.windows(size)
    return [View(window, form, white) for window in windows for form in range(len(FORMS) if augmented else 1)]
