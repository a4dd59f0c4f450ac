"""The reference beside a dream: the game's own simulator plays the same seed with the same buttons, frame for
frame, and shows the frames at which the dream took its true steps.

    python -m engine.beside --inner ipc://DIR

It runs in a process of its own, started by the gateway when a player first asks for it, at a low
priority and on one thread: the dream's pace comes first. When it falls behind it simulates on and leaves out
pictures. It follows the dream's step log, so pausing, stepping and starting again need nothing of their own.
"""

import argparse
import contextlib
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from engine.hosting.models_at_hand import ModelsAtHand
from engine.hosting.opening import STEPS
from engine.inner import Addresses, Follow, Joined, Logged, Picture, Progress, RankLine, Stop
from engine.lobby.ranks import BESIDE
from engine.pacing.session import NO_INPUT
from engine.protocol import Beginning, Frame, StageTimes, TrueStep
from engine.supervision.lifeline import BEAT_S, Lifeline
from games import GAMES

_NICENESS = 19
_SESSION_NICENESS = 5  # a third of the dream's share when all compete; at 19 it may never go on
_FRAMES_AT_ONCE = 30  # simulated between two looks at the inbox
_FAR_BEHIND = 60  # frames; then the player is told how far it has come
_TELL_EVERY = 120  # frames


class Beside:
    """Simulates towards the newest step it knows of. `step` does a little of it and says whether more is
    due."""

    def __init__(self, models: ModelsAtHand, line: RankLine) -> None:
        self._models, self._line = models, line
        self._session = 0
        self._world: Any = None
        self._due: deque[TrueStep] = deque()
        self._frames = self._newest = self._told = 0
        self._simulated = 0  # of the next due step's buttons

    def follow(self, message: Follow) -> None:
        """Begin with an epoch that may have gone on for a while."""
        self._session, self._spec = message.session, GAMES[message.game]
        for entry in message.entries:
            self.take(Logged(session=message.session, entry=entry))

    def take(self, logged: Logged) -> None:
        if logged.session != self._session:
            return
        if isinstance(logged.entry, Beginning):
            self._begin(logged.entry)
        elif self._world is not None and logged.entry.epoch == self._epoch:
            self._due.append(logged.entry)
            self._newest = logged.entry.index

    def stop(self) -> None:
        self._session, self._world = 0, None
        self._due.clear()

    def step(self) -> bool:
        """Simulate some frames; show the newest once all that is known of was simulated. Far behind, it shows
        nothing: those pictures would be of a time long gone."""
        if not self._due:
            return False
        for _ in range(_FRAMES_AT_ONCE):
            if self._due and self._advance() and not self._due:
                return False
        self._tell_progress()
        return True

    def _advance(self) -> bool:
        """One frame; True when it was the last of its step."""
        entry = self._due[0]
        self._simulate(entry.buttons[self._simulated])
        self._simulated += 1
        if self._simulated < len(entry.buttons):
            return False
        self._due.popleft()
        self._simulated = 0
        assert self._frames == entry.index, (self._frames, entry.index)
        if not self._due:
            self._show(entry)
        return True

    def _begin(self, beginning: Beginning) -> None:
        """The opening of the dream's epoch, in the simulator's own pictures: frame 0 is its last."""
        import torch

        self._due.clear()
        self._epoch, self._simulated, self._told = beginning.epoch, 0, 0
        self._newest = 0
        with torch.inference_mode():
            world_class = self._models.world_class(self._spec.name)
            self._world = world_class(torch.tensor([beginning.seed], dtype=torch.int64))
        for _ in range(STEPS * beginning.stride):
            self._simulate(0)
        self._frames = 0
        self._show(TrueStep(epoch=beginning.epoch, step=0, index=0, buttons=[0]))

    def _simulate(self, mask: int) -> None:
        import torch

        with torch.inference_mode():
            self._world.step(torch.tensor([mask], dtype=torch.int64))
        self._frames += 1

    def _show(self, entry: TrueStep) -> None:
        import torch

        with torch.inference_mode():
            pixels = np.ascontiguousarray(self._world.render()[0].numpy())
            telemetry = self._world.telemetry()[0].tolist()
        self._told = entry.index
        self._line.send_picture(Picture(session=self._session, frame=self._frame(entry, telemetry)), pixels)

    def _frame(self, entry: TrueStep, telemetry: list[float]) -> Frame:
        return Frame(
            epoch=entry.epoch,
            index=entry.index,
            kind="true",
            ahead=0,
            step=entry.step,
            stride=min(len(entry.buttons), 8),
            lag=0,
            applied_seq=NO_INPUT,
            buttons=entry.buttons[-1],
            telemetry=telemetry,
            times=StageTimes(),
            dropped=0,
            width=self._spec.width,
            height=self._spec.height,
            beside=True,
        )

    def _tell_progress(self) -> None:
        if self._newest - self._frames > _FAR_BEHIND and self._frames - self._told >= _TELL_EVERY:
            self._told = self._frames
            fraction = self._frames / self._newest
            self._line.send(Progress(session=self._session, stage="catching up", fraction=fraction))


def _make_way() -> None:
    """The lowest priority among the engine's processes, and, as Linux may share its cores by session first
    and niceness then counts only inside one, a session of its own that gets less than the dream's. From the
    start: at the lowest priority in the dream's session a busy machine did not let it catch up."""
    with contextlib.suppress(AttributeError, OSError):  # not every system has niceness
        os.nice(_NICENESS)
        os.setsid()
        Path("/proc/self/autogroup").write_text(str(_SESSION_NICENESS))


def run(options: argparse.Namespace, lifeline: Lifeline) -> None:
    """Until told to stop, or until the gateway is gone."""
    import torch

    torch.set_num_threads(1)
    line = RankLine(Addresses(options.inner), BESIDE.decode())
    beside = Beside(ModelsAtHand((), "cpu", 1, None, options.fake), line)
    line.send(Joined(roles=["beside"]))
    busy = False
    while not lifeline.stopping:
        for message in line.wait(0.0 if busy else BEAT_S):
            match message:
                case Follow():
                    beside.follow(message)
                case Logged():
                    beside.take(message)
                case Stop():
                    beside.stop()
        busy = beside.step()
    line.close()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.beside", description=__doc__)
    parser.add_argument("--inner", required=True)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--fake", action="store_true")
    options = parser.parse_args(argv)
    lifeline = Lifeline(options.parent)
    _make_way()
    run(options, lifeline)
    sys.stderr.flush()
    os._exit(0)  # the control thread may still be reading


if __name__ == "__main__":
    main()
