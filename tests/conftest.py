"""Fixtures for several test files; tests that need a GPU are skipped where there is none."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Triton's kernels run in its interpreter where there is no GPU: it has to be said before the first of
    them is imported. Graphs that tests export are shared by a run's processes and go with it."""
    import torch

    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # newer Tritons warn where it is not said
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    if "DREAMCADE_CACHE" not in os.environ:  # workers and engines have it from the process that began the run
        cache = tempfile.TemporaryDirectory(prefix="dc-cache-", ignore_cleanup_errors=True)
        os.environ["DREAMCADE_CACHE"] = cache.name
        config.add_cleanup(cache.cleanup)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m gpu` runs on a bare GPU machine, which lacks what other tests import."""
    if config.getoption("markexpr") != "gpu" or collection_path.suffix != ".py":
        return None
    return "mark.gpu" not in collection_path.read_text(encoding="utf-8") or None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def keep_matmul_precision() -> Iterator[None]:
    """Training turns it down for its whole process; other tests compare numbers."""
    import torch

    before = torch.get_float32_matmul_precision()
    yield
    if torch.get_float32_matmul_precision() != before:
        torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models on a busy machine: threads would mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
