"""What this machine has, as far as placing ranks and explaining oneself needs it. No torch, never raises."""

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    """Those of WANTED_ISA that the processor has; empty where the system does not say."""
    have = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
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
