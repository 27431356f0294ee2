"""INP-Former (CVPR 2025, arXiv 2503.02424): normal prototypes taken from the test image itself guide a decoder."""

from inpformer.methods.inp_former.settings import SPACE, InpFormerSettings
from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS, ZERO_SHOT

INP_FORMER = Method(
    name="inp_former",
    settings=InpFormerSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS, ZERO_SHOT),
    space=SPACE,
    model="inpformer.methods.inp_former.model:InpFormer",
    official="inpformer.methods.inp_former.official",
)
