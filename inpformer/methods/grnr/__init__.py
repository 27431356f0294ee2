"""GRNR (arXiv 2406.07333): what of an image's own texture neither its neighbourhood nor its common features explain.

It learns nothing: each image is judged by itself, which takes one that is homogeneous for the most part.
"""

from inpformer.methods.grnr.settings import SPACE, GrnrSettings
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS

GRNR = Method(
    name="grnr",
    settings=GrnrSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.grnr.model:Grnr",
    learns=False,
    torch_only="it solves equations in 64 bit, for which ONNX has no step",
)
