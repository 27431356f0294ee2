"""PNPT (arXiv 2406.11507), as we read its abstract: an image is rebuilt from itself and from prompts of its category.

The prompts are learnt of good images alone, so that a defect finds none that is like it. No reproduction: of the paper
nothing but the abstract is known here.
"""

from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS
from inpformer.methods.pnpt.settings import SPACE, PnptSettings

PNPT = Method(
    name="pnpt",
    settings=PnptSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.pnpt.model:Pnpt",
)
