"""The stage that runs all stages hands each what it asks for."""

from pathlib import Path

import pytest

from engine.training.whole import LAST, SHARES, run_stage, stage_command


def test_every_stage_gets_the_files_of_those_before_it():
    out = Path("out")
    commands = {stage: stage_command("racing", stage, 1.5, out, None, 1) for stage in SHARES}
    assert commands["autoencoder"][2:] == [
        "engine.training.autoencoder", "racing", "--minutes", "1.50", "--out", "out",
    ]  # fmt: skip
    for stage in ("world", "decoder", "extrapolator"):
        assert str(out / "racing-autoencoder.safetensors") in commands[stage]
    assert str(out / "racing-world-1.safetensors") in commands["decoder"]


def test_several_gpus_go_through_torchrun():
    command = stage_command("racing", "world", 1.0, Path("out"), None, 2)
    assert "torch.distributed.run" in command and "--nproc-per-node=2" in command


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
    assert "--resume" not in stage_command("racing", stage, 1.0, tmp_path, old, 1)
    others = ("platformer-world-0", "racing-decoder-wide")
    for name in (*files, *others):
        (old / f"{name}.safetensors").touch()
    command = stage_command("racing", stage, 1.0, tmp_path, old, 1)
    given = command[command.index("--resume") + 1 :] if "--resume" in command else []
    assert given == [str(old / f"{name}.safetensors") for name in files]


def test_a_stage_that_fails_ends_the_run_with_its_code_and_keeps_its_log(tmp_path):
    log = tmp_path / "stage.log"
    with pytest.raises(SystemExit) as failure:
        run_stage(["python3", "-c", "print('half way'); raise SystemExit(3)"], log)
    assert failure.value.code == 3
    assert log.read_text() == "half way\n"


def test_the_last_stages_need_one_gpu_each_and_probes_have_a_folder_of_their_own():
    for stage in LAST:
        command = stage_command("racing", stage, 1.0, Path("out"), None, 2)
        assert "torch.distributed.run" not in command
    assert str(Path("out") / "racing") in stage_command("racing", "probes", 1.0, Path("out"), None, 2)
