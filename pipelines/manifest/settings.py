"""The section `manifest` of params.yaml."""

import re
from dataclasses import dataclass

from inpformer.config import require
from inpformer.images.layouts import AUTO, LAYOUTS


@dataclass(frozen=True)
class ManifestSettings:
    """`data` is the image folder, `layout` one of LAYOUTS or "auto".

    `val_fraction` of each category's normal training images (of its parts, where they are known) becomes `val`,
    unless the layout brings validation images. `part` is a regular expression over an image's path whose first group
    names the physical part shown. `shots` is how many training images of a category are kept, None for all.
    """

    data: str
    layout: str = AUTO
    val_fraction: float = 0.2
    part: str | None = None
    shots: int | None = None

    def __post_init__(self) -> None:
        right = "a folder, written without control characters"
        require(re.fullmatch(r"[^\x00-\x1f\x7f]+", self.data) is not None, "data", self.data, right)
        names = (AUTO, *LAYOUTS)
        require(self.layout in names, "layout", self.layout, f"one of {', '.join(names)}")
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "between 0 and 1, e.g. 0.2")
        if self.part is not None:
            right = r"a regular expression whose first group names the part, e.g. '_(\d+)_view'"
            try:
                require(re.compile(self.part).groups > 0, "part", self.part, right)
            except re.error:
                require(False, "part", self.part, right)
        require(self.shots is None or self.shots >= 1, "shots", self.shots, "null or at least 1")
