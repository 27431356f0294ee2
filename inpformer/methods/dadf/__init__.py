"""DADF (arXiv 2303.17882): an image is rebuilt from itself and from a memory of normal ones, and normalising flows
learn how features and what was rebuilt of them belong together.
"""

from inpformer.methods.dadf.settings import SPACE, DadfSettings
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS

DADF = Method(
    name="dadf",
    settings=DadfSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.dadf.model:Dadf",
)
