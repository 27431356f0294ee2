"""How much of a defect is enough: the file `defects_config.json` in a category's folder of MVTec LOCO.

A list with a table a kind of defect, with the keys of `Saturation`. LOCO's own evaluation reads it in the same way.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from inpformer.config import build, require
from inpformer.errors import UserError

SATURATION_FILE = "defects_config.json"
LARGEST = 2**20  # bytes; LOCO's have 4 000 at most


@dataclass(frozen=True)
class Saturation:
    """Of one kind of defect. `pixel_value` is what a mask of it holds where it marks; from `saturation_threshold`
    pixels on it counts as found in full, from that share of its own on if that is `relative_saturation`.
    """

    defect_name: str
    pixel_value: int
    saturation_threshold: float
    relative_saturation: bool

    def __post_init__(self) -> None:
        require(1 <= self.pixel_value <= 255, "pixel_value", self.pixel_value, "between 1 and 255")
        key, value = "saturation_threshold", self.saturation_threshold
        if self.relative_saturation:
            require(0 < value <= 1, key, value, "a share above 0 and up to 1, as relative_saturation is true")
        else:
            right = "a whole number of pixels, 1 or more, as relative_saturation is false"
            require(value >= 1 and value == int(value), key, value, right)

    def share(self, pixels: int) -> float:
        """Of a region of so many pixels (1 or more) the share that is enough: above 0, up to 1, of whole pixels."""
        if self.relative_saturation:
            return max(1, int(self.saturation_threshold * pixels)) / pixels
        return min(self.saturation_threshold, pixels) / pixels


def read_saturations(folder: Path) -> tuple[Saturation, ...]:
    """Those of the category in `folder`; none if it has no such file.

    Raises UserError if the file is not such a list, is larger than LARGEST or has two kinds with one pixel value.
    """
    file = folder / SATURATION_FILE
    if not file.is_file():
        return ()
    listed = _read(file)
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{file} must hold a list with a table a kind of defect: mend it, or remove it.")
    found = tuple(build(Saturation, table, f"{file}[{number}]") for number, table in enumerate(listed))
    values = [one.pixel_value for one in found]
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise UserError(f"{file} has pixel_value {twice[0]} more than once: give each kind of defect its own.")
    return found


def _read(file: Path) -> object:
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"{file} is larger than {LARGEST} bytes, which no list of defects is: mend it, or remove it.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON file ({error}): mend it, or remove it.") from None
