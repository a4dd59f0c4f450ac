"""Hosts a rank's roles in one thread: takes messages, does what is due, sleeps until the next thing is."""

import math
import time
from typing import Protocol

import numpy as np

from engine.inner import (
    Begin,
    Control,
    Input,
    Joined,
    Logged,
    Opened,
    Picture,
    Progress,
    RankLine,
    Start,
    Stop,
    ToRank,
)
from engine.lifeline import BEAT_S, LOADING_S, PATIENCE_S, Lifeline
from engine.protocol import Beginning, Frame, TrueStep

ROLES = {"dream": ("decoder", "world"), "reference": ("simulator",)}
"""Which roles take part in a session, in the order they get ready (the world wants to know what a decode
costs)."""


_FRAMES_HUNG = 20  # a role that needs this many times its usual time hangs, if that is more than PATIENCE_S
_LONGEST_DRAFT_S = 0.2  # longer than any step that leaves time for a second one
_SMOOTHING = 0.1  # weight of the newest step's time


class Role(Protocol):
    name: str
    rarely_s: float
    """What one of its steps may take now and then, for a known reason; 0 when they are all alike."""

    def open(self, start: Start) -> Opened: ...
    def begin(self, begin: Begin, now_s: float) -> None: ...
    def input(self, message: Input, now_s: float) -> None: ...
    def control(self, message: Control, now_s: float) -> None: ...
    def seconds_until_due(self, now_s: float) -> float: ...
    def step(self, now_s: float) -> None: ...
    @property
    def draft_s(self) -> float:
        """What a draft of its next step would take that it wants to make; infinite when it wants none."""

    def draft(self) -> None: ...
    def end(self) -> None: ...
    def close(self) -> None: ...


class Host:
    """Runs this rank's roles in one thread: a step that is due goes before a decode that is due."""

    def __init__(self, roles: list[Role], line: RankLine, lifeline: Lifeline, tell: "Reporter") -> None:
        self._roles, self._line, self._lifeline, self._tell = roles, line, lifeline, tell
        self._active: list[Role] = []
        self._playing = False
        self._stepped_world = False
        self._usual_s: dict[str, float] = {}  # role -> time of a step

    def run(self) -> None:
        self._line.send(Joined(roles=[role.name for role in self._roles]))
        while not self._lifeline.stopping:
            for message in self._line.wait(self._idle_s()):
                self._handle(message)
            self._lifeline.beat()
            self.step()

    def step(self) -> None:
        """The one thing that is due, or a draft that holds nothing up. Never two true steps in a row while a
        true frame waits to be shown: on a machine too slow for both, pictures would stop altogether."""
        now_s = time.monotonic()
        due = [role for role in self._playing_roles() if role.seconds_until_due(now_s) <= 0]
        if not due:
            if (drafting := self._drafting(self._due_s(now_s))) is not None:
                drafting.draft()
            return
        role = due[0]
        if self._stepped_world and role.name == "world" and getattr(due[-1], "owes_true_frame", False):
            role = due[-1]
        self._stepped_world = role.name == "world"
        usual_s = self._usual_s.get(role.name, 0.0)
        self._lifeline.beat(max(PATIENCE_S, _FRAMES_HUNG * usual_s, role.rarely_s))
        role.step(now_s)
        self._usual_s[role.name] = usual_s + _SMOOTHING * (time.monotonic() - now_s - usual_s)

    def close(self) -> None:
        for role in self._roles:
            role.close()

    def _playing_roles(self) -> list[Role]:
        return self._active[::-1] if self._playing else []  # the world first

    def _idle_s(self) -> float:
        due_s = self._due_s(time.monotonic())
        return 0.0 if self._drafting(due_s) is not None else min(BEAT_S, due_s)

    def _due_s(self, now_s: float) -> float:
        return min((role.seconds_until_due(now_s) for role in self._playing_roles()), default=math.inf)

    def _drafting(self, spare_s: float) -> Role | None:
        """The role that wants to make a draft which is done before anything is due."""
        drafting = (role for role in self._playing_roles() if role.draft_s < min(spare_s, _LONGEST_DRAFT_S))
        return next(drafting, None)

    def _handle(self, message: ToRank) -> None:
        now_s = time.monotonic()
        match message:
            case Start():
                self._open(message)
            case Begin():
                self._playing = True
                for role in self._playing_roles():
                    role.begin(message, now_s)
            case Input() if self._playing:
                for role in self._active:
                    role.input(message, now_s)
            case Control() if self._playing:
                for role in self._active:
                    role.control(message, now_s)
            case Stop():
                self._stop()

    def _open(self, start: Start) -> None:
        self._stop()
        self._tell.session = start.session
        self._active = [role for name in ROLES[start.mode] for role in self._roles if role.name == name]
        for role in self._active:
            self._line.send(role.open(start))

    def _stop(self) -> None:
        self._playing = False
        for role in self._active:
            role.end()
        self._active = []


class Reporter:
    """What roles tell the gateway: how far loading is, what steps were made from, and frames."""

    def __init__(self, line: RankLine, lifeline: Lifeline, rank: int = 0) -> None:
        self._line, self._lifeline, self._rank = line, lifeline, rank
        self.session = 0

    def progress(self, stage: str, fraction: float) -> None:
        self._lifeline.beat(LOADING_S)
        self._line.send(Progress(session=self.session, stage=stage, fraction=fraction))

    def log(self, entry: Beginning | TrueStep) -> None:
        self._line.send(Logged(session=self.session, entry=entry))

    def frame(self, frame: Frame, pixels: np.ndarray) -> bool:
        return self._line.send_picture(Picture(session=self.session, frame=frame, rank=self._rank), pixels)
