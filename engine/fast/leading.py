"""A world or a decoder that a crew of ranks shares, as its leader uses it, and what the others do meanwhile.

Rank 0 of a crew leads: it draws the noise, broadcasts what goes in (engine/fast/orders.py), does its own
share, and has the result. The others obey, order by order."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist

from engine.fast.bands import Rows
from engine.fast.cuda_graph import GraphDecoder
from engine.fast.orders import Group, Kind, Order
from engine.fast.static_world import StaticWorld, World

_PIXELS = 48  # rows of pixels a row of latents becomes


class Follower(Protocol):
    def obey(self, order: Order) -> None:
        """Do this rank's share of what the leader does now."""


class LeadingWorld:
    """See engine.fast.static_world.World. `own` holds the leader's share of tokens."""

    def __init__(self, own: StaticWorld | World, orders: Group = None) -> None:
        self.own, self.orders = own, orders
        self.config, self.slots = own.config, own.slots

    def place(self, world: int, latent: np.ndarray, previous: np.ndarray, told: np.ndarray) -> None:
        parts = [np.asarray(part, np.float32).ravel() for part in (latent, previous, told)]
        Order(Kind.PLACE, world, np.concatenate(parts)).give(self.orders)
        self.own.place(world, latent, previous, told)

    def forget(self, world: int) -> None:
        Order(Kind.FORGET, world).give(self.orders)
        self.own.forget(world)

    def keep(self, world: int) -> None:
        Order(Kind.KEEP, world).give(self.orders)
        self.own.keep(world)

    def back(self, world: int) -> None:
        Order(Kind.BACK, world).give(self.orders)
        self.own.back(world)

    def step(self, controls: np.ndarray) -> None:
        Order(Kind.STEP, 0, controls).give(self.orders)
        self.own.step(controls)

    def made(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        return self.own.made(world)

    def all_made(self) -> tuple[np.ndarray, np.ndarray]:
        return self.own.all_made()

    def close(self) -> None:
        """The followers' loops end."""
        Order(Kind.END).give(self.orders)


class FollowingWorld:
    """Another rank's share of the same world."""

    def __init__(self, own: StaticWorld) -> None:
        self.own = own

    def obey(self, order: Order) -> None:
        own = self.own
        if order.kind == Kind.FORGET:
            own.forget(order.number)
        elif order.kind == Kind.KEEP:
            own.keep(order.number)
        elif order.kind == Kind.BACK:
            own.back(order.number)
        elif order.kind == Kind.STEP:
            own.step(order.payload.reshape(own.controls.shape))
        else:
            assert order.kind == Kind.PLACE
            shape, size = own.latent.shape[1:], own.latent[0].numel()
            latent, previous, told = np.split(order.payload, (size, 2 * size))
            own.place(order.number, latent.reshape(shape), previous.reshape(shape), told)


class LeadingDecoder:
    """See engine.backend.FrameDecoder: each rank makes its band of rows, the leader puts them together. own:
    the first band's; bands: all of them, in latent rows."""

    def __init__(
        self, own: GraphDecoder, bands: Sequence[Rows], orders: Group = None, exchange: Group = None
    ) -> None:
        self.own, self.orders, self.exchange = own, orders, exchange
        self._first = len(bands[0]) * _PIXELS
        columns = own.pictures.shape[2]
        self._others = [torch.empty(len(band) * _PIXELS, columns, 3, dtype=torch.uint8) for band in bands[1:]]

    def decode(self, latent: np.ndarray) -> np.ndarray:
        Order(Kind.DECODE, 0, latent).give(self.orders)
        coming = [
            dist.irecv(rows, group=self.exchange, group_src=i) for i, rows in enumerate(self._others, 1)
        ]
        first = self.own.decode(latent)
        for work in coming:
            assert work is not None
            work.wait()
        return np.concatenate([first, *(rows.numpy() for rows in self._others)])

    def close(self) -> None:
        """The followers' loops end."""
        Order(Kind.END).give(self.orders)


class FollowingDecoder:
    """Another rank's band of the same pictures."""

    def __init__(self, own: GraphDecoder, exchange: Group = None) -> None:
        self.own, self.exchange = own, exchange

    def obey(self, order: Order) -> None:
        assert order.kind == Kind.DECODE
        rows = self.own.decode(order.payload.reshape(self.own.latents.shape[1:]))
        dist.send(torch.from_numpy(rows), group=self.exchange, group_dst=0)


def follow(follower: Follower, orders: Group = None) -> None:
    """Obey until the leader closes: for ranks that have nobody else to listen to."""
    while (order := Order.receive(orders)).kind != Kind.END:
        follower.obey(order)
