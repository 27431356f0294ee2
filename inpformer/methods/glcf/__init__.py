"""GLCF (arXiv 2303.05768): what of an image its places do not explain, and what its whole does not: logical defects.

An image is rebuilt twice, from its places and from one token that stands for all of it. A part that is missing, doubled
or in the wrong place looks right by itself; what the whole is then like differs from what its places let expect.
"""

from inpformer.methods.glcf.settings import SPACE, GlcfSettings
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS

GLCF = Method(
    name="glcf",
    settings=GlcfSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.glcf.model:Glcf",
)
