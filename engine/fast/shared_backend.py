"""One game's models where a crew of ranks shares the world or the decoder. See engine/fast/leading.py."""

from functools import cached_property
from pathlib import Path

from engine.fast.bands import Rows, split_rows
from engine.fast.choose import paints_wide
from engine.fast.cuda_graph import GraphDecoder, GraphWorld
from engine.fast.leading import FollowingDecoder, FollowingWorld, LeadingDecoder, LeadingWorld
from engine.fast.orders import Kind, Order
from engine.fast.sequence_parallel import make_split
from engine.fast.static_dream import StaticDream
from engine.fast.torch_backend import TorchBackend
from engine.models.autoencoder import Decoder
from engine.models.world_model import WorldModel
from engine.process_group import Crew
from games import GAMES


class SharedBackend(TorchBackend):
    """What the crew's leader uses: `world` or `decoder` has the others load their share too. `follower` is
    for those. Raises UsageError where the model does not go over so many ranks."""

    def __init__(self, game: str, directory: Path, device: str, threads: int, crew: Crew) -> None:
        super().__init__(game, directory, device, threads, paints_wide(directory, device, None))
        self.crew = crew

    def world(self) -> StaticDream:
        self._have_others_open()
        return StaticDream(self.game, LeadingWorld(self._own_world(), self.crew.orders), sight=self.sight)

    def decoder(self) -> LeadingDecoder:  # type: ignore[override]
        if "decoder" not in self.crew.seat.roles:
            return super().decoder()  # type: ignore[return-value]
        self._have_others_open()
        return LeadingDecoder(self._own_band(), self.bands, self.crew.orders, self.crew.exchange)

    def follower(self) -> FollowingWorld | FollowingDecoder:
        if "world" in self.crew.seat.roles:
            return FollowingWorld(self._own_world())
        return FollowingDecoder(self._own_band(), self.crew.exchange)

    @cached_property
    def bands(self) -> tuple[Rows, ...]:
        return split_rows(self._decoder, self.config.world.rows, len(self.crew.seat.crew))

    def _have_others_open(self) -> None:
        Order(Kind.OPEN, list(GAMES).index(self.game)).give(self.crew.orders)

    def _own_world(self) -> GraphWorld:
        model = self._part("world")
        assert isinstance(model, WorldModel)
        split = make_split(model.config, self.crew.exchange)
        return GraphWorld(model, dtype=self.dtype, split=split, capture=self.device == "cuda")

    def _own_band(self) -> GraphDecoder:
        return GraphDecoder(
            self._decoder,
            self.latent_shape,
            dtype=self.dtype,
            capture=self.device == "cuda",
            band=self.bands[self.crew.seat.share],
        )

    @cached_property
    def _decoder(self) -> Decoder:
        model = self._part(self._decoder_part)
        assert isinstance(model, Decoder)
        return model
