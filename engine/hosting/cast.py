"""Makes the roles that a rank plays for each session, and holds what the sessions share: models, and the
links between ranks."""

from collections.abc import Callable, Sequence
from typing import cast

from engine.decoder_worker import DecoderRole
from engine.fast.slots import WorldSlots
from engine.hosting.links import DistributedReceiver, DistributedSender, FanOut, LatentReceiver, MemoryLink
from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.reporter import Reporter
from engine.hosting.role import Role
from engine.hosting.session_links import LentSender, SortedLatents
from engine.hosting.turns import step_first_closed
from engine.hosting.world_batch import WorldBatch
from engine.inner import RankLine, Start
from engine.pacing.presentation import Turn
from engine.simulator_worker import SimulatorRole
from engine.team import Seat, Team
from engine.world_worker import WorldRole

WORLD_RANK = 0


class SeatsCast:
    """The roles of `seat`. The simulator is hosted beside the world: it never runs while that dreams. line:
    is woken by latents; players: at once; rarely_s: what a step may take now and then."""

    def __init__(
        self,
        team: Team,
        seat: Seat,
        models: ModelsAtHand,
        line: RankLine,
        players: int = 1,
        rarely_s: float = 0.0,
    ) -> None:
        self._team, self._seat, self._models, self._rarely_s = team, seat, models, rarely_s
        self.names: Sequence[str] = seat.roles
        self._worlds: dict[int, WorldRole] = {}
        self._sender: FanOut | None = None
        self._latents: SortedLatents | None = None
        if not team.together and "world" in seat.roles:
            self._sender = FanOut([DistributedSender(rank) for rank in team.leading_decoders])
        if not team.together and "decoder" in seat.roles:
            receiver = DistributedReceiver(WORLD_RANK, players)
            line.wake_on(receiver.wake)
            self._latents = SortedLatents(receiver)

    def roles(self, start: Start, tell: Reporter) -> list[Role]:
        """In the order they get ready: the world wants to know what a decode costs."""
        if start.mode == "reference":
            return self._simulator(tell)
        own = MemoryLink() if self._team.together else None
        roles: list[Role] = []
        decode_s: Callable[[], float] = lambda: 0.0  # noqa: E731
        if "decoder" in self._seat.roles:
            decoder = self._decoder(start, tell, own)
            roles.append(decoder)
            decode_s = lambda: decoder.decode_s  # noqa: E731
        if "world" in self._seat.roles:
            roles.append(self._world(start, tell, own, decode_s))
        return roles

    @property
    def drafts(self) -> bool:
        """Whether a world may draft its next step: not where all step at once."""
        return self._slots is None

    def step_worlds(self, due: Sequence[Role], now_s: float) -> None:
        """All of them at once where their worlds are slots of one, else one."""
        if (slots := self._slots) is not None:
            WorldBatch(slots).step(cast(Sequence[WorldRole], due), now_s)
        else:
            step_first_closed(due, now_s)

    def let_go(self, session: int) -> None:
        """It is over."""
        self._worlds.pop(session, None)

    def close(self) -> None:
        for link in (self._sender, self._latents):
            if link is not None:
                link.close()

    @property
    def _slots(self) -> WorldSlots | None:
        worlds = self._models.worlds_at_hand
        return worlds if isinstance(worlds, WorldSlots) else None

    def _running(self, session: int) -> int:
        """How many sessions share this rank's time, with this one; a paused game takes none. Asked aside too:
        others may come and go meanwhile."""
        return 1 + sum(world.runs for number, world in list(self._worlds.items()) if number != session)

    def _simulator(self, tell: Reporter) -> list[Role]:
        here = "simulator" in self._seat.roles
        return [SimulatorRole(self._models, tell.frame, tell.progress)] if here else []

    def _decoder(self, start: Start, tell: Reporter, own: MemoryLink | None) -> DecoderRole:
        link: LatentReceiver | None = own
        if self._latents is not None:
            link = self._latents.end_of(start.session)
        assert link is not None
        turn = Turn(self._seat.turn, self._seat.turns)
        decoder = DecoderRole(self._models, link, tell.frame, tell.progress, turn)
        decoder.rarely_s = self._rarely_s
        return decoder

    def _world(
        self, start: Start, tell: Reporter, own: MemoryLink | None, decode_s: Callable[[], float]
    ) -> WorldRole:
        link = own if self._sender is None else LentSender(self._sender)
        assert link is not None

        def turns() -> int:
            return 1 if self._slots is not None else self._running(start.session)

        def decodes_s() -> float:
            """Beside a step: of all sessions where that is everybody's."""
            return decode_s() * self._running(start.session) / turns()

        world = WorldRole(self._models, link, decodes_s, tell.progress, tell.log, turns)
        world.rarely_s = self._rarely_s
        self._worlds[start.session] = world
        return world
