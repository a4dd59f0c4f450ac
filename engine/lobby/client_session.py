"""What the gateway knows of one client's session. Pure state: no sockets, no clock of its own.

A session is loading until every role it needs has opened, then it is welcomed and frames follow.
"""

import math
import secrets
from collections import deque
from typing import Protocol

import msgspec

from engine import machine
from engine.inner import Opened, Start
from engine.pacing.clock import MAX_LAG
from engine.pacing.session import NO_INPUT
from engine.protocol import PROTOCOL_VERSION, SESSION_KEPT_S, Frame, Hello, Loading, Message, Welcome
from games import GAMES

WAITING_S = 1.5  # of silence, then the game waits: a client sends its buttons ten times a second
SILENT_LOADING_S = 120.0  # a first start compiles, and a loading screen has little to say
_INPUTS_REMEMBERED = 256
_ROLES = {"dream": {"world", "decoder"}, "reference": {"simulator"}}


class Mailbox(Protocol):
    """Where a session's messages go: the gateway's Front."""

    def tell(self, client: bytes, message: Message) -> bool: ...


class ClientSession:
    """`outbox` holds messages that must arrive, in order; frames may be dropped and never go through it."""

    def __init__(self, identity: bytes, number: int, hello: Hello, now_s: float, key: str = "") -> None:
        """key: the client's public key, where keys are needed."""
        self.identity, self.number, self.hello, self.key = identity, number, hello, key
        self._name = f"{number}-{secrets.token_hex(8)}"  # numbers begin anew with every engine
        self.heard_s = now_s
        self.opened: list[Opened] = []
        self.outbox: deque[Message] = deque()
        self.dropped = 0
        self._dropped_by: dict[int, int] = {}  # rank -> in this epoch
        self.paused = self.waiting = False
        """By the player; by the gateway, while nothing is heard."""
        self.started = False
        """Ranks know of it."""
        self._loading = Loading(stage="", fraction=0.0)
        self._welcome: Welcome | None = None
        self._seq = NO_INPUT
        self._arrived_s: dict[int, float] = {}  # input seq -> when, oldest first
        self._shown = {False: (0, -1), True: (0, -1)}  # of the game and of what is beside it: epoch, index

    @property
    def welcomed(self) -> bool:
        return self._welcome is not None

    @property
    def all_opened(self) -> bool:
        return all(
            (ranks := [one.ranks for one in self.opened if one.role == role]) and len(ranks) >= ranks[0]
            for role in _ROLES[self.hello.mode]
        )

    def is_silent(self, now_s: float) -> bool:
        return now_s - self.heard_s > (SESSION_KEPT_S if self.welcomed else SILENT_LOADING_S)

    def should_wait(self, now_s: float) -> bool:
        """Whether the link seems lost."""
        return self.welcomed and now_s - self.heard_s > WAITING_S

    def start(self, stride: int) -> Start:
        """What ranks are told, once. stride: the engine's own choice, 0 leaves it to the client."""
        hello, self.started = self.hello, True
        return Start(
            session=self.number,
            game=hello.game,
            seed=hello.seed,
            mode=hello.mode,
            stride=stride or hello.stride,
            record_hashes=hello.record_hashes,
        )

    def progress(self, stage: str, fraction: float) -> None:
        """Loading, for the client's screen; its fraction never goes back."""
        self._loading = Loading(stage=stage, fraction=max(fraction, self._loading.fraction))
        self.outbox.append(self._loading)

    def flush(self, front: Mailbox) -> None:
        """Messages that must not be lost, in order, as far as the client takes them."""
        while self.outbox and front.tell(self.identity, self.outbox[0]):
            self.outbox.popleft()

    def is_asked_for_by(self, hello: Hello) -> bool:
        """Whether it is what `hello` wants: one said again may have the seed of a later epoch."""
        return msgspec.structs.replace(hello, seed=self.hello.seed) == self.hello

    def again(self) -> None:
        """The client said the same hello again: tell it where we are."""
        self.outbox.append(self._welcome or self._loading)

    def note_input(self, seq: int, now_s: float) -> bool:
        """True if this input is new; a repeated or stale one only shows that the client is there."""
        if seq <= self._seq:
            return False
        self._seq = seq
        self._arrived_s[seq] = now_s
        if len(self._arrived_s) > _INPUTS_REMEMBERED:
            del self._arrived_s[next(iter(self._arrived_s))]
        return True

    def welcome(self, now_s: float) -> Welcome:
        """All roles are ready. Their costs give the first lag."""
        self.heard_s = now_s
        spec = GAMES[self.hello.game]

        def said(field: str) -> str:
            return next((value for opened in self.opened if (value := getattr(opened, field))), "")

        roles = _ROLES[self.hello.mode]
        cost = sum(max(one.cost_frames for one in self.opened if one.role == role) for role in roles)
        self._welcome = Welcome(
            version=PROTOCOL_VERSION,
            session=self._name,
            game=spec.name,
            mode=self.hello.mode,
            seed=self.hello.seed,
            width=spec.width,
            height=spec.height,
            fps=spec.fps,
            stride=max(opened.stride for opened in self.opened),
            lag=min(MAX_LAG, math.ceil(cost)),
            device=said("device"),
            backend=said("backend"),
            decoder=said("decoder"),
            weights=said("weights"),
            machine=machine.facts(),
        )
        self.outbox.append(self._welcome)
        return self._welcome

    def ready_frame(self, frame: Frame, now_s: float, rank: int = 0) -> Frame | None:
        """`frame`, of one rank, as the client gets it, or None if a newer one went before it."""
        shown = self._shown[frame.beside]
        self._shown[frame.beside] = max(shown, (frame.epoch, frame.index))
        if frame.beside:
            return frame if (frame.epoch, frame.index) >= shown else None
        if (frame.epoch, frame.index) <= shown:
            self.dropped += 1
            return None
        if frame.epoch > shown[0]:
            self.dropped = 0
            self._dropped_by.clear()
        self._dropped_by[rank] = frame.dropped
        arrived_s = self._arrived_s.get(frame.applied_seq, now_s)
        times = msgspec.structs.replace(frame.times, queue_ms=(now_s - arrived_s) * 1e3)
        dropped = self.dropped + sum(self._dropped_by.values())
        return msgspec.structs.replace(frame, dropped=dropped, times=times)
