"""The plot of a GPU's figures: drawn from the shipped files, and what is missing is named."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from engine.bench import plot

FIGURES = Path(plot.__file__).parents[2] / "assets" / "figures"


def test_the_shipped_figures_are_drawn(tmp_path):
    plot.plot(FIGURES / "nvidia-h100", tmp_path / "some" / "gpu.png")
    assert (tmp_path / "some" / "gpu.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_not_there_or_lacks_a_result_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"many\.json is no file of `bench everything`"):
        plot.results(tmp_path / "many.json", "engine")
    (tmp_path / "many.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"no result of `bench engine`: run it there first"):
        plot.results(tmp_path / "many.json", "engine")
