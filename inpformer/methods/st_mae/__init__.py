"""ST-MAE (arXiv 2211.00349): each half of an image's places is rebuilt from the other half alone.

What does not follow from the rest of the image, as a defect does not, is rebuilt badly.
"""

from inpformer.methods.method import Method
from inpformer.methods.modes import MULTI_CLASS, SINGLE_CLASS
from inpformer.methods.st_mae.settings import SPACE, StMaeSettings

ST_MAE = Method(
    name="st_mae",
    settings=StMaeSettings,
    modes=(MULTI_CLASS, SINGLE_CLASS),
    space=SPACE,
    model="inpformer.methods.st_mae.model:StMae",
)
