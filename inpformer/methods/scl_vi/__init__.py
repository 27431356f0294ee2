"""SCL-VI (arXiv 2311.06504): patches of the picture itself, by a small network that is trained on these pictures alone.

It learns where a patch lies beside another one (a jigsaw puzzle) and to see two that nearly coincide alike; a patch
that is far from all that good pictures have is a defect. No weights of another data set are needed.
"""

from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS
from inpformer.methods.scl_vi.settings import SPACE, SclViSettings

SCL_VI = Method(
    name="scl_vi",
    settings=SclViSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.scl_vi.model:SclVi",
)
