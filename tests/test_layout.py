"""The planner on synthetic profiles: against brute force, and properties of what it picks."""

import argparse
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from engine import machine, plan
from engine.bench.presets import preset
from engine.errors import UsageError
from engine.layout import OBJECTIVES, Split, make_plan, predict, preference, why_illegal
from engine.profiles import SHIPPED, Profile, ProfileError, from_json, gpu_profile, read_profile
from engine.supervision.auto_layout import auto_layout, team_for
from engine.supervision.launch_options import parse
from engine.supervision.placement import team_of
from engine.team import Team


def document(seed: int = 0, **changes: object) -> dict:
    """A made-up profile as JSON."""
    draw = random.Random(seed)
    step, decode = draw.uniform(0.2, 4), draw.uniform(0.1, 4)
    steps = [
        {"ranks": n, "worlds": w, "ms": step * w**0.6 / n**0.7 + 0.1 * (n > 1), "memory_gib": 1.0 + 0.1 * w}
        for n in (1, 2) for w in (1, 4)
    ]  # fmt: skip
    decodes = [
        {"batch": b, "bands": k, "ms": decode * b**0.8 / k**0.8, "memory_gib": draw.uniform(1, 30)}
        for b in (1, 2, 8) for k in (1, 2, 4)
    ]  # fmt: skip
    decodes[0]["memory_gib"] = 1.0  # something always fits
    model = {"preset": "made up", "tokens": 160, "heads": 8, "layers": 9, "width": 320, "rows": 10}
    model |= {"latent_bytes": 57600, "frame_bytes": 1036800}
    link = {"latency_us": draw.uniform(1, 30), "bandwidth_gb_s": draw.uniform(20, 400)}
    values = {
        "version": 1, "name": "test", "hardware": "none", "device": "cuda", "measured": False, "made": "here",
        "accelerators": 2, "memory_gib": 24.0, "model": model, "steps": steps, "decodes": decodes,
        "link": link, "to_host": {"latency_us": 10.0, "bandwidth_gb_s": 25.0},
    }  # fmt: skip
    return values | changes


def profile(seed: int = 0, **changes: object) -> Profile:
    return from_json(document(seed, **changes))


