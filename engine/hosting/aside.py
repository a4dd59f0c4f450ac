"""A thread beside a rank's own, for what takes long while others play: opening a session's world, or
beginning it again. One thing at a time, in the order asked for."""

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_NICENESS = 5  # more than the host's: a third of the share of those who play, where all cores are busy

_T = TypeVar("_T")


class Aside:
    """prepare: done once in the thread, before anything else. The thread starts when it is first needed."""

    def __init__(self, prepare: Callable[[], None] = lambda: None) -> None:
        def begin() -> None:
            _step_back()
            prepare()

        self._thread = ThreadPoolExecutor(1, "aside", begin)

    def start(self, work: Callable[[], _T]) -> "Future[_T]":
        return self._thread.submit(work)

    def close(self) -> None:
        """What is under way is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """On Linux a thread has a priority of its own."""
    with contextlib.suppress(AttributeError, OSError):
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _NICENESS)
