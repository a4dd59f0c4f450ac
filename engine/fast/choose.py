"""Which backend this machine uses for a game."""

from importlib.util import find_spec
from pathlib import Path

from engine.backend import Backend
from engine.models.weights import SHIPPED, WeightsError


def choose_backend(
    game: str, *, device: str, roles: tuple[str, ...], threads: int, weights: str | None
) -> Backend:
    """OpenVINO on a CPU that has it, PyTorch otherwise. See engine.backend.load_backend."""
    directory = Path(weights) if weights else SHIPPED / game
    if not directory.is_dir():
        raise WeightsError(
            f"no weights for {game} in {directory}; "
            "reinstall dreamcade, or name a good directory with --weights"
        )
    if device == "cpu" and find_spec("openvino"):
        from engine.fast.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(game, directory, threads)
    from engine.fast.torch_backend import TorchBackend

    return TorchBackend(game, directory, device, threads)
