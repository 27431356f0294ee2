"""TFA-Net (EAAI 2024): an image is rebuilt from the places of a good one, its reference.

What is unlike the reference does not come through, and is rebuilt badly.
"""

from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS
from inpformer.methods.tfa_net.settings import SPACE, TfaNetSettings

TFA_NET = Method(
    name="tfa_net",
    settings=TfaNetSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.tfa_net.model:TfaNet",
)