def brute_force(p: Profile, gpus: int, worlds: int) -> tuple[float, float]:
    """The best rate and its smallest latency over everything, legality and prediction written out anew for
    what was measured."""
    step = {s.ranks: s.ms for s in p.steps if s.worlds == worlds}
    best = []
    for w, d, decode in itertools.product(range(1, gpus + 1), range(gpus), p.decodes):
        if w not in step or w + d > gpus or 160 % w or 8 % w or (d == 0 and w > 1):
            continue
        if (d % decode.bands if d else decode.bands > 1) or decode.memory_gib > p.memory_gib:
            continue
        world_gib = next(s.memory_gib for s in p.steps if (s.ranks, s.worlds) == (w, worlds))
        if d == 0 and decode.memory_gib + world_gib > p.memory_gib:
            continue
        copy = 0.010 + decode.batch * 1036800 / decode.bands / 25e6
        send = decode.bands * (p.link.latency_us / 1e3 + worlds * 57600 / p.link.bandwidth_gb_s / 1e6)
        waited = step[w] * -(-decode.batch // worlds)
        if d == 0:
            best.append((-1e3 / (step[w] / worlds + decode.ms / decode.batch), waited + decode.ms + copy))
            continue
        per = d // decode.bands * decode.batch
        rate = min(worlds / step[w], worlds / send, per / decode.ms, per / copy)
        best.append((-rate * 1e3, waited + send + decode.ms + copy))
    rate, latency = min(best)
    return -rate, latency


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("gpus", [1, 2, 3])
@pytest.mark.parametrize("worlds", [1, 4])
def test_pick_is_what_brute_force_finds(seed, gpus, worlds):
    p = profile(seed)
    pick = make_plan(p, gpus, worlds).pick
    rate, latency = brute_force(p, gpus, worlds)
    assert pick.frames_per_s == pytest.approx(rate) and not pick.extrapolated
    assert pick.latency_ms == pytest.approx(latency)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("seed", range(5))
def test_pick_is_the_best_of_its_own_table_and_all_of_it_is_legal(seed, gpus, objective):
    p = profile(seed)
    made = make_plan(p, gpus, 4, objective)
    assert made.pick == min(made.table, key=lambda one: preference(one, objective))
    assert len({one.split for one in made.table}) == len(made.table)
    for one in made.table:
        split = one.split
        assert why_illegal(p, split, gpus, 4) is None
        assert 160 % split.world_ranks == 0 and 8 % split.world_ranks == 0
        assert split.accelerators <= gpus and one == predict(p, split, 4)


def test_more_accelerators_are_never_worse():
    for seed in range(10):
        rates = [make_plan(profile(seed), gpus).pick.frames_per_s for gpus in range(1, 12)]
        assert rates == sorted(rates)


def test_times_in_a_row_set_the_rate_and_those_waited_for_the_latency():
    before = document(1)
    rows = {
        name: [one | {"in_row_ms": 0.5 * one["ms"]} for one in before[name]] for name in ("steps", "decodes")
    }
    slow, quick = (predict(profile(1, **changes), Split(1, 1, 1, 1), 1) for changes in ({}, rows))
    assert slow.bottleneck in ("world ranks", "decoder ranks")
    assert quick.frames_per_s == pytest.approx(2 * slow.frames_per_s)
    assert quick.latency_ms == slow.latency_ms


def test_the_slower_role_gets_the_accelerators():
    heavy = [{"batch": 1, "bands": 1, "ms": 8.0, "memory_gib": 1.0}]
    light = [{"ranks": 1, "worlds": 1, "ms": 1.0, "memory_gib": 1.0}]
    made = make_plan(profile(decodes=heavy, steps=light), 8)
    assert (made.pick.split.world_ranks, made.pick.split.decoder_ranks) == (1, 7)
    symmetric = made.best_of("symmetric")
    assert symmetric is not None and made.pick.frames_per_s > 1.5 * symmetric.frames_per_s
    assert "x the best symmetric split" in made.explanation()


def test_splits_that_break_a_rule_are_refused_in_words():
    p = profile(memory_gib=6.0, decodes=[{"batch": 1, "bands": 2, "ms": 1.0, "memory_gib": 7.0}])
    assert "do not divide 8 heads" in (why_illegal(p, Split(3, 2, 2, 1), 8, 1) or "")
    assert "bands do not divide" in (why_illegal(p, Split(1, 3, 2, 1), 8, 1) or "")
    assert "accelerators of 2" in (why_illegal(p, Split(2, 2, 2, 1), 2, 1) or "")
    assert "GiB" in (why_illegal(p, Split(1, 2, 2, 1), 8, 1) or "")
    with pytest.raises(ProfileError, match="no split fits"):
        make_plan(p, 4)
    with pytest.raises(
        ProfileError, match=r"3 worlds were not measured in test: choose --worlds from \[1, 4\]"
    ):
        make_plan(p, 4, worlds=3)


def test_unmeasured_ranks_are_extrapolated_and_say_so():
    p = profile(steps=[{"ranks": n, "worlds": 1, "ms": 2.0 + 8.0 / n, "memory_gib": 1.0} for n in (1, 2)])
    p = replace(p, link=replace(p.link, latency_us=0.0, bandwidth_gb_s=1e9))
    made = make_plan(p, 16)
    four = next(one for one in made.table if one.split.world_ranks == 4 and one.split.batch == 1)
    assert four.extrapolated and four.latency_ms > 4.0  # 2 + 8 / 4, and the decode
    assert made.to_json()["prediction"] and "prediction" in plan.report(made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version is 2"),
        ({"colour": "blue"}, "unknown field `colour`"),
        ({"steps": []}, "a step on 1 rank"),
        ({"steps": [{"ranks": 1, "worlds": 1, "ms": -1.0, "memory_gib": 1.0}]}, r"steps\[0\].ms is -1.0"),
        ({"decodes": [{"batch": 1, "bands": 1, "ms": 1.0}]}, "misses the required field `memory_gib`"),
        ({"memory_gib": "much"}, "memory_gib"),
        ({"link": {"latency_us": 1.0, "bandwidth_gb_s": 0.0}}, "positive bandwidth"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_profile_is_named_with_its_fault(tmp_path, change, words):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document(**change)))
    with pytest.raises(ProfileError, match=words):
        read_profile(path)


def test_command_prints_the_table_and_one_json_line(tmp_path, capsys):
    path = tmp_path / "made-up.json"
    path.write_text(json.dumps(document()))
    assert plan.main(["--gpus", "4", "--profile", str(path)]) == 0
    assert "frames/s" in capsys.readouterr().out
    assert plan.main(["--gpus", "4", "--profile", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["pick"] == said["table"][0] and said["measured"] is False


def test_without_a_gpu_profile_it_says_so_plainly(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "gpu_profile", lambda preset: gpu_profile(preset, tmp_path))
    assert plan.main(["--gpus", "2"]) == 1
    assert "no GPU was profiled yet" in capsys.readouterr().err
    assert plan.main(["--gpus", "0"]) == 2


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: Path(path).stem)
def test_shipped_profiles_are_good(path):
    assert make_plan(read_profile(path), 2).table


# -- serve --layout auto ------------------------------------------------------------------------------


def shipped(tmp_path, **changes: object) -> Path:
    """A folder with one made-up profile of the shipped racing model's shapes on two GPUs "H200"."""
    world = preset("racing").world
    shapes = {"tokens": world.tokens, "heads": world.heads, "layers": world.layers, "width": world.width}
    model = document()["model"] | shapes | {"preset": "racing"}
    values = document(hardware="H200", model=model, **changes)
    (tmp_path / "h200-racing.json").write_text(json.dumps(values))
    return tmp_path


def on_gpus(monkeypatch, count: int, *arguments: str) -> argparse.Namespace:
    monkeypatch.setattr(machine, "gpus", lambda: ("H200",) * count)
    return parse(["--device", "cuda", "--layout", "auto", "--game", "racing", *arguments])


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_auto_layout_is_the_planners_best_without_batching(tmp_path, monkeypatch, gpus):
    chosen = auto_layout(on_gpus(monkeypatch, gpus), shipped(tmp_path))
    table = make_plan(gpu_profile("racing", tmp_path), gpus).table
    best = next(one.split for one in table if one.split.batch == 1)
    assert chosen.team == team_for(best) and str(best) in chosen.why
    assert ("extrapolated" in chosen.why) == (gpus == 4)
    assert chosen.team.size <= gpus


def test_auto_layout_takes_the_profile_of_the_game_and_of_the_decoder_that_will_paint(tmp_path, monkeypatch):
    folder = shipped(tmp_path)
    plain = json.loads((folder / "h200-racing.json").read_text())
    for preset_name in ("platformer", "platformer-wide", "racing-wide"):  # all of the same world's shapes
        model = plain["model"] | {"preset": preset_name}
        named = plain | {"name": preset_name, "model": model}
        (folder / f"a-{preset_name}.json").write_text(json.dumps(named))
    options = on_gpus(monkeypatch, 2)
    assert "racing-wide" in auto_layout(options, folder).why
    (folder / "a-racing-wide.json").unlink()
    assert "platformer-wide" in auto_layout(options, folder).why
    monkeypatch.setenv("DREAMCADE_WITHOUT", "wide")
    assert plain["name"] in auto_layout(options, folder).why


def test_without_a_fitting_profile_auto_layout_says_so_and_leaves_one_rank_each(tmp_path, monkeypatch):
    options = on_gpus(monkeypatch, 2)
    nothing = auto_layout(options, tmp_path)
    assert nothing.team is None and "no profile" in nothing.why and "one rank each" in nothing.why
    monkeypatch.setattr(machine, "gpus", lambda: ("RTX",) * 2)
    assert auto_layout(options, shipped(tmp_path)).team is None
    assert auto_layout(parse(["--layout", "auto"]), tmp_path).team is None
    assert team_of(options) == Team(1, 1)


def test_auto_layout_and_ranks_by_hand_are_refused_together():
    with pytest.raises(UsageError, match="--layout auto chooses the ranks"):
        parse(["--layout", "auto", "--decoder-ranks", "2"])


def test_one_of_several_profiles_is_chosen_by_its_preset(tmp_path):
    shipped(tmp_path)
    other = document()["model"] | {"preset": "wide-world (untrained)"}
    (tmp_path / "wide.json").write_text(json.dumps(document(model=other, name="wide")))
    assert gpu_profile("wide-world", tmp_path).name == "wide"
    with pytest.raises(ProfileError, match="choose by --preset from racing, wide-world"):
        gpu_profile("chess", tmp_path)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [(None, ("A", "B", "C")), ("2,0", ("C", "A")), ("", ()), ("GPU-1", ("A",)), ("7", ())],
)
def test_only_visible_gpus_are_shared_out(monkeypatch, visible, seen):
    monkeypatch.setattr(machine, "_all_gpus", lambda: ("A", "B", "C"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == seen
