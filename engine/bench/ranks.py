"""Several ranks on this machine for a benchmark or a test: real processes, gloo on loopback, NCCL beside it.

`run_ranks(n, job, *args)` runs job(rank, *args) in n processes and returns what rank 0's gives. A rank is one
thread on the CPU, one GPU on CUDA."""

import contextlib
import gc
import multiprocessing
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

_LOOK_S = 0.05
_LEAVE_S = 10.0
_TOLD_S = 2.0  # before its time is up, a rank says where it is


def run_ranks(
    ranks: int, job: Callable[..., Any], *args: Any, device: str = "cpu", timeout_s: float = 60.0
) -> Any:
    """job: a module's function, its arguments and result picklable. Raises RuntimeError when a rank fails."""
    # Windows spawns; elsewhere torch is imported once, by a server that forks, and the job with it where that
    # does not look for GPUs, which no fork survives: tests' modules do.
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        own = [job.__module__] if job.__module__.startswith("engine.") or device == "cpu" else []
        context.set_forkserver_preload([*own, "torch.distributed"])
    results = context.Queue()
    # They meet in a file: another process could take a port that was found free.
    with tempfile.TemporaryDirectory(prefix="dc-ranks-", ignore_cleanup_errors=True) as folder:
        arguments = (ranks, os.path.join(folder, "store"), device, timeout_s, results, job, *args)
        processes = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(ranks)]
        for process in processes:
            process.start()
        try:
            return _first_result(processes, results, timeout_s)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _first_result(processes: list[Any], results: Any, timeout_s: float) -> Any:
    """Ranks that are all done and do not end (a communicator may hang as it closes) are not waited for
    long."""
    until_s, found = time.monotonic() + timeout_s, dict[int, Any]()
    while any(process.is_alive() for process in processes) or not results.empty():
        with contextlib.suppress(queue.Empty):
            rank, found[rank] = results.get(timeout=_LOOK_S)
            if len(found) == len(processes):
                until_s = min(until_s, time.monotonic() + _LEAVE_S)
        if failed := [f"{i} ({p.exitcode})" for i, p in enumerate(processes) if p.exitcode]:
            raise RuntimeError(f"rank {', '.join(failed)} of {len(processes)} failed: its error is above")
        if time.monotonic() > until_s:
            if len(found) == len(processes):
                break
            late = ", ".join(str(i) for i in range(len(processes)) if i not in found)
            raise RuntimeError(f"rank {late} of {len(processes)} was not ready within {timeout_s:.0f} s")
    return found.get(0)


def _rank(
    rank: int, ranks: int, meeting: str, device: str, timeout_s: float, results: Any, job: Any, *args: Any
) -> None:
    import faulthandler

    import torch
    import torch.distributed as dist

    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    # Where it stands when it hangs, before it is killed.
    faulthandler.dump_traceback_later(max(0.5, timeout_s - _TOLD_S))
    torch.set_num_threads(1)
    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=dist.FileStore(meeting, ranks), rank=rank, world_size=ranks)
    result = job(rank, *args)
    gc.collect()  # graphs go before the communicator that they hold
    results.put((rank, result if rank == 0 else None))
    dist.barrier()
    dist.destroy_process_group()
    faulthandler.cancel_dump_traceback_later()
