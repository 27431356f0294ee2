"""INP-Former++ (arXiv 2506.03660): INP-Former with a soft coherence loss, two branches of soft mining and a residual
head that learns from pictures with defects.

No official code is public. What the paper leaves open is a setting here; where each choice comes from: docs/methods.md.
"""

from inpformer.methods.inp_former_pp.settings import ALONE, SPACE, InpFormerPlusSettings
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SEMI_SUPERVISED, SINGLE_CLASS, ZERO_SHOT

INP_FORMER_PP = Method(
    name="inp_former_pp",
    settings=InpFormerPlusSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS, SEMI_SUPERVISED, ZERO_SHOT),
    space=SPACE,
    model="inpformer.methods.inp_former_pp.model:InpFormerPlus",
    anomalies=True,
    builds_on=lambda settings: "inp_former" if settings.head.training == ALONE else "",
)
