"""The models as OpenVINO graphs: the CPU path, measured fastest there.

Graphs are exported from engine/models once per set of weights and kept in the user's cache directory; later
starts read them. Nothing is compiled by a compiler on the player's machine. Decoder and world run in int8
where the CPU has instructions for it and a calibration belongs to the weights (see int8_ranges.py)."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import platformdirs
from openvino.preprocess import PrePostProcessor

from engine import machine
from engine.config import GameConfig
from engine.fast.dream import Dream
from engine.fast.extrapolators import LearnedExtrapolator, SphereExtrapolator
from engine.fast.int8_ranges import INT8_PARTS, Calibration, int8_or_why_not
from engine.fast.openvino_decoder import pixels
from engine.fast.own_worlds import OwnWorlds
from engine.fast.sight import load_sight
from engine.models.weights import WIDE, has_part, load_config, weights_id

DRAFTS = "drafts"
"""The graph of an extrapolator with a draft; "extrapolator" is what it does without one, half the work."""
RING = 9
"""The ring's place among a step's inputs, see engine.fast.dream."""
_ENTRIES = 2  # the step's own keys and values among its results


class OpenVinoBackend:
    """One game's models on the CPU with `threads` threads. See engine.backend.Backend."""

    device = "cpu"
    min_stride = 4  # smaller ones take shown frames away, and the dream is judged at 4

    def __init__(self, game: str, directory: Path, threads: int, wide: bool = False) -> None:
        self.game, self.directory = game, directory
        self.config, _ = load_config(directory)
        self.weights_id = weights_id(directory)
        self.core = openvino.Core()
        fast_bf16 = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = "bf16" if fast_bf16 else "f32"
        self.calibrated = calibrated(directory)
        self.name = "-".join(["openvino", precision, *(["int8"] if self.calibrated else [])])
        self.decoder_name = "cpu-int8" if "decoder" in self.calibrated else "cpu"
        self._decoder_part = "decoder"
        if wide:
            self.decoder_name, self._decoder_part = "wide", WIDE
        self.settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned, the thread of one process may share a core with another's while the next one idles.
            "ENABLE_CPU_PINNING": False,
        }
        self.latent_shape = (self.config.world.channels, self.config.world.rows, self.config.world.columns)

    def _compiled(self, part: str, **changed: Any) -> Any:
        settings = self.settings | changed
        calibration = self.calibrated.get(part)
        path = graph_path(self.directory, self.config, part, calibration)
        try:
            return self.core.compile_model(self._read(path), "CPU", settings)
        except RuntimeError:  # perhaps a cached graph that cannot be read: make it anew, once
            for file in (path, path.with_suffix(".bin")):  # others may be exporting into the same folder
                file.unlink(missing_ok=True)
            path = graph_path(self.directory, self.config, part, calibration)
            return self.core.compile_model(self._read(path), "CPU", settings)

    def _read(self, path: Path) -> openvino.Model:
        """A graph as it was exported; where the CPU computes in bfloat16, a world keeps its ring so too."""
        graph = self.core.read_model(path)
        if path.stem.startswith("world") and self.settings["INFERENCE_PRECISION_HINT"] == "bf16":
            outside = PrePostProcessor(graph)
            outside.input(RING).tensor().set_element_type(openvino.Type.bf16)
            outside.output(_ENTRIES).tensor().set_element_type(openvino.Type.bf16)
            graph = outside.build()
        return graph

    def world(self) -> Dream:
        return self._dream(self._compiled("world"))

    def worlds(self, players: int) -> OwnWorlds:
        compiled = self._compiled("world")
        return OwnWorlds(lambda: self._dream(compiled), players)

    def _dream(self, compiled: Any) -> Dream:
        narrow = compiled.input(RING).element_type == openvino.Type.bf16
        ring_type = np.uint16 if narrow else np.float32
        sight = load_sight(self.game, self.directory)
        return Dream(self.game, self.config.world, OpenVinoStep(compiled), ring_type, sight)

    def decoder(self) -> "OpenVinoDecoder":
        return OpenVinoDecoder(self._compiled(self._decoder_part))

    def encoder(self) -> "OpenVinoEncoder":
        return OpenVinoEncoder(self._compiled("encoder"))

    def extrapolator(self) -> SphereExtrapolator | LearnedExtrapolator:
        if not has_part(self.directory, "extrapolator"):
            return SphereExtrapolator()
        drafts = self.config.extrapolator.draft_blocks > 0
        requests = {}  # by how many arrays they take: a draft is two more
        for part in ("extrapolator", DRAFTS) if drafts else ("extrapolator",):
            # 0.2 GFLOP is as quick on one thread, and waits for no second one where the cores are busy.
            compiled = self._compiled(part, INFERENCE_NUM_THREADS=1)
            requests[len(compiled.inputs)] = compiled.create_infer_request()

        def run(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            results = requests[len(arrays)].infer(list(arrays))
            push, gain, log_errors = (np.array(results[i]) for i in range(3))
            return push, gain, log_errors

        return LearnedExtrapolator(run, takes_drafts=drafts)


class OpenVinoStep:
    """WorldModel.step on numpy arrays, without a copy of the ring (9 MiB in bfloat16): the graph reads it
    where `Dream` keeps it. numpy knows no bfloat16; the ring's bits are passed as uint16."""

    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()
        self.ring: openvino.Tensor | None = None

    def __call__(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ring, inputs = arrays[RING], list[Any](arrays)
        if ring.dtype == np.uint16:
            self.ring = self.ring or openvino.Tensor(ring, list(ring.shape), openvino.Type.bf16)
            inputs[RING] = self.ring
        results = self.request.infer(inputs, share_inputs=True)
        made, telemetry, entries = (np.array(results[i]) for i in range(3))
        return made, telemetry, entries.view(ring.dtype)


class OpenVinoDecoder:
    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()

    def decode(self, latent: np.ndarray) -> np.ndarray:
        return pixels(self.request.infer([latent[None]])[0][0])


class OpenVinoEncoder:
    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        return np.stack([np.array(self.request.infer([picture[None]])[0][0]) for picture in pictures])


def calibrated(directory: Path) -> dict[str, Calibration]:
    """The parts that run in int8 here."""
    flags = machine.isa_flags()
    found = {part: int8_or_why_not(directory, part, flags) for part in INT8_PARTS}
    return {part: one for part, one in found.items() if isinstance(one, Calibration)}


def graph_path(
    directory: Path, config: GameConfig, part: str, calibration: Calibration | None = None
) -> Path:
    """The exported graph of `part`, from the cache or made now. Raises WeightsError like load_part."""
    folder = cache_directory() / f"{config.game}-{weights_id(directory)}-{_code_id()}"
    path = folder / (f"{part}-int8-{calibration.id}.xml" if calibration else f"{part}.xml")
    if not path.exists():
        from engine.fast.openvino_export import export

        folder.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed: two ranks may export at once, and a killed export leaves nothing.
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            made = Path(aside) / path.name
            export(directory, config, part, made, calibration.ranges if calibration else None)
            os.replace(made.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(made, path)
    return path


def cache_directory() -> Path:
    """Where graphs are kept; DREAMCADE_CACHE overrides it."""
    return Path(os.environ.get("DREAMCADE_CACHE") or platformdirs.user_cache_dir("dreamcade")) / "openvino"


def _code_id() -> str:
    """Changes with OpenVINO's version and with the models' code, so that a stale graph is never used."""
    sources = [
        *sorted((Path(__file__).parents[1] / "models").glob("*.py")),
        *sorted(Path(__file__).parent.glob("openvino_*.py")),
    ]
    digest = hashlib.sha256(openvino.__version__.encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:10]
