"""One link between world and decoder ranks for all sessions: each session's roles get an end of their own.

In the way of one frame: a world role sends through its end, the decoder role of the same session drains its
own."""

from collections import deque

from engine.hosting.links import KEPT, Latent, LatentReceiver, LatentSender


class LentSender:
    """A session's end of a sender that outlives it."""

    def __init__(self, sender: LatentSender) -> None:
        self._sender = sender

    def send(self, latent: Latent) -> None:
        self._sender.send(latent)

    def close(self) -> None:
        pass  # it belongs to the rank


class SortedLatents:
    """What a receiver gets, by session. Latents of a session that has left are let go."""

    def __init__(self, receiver: LatentReceiver) -> None:
        self._receiver = receiver
        self._arrived: dict[int, deque[Latent]] = {}

    def end_of(self, session: int) -> "SessionLatents":
        self._arrived[session] = deque(maxlen=KEPT)
        return SessionLatents(self, session)

    def drain(self, session: int) -> list[Latent]:
        for latent in self._receiver.drain():
            if latent.session in self._arrived:
                self._arrived[latent.session].append(latent)
        arrived = list(self._arrived[session])
        self._arrived[session].clear()
        return arrived

    def forget(self, session: int) -> None:
        self._arrived.pop(session, None)

    def close(self) -> None:
        self._receiver.close()


class SessionLatents:
    """A session's end."""

    def __init__(self, latents: SortedLatents, session: int) -> None:
        self._latents, self._session = latents, session

    def drain(self) -> list[Latent]:
        return self._latents.drain(self._session)

    def close(self) -> None:
        self._latents.forget(self._session)
