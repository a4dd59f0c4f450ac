"""Ways that take a compiler minutes to build: within a time, quietly, and named where they fail, so that what
was measured beside them comes either way."""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Work = Callable[[], object]


class TimeUp(BaseException):
    """Not an Exception: compilers catch those and try something else."""


def build_slow(
    works: dict[str, Work], builders: dict[str, Callable[[], Work]], seconds: float
) -> dict[str, str]:
    """Add to `works` what each builder gives, called once, within `seconds` for each. What could not be had
    is returned by name, with the reason."""
    left_out: dict[str, str] = {}
    for name, builder in builders.items():
        try:
            with quiet_compiler(), within(seconds):  # an import cut short stays half done
                work = builder()
                work()
        except TimeUp:
            left_out[name] = f"not built within {seconds:.0f} s"
        except Exception as error:  # compilers fail in words of their own
            left_out[name] = (
                f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
            )
        else:
            works[name] = work
    return left_out


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeUp in here after so long; without limit on Windows and beside the main thread."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def quiet_compiler() -> Iterator[None]:
    """Without a table of every tile that max-autotune tried (some hundred lines a convolution)."""
    from torch._inductor import config

    quiet = {"autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}
    known = {name: value for name, value in quiet.items() if hasattr(config, name)}
    with warnings.catch_warnings(), config.patch(known):
        warnings.simplefilter("ignore")
        yield
