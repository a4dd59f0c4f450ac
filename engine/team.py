"""Who is who among the ranks of one engine. Pure logic, no torch.

    ranks 0 to W - 1      the world model: each holds a share of its tokens, rank 0 leads
    ranks W to W + D - 1  decoders, in crews of `bands`: a crew makes a picture together, its first rank leads

Leaders talk to the gateway and to each other; the others only obey their leader. Frames go to the decoder
crews in turn. World and decoder in one process are rank 0 of a team of one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.config import WorldConfig
from engine.errors import UsageError

MOST_PLAYERS = 64
LATENT_ROWS = 10  # of the decoders that the engine ships; a band is one of them at least


@dataclass(frozen=True)
class Seat:
    """One rank's place. roles: what it hosts; crew: the ranks that share its work, the leader first; turn: of
    a decoder crew, which of `turns` frames are its own."""

    rank: int
    name: str
    roles: tuple[str, ...]
    crew: tuple[int, ...]
    turn: int = 0
    turns: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == self.crew[0]

    @property
    def share(self) -> int:
        """Its place in its crew."""
        return self.crew.index(self.rank)


@dataclass(frozen=True)
class Team:
    """bands: decoder ranks that share one picture, 1: each makes whole ones. Raises UsageError."""

    world_ranks: int = 1
    decoder_ranks: int = 1
    bands: int = 1
    together: bool = False

    def __post_init__(self) -> None:
        for name in ("world", "decoder"):
            if (count := getattr(self, f"{name}_ranks")) < 1:
                raise UsageError(f"{count} {name} ranks: choose 1 or more with --{name}-ranks")
        if not 1 <= self.bands <= LATENT_ROWS or self.decoder_ranks % self.bands:
            raise UsageError(
                f"{self.bands} bands do not divide {self.decoder_ranks} decoder ranks: "
                f"choose --bands that do, 1 to {LATENT_ROWS}"
            )
        if self.together and self.world_ranks + self.decoder_ranks > 2:
            raise UsageError("world and decoder share a process as one rank each: leave --together out")

    @property
    def size(self) -> int:
        return 1 if self.together else self.world_ranks + self.decoder_ranks

    @property
    def leading_decoders(self) -> tuple[int, ...]:
        """Ranks that latents are sent to."""
        return () if self.together else tuple(range(self.world_ranks, self.size, self.bands))

    @property
    def leaders(self) -> int:
        """How many ranks the gateway hears of."""
        return 1 + len(self.leading_decoders)

    def seat(self, rank: int) -> Seat:
        """The simulator sits beside the leading world rank: it never runs while that dreams."""
        assert 0 <= rank < self.size
        if self.together:
            return Seat(rank, "world,decoder", ("world", "decoder", "simulator"), (rank,))
        world = tuple(range(self.world_ranks))
        if rank in world:
            roles = ("world", "simulator") if rank == 0 else ("world",)
            return Seat(rank, _name("world", rank, self.world_ranks), roles, world)
        number = rank - self.world_ranks
        turn, first = number // self.bands, rank - number % self.bands
        crew = tuple(range(first, first + self.bands))
        name = _name("decoder", number, self.decoder_ranks)
        return Seat(rank, name, ("decoder",), crew, turn, self.decoder_ranks // self.bands)

    def seats(self) -> Iterator[Seat]:
        return (self.seat(rank) for rank in range(self.size))

    def arguments(self) -> list[str]:
        """Of engine.rank's command line, the same on every rank."""
        counts = {"--world-ranks": self.world_ranks, "--decoder-ranks": self.decoder_ranks}
        words = [word for flag, count in counts.items() for word in (flag, str(count))]
        return [*words, "--bands", str(self.bands), *["--together"] * self.together]


def _name(role: str, number: int, of: int) -> str:
    return role if of == 1 else f"{role} {number}"


def check_players(team: Team, players: int) -> None:
    """Raises UsageError where so many cannot play at once on this team."""
    if not 1 <= players <= MOST_PLAYERS:
        raise UsageError(f"{players} players: choose 1 to {MOST_PLAYERS} with --players")
    if players > 1 and team.world_ranks > 1:
        raise UsageError(
            f"{team.world_ranks} world ranks share one player's world, and {players} players have one each: "
            "choose --world-ranks 1 with any number of --decoder-ranks, or --players 1"
        )


def check_tokens(config: WorldConfig, ranks: int) -> None:
    """Raises UsageError where this model's tokens do not go over so many ranks."""
    if ranks < 1 or config.tokens % ranks:
        legal = [n for n in range(1, config.tokens + 1) if config.tokens % n == 0][:8]
        choices = ", ".join(map(str, legal))
        raise UsageError(f"{ranks} world ranks do not divide {config.tokens} tokens: choose one of {choices}")
