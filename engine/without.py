"""What is switched off, for ablations: DREAMCADE_WITHOUT=int8,openvino,drafts,extrapolation,fused,wide,
checkpoints, sight or bounds in the environment. wide: a GPU paints with the CPU's decoder. checkpoints: a
death leads wherever the model dreams. sight: what lies ahead is told as the model tells itself. bounds: so is
what telemetry never is."""

import os

from engine.errors import UsageError

VARIABLE = "DREAMCADE_WITHOUT"
PARTS = ("extrapolation", "drafts", "openvino", "int8", "fused", "wide", "checkpoints", "sight", "bounds")


def without() -> frozenset[str]:
    """Names out of PARTS. Raises UsageError for any other: an ablation that changes nothing would be told as
    one that did."""
    names = frozenset(filter(None, os.environ.get(VARIABLE, "").replace(" ", "").split(",")))
    if unknown := sorted(names - frozenset(PARTS)):
        raise UsageError(f"{VARIABLE} names {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    return names
