"""RB-AE, later NDP-Net (arXiv 2211.10060): what a good image, the reference, cannot repair of an image is a defect.

Its abstract is all that was known of it: what it leaves open is ours. Each choice and why: docs/methods.md.
"""

from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SEMI_SUPERVISED, SINGLE_CLASS
from inpformer.methods.rb_ae.settings import SPACE, RbAeSettings

RB_AE = Method(
    name="rb_ae",
    settings=RbAeSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS, SEMI_SUPERVISED),
    space=SPACE,
    model="inpformer.methods.rb_ae.model:RbAe",
    anomalies=True,
)
