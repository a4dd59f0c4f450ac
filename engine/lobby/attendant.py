"""What the gateway does for a session while it lasts: the player's buttons and commands go to the ranks, what
the ranks say of it and the pictures they made go to the player. It never waits."""

import time
from typing import Literal

from engine.inner import Begin, Control, Input, Logged, Opened, Picture, Progress
from engine.lobby.beside_process import BesideProcess
from engine.lobby.client_session import ClientSession
from engine.lobby.front import Front
from engine.lobby.ranks import Ranks
from engine.protocol import BesideState, Buttons, Command, ToEngine, pack


class Attendant:
    """Of every session alike: what differs is in the ClientSession."""

    def __init__(self, front: Front, ranks: Ranks, beside: BesideProcess) -> None:
        self._front, self._ranks, self._beside = front, ranks, beside

    def tend(self, session: ClientSession, now_s: float) -> None:
        """What still has to be said; the game waits for a player who is not heard."""
        session.flush(self._front)
        if session.should_wait(now_s):
            self._wait(session, True)

    def from_player(self, session: ClientSession, message: ToEngine) -> None:
        session.heard_s = time.monotonic()
        self._wait(session, False)
        match message:
            # Before, ranks would not take it: what is held then is new once the game has begun.
            case Buttons() if session.welcomed:
                if session.note_input(message.seq, session.heard_s):
                    self._ranks.tell(
                        Input(
                            session=session.number,
                            seq=message.seq,
                            held=message.held,
                            pressed=message.pressed,
                        )
                    )
            case Command() if session.welcomed:
                self._command(session, message)

    def from_role(self, session: ClientSession, message: Progress | Logged | Opened) -> None:
        match message:
            case Progress():
                session.progress(message.stage, message.fraction)
            case Logged():
                self._beside.note(session.number, message.entry)
                if session.hello.record_hashes:
                    session.outbox.append(message.entry)
            case Opened():
                session.opened.append(message)
                if session.all_opened and not session.welcomed:
                    lag = session.welcome(time.monotonic()).lag
                    self._ranks.tell(Begin(session=session.number, lag=lag))

    def from_picture(self, session: ClientSession, picture: Picture, pixels: memoryview) -> None:
        """pixels uint8 [H, W, 3]."""
        if not session.welcomed or (picture.frame.beside and not self._beside.following(session.number)):
            return
        session.flush(self._front)
        ready = session.ready_frame(picture.frame, time.monotonic(), picture.rank)
        if ready is None:
            return
        if session.outbox or not self._front.send(session.identity, pack(ready, pixels)):
            session.dropped += 1

    def _command(self, session: ClientSession, message: Command) -> None:
        match message.kind:
            case "beside" if session.hello.mode == "reference":
                reason = "this is the simulator already"
                session.outbox.append(BesideState(state="stopped", reason=reason))
            case "beside":
                self._beside.follow(session.number, session.hello.game)
            case "alone":
                self._beside.leave(session.number)
            case "pause" | "resume" | "step" | "reset" | "new_seed" as kind:
                if kind in ("pause", "resume"):
                    session.paused = kind == "pause"
                self._ranks.tell(Control(session=session.number, kind=kind, seed=message.seed))

    def _wait(self, session: ClientSession, waiting: bool) -> None:
        """Let the game stand still while the player's link is lost, and go on when it is back."""
        if session.waiting != waiting:
            session.waiting = waiting
            if not session.paused:
                kind: Literal["pause", "resume"] = "pause" if waiting else "resume"
                self._ranks.tell(Control(session=session.number, kind=kind))
