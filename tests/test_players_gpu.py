"""Several players in the slots of one captured graph."""

import pytest

pytest.importorskip("zmq")  # a bare GPU machine has no sockets

from engine.fast.slots import WorldSlots
from engine.fast.torch_backend import TorchBackend
from tests.test_hosted_players import Rank, Slotted, longest_gap
from tests.tiny import store_tiny


@pytest.mark.gpu
def test_players_join_and_leave_a_captured_graph_and_disturb_nobody(tmp_path):
    store_tiny(tmp_path)
    rank = Rank(Slotted(TorchBackend("racing", tmp_path, "cuda", 2), 3), 3)
    rank.join(1, seed=1)
    slots = rank.models.worlds_at_hand
    assert isinstance(slots, WorldSlots)
    graph = slots._world.replay._graph  # type: ignore[attr-defined]
    rank.play(0.5)
    rank.join(2, seed=2)
    rank.join(3, seed=1)
    rank.play(1.0)
    assert slots.free == 0 and slots._world.replay._graph is graph  # type: ignore[attr-defined]
    assert longest_gap(rank.line.frames[1]) < 12, "frames, while two others came in"
    assert len({rank.line.steps(session)[0] for session in (1, 2, 3)}) == 2
