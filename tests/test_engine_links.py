import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from engine.hosting.links import MESSAGE_BYTES, Latent, MemoryLink, pack_into, unpack_from
from engine.inner import Addresses, RankLine
from engine.pacing.session import NO_INPUT, ButtonTimeline
from engine.supervision.launch_options import parse
from engine.supervision.placement import loopback_listener, rank_environment


def latent(index: int, **choices) -> Latent:
    values: dict = dict(
        session=3, epoch=1, stride=4, step=index // 4, seq=-1, buttons=5, slips=2, clock_index=index + 0.7
    )
    values["next_index"] = index + 5
    rng = np.random.default_rng(index)
    arrays = {"telemetry": rng.random(12, np.float32), "latent": rng.random((96, 10, 15), np.float32)}
    return Latent(**(values | arrays | {"index": index, "world_ms": 14.5, "draft": False} | choices))


def test_a_latent_survives_its_message():
    buffer = np.zeros(MESSAGE_BYTES, np.uint8)
    sent = latent(2**40)
    pack_into(buffer, sent)
    got = unpack_from(buffer)
    buffer[:] = 0  # what was read does not change any more
    for name in Latent.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))


def test_a_memory_link_keeps_the_newest():
    link = MemoryLink()
    for index in range(20):
        link.send(latent(index))
    assert [got.index for got in link.drain()] == [*range(12, 20)] and link.drain() == []


def test_a_line_empties_what_wakes_it_whether_anybody_drains_or_not(tmp_path):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    line = RankLine(Addresses(f"ipc://{tmp_path}"), "decoder")
    line.wake_on(ours)
    theirs.send(b"!!")
    begun_s = time.monotonic()
    assert line.wait(60) == [] and time.monotonic() - begun_s < 30, "it woke"
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    line.close()
    ours.close()
    theirs.close()


RANK = """
import os, sys, time
import numpy as np
from engine.hosting.links import DistributedReceiver, DistributedSender, Latent
from engine.process_group import join, own_seat
from engine.team import Team


def latent(index):
    values = np.full((8, 10, 15), index, np.float32)
    return Latent(1, 0, index, 4, index + 4, index, 0, 0, 0, 0.0, 0.0, False, np.zeros(3, np.float32), values)


team = Team()
seat = own_seat(team)
assert join(team, seat, "cpu") is None
if seat.rank == 0:
    link = DistributedSender(1)
    begun_s = time.monotonic()
    for index in range(300):
        link.send(latent(index))
    assert time.monotonic() - begun_s < 1.0  # never waits
    time.sleep(0.5)
    link.send(latent(999))
    sys.stdin.read()
else:
    time.sleep(0.3)  # a receiver that is late
    link, got = DistributedReceiver(0), []
    while not got or got[-1].index != 999:
        got += link.drain()
        time.sleep(0.01)
    indices = [latent.index for latent in got]
    assert indices == sorted(indices), indices
    assert all(np.all(latent.latent == latent.index) for latent in got)
    print(len(indices), indices[-2])
    sys.stdout.flush()
os._exit(0)
"""


def test_latents_cross_between_processes_newest_kept_in_order_without_waiting(tmp_path):
    options = parse(["--listen", f"ipc://{tmp_path}/x"])
    script = tmp_path / "rank.py"
    script.write_text(textwrap.dedent(RANK))
    ranks = []
    with loopback_listener() as store:
        for rank in range(2):
            environment = rank_environment(options, rank, 2, store.getsockname()[1])
            environment |= {"MASTER_LISTEN_FD": str(store.fileno())} if rank == 0 else {}
            ranks.append(
                subprocess.Popen(
                    [sys.executable, str(script)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=(store.fileno(),) if rank == 0 else (),
                )
            )
    try:
        out, _ = ranks[1].communicate(timeout=30)
        n, before_last = map(int, out.split())
        assert ranks[1].returncode == 0 and 1 < n <= 301 and before_last == 299
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def test_the_ranks_store_listens_on_loopback_only():
    with loopback_listener() as store:
        assert store.family == socket.AF_INET and store.getsockname()[0] == "127.0.0.1"


# -- buttons on the game clock ------------------------------------------------------------------------


def test_a_window_holds_each_buttons_share_of_its_frames():
    timeline = ButtonTimeline(3)
    timeline.record(1, held=1, pressed=1, clock_index=1.2)
    timeline.record(2, held=3, pressed=2, clock_index=3.0)
    window = timeline.close(4)
    assert (window.begin, window.end, window.mask, window.seq) == (0, 4, 3, 2)
    np.testing.assert_array_equal(window.share, np.array([0.75, 0.25, 0], np.float32))
    assert timeline.close(8).share.tolist() == [1, 1, 0]


def test_a_tap_within_a_frame_counts_for_that_frame():
    timeline = ButtonTimeline(2)
    timeline.record(1, held=0, pressed=2, clock_index=0.5)
    timeline.record(2, held=1, pressed=0, clock_index=5.1)
    timeline.record(3, held=0, pressed=0, clock_index=5.8)
    assert timeline.close(4).share.tolist() == [0, 0.25]
    assert timeline.close(8).share.tolist() == [0.25, 0]


def test_an_input_counts_for_the_window_in_which_it_arrives_and_not_before():
    timeline = ButtonTimeline(1)
    timeline.record(7, held=1, pressed=1, clock_index=4.0)
    first = timeline.close(4)
    assert first.share[0] == 0 and first.seq == NO_INPUT
    late = 5.0
    second = timeline.close(8)
    assert second.share[0] == 1 and second.seq == 7
    timeline.record(8, held=0, pressed=0, clock_index=late)  # for a closed window: counts in the next
    assert timeline.close(12).share[0] == 0


@pytest.mark.parametrize("seq", [5, 4])
def test_a_repeated_or_stale_input_changes_nothing(seq):
    timeline = ButtonTimeline(1)
    timeline.record(5, held=1, pressed=0, clock_index=0.0)
    timeline.record(seq, held=0, pressed=0, clock_index=1.0)
    window = timeline.close(4)
    assert window.share[0] == 1 and window.seq == 5


def test_what_came_before_the_clock_slipped_counts_from_where_it_slipped_to():
    timeline = ButtonTimeline(2)
    timeline.close(4)
    timeline.record(1, held=1, pressed=1, clock_index=30.5)
    timeline.record(2, held=3, pressed=2, clock_index=33.0)
    timeline.slipped(6.4)
    window = timeline.close(8)
    assert window.masks == (0, 0, 3, 3) and window.seq == 2
    timeline.record(3, held=0, pressed=0, clock_index=7.0)
    timeline.slipped(2.0)  # what is closed stays closed
    assert timeline.close(12).mask == 0


def test_unknown_buttons_are_ignored_and_held_ones_survive_a_restart():
    timeline = ButtonTimeline(2)
    timeline.record(1, held=255, pressed=255, clock_index=0.0)
    assert timeline.close(1).mask == 3
    timeline.restart()
    window = timeline.close(4)
    assert (window.begin, window.mask, window.seq) == (0, 3, 1)
