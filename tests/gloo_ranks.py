"""Real gloo processes for tests: `run_ranks(n, job)` runs job(rank, *args) in n of them and returns rank 0's
result."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 60


def run_ranks(ranks: int, job: Callable[..., Any], *args: Any) -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # torch is imported once, by the server
    context.set_forkserver_preload([job.__module__, "torch.distributed"])
    results = context.SimpleQueue()
    processes = [
        context.Process(target=_rank, args=(rank, ranks, port, results, job, *args)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    result = None
    try:
        for process in processes[1:] + processes[:1]:
            while process.is_alive() and results.empty():
                process.join(0.05)
            if result is None and not results.empty():
                result = results.get()
            process.join(TIMEOUT_S)
            assert process.exitcode == 0, f"a rank ended with {process.exitcode}"
    finally:
        for process in processes:
            process.kill()
    return result


def _rank(rank: int, ranks: int, port: int, results: Any, job: Callable[..., Any], *args: Any) -> None:
    import torch
    import torch.distributed as dist

    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    result = job(rank, *args)
    if rank == 0:
        results.put(result)
    dist.barrier()
    dist.destroy_process_group()
