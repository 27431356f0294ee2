"""How much of each mask is enough, where the data set says so for each kind of defect."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from inpformer.images.layouts.masks import values
from inpformer.images.layouts.sample import Problem, Sample


def saturated_shares(sample: Sample, masks: Sequence[Image.Image], problems: list[Problem]) -> list[float]:
    """For each of a sample's masks the share of its marked pixels that is enough; empty if the data set does not say.
    What marks nothing is all of nothing: 1.

    Adds to `problems` every mask whose pixels do not name one kind of defect.
    """
    known = {one.pixel_value: one for one in sample.saturations}
    if not known:
        return []
    shares = []
    for file, mask in zip(sample.masks, masks, strict=True):
        pixels = values(mask, sample.mask_level)
        marked = pixels[pixels > sample.mask_level]
        found = np.unique(marked).tolist()
        if len(found) > 1:
            several = ", ".join(map(str, found[:3]))
            problems.append(Problem.at(file, f"it holds {several}: a mask is one region, of one pixel_value"))
        elif found and found[0] not in known:
            names = ", ".join(map(str, sorted(known)))
            problems.append(Problem.at(file, f"it holds {found[0]}, which no pixel_value of its category is: {names}"))
        else:
            shares.append(known[found[0]].share(marked.size) if found else 1.0)
    return shares
