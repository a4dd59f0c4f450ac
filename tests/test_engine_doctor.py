import hashlib
import json

import pytest

from engine.doctor import PACKAGES, as_text, check_weights, examine, expected_backend, find_problems, main

PARTS = ("encoder", "decoder", "world")


@pytest.fixture
def weights(tmp_path):
    """A directory as engine.models.weights writes it, with nonsense inside."""
    directory = tmp_path / "racing"
    directory.mkdir()
    files = {}
    for part in PARTS:
        data = part.encode() * 100
        (directory / f"{part}.safetensors").write_bytes(data)
        files[f"{part}.safetensors"] = hashlib.sha256(data).hexdigest()
    (directory / "config.json").write_text(json.dumps({"files": files}))
    return directory


def test_intact_weights_are_ok(weights):
    found = check_weights("racing", weights)
    assert found.state == "ok" and len(found.id) == 12


def test_damage_is_named(weights):
    (weights / "world.safetensors").write_bytes(b"short")
    (weights / "encoder.safetensors").unlink()
    state = check_weights("racing", weights).state
    assert "world.safetensors" in state and "encoder.safetensors" in state and "decoder" not in state


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": null}', "\xff"])
def test_a_bad_config_is_said_not_raised(weights, text):
    (weights / "config.json").write_text(text)
    assert "config.json" in check_weights("racing", weights).state


def test_missing_weights_and_packages_come_with_their_fix(tmp_path):
    nothing = dict.fromkeys(PACKAGES, "")
    problems = find_problems(nothing, (check_weights("racing", tmp_path / "none"),))
    severe = [problem.what for problem in problems if problem.severe]
    assert any("torch" in what for what in severe) and any("weights for racing" in what for what in severe)
    assert all(problem.fix for problem in problems)


def test_the_expected_backend_follows_packages_and_processor():
    have = dict.fromkeys(PACKAGES, "1")
    assert expected_backend(have, ("avx512_bf16",)) == "openvino-bf16"
    assert expected_backend(have, ("avx2",)) == "openvino-f32"
    assert expected_backend(have | {"openvino": ""}, ()) == "torch-cpu"
    assert expected_backend(have | {"torch": ""}, ()) == ""


def test_the_report_reads_as_text_and_as_one_json_line(tmp_path, capsys):
    report = examine(tmp_path)
    assert not report.ok and report.cores >= 1 and "not ready" in as_text(report)
    with pytest.raises(SystemExit):
        main(["--json"])
    printed = json.loads(capsys.readouterr().out)
    assert {"cores", "isa", "gpus", "packages", "backend", "weights", "problems"} <= set(printed)
