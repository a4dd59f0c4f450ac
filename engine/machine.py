"""What this machine has, as far as placing ranks and explaining oneself needs it. No torch, never raises."""

import math
import os
import platform
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Barrier

WANTED_ISA = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
)
HELD_TO_AVX2 = {"OV_CPU_MAX_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""With these environment variables OpenVINO uses no more than AVX2 of any processor."""


def cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores this process may run on; no more than a container's quota of their time."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup.read_text(encoding="ascii").split()
        return min(here, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return here


GAIN = 1.3
"""Two threads that together do less than this many times what one does share one core's units."""
_TRIALS, _ENOUGH = 8, 1.6
_HASHED = bytes(4 << 20)


@cache
def parallel_gain() -> float:
    """How much more two threads get done than one, measured now: 2 on two cores, little over 1 where they are
    one core's two faces. Of the quickest tries, some 10 ms each, by the time that a thread had a core:
    waiting for one beside other work is not sharing one."""
    if cores() < 2:
        return 1.0
    alone_s = both_s = math.inf
    with ThreadPoolExecutor(2) as pool:
        for _ in range(_TRIALS):
            alone_s, both_s = min(alone_s, _hashing_s(pool, 1)), min(both_s, _hashing_s(pool, 2))
            if 2 * alone_s / both_s >= _ENOUGH:
                break
    return min(2.0, round(2 * alone_s / both_s, 2))


def _hashing_s(pool: ThreadPoolExecutor, threads: int) -> float:
    """So many threads begin together and hash as much each; hashing holds no lock. The core time of the one
    that needs most."""
    together = Barrier(threads)

    def hashing_s() -> float:
        together.wait()
        begun_s = time.thread_time()
        sha256(_HASHED)
        return time.thread_time() - begun_s

    return max(done.result() for done in [pool.submit(hashing_s) for _ in range(threads)])


def useful_cores() -> int:
    """Cores that really work at the same time."""
    return cores() if parallel_gain() >= GAIN else 1


def memory_mib() -> int:
    """Physical memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (AttributeError, ValueError, OSError):
        return 0


def cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def facts() -> dict[str, str]:
    """What bit-exact repetition depends on besides weights and backend: processor, cores, libraries."""
    found = {"cpu": cpu_name(), "cores": str(cores()), "python": platform.python_version()}
    for package in ("dreamcade", "torch", "openvino", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def isa_flags() -> tuple[str, ...]:
    """Those of WANTED_ISA that the processor has and OpenVINO may use; empty where the system does not
    say."""
    have = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    if all(os.environ.get(name, "").upper() == value for name, value in HELD_TO_AVX2.items()):
        have &= {"avx2"}
    return tuple(flag for flag in WANTED_ISA if flag in have)


def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that this process may use, as the driver's own tool lists them."""
    names, visible = _all_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return names
    chosen = [one for one in visible.split(",") if one]  # numbers, or identifiers that are not looked up
    return tuple(names[int(one)] if one.isdecimal() else names[0] for one in chosen if _is_one(one, names))


def _is_one(chosen: str, names: tuple[str, ...]) -> bool:
    return int(chosen) < len(names) if chosen.isdecimal() else bool(names)


@cache
def _all_gpus() -> tuple[str, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return (
        tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
        if answer.returncode == 0
        else ()
    )


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next(
        (line.partition(":")[2].strip() for line in lines if line.split("\t")[0].strip() == field), ""
    )
