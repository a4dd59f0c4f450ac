"""The stage that runs all stages hands each what it asks for, and runs them in their order."""

import argparse
import importlib
import sys
from pathlib import Path

import pytest

from engine.training import whole
from engine.training.whole import ENDINGS, GROUPS, SEVERAL, SHARES, Stages, run_stage

OUT = Path("out")


def stages(resume: Path | None = None, out: Path = OUT) -> Stages:
    return Stages("racing", out, resume)


def test_every_stage_gets_the_files_of_those_before_it():
    made = stages()
    commands = {stage: made.command(stage, 1.5) for stage in SHARES}
    assert commands["autoencoder"][2:9] == [
        "engine.training.autoencoder", "racing", "--minutes", "1.50", "--out", "out", "--wide",
    ]  # fmt: skip
    for stage in ("world", "decoder", "extrapolator"):
        assert str(OUT / "racing-autoencoder.safetensors") in commands[stage]
    assert str(OUT / "packed") in commands["wide_decoder"] and str(OUT / "packed") in commands["probes"]
    assert sorted(stage for group in GROUPS for stage in group) == sorted(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("stage", sorted(SHARES))
def test_a_stage_on_several_gpus_goes_through_torchrun(stage):
    assert "torch.distributed.run" not in stages().command(stage, 1.0, gpus=1)
    assert "--nproc-per-node=2" in stages().command(stage, 1.0, gpus=2)


def test_a_world_s_endings_go_on_from_one_another_and_it_becomes_the_mean_of_the_runs(tmp_path):
    made = stages(out=tmp_path)
    for name, before in (("calm", tmp_path / "world"), ("bold", tmp_path / "calm")):
        before.mkdir()
        files = [before / f"racing-world-{half}.safetensors" for half in (0, 1)]
        for file in files:
            file.touch()
        command = made.command(name, 2.0)
        assert command[1:4] == ["-m", "engine.training.world", "racing"]
        assert command[command.index("--resume") + 1 :] == list(map(str, files))
        assert command[command.index("--out") + 1] == str(tmp_path / name)
    command = made.command("world", 2.0)
    assert command[command.index("--out") + 1] == str(tmp_path / "world"), "they stay beside their mean"
    for last, runs in (("world", ["out/world=1.0"]), ("bold", ["out/calm=0.5", "out/bold=0.5"])):
        average = stages().afterwards([last])["average"]
        assert average[average.index("--of") + 1 :] == [*runs, "--out", "out"]
    assert made.afterwards(["calm"]) == {}


@pytest.mark.parametrize("gpus, clips", [(1, 12), (2, 12), (4, 12), (8, 6)])
def test_a_world_s_endings_have_its_batches_so_that_nothing_is_compiled_again(gpus, clips):
    def rows(stage: str) -> int:
        command = stages().command(stage, 1.0, gpus=gpus)
        return int(command[command.index("--rows") + 1])

    assert rows("world") == rows("calm") == rows("bold") == clips


def test_the_wide_decoder_goes_on_from_what_it_was_beside_the_autoencoder(tmp_path):
    assert "--resume" not in stages(out=tmp_path).command("wide_decoder", 1.0)
    (tmp_path / "racing-decoder-wide.safetensors").touch()
    command = stages(out=tmp_path).command("wide_decoder", 1.0)
    assert command[command.index("--resume") + 1 :] == [str(tmp_path / "racing-decoder-wide.safetensors")]


@pytest.mark.parametrize("stage", sorted(SHARES))
def test_every_stage_takes_the_options_it_is_given(stage, tmp_path, monkeypatch, capsys):
    """Up to its parser's end: what it does not know ends there with code 2 and a usage."""
    made = stages(out=tmp_path)
    for file in ("world-0", "world-1", "decoder-wide"):
        (tmp_path / f"racing-{file}.safetensors").touch()
    command = made.command(stage, 1.0)
    monkeypatch.setattr(sys, "argv", [*command[2:], "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command[2]).main()
    assert ended.value.code == 0
    known = capsys.readouterr().out
    options = [word for word in command if word.startswith("--")]
    assert options and all(option in known for option in options)


@pytest.mark.parametrize(
    "stage, files",
    [
        ("autoencoder", ["racing-autoencoder"]),
        ("world", ["racing-world-0", "racing-world-1"]),
        ("extrapolator", ["racing-extrapolator"]),
        ("decoder", []),
        ("probes", []),
    ],
)
def test_resume_names_what_is_there_of_a_stage_that_knows_it(stage, files, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    assert "--resume" not in stages(resume=old).command(stage, 1.0)
    others = ("platformer-world-0", "racing-decoder-wide")
    for name in (*files, *others):
        (old / f"{name}.safetensors").touch()
    command = stages(resume=old).command(stage, 1.0)
    given = command[command.index("--resume") + 1 :] if "--resume" in command else []
    assert given == [str(old / f"{name}.safetensors") for name in files]


def test_a_stage_that_fails_ends_the_run_with_its_code_and_keeps_its_log(tmp_path):
    log = tmp_path / "stage.log"
    with pytest.raises(SystemExit) as failure:
        run_stage(["python3", "-c", "print('half way'); raise SystemExit(3)"], log)
    assert failure.value.code == 3
    assert log.read_text() == "half way\n"


def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], scripts: dict[str, str]) -> int:
    """The code with which two stages end that run these, side by side."""
    monkeypatch.setattr(Stages, "command", lambda self, stage, *_: ["python3", "-c", scripts[stage]])
    args = argparse.Namespace(game="racing", out=tmp_path, resume=None, stages=list(scripts), minutes=1.0)
    run = whole.Whole(args)
    run.gpus = gpus
    with pytest.raises(SystemExit) as failure:
        run.run()
    return failure.value.code


def test_what_runs_beside_a_stage_that_fails_is_ended(tmp_path, monkeypatch):
    scripts = {"decoder": "import time; time.sleep(600)", "extrapolator": "raise SystemExit(3)"}
    assert ended(tmp_path, monkeypatch, ["0", "1"], scripts) == 3


def test_what_waits_for_the_gpu_of_a_stage_that_fails_does_not_begin(tmp_path, monkeypatch):
    script = f"open({str(tmp_path / 'began')!r}, 'a').write('!'); raise SystemExit(3)"
    assert ended(tmp_path, monkeypatch, ["0"], dict.fromkeys(("decoder", "extrapolator"), script)) == 3
    assert (tmp_path / "began").read_text() == "!"


@pytest.mark.parametrize("gpus", [0, 1, 2, 4])
def test_the_whole_runs_all_in_order_and_no_gpu_has_two_stages_at_once(gpus, tmp_path, monkeypatch):
    order, busy, minutes = [], set(), []

    def pretend(command, log, given=None, running=None):
        mine = set(given.split(",")) if given else set()
        assert not mine & busy
        busy.update(mine)
        order.append(log.stem.removeprefix("racing-"))
        if "--minutes" in command and order[-1] != "sharpen":  # whose are a CPU's
            assert len(mine) <= 1 or order[-1] in SEVERAL
            minutes.append(
                (float(command[command.index("--minutes") + 1]) + whole.OVERHEAD_S / 60) * (len(mine) or 1)
            )
        busy.difference_update(mine)

    monkeypatch.setattr(whole, "run_stage", pretend)
    monkeypatch.setattr(whole.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(whole, "gpu_names", lambda: [str(i) for i in range(gpus)])
    monkeypatch.setattr(sys, "argv", ["whole", "racing", "--minutes", "60", "--out", str(tmp_path)])
    whole.main()
    assert order[:6] == ["autoencoder", "world", "average", *ENDINGS, "average"]
    assert order[8:10] == ["pack", "sharpen"] and order[-5:] == [
        "steady", "pack-untailed", "decoder-tail", "decoder-wide-tail", "pack"
    ]  # fmt: skip
    assert set(SHARES) <= set(order)
    assert sum(minutes) == pytest.approx(60, abs=0.1)
