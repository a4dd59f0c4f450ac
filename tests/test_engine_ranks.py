"""Several ranks of a role as real processes over gloo: they show what one rank each would, and end as one."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.fast.torch_backend import TorchBackend
from engine.hosting.opening import make_opening
from engine.launch import title
from engine.pacing.presentation import Turn
from engine.protocol import Command, Ended, Frame
from engine.supervision.placement import free_port
from engine.team import Team
from games import GAMES, simulator
from tests.engine_harness import ROOT, Engine, Player, engine, player
from tests.tiny import store_tiny

STRIDE, SEED, STEPS = 5, 3, 12  # an odd stride: both decoder ranks get true frames
TWO_AND_TWO = ("--world-ranks", "2", "--decoder-ranks", "2")
MOST_LEVELS = 2  # of 255, that a picture may differ by: float32 sums in another order, bfloat16 decoders


def test_ranks_sit_world_first_and_frames_go_round_the_crews():
    team = Team(2, 4, bands=2)
    names = ["world 0", "world 1", "decoder 0", "decoder 1", "decoder 2", "decoder 3"]
    assert [seat.name for seat in team.seats()] == names and team.size == 6
    assert [seat.crew for seat in team.seats()] == [(0, 1)] * 2 + [(2, 3)] * 2 + [(4, 5)] * 2
    assert team.leading_decoders == (2, 4) and team.leaders == 3
    turns = [Turn(seat.turn, seat.turns) for seat in team.seats() if "decoder" in seat.roles and seat.leads]
    for index in range(12):
        assert [turn.has(index) for turn in turns].count(True) == 1
    assert title("world 1") == "world rank 1" and title("world,decoder") == "world and decoder rank"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Tiny weights: 2 ranks divide their 2 heads and 154 tokens."""
    directory = tmp_path_factory.mktemp("weights")
    patch = pytest.MonkeyPatch()
    patch.setenv("DREAMCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
    store_tiny(directory)
    yield directory
    patch.undo()


@pytest.fixture(scope="module")
def dreamt_by_one(weights: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Index -> latent and picture, of one rank each, without buttons, in this process."""
    backend = TorchBackend("racing", weights, "cpu", 1)
    world, decoder, spec = backend.world(), backend.decoder(), GAMES["racing"]
    opening = make_opening(simulator("racing").World, spec, backend.encoder(), SEED, STRIDE)
    world.open(opening, SEED)
    nothing = np.zeros(spec.n_buttons, np.float32)
    latents = [world.step(nothing, STRIDE).latent for _ in range(4 * STEPS)]
    return {(i + 1) * STRIDE: (latent, decoder.decode(latent)) for i, latent in enumerate(latents)}


def stepped(me: Player) -> dict[int, tuple[Frame, np.ndarray]]:
    """True frames of a game without buttons by index: paused at its beginning, then step by step, so that a
    busy machine shows them all."""
    me.seq = 0
    me.hello(seed=SEED, stride=STRIDE, record_hashes=True)
    me.expect(Frame, timeout_s=120)
    me.send(Command(kind="pause"))
    me.frames(1.0)
    shown: dict[int, tuple[Frame, np.ndarray]] = {}
    for _ in range(STEPS):
        me.send(Command(kind="step"))
        while (received := me.receive(10.0)) is not None:
            frame, pixels = received
            if isinstance(frame, Frame) and frame.kind == "true" and frame.index not in shown:
                shown[frame.index] = frame, np.frombuffer(pixels, np.uint8).reshape(480, 720, 3)
                break
    me.bye()
    return shown


@pytest.mark.parametrize("bands", [1, 2], ids=["frames in turn", "bands"])
def test_two_and_two_ranks_show_what_one_and_one_dream(weights, dreamt_by_one, bands):
    options = (*TWO_AND_TWO, "--bands", str(bands), "--game", "racing", "--weights", str(weights))
    with engine(*options, fake=False) as running, player(running.address) as me:
        first, again = stepped(me), stepped(me)
        assert len(running.processes()) == 6, "launcher, gateway, four ranks"
        assert running.stderr == ""
    common = sorted(set(first) & set(again) & set(dreamt_by_one))
    assert len(common) > STEPS // 2
    assert bands > 1 or {index // STRIDE % 2 for index in common} == {0, 1}
    for index in common:
        assert first[index][0].latent_hash == again[index][0].latent_hash, "the same bytes each time"
        assert np.array_equal(first[index][1], again[index][1])
        off = np.abs(first[index][1].astype(int) - dreamt_by_one[index][1])
        assert off.max() <= MOST_LEVELS and off.mean() < 0.1, (index, off.max(), off.mean())
    assert first[common[0]][1].std() > 0


@pytest.mark.parametrize("victim", ["world 0", "world 1", "decoder 0", "decoder 1"])
def test_any_ranks_death_ends_everything_and_names_it(weights, victim):
    options = (*TWO_AND_TWO, "--bands", "2", "--game", "racing", "--weights", str(weights))
    with engine(*options, fake=False) as running, player(running.address) as me:
        me.hello(seed=SEED, stride=STRIDE)
        me.expect(Frame, timeout_s=120)
        os.kill(running.processes()[victim], signal.SIGKILL)
        assert_ended_naming(running, me, victim, "signal 9")


def test_a_hung_follower_is_found_before_those_that_wait_for_it(weights):
    options = (*TWO_AND_TWO, "--game", "racing", "--weights", str(weights))
    with engine(*options, fake=False) as running, player(running.address) as me:
        me.hello(seed=SEED, stride=STRIDE)
        me.expect(Frame, timeout_s=120)
        os.kill(running.processes()["world 1"], signal.SIGSTOP)
        assert_ended_naming(running, me, "world 1", "stopped answering")


def assert_ended_naming(running: Engine, me: Player, victim: str, how: str) -> None:
    ended = me.expect(Ended, 8.0)
    assert ended.role == victim and how in ended.reason and ended.exit_code == 1
    assert running.wait(6) == 1
    running.assert_nothing_left()
    assert running.stderr.startswith(f"dreamcade: error: the {title(victim)} ")
    assert running.stderr.count("\n") == 1


# -- the same ranks under torchrun --------------------------------------------------------------------


@pytest.fixture
def two_hosts(weights, tmp_path):
    """Two torchrun launchers, as on two hosts: the worlds' ranks under one, the decoders' under the other."""
    master, inner, listen = free_port(), free_ports(2), f"ipc://{tmp_path}/front.ipc"
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    launchers = []
    for node in (0, 1):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node)]
        command += ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(master)]
        command += [
            "-m",
            "engine.rank",
            *TWO_AND_TWO,
            "--inner",
            f"tcp://127.0.0.1:{inner}",
            "--listen",
            listen,
        ]
        command += ["--game", "racing", "--weights", str(weights), "--threads", "1"]
        log = (tmp_path / f"log{node}").open("w")
        launchers.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        log.close()
    yield listen, launchers, tmp_path
    for launcher in launchers:
        if launcher.poll() is None:
            launcher.kill()
            launcher.wait()


def free_ports(count: int) -> int:
    """The first of so many in a row."""
    for _ in range(100):
        first = free_port()
        try:
            for port in range(first + 1, first + count):
                socket.create_server(("127.0.0.1", port)).close()
            return first
        except OSError:
            continue
    raise AssertionError("no free ports in a row")


@pytest.mark.slow
def test_ranks_under_two_torchruns_play_and_end_with_each_other(two_hosts, dreamt_by_one):
    listen, (first, second), folder = two_hosts
    with player(listen) as me:
        shown = stepped(me)
        assert len(shown) == STEPS, (folder / "log0").read_text() + (folder / "log1").read_text()
        for index, (_, pixels) in shown.items():
            assert np.abs(pixels.astype(int) - dreamt_by_one[index][1]).max() <= MOST_LEVELS
        me.hello(seed=SEED, stride=STRIDE)
        me.expect(Frame, timeout_s=60)
        second.kill()
        assert me.expect(Ended, 20.0).exit_code == 1
        assert first.wait(30) != 0
    left = [entry for entry in Path("/proc").glob("[0-9]*") if str(folder) in command_line(entry)]
    assert not left and not (folder / "front.ipc").exists()


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
