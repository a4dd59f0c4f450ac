"""The stage that runs all stages hands each what it asks for, and runs them in their order."""

import sys
from pathlib import Path

import pytest

from engine.training import whole
from engine.training.whole import ENDINGS, GROUPS, SHARES, Stages, run_stage

OUT = Path("out")


def stages(gpus: int = 1, resume: Path | None = None, out: Path = OUT) -> Stages:
    return Stages("racing", out, resume, gpus)


def test_every_stage_gets_the_files_of_those_before_it():
    made = stages()
    commands = {stage: made.command(stage, 1.5) for stage in SHARES}
    assert commands["autoencoder"][2:] == [
        "engine.training.autoencoder", "racing", "--minutes", "1.50", "--out", "out",
    ]  # fmt: skip
    for stage in ("world", "decoder", "extrapolator"):
        assert str(OUT / "racing-autoencoder.safetensors") in commands[stage]
    assert str(OUT / "packed") in commands["wide_decoder"] and str(OUT / "packed") in commands["probes"]
    assert sorted(stage for group in GROUPS for stage in group) == sorted(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_only_a_stage_that_is_alone_goes_through_torchrun():
    for group in GROUPS:
        for stage in group:
            command = stages(gpus=2).command(stage, 1.0)
            assert ("--nproc-per-node=2" in command) == (len(group) == 1)
            assert "torch.distributed.run" not in stages(gpus=1).command(stage, 1.0)


def test_a_world_s_endings_go_on_from_it_and_it_becomes_their_mean():
    made = stages(gpus=2)
    trunk = [str(OUT / f"racing-world-{half}.safetensors") for half in (0, 1)]
    for name in ENDINGS["racing"]:
        command = made.command(name, 2.0)
        assert command[1:4] == ["-m", "engine.training.world", "racing"]
        assert command[command.index("--resume") + 1 :] == trunk
        assert command[command.index("--out") + 1] == str(OUT / name)
    average = made.afterwards(["world"])["average"]
    assert average[average.index("--of") + 1 :] == ["out/calm=0.75", "out/bold=0.25", "--out", "out"]
    other = Stages("platformer", OUT, None, 2)
    assert other.afterwards(["world"]) == {} and other.share("world") == SHARES["world"]
    assert made.share("world") + sum(map(made.share, made.endings)) == pytest.approx(SHARES["world"])


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


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_the_whole_runs_all_in_order_and_no_gpu_has_two_stages_at_once(gpus, tmp_path, monkeypatch):
    order, busy, minutes = [], set(), []

    def pretend(command, log, gpu=None):
        assert gpu is None or gpu not in busy
        busy.add(gpu)
        order.append(log.stem.removeprefix("racing-"))
        if "--minutes" in command and order[-1] != "sharpen":  # whose are a CPU's
            shared = gpus if "torch.distributed.run" in command else 1
            minutes.append((float(command[command.index("--minutes") + 1]) + whole.OVERHEAD_S / 60) * shared)
        busy.discard(gpu)

    monkeypatch.setattr(whole, "run_stage", pretend)
    monkeypatch.setattr(whole.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(whole, "gpu_names", lambda: [str(i) for i in range(gpus)])
    monkeypatch.setattr(sys, "argv", ["whole", "racing", "--minutes", "60", "--out", str(tmp_path)])
    whole.main()
    assert order[:2] == ["autoencoder", "world"] and sorted(order[2:4]) == ["bold", "calm"]
    assert (
        order[4] == "average"
        and order[7:9] == ["pack", "sharpen"]
        and order[-2:] == ["steady", "pack"]
        and set(SHARES) <= set(order)
    )
    assert sum(minutes) == pytest.approx(60, abs=0.1)
