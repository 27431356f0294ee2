"""Which images are of one physical part: statistics count parts, not pictures of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def parts_of(names: Sequence[str], digests: Sequence[str], linked: Sequence[str] | None = None) -> NDArray[np.intp]:
    """The part of each image [n], numbered from 0. Images whose part has one name belong together ("": no name), and
    so do copies of one file, by their `digests`, and images of one group in `linked` ("": in none), which look like one
    part; so do parts that share a copy or a group.
    """
    first: dict[tuple[str, str], int] = {}
    pairs = [
        (image, first.setdefault(key, image))
        for image, (name, digest, group) in enumerate(zip(names, digests, linked or [""] * len(names), strict=True))
        for key in (("part", name), ("file", digest), ("linked", group))
        if key[1]
    ]
    if not pairs:
        return np.arange(len(names))
    links = coo_array((np.ones(len(pairs)), np.transpose(pairs)), shape=(len(names), len(names)))
    return np.asarray(connected_components(links, directed=False)[1], np.intp)
