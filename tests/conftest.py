"""Fixtures for several test files; tests that need a GPU are skipped where there is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Triton's kernels run in its interpreter where there is no GPU: it has to be said before the first of
    them is imported."""
    import torch

    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # newer Tritons warn where it is not said
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models on a busy machine: threads would mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
