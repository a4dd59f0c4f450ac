"""What one session's roles tell the gateway: how far loading is, what steps were made from, and frames."""

import queue
import threading

import numpy as np

from engine.inner import FromRank, Logged, Picture, Progress, RankLine
from engine.protocol import Beginning, Frame, TrueStep
from engine.supervision.lifeline import LOADING_S, Lifeline


class Reporter:
    """A role may also speak from the thread aside. Sockets belong to one thread, so that waits until the host
    posts it."""

    def __init__(self, line: RankLine, lifeline: Lifeline, session: int, rank: int = 0) -> None:
        self._line, self._lifeline, self._session, self._rank = line, lifeline, session, rank
        self._waiting: queue.SimpleQueue[FromRank] = queue.SimpleQueue()
        self._host = threading.get_ident()

    def progress(self, stage: str, fraction: float) -> None:
        if self._is_host:
            self._lifeline.beat(LOADING_S)
        self._say(Progress(session=self._session, stage=stage, fraction=fraction))

    def log(self, entry: Beginning | TrueStep) -> None:
        self._say(Logged(session=self._session, entry=entry))

    def frame(self, frame: Frame, pixels: np.ndarray) -> bool:
        """pixels uint8 [H, W, 3]. False when it was dropped."""
        assert self._is_host
        picture = Picture(session=self._session, frame=frame, rank=self._rank)
        return self._line.send_picture(picture, pixels)

    def post(self) -> None:
        """What was said aside."""
        while not self._waiting.empty():
            self._line.send(self._waiting.get())

    @property
    def _is_host(self) -> bool:
        return threading.get_ident() == self._host

    def _say(self, message: FromRank) -> None:
        if self._is_host:
            self._line.send(message)
        else:
            self._waiting.put(message)
