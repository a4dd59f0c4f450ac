"""What /proc tells about this process and its children: age and memory. None where there is no /proc."""

import os
import time
from pathlib import Path

_PROC = Path("/proc")


def _stat_fields(pid: int | str) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (the name before it may hold anything); None if it is
    gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None


def process_age_s() -> float | None:
    """Seconds since this process was started, the interpreter's own start-up included."""
    fields = _stat_fields("self")
    if fields is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    return age_s if 0.0 <= age_s < 1e7 else None


def _rss_bytes(pid: int) -> int:
    try:
        resident_pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def descendants(root: int) -> set[int]:
    """Process ids of `root` and everything below it, as far as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        fields = _stat_fields(entry.name) if entry.name.isdigit() else None
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    queue = [root]
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue.extend(children.get(pid, ()))
    return found


def tree_rss_mib(root: int) -> float | None:
    """Resident memory of `root` and its descendants in MiB, shared pages counted in each; None without
    /proc."""
    if _stat_fields(root) is None:
        return None
    return round(sum(_rss_bytes(pid) for pid in descendants(root)) / 2**20, 1)
