"""AMI-Net (arXiv 2412.11802): what of an image is rebuilt badly once its unusual places are hidden.

A first pass says which places are unlike the image's own clusters; these are masked, and rebuilt from the others.
"""

from inpformer.methods.ami_net.settings import SPACE, AmiNetSettings
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS

AMI_NET = Method(
    name="ami_net",
    settings=AmiNetSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.ami_net.model:AmiNet",
)
