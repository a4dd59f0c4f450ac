import hashlib
import json

import pytest

from engine.doctor import (
    PACKAGES,
    as_text,
    check_weights,
    examine,
    expected_backend,
    find_problems,
    int8_use,
    main,
)
from engine.fast.int8_ranges import Calibration, store
from engine.without import VARIABLE

PARTS = ("encoder", "decoder", "world")


@pytest.fixture
def weights(tmp_path):
    """A directory as engine.models.weights writes it, with nonsense inside."""
    directory = tmp_path / "racing"
    directory.mkdir()
    files = {}
    for part in PARTS:
        data = part.encode() * 100
        (directory / f"{part}.safetensors.gz").write_bytes(data)
        files[f"{part}.safetensors.gz"] = hashlib.sha256(data).hexdigest()
    (directory / "config.json").write_text(json.dumps({"files": files}))
    return directory


def test_intact_weights_are_ok(weights):
    found = check_weights("racing", weights)
    assert found.state == "ok" and len(found.id) == 12


def test_damage_is_named(weights):
    (weights / "world.safetensors.gz").write_bytes(b"short")
    (weights / "encoder.safetensors.gz").unlink()
    state = check_weights("racing", weights).state
    assert "world.safetensors.gz" in state and "encoder.safetensors.gz" in state and "decoder" not in state


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


def test_int8_is_said_with_its_reason(weights, monkeypatch):
    one = (check_weights("racing", weights),)
    none = {"racing decoder": "no: not calibrated", "racing world": "no: not calibrated"}
    assert int8_use("openvino-bf16", one, ("avx512_vnni",)) == none
    found = Calibration(hashlib.sha256(b"decoder" * 100).hexdigest(), {"tail": (0.0, 1.0)})
    store(weights, "decoder", found)
    assert int8_use("openvino-bf16", one, ("avx512_vnni",)) == {**none, "racing decoder": "yes"}
    assert set(int8_use("openvino-bf16", one, ("sse4_2",)).values()) == {"no: this CPU has no VNNI"}
    assert "openvino" in int8_use("torch-cpu", one, ("avx512_vnni",))["racing decoder"]


def test_what_is_switched_off_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "openvino")
    report = examine(tmp_path)
    assert report.backend == "torch-cpu" and "off       openvino" in as_text(report)


def test_the_report_reads_as_text_and_as_one_json_line(tmp_path, capsys):
    report = examine(tmp_path)
    assert not report.ok and report.cores >= 1 and "not ready" in as_text(report)
    with pytest.raises(SystemExit):
        main(["--json"])
    printed = json.loads(capsys.readouterr().out)
    assert {"cores", "isa", "gpus", "packages", "backend", "weights", "problems"} <= set(printed)
