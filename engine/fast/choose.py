"""Which backend this machine uses for a game."""

from importlib.util import find_spec
from pathlib import Path

from engine.backend import Backend
from engine.models.weights import SHIPPED, WIDE, WeightsError, has_part, load_config
from engine.without import without
from games import GAMES


def choose_backend(
    game: str,
    *,
    device: str,
    roles: tuple[str, ...],
    threads: int,
    weights: str | None,
    decoder: str | None = None,
) -> Backend:
    """OpenVINO on a CPU that has it, PyTorch otherwise. See engine.backend.load_backend."""
    directory = weights_directory(game, weights)
    wide = paints_wide(directory, device, decoder)
    if device == "cpu" and find_spec("openvino") and "openvino" not in without():
        from engine.fast.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(game, directory, threads, wide)
    from engine.fast.torch_backend import TorchBackend

    return TorchBackend(game, directory, device, threads, wide)


def paints_wide(directory: Path, device: str, decoder: str | None) -> bool:
    """Whether the wide decoder paints: if it is named, else on a GPU where there is one and
    DREAMCADE_WITHOUT=wide does not switch it off. Raises WeightsError where there is none."""
    there = has_part(directory, WIDE)
    if decoder == "wide" and not there:
        raise WeightsError(
            f"the weights in {directory} have no wide decoder: leave --decoder out, or train one with "
            "`dreamcade train GAME wide_decoder`"
        )
    return decoder == "wide" or (decoder is None and device == "cuda" and there and "wide" not in without())


def weights_directory(game: str, weights: str | None) -> Path:
    """The shipped weights or those named, which fit the game. Raises WeightsError."""
    directory = Path(weights) if weights else SHIPPED / game
    if not directory.is_dir():
        raise WeightsError(
            f"no weights for {game} in {directory}; "
            "reinstall dreamcade, or name a good directory with --weights"
        )
    require_fit(game, directory)
    return directory


def require_fit(game: str, directory: Path) -> None:
    """Raises WeightsError if the weights are another game's, or of one with other buttons or telemetry."""
    config, _ = load_config(directory)
    spec, world = GAMES[game], config.world
    if config.game != game:
        raise WeightsError(
            f"the weights in {directory} are for {config.game!r}, not {game}; name others with --weights"
        )
    if (world.buttons, world.telemetry) != (spec.n_buttons, len(spec.telemetry)):
        raise WeightsError(
            f"{directory / 'config.json'} has {world.buttons} buttons and {world.telemetry} telemetry fields,"
            f" {game} {spec.n_buttons} and {len(spec.telemetry)};"
            " reinstall dreamcade, or name a good directory with --weights"
        )
