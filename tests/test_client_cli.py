"""The command line: every wrong call is one line that says what to do, and engine commands are passed on."""

import json
import sys
from pathlib import Path

import pytest

import client.app
import client.cli
import client.engine_commands
import client.engine_process
import client.export
from client.app import Outcome
from client.errors import UserError
from client.options import PlayOptions


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dreamcade", *arguments])
    with pytest.raises(SystemExit) as caught:
        client.cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["play", "chess"], "racing, platformer"),
        (["play", "--headless"], "GAME"),
        (["play", "racing", "--seed", "-1"], "--seed"),
        (["play", "racing", "--seed", "2147483648"], "2147483647"),
        (["play", "racing", "--seed", "x"], "--seed"),
        (["play", "racing", "--stride", "9"], "--stride"),
        (["play", "racing", "--seconds", "nan"], "--seconds"),
        (["play", "racing", "--seconds", "0"], "--seconds"),
        (["play", "racing", "--weights", "/no/such"], "no such directory"),
        (["play", "racing", "--engine", "tcp://x:1", "--device", "cpu"], "--device"),
        (["play", "racing", "--nonsense"], "--nonsense"),
        (["play", "racing", "--picture", "/no/such/place/a.png"], "no directory /no/such/place"),
        (["play", "racing", "--picture", "a.tga"], ".png"),
        (["play", "racing", "--picture", "a"], ".png"),
        (["replay", "x", "--verify", "--export", "mp4", "x.mp4"], "--verify and --export"),
        (["serve", "--players", "65"], "choose 1 to 64"),
        (["nonsense"], "nonsense"),
        (["bench"], "which benchmark"),
        (["train", "chess", "world"], "chess"),
        (["train", "racing", "nonsense"], "nonsense"),
    ],
)
def test_a_wrong_call_is_one_line_and_code_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("dreamcade: error: ") and error.count("\n") == 1
    assert says in error


def test_a_recording_directory_in_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("")
    assert call(monkeypatch, "play", "racing", "--record", str(tmp_path)) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_missing_recording_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "replay", str(tmp_path)) == 1
    assert "is not a recording" in capsys.readouterr().err


def test_play_passes_its_options_on_and_prints_one_json_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[PlayOptions] = []

    def fake(options: PlayOptions) -> Outcome:
        seen.append(options)
        return Outcome(0, {"game": options.game}, None)

    monkeypatch.setattr(client.app, "play", fake)
    flags = "--engine tcp://h:1 --seed 7 --reference --autopilot --headless --seconds 2.5 --stride 4 --json"
    assert call(monkeypatch, "play", "racing", *flags.split()) == 0
    assert json.loads(capsys.readouterr().out) == {"game": "racing"}
    expected = PlayOptions(
        "racing",
        engine="tcp://h:1",
        seed=7,
        reference=True,
        autopilot=True,
        headless=True,
        seconds=2.5,
        stride=4,
    )
    assert seen == [expected]


def test_an_error_in_play_keeps_the_json_and_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.app, "play", lambda options: Outcome(3, {"error": "x"}, "the engine ended"))
    assert call(monkeypatch, "play", "racing", "--json") == 3
    out, error = capsys.readouterr()
    assert json.loads(out) == {"error": "x"}
    assert error == "dreamcade: error: the engine ended\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_what_could_not_be_saved_is_said_on_standard_error(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {
        "seconds": 1.0,
        "shown_fps": 60.0,
        "true_steps_per_s": 15.0,
        "filled_fraction": 0.75,
        "input_to_present_ms": {"p50": None},
        "recording": {"directory": "run1", "completed": False, "failure": "no space"},
    }
    outcome = Outcome(1, result, None, ("no space; run1 is not whole", "cannot write a.png"))
    monkeypatch.setattr(client.app, "play", lambda options: outcome)
    assert call(monkeypatch, "play", "racing", *["--json"] * as_json) == 1
    out, error = capsys.readouterr()
    expected = ("no space; run1 is not whole", "cannot write a.png")
    assert error == "".join(f"dreamcade: error: {line}\n" for line in expected)
    assert "saved" not in out and out.count("\n") == 1
    if as_json:
        assert json.loads(out) == result


def test_a_picture_may_be_written_where_there_is_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.app, "play", lambda options: Outcome(0, None, None))
    monkeypatch.chdir(tmp_path)
    Path("old.png").write_text("")
    for name in ("new.png", "old.png", "LOUD.PNG", str(tmp_path / "new.png")):
        assert call(monkeypatch, "play", "racing", "--picture", name) == 0
    Path("folder.png").mkdir()
    assert call(monkeypatch, "play", "racing", "--picture", "folder.png") == 2
    assert "another place" in capsys.readouterr().err


def test_an_interrupted_export_ends_with_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client.export, "export", interrupted)
    assert call(monkeypatch, "replay", "x", "--export", "mp4", "y") == 130


def test_a_recording_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "meta.json").write_text("{}")
    monkeypatch.setattr(Path, "open", locked)
    assert call(monkeypatch, "replay", str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert error == f"dreamcade: error: cannot read {tmp_path / 'meta.json'}: Permission denied\n"


def test_without_torch_the_engine_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.engine_process, "find_spec", lambda name: None)
    for arguments in (["play", "racing"], ["serve"], ["evaluate", "racing"]):
        assert call(monkeypatch, *arguments) == 1
        assert ".[engine]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "module", "passed"),
    [
        (["serve", "--device", "cuda", "--world-ranks", "2"], "engine.launch", ["--device", "cuda"]),
        (["serve", "--players", "2"], "engine.launch", ["--players", "2"]),
        (["serve"], "engine.launch", ["--players", "0"]),
        (["serve", "--game", "racing", "--bands", "2"], "engine.launch", ["--game", "racing"]),
        (["serve", "--weights", "w", "--stride", "4"], "engine.launch", ["--weights", "w"]),
        (
            ["evaluate", "racing", "--seeds", "1:2", "--json"],
            "engine.training.evaluate",
            ["racing", "--seeds", "1:2"],
        ),
        (["evaluate", "--help"], "engine.training.evaluate", ["--help"]),
        (
            ["train", "racing", "world", "--minutes", "3"],
            "engine.training.world",
            ["racing", "--minutes", "3"],
        ),
        (["doctor", "--json"], "engine.doctor", ["--json"]),
        (["plan", "--gpus", "4"], "engine.plan", ["--gpus", "4"]),
    ],
)
def test_engine_commands_are_passed_on(
    arguments: list[str], module: str, passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str]]] = []
    for module_of_commands in (client.cli, client.engine_commands):
        monkeypatch.setattr(
            module_of_commands, "run_engine", lambda name, rest, **_: seen.append((name, rest)) or 7
        )
    assert call(monkeypatch, *arguments) == 7
    assert seen[0][0] == module
    rest = " ".join(seen[0][1])
    assert " ".join(passed) in rest


def test_a_failing_engine_command_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [sys.executable, "-c", "import sys; sys.exit(9)"]
    monkeypatch.setattr(client.engine_process, "engine_command", lambda *_: script)
    assert client.engine_process.run_in_foreground("engine.launch", []) == 9


def test_user_errors_have_code_1_unless_said_otherwise() -> None:
    assert UserError("x").exit_code == 1
