"""What is switched off, for ablations: DREAMCADE_WITHOUT=int8,openvino,drafts,extrapolation,fused,wide,
checkpoints, sight or bounds in the environment. wide: a GPU paints with the CPU's decoder. checkpoints: a
death leads wherever the model dreams. sight: what lies ahead is told as the model tells itself. bounds: so is
what telemetry never is."""

import os

VARIABLE = "DREAMCADE_WITHOUT"
PARTS = ("extrapolation", "drafts", "openvino", "int8", "fused", "wide", "checkpoints", "sight", "bounds")


def without() -> frozenset[str]:
    """Names out of PARTS; what is not known is ignored."""
    return frozenset(os.environ.get(VARIABLE, "").replace(" ", "").split(",")) & frozenset(PARTS)
