"""What is switched off, for ablations: DREAMCADE_WITHOUT=int8,openvino,drafts,extrapolation,fused in the
environment."""

import os

VARIABLE = "DREAMCADE_WITHOUT"
PARTS = ("extrapolation", "drafts", "openvino", "int8", "fused")


def without() -> frozenset[str]:
    """Names out of PARTS; what is not known is ignored."""
    return frozenset(os.environ.get(VARIABLE, "").replace(" ", "").split(",")) & frozenset(PARTS)
