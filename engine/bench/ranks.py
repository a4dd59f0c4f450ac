"""Several ranks on this machine for a benchmark or a test: real processes, gloo on loopback, NCCL beside it.

`run_ranks(n, job, *args)` runs job(rank, *args) in n processes and returns what rank 0's gives. A rank is one
thread on the CPU, one GPU on CUDA."""

import contextlib
import multiprocessing
import os
import queue
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

_LOOK_S = 0.05


def run_ranks(
    ranks: int, job: Callable[..., Any], *args: Any, device: str = "cpu", timeout_s: float = 60.0
) -> Any:
    """job: a module's function, its arguments and result picklable. Raises RuntimeError when a rank fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Windows spawns; elsewhere torch is imported once, by a server that forks.
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload([job.__module__, "torch.distributed"])
    results = context.Queue()
    arguments = (ranks, port, device, results, job, *args)
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
    until_s, result = time.monotonic() + timeout_s, None
    while any(process.is_alive() for process in processes) or not results.empty():
        with contextlib.suppress(queue.Empty):
            (result,) = results.get(timeout=_LOOK_S)
        if any(process.exitcode for process in processes):
            raise RuntimeError("a rank failed: its error is above")
        if time.monotonic() > until_s:
            raise RuntimeError(f"ranks were not ready within {timeout_s:.0f} s")
    return result


def _rank(rank: int, ranks: int, port: int, device: str, results: Any, job: Any, *args: Any) -> None:
    import torch
    import torch.distributed as dist

    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    result = job(rank, *args)
    if rank == 0:
        results.put((result,))
    dist.barrier()
    dist.destroy_process_group()
