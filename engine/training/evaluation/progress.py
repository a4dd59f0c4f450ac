"""Lines on stderr while a long play goes on: whoever waits, or pays for the machine, sees its rate."""

import sys
import time
from collections.abc import Callable, Iterator

EVERY_S = 30.0


def counted(
    steps: int,
    stride: int,
    who: str,
    done: str = "dreamed",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[int]:
    """0 to steps - 1, with a line every EVERY_S. who: what the line begins with, "": no lines."""
    began = said = clock()
    for number in range(steps):
        yield number
        if who and clock() - said >= EVERY_S:
            said = clock()
            minutes, of = ((n * stride / 3600) for n in (number + 1, steps))
            line = f"{who}: {minutes:.1f} of {of:g} minutes {done}, {said - began:.0f} s"
            print(line, file=sys.stderr, flush=True)
