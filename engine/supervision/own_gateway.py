"""The gateway of an engine that torchrun started: a child of rank 0, as the supervisor has one otherwise.

torchrun watches ranks on their hosts; rank 0 watches this one and ends with it."""

import argparse
import queue
import subprocess
import sys
import threading

from engine.supervision.child import Child, Event
from engine.supervision.lifeline import GRACE_S, Ending, Failed, Lifeline, Listening
from engine.supervision.placement import child_environment, gateway_arguments
from engine.team import Team


class OwnGateway:
    """Started at once; when it ends, so does this rank's main loop, and the reason is said here: the rank may
    be at something that takes longer than it is given then. `failed`: it ended by itself."""

    def __init__(self, options: argparse.Namespace, team: Team, lifeline: Lifeline) -> None:
        self._lifeline, self._events = lifeline, queue.SimpleQueue[Event]()
        self.failed = False
        arguments = gateway_arguments(
            options.listen, options.inner, team, options.players, options.game, options.stride
        )
        self._child = Child("gateway", arguments, child_environment())
        self._child.report_to(self._events)
        threading.Thread(target=self._watch, daemon=True, name="gateway watch").start()

    def close(self, reason: str) -> None:
        """Clients are told."""
        self._child.order(Ending("engine", reason, 0 if reason == "the engine was stopped" else 1))
        self._child.stop()
        try:
            self._child.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._child.process.kill()

    def _watch(self) -> None:
        reason = ""
        while (report := self._events.get().report) is not None:
            if isinstance(report, Listening):
                print(f"dreamcade: listening on {report.address}", file=sys.stderr, flush=True)
            elif isinstance(report, Failed):
                reason = report.reason
        if not self._lifeline.stopping:
            self.failed = True
            reason = reason or f"the gateway {self._child.last_words()}"
            print(f"dreamcade: error: {reason}", file=sys.stderr, flush=True)
            self._lifeline.stop()
