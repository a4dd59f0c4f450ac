"""What a world model is given in training, and what becomes of its runs: contexts with faults, means of runs,
what packing changes."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from engine.models.layers import to_sphere
from engine.models.weights import SHIPPED, load_part
from engine.models.world_model import Inputs, WorldModel
from engine.training import average, context
from engine.training.average import averaged
from engine.training.context import OwnPast, faded, misread, mistold, noise_levels, noisy, strayed
from engine.training.data import Clips
from engine.training.discriminator import Adversary
from engine.training.files import write_world
from engine.training.pack import keep_lasting, read_parts
from engine.training.score import MOST_WORTH, field_worth
from engine.training.world import listen_closely, resumed
from games import GAMES
from tests.tiny import shaken, tiny_config


def test_a_part_of_some_clips_shows_something_else_and_copies_stray_alike():
    torch.manual_seed(0)
    latents = to_sphere(torch.randn(64, 6, 8, 10, 15), dim=2)
    seen = strayed(latents.repeat(2, 1, 1, 1, 1), samples=2, share=0.5)
    torch.testing.assert_close(seen[:64], seen[64:])
    other = ((seen[:64] - latents).abs().amax(2) > 1e-4).float()  # [B, T, H, W]
    assert 0.3 < float((other.amax((1, 2, 3)) > 0).float().mean()) < 0.7
    assert 0.02 < float(other.mean()) < 0.4 and bool((other[:, 0] >= other[:, -1]).all())
    torch.testing.assert_close(seen.square().mean(2), torch.ones(128, 6, 10, 15), atol=1e-4, rtol=0)
    torch.testing.assert_close(strayed(latents, share=0.0), latents, atol=1e-4, rtol=0)


def test_some_of_them_show_another_clip_all_over_and_faintly(monkeypatch):
    torch.manual_seed(0)
    latents = to_sphere(torch.randn(64, 6, 8, 10, 15), dim=2)
    monkeypatch.setattr(context, "HAZED_SHARE", 1.0)
    seen = strayed(latents, share=1.0)
    strange = (seen - latents).abs().amax(2) > 1e-4  # [B, T, H, W]
    assert bool(strange[:, 0].all()), "all of the picture"
    own, other = (
        F.cosine_similarity(seen[:, 0], z[:, 0], dim=1).mean() for z in (latents, latents.roll(1, 0))
    )
    assert 0.6 < float(own) < 0.99 and float(other) > 0.2


def test_in_some_clips_what_moves_is_gone_from_some_step_on_and_copies_fade_alike():
    torch.manual_seed(0)
    latents = to_sphere(torch.randn(64, 6, 8, 10, 15), dim=2)
    movers = torch.zeros(64, 6, 10, 15)
    movers[:, :, 5, 7] = 1
    seen = faded(latents.repeat(2, 1, 1, 1, 1), movers.repeat(2, 1, 1, 1), samples=2, share=0.5)
    torch.testing.assert_close(seen[:64], seen[64:])
    other = ((seen[:64] - latents).abs().amax(2) > 1e-4).float()  # [B, T, H, W]
    around = torch.zeros(10, 15)
    around[4:7, 6:9] = 1
    assert torch.equal(other.amax((0, 1)), around)
    gone = other[:, :, 5, 7]
    first, last = float(gone[:, 0].sum()), float(gone[:, -1].sum())
    assert 0.3 < float(gone.amax(1).mean()) < 0.7 and 0 < first < last
    assert bool((gone[:, 1:] >= gone[:, :-1]).all())
    torch.testing.assert_close(faded(latents, movers), latents)


def test_a_field_is_worth_the_more_the_less_it_changes():
    told = torch.zeros(4, 10, 4)
    told[..., 0] = torch.arange(10) * 0.01
    told[..., 1] = torch.arange(10) * 0.2
    told[..., 2] = torch.arange(10) * 0.001
    told[:, 5:, :2] += 5.0  # a restart: its leap counts for nothing
    whole = torch.ones(4, 9, dtype=torch.bool)
    whole[:, 4] = False
    worth = field_worth(told, whole, torch.tensor([False, False, False, True]))
    torch.testing.assert_close(worth, torch.tensor([5.0, 1.0, MOST_WORTH, 1.0]))


def test_a_new_model_hears_a_field_as_loudly_as_it_is_worth():
    config = tiny_config().world
    torch.manual_seed(0)
    plain = WorldModel(config)
    torch.manual_seed(0)
    model = WorldModel(config)
    worth = torch.arange(1.0, config.telemetry + 1)
    listen_closely(model, worth)
    torch.testing.assert_close(model.embed_telemetry.weight, plain.embed_telemetry.weight * worth)
    louder = model.condition[0].weight / plain.condition[0].weight
    before = config.buttons + config.max_stride
    torch.testing.assert_close(louder[:, before : before + len(worth)], worth.expand(len(louder), -1))
    assert bool((louder[:, :before] == 1).all() and (louder[:, before + len(worth) :] == 1).all())


def test_noise_is_of_its_level_and_some_clips_have_none():
    torch.manual_seed(0)
    level = noise_levels(2000, "cpu")
    assert 0.2 < float((level == 0).float().mean()) < 0.3 and float(level.max()) <= context.NOISE
    latents = to_sphere(torch.randn(3, 4, 64, 10, 15), dim=2)
    given = noisy(latents, torch.tensor([0.0, 0.2, 0.4]))
    apart = (given - latents).square().mean((1, 2, 3, 4)).sqrt()
    torch.testing.assert_close(apart, torch.tensor([0.0, 0.2, 0.4]), atol=0.03, rtol=0)


def test_few_fields_of_a_clip_are_told_wrong_and_those_for_all_of_it():
    torch.manual_seed(0)
    told = misread(torch.zeros(400, 32, 10), torch.ones(10), share=0.3)
    wrong = told.mean(1).abs() > 0.05
    assert 0.1 < float(wrong.float().mean()) < 0.3
    assert float(misread(torch.zeros(400, 32, 10), torch.ones(10), share=0.0).abs().max()) < 0.2
    worth = torch.cat((torch.ones(5), torch.full((5,), 8.0)))
    off = misread(torch.zeros(400, 32, 10), worth, share=0.0, adrift=0.5).mean(1)
    assert 0.4 < float((off.abs() > 0.003).float().mean()) < 0.6 and float(off.std(0)[0] / off.std(0)[9]) > 5


def store_run(directory, value):
    directory.mkdir()
    write_world({"x": torch.full((2, 3), value), "y": torch.full((4,), -value)}, directory, "racing")
    return directory


def test_runs_are_averaged_by_share_and_replace_what_was_there(tmp_path, monkeypatch):
    first, second, out = (store_run(tmp_path / name, v) for name, v in (("a", 1.0), ("b", 2.0), ("o", 9.0)))
    runs = [f"{first}=0.6", f"{second}=1.4"]
    monkeypatch.setattr(sys, "argv", ["average", "racing", "--of", *runs, "--out", str(out)])
    average.main()
    made = read_parts("racing", out)["world"]
    torch.testing.assert_close(made["x"], torch.full((2, 3), 1.7))
    torch.testing.assert_close(made["y"], torch.full((4,), -1.7))


def test_runs_that_do_not_fit_together_are_refused(tmp_path, monkeypatch, capsys):
    first, second = store_run(tmp_path / "a", 1.0), tmp_path / "b"
    second.mkdir()
    save_file({"x": torch.zeros(9)}, second / "racing-world-0.safetensors")
    with pytest.raises(SystemExit, match=r"b is a model of other sizes.*resumed from the same"):
        averaged("racing", [(first, 0.5), (second, 0.5)])
    with pytest.raises(SystemExit, match=r"nowhere holds no racing-world"):
        averaged("racing", [(tmp_path / "nowhere", 1.0)])
    for share in ("0", "nan", "many"):
        monkeypatch.setattr(sys, "argv", ["average", "racing", "--of", f"{first}={share}"])
        with pytest.raises(SystemExit) as refused:
            average.main()
        assert "RUN=SHARE" in str(refused.value) + capsys.readouterr().err


def test_a_packed_world_tells_on_what_lasts_as_it_was_told():
    spec = GAMES["racing"]
    assert spec.lasting and not GAMES["platformer"].lasting  # there another level has another look
    config = replace(tiny_config().world, buttons=spec.n_buttons, telemetry=len(spec.telemetry))
    model = shaken(WorldModel(config))
    model.load_state_dict(keep_lasting(model.state_dict(), "racing"))
    shape = (1, 2, config.channels, config.rows, config.columns)
    inputs = Inputs(
        torch.zeros(1, 2, config.buttons),
        torch.full((1, 2), 4.0),
        torch.rand(1, 2, config.telemetry),
        torch.zeros(1, 2),
        torch.randn(1, 2, config.noise),
    )
    _, told = model(torch.randn(shape), torch.randn(shape), inputs)
    same = (told == inputs.telemetry).all(1)[0].tolist()
    assert same == [field.name in spec.lasting for field in spec.telemetry]


def test_the_shipped_racing_world_keeps_its_look():
    world = load_part(SHIPPED / "racing", "world")
    assert isinstance(world, WorldModel)
    rows = [GAMES["racing"].field_index(name) for name in GAMES["racing"].lasting]
    assert not world.to_telemetry.weight[rows].any() and not world.to_telemetry.bias[rows].any()


def test_what_lies_ahead_is_told_wrong_in_some_clips_from_some_step_on_and_alike_in_samples():
    torch.manual_seed(0)
    shown = torch.tensor([False, True, True])
    told = torch.arange(600.0)[:, None, None].expand(600, 8, 3).repeat(2, 1, 1)
    seen = mistold(told, shown, samples=2, share=0.5)
    torch.testing.assert_close(seen[:600], seen[600:])
    wrong = seen != told
    assert not wrong[..., 0].any() and torch.equal(wrong[..., 1], wrong[..., 2])
    wrong = wrong[:600, :, 1]
    assert 0.4 < float(wrong.any(1).float().mean()) < 0.55 and 0.25 < float(wrong.float().mean()) < 0.45
    assert not (wrong[:, :-1] & ~wrong[:, 1:]).any(), "told wrong once, it stays so"
    others = told.roll(1, 0)[:600, :, 1]
    torch.testing.assert_close(seen[:600, :, 1], torch.where(wrong, others, told[:600, :, 1]))
    assert torch.equal(mistold(told, shown, share=0.0), told)


def test_every_pass_over_its_own_past_gives_the_model_the_same_layout():
    """A captured graph is of one layout: another would be compiled anew while it is captured."""
    config, layouts = tiny_config("platformer").world, []

    def model(latents, previous, inputs):
        layouts.append((latents.stride(), previous.stride(), inputs.telemetry.stride()))
        return latents, inputs.telemetry

    steps, fields = 6, config.telemetry
    latents = to_sphere(torch.randn(3, steps + 2, config.channels, config.rows, config.columns), dim=2)
    clips = Clips(
        latents,
        torch.zeros(3, steps + 2, config.buttons),
        torch.full((3, steps + 2), 4.0),
        torch.zeros(3, steps + 2, fields),
        torch.ones(3, steps + 2, config.rows, config.columns),
        torch.zeros(3, steps + 2, config.rows, config.columns),
    )
    OwnPast(model, config)(clips, torch.zeros(3), 3)
    assert len(layouts) == 3 and len(set(layouts)) == 1


def test_the_discriminator_learns_what_no_picture_has_and_points_away_from_it():
    torch.manual_seed(0)
    adversary = Adversary(8, "cpu")
    pattern = torch.randn(8, 1, 1)
    for _ in range(40):
        true = to_sphere(torch.randn(16, 8, 10, 15), dim=1)
        made = to_sphere(true + 0.7 * pattern, dim=1)
        slope, right = adversary.update(made, true)
    assert slope.shape == made.shape and float(right) > 0.8
    with torch.no_grad():
        before = adversary.net(made).mean()
        after = adversary.net(made - 0.5 * slope / slope.square().mean().sqrt()).mean()
    assert float(after) > float(before)


def test_a_run_goes_on_from_weights_of_its_own_telemetry_alone(tmp_path):
    config = tiny_config("racing").world
    model = WorldModel(config)
    write_world(model.state_dict(), tmp_path, "racing")
    files = sorted(tmp_path.glob("racing-world-?.safetensors"))
    state = resumed(files, config)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert resumed((), config) == {}
    more = replace(config, telemetry=config.telemetry + 2)
    with pytest.raises(
        SystemExit, match=rf"--resume.*tells {config.telemetry} fields.*has {more.telemetry} now"
    ):
        resumed(files, more)
