"""The registry of methods: the one place that names them all."""

from typing import Any

from inpformer.config import require
from inpformer.methods.ami_net import AMI_NET
from inpformer.methods.dadf import DADF
from inpformer.methods.glcf import GLCF
from inpformer.methods.grnr import GRNR
from inpformer.methods.inp_former import INP_FORMER
from inpformer.methods.inp_former_pp import INP_FORMER_PP
from inpformer.methods.method import Method
from inpformer.methods.nearest import NEAREST
from inpformer.methods.pnpt import PNPT
from inpformer.methods.rb_ae import RB_AE
from inpformer.methods.scl_vi import SCL_VI
from inpformer.methods.st_mae import ST_MAE
from inpformer.methods.tfa_net import TFA_NET

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        INP_FORMER,
        INP_FORMER_PP,
        NEAREST,
        GRNR,
        GLCF,
        DADF,
        PNPT,
        AMI_NET,
        TFA_NET,
        ST_MAE,
        SCL_VI,
        RB_AE,
    )
}


def find_method(name: Any) -> Method:
    """Raises UserError for a name that is none."""
    require(name in METHODS, "method", name, f"one of {', '.join(METHODS)}")
    return METHODS[name]
