"""Who plays on this engine: clients' sessions, and whether one more may come in. Pure state, no sockets."""

from collections.abc import Iterator

from engine.lobby.client_session import ClientSession
from engine.protocol import SESSION_KEPT_S, Hello, Refused
from games import GAMES


class Sessions:
    """limit: how many play at once; only_game: the one game of this engine, empty if any may be played (one
    at a time: ranks hold one game's models)."""

    def __init__(self, limit: int, only_game: str = "") -> None:
        self.limit, self._only_game = limit, only_game
        self._by_client: dict[bytes, ClientSession] = {}
        self._by_number: dict[int, ClientSession] = {}
        self._begun = 0

    def __iter__(self) -> Iterator[ClientSession]:
        """As they are now: some may end meanwhile."""
        return iter(list(self._by_client.values()))

    def __len__(self) -> int:
        return len(self._by_client)

    def of(self, client: bytes) -> ClientSession | None:
        return self._by_client.get(client)

    def numbered(self, number: int) -> ClientSession | None:
        return self._by_number.get(number)

    def begin(self, client: bytes, hello: Hello, now_s: float, key: str = "") -> ClientSession:
        """Of a client that has none, and was not refused. key: its public key, where keys are needed."""
        assert client not in self._by_client and len(self) < self.limit
        self._begun += 1
        session = ClientSession(client, self._begun, hello, now_s, key)
        self._by_client[client] = self._by_number[session.number] = session
        return session

    def end(self, session: ClientSession) -> None:
        del self._by_client[session.identity], self._by_number[session.number]

    def refusal(self, hello: Hello, client: bytes) -> Refused | None:
        """Why `hello` cannot have a session now; None if it can. `client` gives up the one it has."""
        others = [session for session in self if session.identity != client]
        if len(others) >= self.limit:
            return self._busy(others)
        if hello.game not in GAMES:
            return Refused(reason=f"unknown game {hello.game!r}", fix=f"choose one of: {', '.join(GAMES)}")
        played = others[0].hello.game if others else self._only_game or hello.game
        if hello.game != played:
            when = "only" if self._only_game else "now, one game at a time"
            return Refused(reason=f"this engine plays {played} {when}", fix=f"run: dreamcade play {played}")
        if hello.mode == "reference" and self.limit > 1:
            # One picture of a simulator can take longer than a step and a decode of everybody's dream.
            return Refused(
                reason="this engine is for several players, and the simulator would hold them up",
                fix=f"play it on your own machine: dreamcade play {played} --reference",
            )
        return None

    def _busy(self, others: list[ClientSession]) -> Refused:
        fix = "try again when {} left, or play on this machine: dreamcade play"
        if any(session.waiting for session in others):
            reason = "another player's link is lost, and their place is kept"
            fix = f"try again in {SESSION_KEPT_S:.0f} s, or play on this machine: dreamcade play"
        elif self.limit == 1:
            reason, fix = "another player is using this engine", fix.format("they have")
        else:
            reason, fix = "all its places are taken", fix.format("somebody has")
        return Refused(reason=f"busy: {reason} ({len(others)} of {self.limit} play)", fix=fix)
