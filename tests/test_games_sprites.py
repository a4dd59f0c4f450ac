"""Atlas and compositor: exact copies, blending, classes, and the Triton kernel against the torch path."""

import os
import subprocess
import sys

import pytest
import torch

from games.painter import Canvas
from games.sprites import build_atlas, composite, composite_torch, join, place, reorder, resolve


def _atlas():
    disc, block = Canvas(40, 40), Canvas(24, 16)
    disc.fill(disc.circle(20, 20, 18), "#E4572E")
    disc.glow(disc.circle(20, 20, 8), "#FFFFFF", 6.0, 0.4)
    block.fill(block.box(-1, -1, 12, 17), "#204060")
    block.fill(block.box(12, -1, 30, 17), "#C0A020")
    return build_atlas({"disc": disc, "block": block})


def _scene():
    """Two small pictures, five sprites: exact, flipped, shrunk, enlarged beyond the edge, absent."""
    torch_rows = torch.linspace(0, 200, 48)[None, :, None, None].expand(2, 48, 80, 3)
    sprite = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 0, 1]])
    x = torch.tensor([[4.0, 30.0, 20.3, 60.7, 5.0], [-9.4, 3.0, 50.0, 40.0, 70.2]])
    y = torch.tensor([[6.0, 9.0, 10.6, -7.2, 5.0], [20.2, 4.0, 8.5, 2.0, 40.1]])
    w = torch.tensor([[24.0, 24.0, 13.0, 90.0, 0.0], [40.0, 11.0, 24.0, 7.5, 30.0]])
    h = torch.tensor([[16.0, 16.0, 13.0, 90.0, 9.0], [40.0, 16.0, 16.0, 7.5, 30.0]])
    flip = torch.tensor([[False, True, False, False, False], [True, True, False, False, True]])
    placed = place(
        sprite,
        x,
        y,
        w,
        h,
        flip=flip,
        klass=torch.tensor([[1, 2, 3, -1, 4]]).expand(2, 5),
        opacity=torch.tensor([[1.0, 1.0, 0.7, 0.9, 1.0]]).expand(2, 5),
        haze=torch.tensor([[0.0, 0.0, 0.4, 0.2, 1.0]]).expand(2, 5),
        haze_rgb=torch.tensor([214.0, 230.0, 234.0]),
    )
    return torch_rows.contiguous(), placed


def test_sprite_at_painted_size_on_whole_pixels_is_copied_exactly():
    atlas = _atlas()
    picture = torch.zeros(1, 48, 80, 3, dtype=torch.uint8)
    one = torch.ones(1, 1)
    out, classes = composite(
        picture, picture[..., 0], place(one.long(), 4 * one, 6 * one, 24 * one, 16 * one, klass=3), atlas
    )
    start, w, h = atlas.table[1, 0].tolist()
    expected = atlas.planes[:3, start : start + w * h].view(3, h, w).permute(1, 2, 0).to(torch.uint8)
    assert torch.equal(out[0, 6:22, 4:28], expected)
    assert out.sum() == expected.sum()
    assert classes is not None and (classes == 3).sum() == w * h
    assert picture.sum() == 0


def test_order_decides_and_join_keeps_it():
    atlas = _atlas()
    background = torch.zeros(1, 48, 80, 3)
    one = torch.ones(1, 1)
    disc = place(0 * one, 0 * one, 0 * one, 40 * one, 40 * one)
    block = place(one, 8 * one, 12 * one, 24 * one, 16 * one)
    over, _ = composite(background, None, join([disc, block]), atlas)
    under, _ = composite(background, None, reorder(join([disc, block]), torch.tensor([[1, 0]])), atlas)
    assert over[0, 20, 12].tolist() == [0x20, 0x40, 0x60]
    assert under[0, 20, 12, 0] > 200


def test_shrunk_sprite_keeps_its_mean_colour():
    atlas = _atlas()
    one = torch.ones(1, 1)
    full, _ = composite(torch.zeros(1, 48, 80, 3), None, place(0 * one, one, one, 40 * one, 40 * one), atlas)
    small, _ = composite(
        torch.zeros(1, 48, 80, 3), None, place(0 * one, 3.3 * one, 2.7 * one, 10 * one, 10 * one), atlas
    )
    assert abs(full.float().sum() / small.float().sum() / 16 - 1) < 0.03


def test_result_does_not_depend_on_the_batch():
    atlas = _atlas()
    picture, placed = _scene()
    together, _ = composite(picture, None, placed, atlas)
    from dataclasses import fields

    from games.sprites import Placements

    second = Placements(*(getattr(placed, f.name)[1:] for f in fields(Placements)))
    alone, _ = composite(picture[1:], None, second, atlas)
    assert torch.equal(together[1:], alone)


def _parity() -> None:
    from games.sprites_gpu import composite_triton

    atlas = _atlas()
    picture, placed = _scene()
    classes = torch.zeros(2, 48, 80, dtype=torch.uint8)
    resolved = resolve(placed, atlas.table, 80, 48)
    for background in (
        picture,
        picture.to(torch.uint8),
        picture.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    ):
        true, true_classes = composite_torch(background, classes, resolved, atlas)
        fast, fast_classes = composite_triton(background, classes, resolved, atlas)
        assert (true.int() - fast.int()).abs().max() <= 1
        assert true_classes is not None and fast_classes is not None
        assert (true_classes != fast_classes).float().mean() < 0.002


def test_triton_kernel_equals_the_torch_path():
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    pytest.importorskip("triton")
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    code = "from tests.test_games_sprites import _parity; _parity()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
