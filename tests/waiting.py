"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def wait_for(ask: Callable[[], _T], timeout_s: float, otherwise: str) -> _T:
    """The first answer that counts as true; AssertionError `otherwise` when none came in time."""
    until_s = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < until_s, otherwise
        time.sleep(0.05)
    return answer
