"""An engine's last words to its clients, from the gateway, or in its place when that one is dead."""

import time
from collections.abc import Sequence
from typing import Any

import zmq

from engine.errors import EngineError
from engine.lobby.client_session import ClientSession
from engine.lobby.front import Front
from engine.protocol import Ended, Message, Refused
from engine.supervision.lifeline import Ending

_ARRIVING_S = 0.3  # for clients that are just saying hello while the engine ends
_ROOM_S = 0.5  # for those that play to make room
_EPITAPH_S = 0.7


def farewell(front: Front, sessions: Sequence[ClientSession], ending: Ending) -> None:
    """Tell the clients that play, or those that come while the engine ends."""
    for session in sessions:
        session.outbox.append(_last_words(ending, playing=session.welcomed))
    if sessions:
        _tell_playing(front, sessions)
    else:
        _tell_arriving(front, _last_words(ending, playing=False), _ARRIVING_S if ending.exit_code else 0.0)


def _last_words(ending: Ending, playing: bool) -> Message:
    if ending.user_error and not playing:
        reason, _, fix = ending.reason.partition("; ")
        return Refused(reason=reason, fix=fix)
    return Ended(role=ending.role, reason=ending.reason, exit_code=ending.exit_code)


def _tell_playing(front: Front, sessions: Sequence[ClientSession]) -> None:
    """Pictures may fill the queue of a slow client: wait for room, but not for long."""
    until_s = time.monotonic() + _ROOM_S
    for session in sessions:
        session.flush(front)
    while any(session.outbox for session in sessions) and time.monotonic() < until_s:
        time.sleep(0.01)
        for session in sessions:
            session.flush(front)


def _tell_arriving(front: Front, words: Message, seconds: float) -> None:
    until_s, poller = time.monotonic() + seconds, zmq.Poller()
    poller.register(front.socket, zmq.POLLIN)
    if front.guard is not None:  # whoever arrives with a key says nothing until it was let in
        poller.register(front.guard.socket, zmq.POLLIN)
    while (left_s := until_s - time.monotonic()) > 0:
        poller.poll(int(left_s * 1000))
        if front.guard is not None:
            front.guard.answer()
        for letter in front.received():
            front.tell(letter.client, words)


def write_epitaph(listen: str, ending: Ending) -> None:
    """The gateway is dead: stand in its place for a moment, so that its clients, who reconnect by themselves
    and send their buttons ten times a second, learn why."""
    context: zmq.Context[Any] = zmq.Context()
    try:
        front = Front(context, listen)
    except EngineError:
        return  # somebody else listens there already
    _tell_arriving(front, _last_words(ending, playing=True), _EPITAPH_S)
    context.destroy(linger=200)
    front.remove_file()
