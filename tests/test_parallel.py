"""The world model over real gloo ranks, and the decoder by bands, against one rank."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.bench.ranks import run_ranks
from engine.config import AutoencoderConfig, WorldConfig
from engine.errors import UsageError
from engine.fast.bands import Rows, band_macs, decode_band, receptive_rows, split_rows
from engine.fast.cuda_graph import GraphDecoder, GraphWorld
from engine.fast.device_link import DeviceReceiver, DeviceSender, link_group
from engine.fast.leading import FollowingDecoder, FollowingWorld, LeadingDecoder, LeadingWorld, follow
from engine.fast.sequence_parallel import HeadSplit, RingSplit, make_split
from engine.fast.static_dream import StaticDream
from engine.fast.static_world import Controls, StaticWorld
from engine.models.autoencoder import Decoder, to_bytes
from engine.models.world_model import WorldModel
from engine.team import check_tokens
from tests.test_cuda_graph import dreamed
from tests.tiny import shaken, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 2e-5  # sums in another order, float32


def config_for(heads: int, registers: int = 8) -> WorldConfig:
    """160 tokens; width 48 goes over 2, 3 and 4 heads."""
    return replace(tiny_config().world, width=48, heads=heads, registers=registers)


def shared_model(config: WorldConfig) -> WorldModel:
    torch.manual_seed(0)  # the same parameters on all ranks
    model = WorldModel(config)
    shaken(model)
    return model


def dream_on_rank(rank: int, config: WorldConfig, kind: type) -> list[tuple[np.ndarray, np.ndarray]] | None:
    split = make_split(config)
    assert type(split) is kind
    own = StaticWorld(shared_model(config), split=split)
    assert own.ring.shape[3] == config.tokens // split.ranks
    if rank:
        torch.manual_seed(rank)  # a follower's own random numbers must not matter
        return follow(FollowingWorld(own))
    leader = LeadingWorld(own)
    dream = StaticDream("racing", leader)
    twice = [dreamed(dream) for _ in range(2)]
    leader.close()
    return twice


@pytest.mark.parametrize(
    ("heads", "kind"),
    [(2, HeadSplit), (4, HeadSplit), (3, RingSplit)],
    ids=["all-to-all by heads", "in two chunks", "ring"],
)
def test_two_ranks_dream_what_one_dreams_across_the_rings_rollover(heads, kind):
    config = config_for(heads)
    latents, telemetry = dreamed(StaticDream("racing", StaticWorld(shared_model(config))))
    first, second = run_ranks(2, dream_on_rank, config, kind)
    np.testing.assert_allclose(first[0], latents, atol=TOLERANCE)
    np.testing.assert_allclose(first[1], telemetry, atol=1e-3, rtol=1e-4)
    for once, again in zip(first, second):
        assert np.array_equal(once, again), "the same seed must give the same bytes"


def several_worlds(config: WorldConfig) -> list[Controls]:
    """Two worlds at their own strides; the second joins late."""
    random = np.random.default_rng(5)
    return [
        Controls(
            random.random((2, config.buttons), np.float32),
            random.standard_normal((2, config.noise)).astype(np.float32),
            np.array([1 + t % 8, 4], np.float32),
            np.array([1, t >= 3], np.float32),
        )
        for t in range(9)
    ]


def step_worlds(world, config: WorldConfig) -> np.ndarray:
    random = np.random.default_rng(2)
    for i in range(2):
        latent = random.standard_normal((config.channels, 10, 15)).astype(np.float32)
        world.forget(i)
        world.place(i, latent, latent, np.zeros(config.telemetry, np.float32))
    for controls in several_worlds(config):
        world.step(controls.packed())
    return np.stack([world.made(i)[0] for i in range(2)])


def step_worlds_on_rank(rank: int, config: WorldConfig) -> np.ndarray | None:
    own = StaticWorld(shared_model(config), worlds=2, split=make_split(config))
    if rank:
        return follow(FollowingWorld(own))
    leader = LeadingWorld(own)
    made = step_worlds(leader, config)
    leader.close()
    return made


def test_four_ranks_share_several_worlds():
    config = config_for(heads=4)
    one = step_worlds(StaticWorld(shared_model(config), worlds=2), config)
    np.testing.assert_allclose(run_ranks(4, step_worlds_on_rank, config), one, atol=TOLERANCE)


def test_ranks_that_do_not_divide_tokens_are_refused_with_advice():
    check_tokens(config_for(heads=4), 5)
    with pytest.raises(UsageError, match="3 world ranks do not divide 160 tokens: choose one of 1, 2, 4, 5"):
        check_tokens(config_for(heads=4), 3)


# -- the decoder by bands -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[(1, 1, 1), (2, 2, 2), (1, 2, 1, 1)], ids=str)
def decoder(request) -> Decoder:
    """Three depths in float64, where sums in another order leave nothing to see."""
    config = decoder_config(request.param)
    torch.manual_seed(0)
    model = Decoder(config)
    shaken(model)
    return model.double()


def decoder_config(blocks: tuple[int, ...]) -> AutoencoderConfig:
    tiny = tiny_config().autoencoder
    return replace(tiny, decoder_widths=(16, 12, 8, 8)[: len(blocks)], decoder_blocks=blocks)


@pytest.mark.parametrize("bands", [1, 2, 3, 10])
def test_bands_put_together_are_the_whole_decode(decoder, bands):
    latents = torch.randn(1, 16, 10, 3, dtype=torch.float64)
    whole = decoder(latents)
    rows = split_rows(decoder, 10, bands)
    assert [r.begin for r in rows[1:]] == [r.end for r in rows[:-1]] and len(rows) == bands
    parts = torch.cat([decode_band(decoder, latents, band) for band in rows], 2)
    torch.testing.assert_close(parts, whole, atol=1e-12, rtol=0)
    assert torch.equal(to_bytes(parts), to_bytes(whole))


def test_bands_agree_in_float32(decoder):
    model, latents = decoder.float(), torch.randn(2, 16, 10, 4)
    parts = torch.cat([decode_band(model, latents, band) for band in split_rows(model, 10, 2)], 2)
    torch.testing.assert_close(parts, model(latents), atol=1e-5, rtol=0)
    decoder.double()


@pytest.mark.parametrize("blocks", [(1, 1, 1), (2, 2, 2), (1, 2, 1, 1)], ids=str)
def test_receptive_field_is_what_a_changed_row_reaches(blocks):
    config = decoder_config(blocks)
    reach = receptive_rows(config)
    torch.manual_seed(0)
    model = Decoder(config)
    shaken(model).double()
    latents = torch.randn(1, 16, 2 * reach + 3, 2, dtype=torch.float64)
    changed, middle = latents.clone(), reach + 1
    changed[:, :, middle] += 1
    moved = (model(changed) != model(latents)).any(1).any(-1)[0].unflatten(0, (-1, 48)).any(-1)
    assert moved.nonzero().flatten().tolist() == list(range(1, 2 * reach + 2))


def test_a_band_costs_less_than_the_whole_and_bands_are_cut_evenly(decoder):
    whole = band_macs(decoder, Rows(0, 10, 10), 15)
    costs = [band_macs(decoder, band, 15) for band in split_rows(decoder, 10, 2)]
    assert max(costs) < whole and max(costs) == min(costs)
    four = [band_macs(decoder, band, 15) for band in split_rows(decoder, 10, 4)]
    assert max(four) < max(costs)


def decode_band_on_rank(rank: int, blocks: tuple[int, ...]) -> np.ndarray | None:
    torch.manual_seed(0)
    model = Decoder(decoder_config(blocks))
    shaken(model)
    bands = split_rows(model, 10, 3)
    own = GraphDecoder(model, (16, 10, 15), dtype=torch.float32, capture=False, band=bands[rank])
    if rank:
        return follow(FollowingDecoder(own))
    leader = LeadingDecoder(own, bands)
    latents = torch.randn(2, 16, 10, 15, generator=torch.Generator().manual_seed(1))
    made = np.stack([leader.decode(latent.numpy()) for latent in latents])
    leader.close()
    return np.stack([made, to_bytes(model(latents)).numpy()])


def test_three_ranks_decode_each_picture():
    parts, whole = run_ranks(3, decode_band_on_rank, (1, 1, 1))
    assert parts.shape == (2, 480, 720, 3) and parts[0].std() > 0
    assert np.abs(parts.astype(int) - whole).max() <= 1 and (parts != whole).mean() < 1e-4  # rounding at .5


# -- on two GPUs: captured, tokens over NCCL ----------------------------------------------------------


def dream_on_gpu(rank: int, config: WorldConfig) -> np.ndarray | None:
    own = GraphWorld(shared_model(config).cuda(), dtype=torch.float32, split=make_split(config))
    if rank:
        return follow(FollowingWorld(own))
    leader = LeadingWorld(own)
    twice = [dreamed(StaticDream("racing", leader))[0] for _ in range(2)]
    leader.close()
    return np.stack(twice)


def sent_over_nccl(rank: int) -> list[float] | None:
    value, group = torch.zeros(3, device="cuda"), link_group("cuda")
    if rank:
        link = DeviceSender(value, 0, group)
        for i in range(9):
            link.send(value + i)
        return link.close()
    receiver, got = DeviceReceiver(value, 1, group), []
    for _ in range(9):
        receiver.receive(value)
        got.append(value[0].item())
    receiver.close()
    return got


def two_gpus() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [2, 4, 3], ids=["all-to-all by heads", "in two chunks", "ring"])
def test_two_gpus_dream_what_one_rank_dreams(heads):
    two_gpus()
    config = config_for(heads)
    latents, _ = dreamed(StaticDream("racing", StaticWorld(shared_model(config))))
    first, again = run_ranks(2, dream_on_gpu, config, device="cuda")
    np.testing.assert_allclose(first, latents, atol=5e-3)  # TF32
    assert np.array_equal(first, again), "the same seed must give the same bytes"


@pytest.mark.gpu
def test_a_device_link_over_nccl_loses_nothing_and_keeps_order():
    two_gpus()
    assert run_ranks(2, sent_over_nccl, device="cuda") == list(range(9))
