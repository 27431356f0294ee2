"""Nearest neighbours: a memory of normal tokens, without training; the baseline that every other method must beat.

After PatchCore (Roth et al., CVPR 2022), on the same features, maps and scores as the other methods.
"""

from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS
from inpformer.methods.nearest.settings import SPACE, NearestSettings

NEAREST = Method(
    name="nearest",
    settings=NearestSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.nearest.model:Nearest",
)
