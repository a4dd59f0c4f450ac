"""Triton kernels of the world model's step: what stands before and after a matrix product is done inside it.

A step of one world is bound by how many kernels follow each other, not by arithmetic: some 375 in eager
PyTorch, 2 to 3 us each. See engine/fast/fused_world.py for the order in which these run, and what is left.
With TRITON_INTERPRET=1 in the environment before the first import they run on the CPU: the tests do that."""

import triton
import triton.language as tl

EPSILON = tl.constexpr(1e-6)


@triton.jit
def begin(
    controls_pointer, told_pointer, number_pointer, bias_pointer, rates_pointer,
    condition_pointer, turn_pointer, slot_pointer,
    BUTTONS: tl.constexpr, STRIDES: tl.constexpr, TOLD: tl.constexpr, NOISE: tl.constexpr,
    CONTEXT: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a world. controls [B, BUTTONS + NOISE + 2], told [B, TOLD], number [B] int64, rates [HALF]
    float64 -> condition [B, BUTTONS + STRIDES + TOLD + 1 + NOISE] (buttons, stride's name, told, 0, noise),
    turn [B, 2, HALF] cos and sin of the step's number, slot [B] int64 of the ring; bias [B, CONTEXT] is 0
    there from now on."""
    world = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    controls = controls_pointer + world * (BUTTONS + NOISE + 2)
    told = i - (BUTTONS + STRIDES)
    noise = told - (TOLD + 1)
    stride = tl.load(controls + BUTTONS + NOISE)
    value = tl.load(controls + i, mask=i < BUTTONS, other=0.0)
    named = (i >= BUTTONS) & (told < 0) & (stride == (i - BUTTONS + 1).to(tl.float32))
    value += tl.where(named, 1.0, 0.0)
    value += tl.load(told_pointer + world * TOLD + told, mask=(told >= 0) & (told < TOLD), other=0.0)
    value += tl.load(controls + BUTTONS + noise, mask=(noise >= 0) & (noise < NOISE), other=0.0)
    width: tl.constexpr = BUTTONS + STRIDES + TOLD + 1 + NOISE
    tl.store(condition_pointer + world * width + i, value, mask=i < width)
    number = tl.load(number_pointer + world)
    slot = number % CONTEXT
    tl.store(slot_pointer + world, slot)
    tl.store(bias_pointer + world * CONTEXT + slot, 0.0)
    angle = number.to(tl.float64) * tl.load(rates_pointer + i, mask=i < HALF, other=0.0)
    turn = turn_pointer + world * 2 * HALF + i
    tl.store(turn, tl.cos(angle).to(tl.float32), mask=i < HALF)
    tl.store(turn + HALF, tl.sin(angle).to(tl.float32), mask=i < HALF)


@triton.jit
def project(
    x_pointer, weight_pointer, bias_pointer, modulation_pointer, out_pointer,
    rows, tokens, x_stride, out_stride,
    K: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, NORM: tl.constexpr, SHIFT: tl.constexpr,
    SILU: tl.constexpr, BIAS: tl.constexpr, GELU: tl.constexpr, RESIDUAL: tl.constexpr, GATE: tl.constexpr,
    ALONE: tl.constexpr, PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """x [rows, K], weight [N, K] -> out [rows, N]. On the way in: SiLU, or the RMS norm, or that scaled and
    shifted by modulation [rows / tokens, 6, WIDTH] (SHIFT: where its shift stands, its scale comes next; -1:
    none). On the way out: bias, GELU, or gated by modulation (GATE, -1: none) and added to what out holds.
    ALONE: no tile has rows of two worlds; PRECISION: of float32 products."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    here = (m < rows)[:, None]
    x_row = x_pointer + m.to(tl.int64)[:, None] * x_stride
    world = tl.program_id(0) * BM // tokens + tl.arange(0, 1) if ALONE else m // tokens
    modulation = modulation_pointer + world.to(tl.int64)[:, None] * (6 * WIDTH)
    modulated = tl.full((1, 1), 1, tl.int1) if ALONE else here
    inverse = tl.full((BM,), 1.0, tl.float32)
    if NORM:
        square = tl.full((BM,), 0.0, tl.float32)
        for start in range(0, K, BK):
            x = tl.load(x_row + start + k, mask=here & (start + k < K), other=0.0).to(tl.float32)
            square += tl.sum(x * x, 1)
        inverse = tl.rsqrt(square / K + EPSILON)
    total = tl.full((BM, BN), 0.0, tl.float32)
    for start in range(0, K, BK):
        c = start + k
        inside = here & (c < K)
        x = tl.load(x_row + c, mask=inside, other=0.0)
        if NORM:
            x = x.to(tl.float32) * inverse[:, None]
        if SHIFT >= 0:
            known = modulated & (c < K)
            scale = tl.load(modulation + (SHIFT + 1) * WIDTH + c, mask=known, other=0.0)
            x = x * scale + tl.load(modulation + SHIFT * WIDTH + c, mask=known, other=0.0)
        if SILU:
            x = x.to(tl.float32)
            x = x / (1.0 + tl.exp(-x))
        w = tl.load(weight_pointer + n[None, :] * K + c[:, None], mask=(c < K)[:, None] & (n < N), other=0.0)
        total = tl.dot(x.to(w.dtype), w, total, input_precision=PRECISION)
    mask = here & (n < N)
    if BIAS:
        total += tl.load(bias_pointer + n, mask=n < N, other=0.0).to(tl.float32)
    if GELU:  # tanh by a sigmoid
        total = total / (1.0 + tl.exp(-1.5957691216057308 * (total + 0.044715 * total * total * total)))
    if GATE >= 0:
        total *= tl.load(modulation + GATE * WIDTH + n, mask=modulated & (n < N), other=0.0)
    place = out_pointer + m.to(tl.int64)[:, None] * out_stride + n
    if RESIDUAL:
        total += tl.load(place, mask=mask, other=0.0)
    tl.store(place, total.to(out_pointer.dtype.element_ty), mask=mask)


@triton.jit
def attend(
    qkv_pointer, q_scale_pointer, k_scale_pointer, out_pointer, tokens, scale,
    HEADS: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Attention within frames, queries and keys normed here. qkv [B, tokens, 3, HEADS, WIDE], q_scale and
    k_scale [WIDE] float32 -> out [B, tokens, HEADS, WIDE]; scale: of the products. A program has BM queries
    of one head of one world."""
    m, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BD)
    head, world = tl.program_id(1), tl.program_id(2).to(tl.int64)
    row: tl.constexpr = 3 * HEADS * WIDE
    own = qkv_pointer + world * tokens * row + head * WIDE
    wide = d < WIDE
    queried = (m < tokens)[:, None] & wide
    q = tl.load(own + m[:, None] * row + d, mask=queried, other=0.0)
    kind = q.dtype
    q = q.to(tl.float32)
    q *= tl.rsqrt(tl.sum(q * q, 1) / WIDE + EPSILON)[:, None]
    q = (q * tl.load(q_scale_pointer + d, mask=wide, other=0.0)).to(kind)
    k_scale = tl.load(k_scale_pointer + d, mask=wide, other=0.0)[:, None]
    top = tl.full((BM,), -1e30, tl.float32)
    shares = tl.full((BM,), 0.0, tl.float32)
    total = tl.full((BM, BD), 0.0, tl.float32)
    for start in range(0, tokens, BN):
        n = start + tl.arange(0, BN)
        key = own + HEADS * WIDE + n[None, :] * row + d[:, None]
        k = tl.load(key, mask=wide[:, None] & (n < tokens), other=0.0).to(tl.float32)
        k = (k * tl.rsqrt(tl.sum(k * k, 0) / WIDE + EPSILON) * k_scale).to(kind)
        scores = tl.dot(q, k, input_precision=PRECISION) * scale
        scores = tl.where((n < tokens)[None, :], scores, -1e30)
        higher = tl.maximum(top, tl.max(scores, 1))
        share, fade = tl.exp(scores - higher[:, None]), tl.exp(top - higher)
        shares = shares * fade + tl.sum(share, 1)
        value = own + 2 * HEADS * WIDE + n[:, None] * row + d
        v = tl.load(value, mask=(n < tokens)[:, None] & wide, other=0.0)
        total = tl.dot(share.to(kind), v, total * fade[:, None], input_precision=PRECISION)
        top = higher
    place = out_pointer + (world * tokens + m[:, None]) * (HEADS * WIDE) + head * WIDE + d
    tl.store(place, (total / shares[:, None]).to(kind), mask=queried)


@triton.jit
def _turned(pointer, scale_pointer, here, h, cos, sin, HALF: tl.constexpr):
    """Both halves of queries or keys at pointer [BT, 1], normed, scaled and rotated, rounded as stored."""
    inside = h < HALF
    a = tl.load(pointer + h, mask=here & inside, other=0.0)
    b = tl.load(pointer + HALF + h, mask=here & inside, other=0.0)
    kind = a.dtype
    a, b = a.to(tl.float32), b.to(tl.float32)
    inverse = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / (2 * HALF) + EPSILON)[:, None]
    a *= inverse * tl.load(scale_pointer + h, mask=inside, other=0.0)
    b *= inverse * tl.load(scale_pointer + HALF + h, mask=inside, other=0.0)
    return (a * cos - b * sin).to(kind), (a * sin + b * cos).to(kind)


@triton.jit
def attend_past(
    qkv_pointer, q_scale_pointer, k_scale_pointer, turn_pointer, slot_pointer, bias_pointer, ring_pointer,
    out_pointer, tokens, scale,
    HEADS: tl.constexpr, HALF: tl.constexpr, CONTEXT: tl.constexpr,
    BT: tl.constexpr, BC: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Attention of each token to its own past: the step's keys (normed, rotated) and values are filed in the
    ring and read with it. qkv [B, tokens, 3, HEADS, 2 HALF], turn [B, 2, HALF], slot [B], bias [B, CONTEXT],
    ring [2, B, tokens, HEADS, CONTEXT, 2 HALF] -> out [B, tokens, HEADS, 2 HALF]. A program has BT tokens of
    one head of one world."""
    t, h, c = tl.program_id(0) * BT + tl.arange(0, BT), tl.arange(0, BH), tl.arange(0, BC)
    head, world = tl.program_id(1), tl.program_id(2).to(tl.int64)
    wide: tl.constexpr = 2 * HALF
    here, inside = (t < tokens)[:, None], h < HALF
    cos = tl.load(turn_pointer + world * wide + h, mask=inside, other=0.0)
    sin = tl.load(turn_pointer + world * wide + HALF + h, mask=inside, other=0.0)
    token = world * tokens + t[:, None]
    own = qkv_pointer + token * (3 * HEADS * wide) + head * wide
    qa, qb = _turned(own, q_scale_pointer, here, h, cos, sin, HALF)
    ka, kb = _turned(own + HEADS * wide, k_scale_pointer, here, h, cos, sin, HALF)
    va = tl.load(own + 2 * HEADS * wide + h, mask=here & inside, other=0.0)
    vb = tl.load(own + 2 * HEADS * wide + HALF + h, mask=here & inside, other=0.0)
    keys = ring_pointer + (token * HEADS + head) * (CONTEXT * wide)
    values = keys + tl.num_programs(2).to(tl.int64) * tokens * (HEADS * CONTEXT * wide)
    slot = tl.load(slot_pointer + world)
    past = here[:, :, None] & (c < CONTEXT)[None, :, None] & inside[None, None, :]
    past &= (c != slot)[None, :, None]
    entry = c[None, :, None] * wide + h[None, None, :]
    # The own entry comes from registers: no thread waits for another's store.
    mine = (c == slot)[None, :, None]
    old_ka = tl.where(mine, ka[:, None, :], tl.load(keys[:, :, None] + entry, mask=past, other=0.0))
    old_kb = tl.where(mine, kb[:, None, :], tl.load(keys[:, :, None] + entry + HALF, mask=past, other=0.0))
    scores = tl.sum(qa[:, None, :].to(tl.float32) * old_ka.to(tl.float32), 2)
    scores += tl.sum(qb[:, None, :].to(tl.float32) * old_kb.to(tl.float32), 2)
    bias = tl.load(bias_pointer + world * CONTEXT + c, mask=c < CONTEXT, other=-1e30).to(tl.float32)
    scores = scores * scale + bias[None, :]
    share = tl.exp(scores - tl.max(scores, 1)[:, None])
    share = (share / tl.sum(share, 1)[:, None])[:, :, None]
    old_va = tl.where(mine, va[:, None, :], tl.load(values[:, :, None] + entry, mask=past, other=0.0))
    old_vb = tl.where(mine, vb[:, None, :], tl.load(values[:, :, None] + entry + HALF, mask=past, other=0.0))
    place = out_pointer + token * (HEADS * wide) + head * wide + h
    kept = here & inside
    tl.store(place, tl.sum(share * old_va.to(tl.float32), 1).to(va.dtype), mask=kept)
    tl.store(place + HALF, tl.sum(share * old_vb.to(tl.float32), 1).to(va.dtype), mask=kept)
    tl.store(keys + slot * wide + h, ka, mask=kept)
    tl.store(keys + slot * wide + HALF + h, kb, mask=kept)
    tl.store(values + slot * wide + h, va, mask=kept)
    tl.store(values + slot * wide + HALF + h, vb, mask=kept)


@triton.jit
def file(
    change_pointer, controls_pointer, latent_pointer, previous_pointer, told_pointer, number_pointer, tokens,
    pictured, CHANNELS: tl.constexpr, TOLD: tl.constexpr, CONTROLS: tl.constexpr,
    BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """change [B, tokens, CHANNELS + TOLD] float32 -> latent and previous [B, CHANNELS, pictured], told [B,
    TOLD] and number [B] of the worlds that are active by the last of controls [B, CONTROLS]. A program has BT
    places of one world's picture."""
    world = tl.program_id(1).to(tl.int64)
    t, c = tl.program_id(0) * BT + tl.arange(0, BT), tl.arange(0, BC)
    if tl.load(controls_pointer + world * CONTROLS + CONTROLS - 1) > 0:
        change = change_pointer + world * tokens * (CHANNELS + TOLD)
        inside = (t < pictured)[:, None] & (c < CHANNELS)
        place = world * CHANNELS * pictured + c * pictured + t[:, None]
        before = tl.load(latent_pointer + place, mask=inside, other=0.0)
        after = before + tl.load(change + t[:, None] * (CHANNELS + TOLD) + c, mask=inside, other=0.0)
        after *= tl.rsqrt(tl.sum(after * after, 1) / CHANNELS + EPSILON)[:, None]
        tl.store(previous_pointer + place, before, mask=inside)
        tl.store(latent_pointer + place, after, mask=inside)
        if tl.program_id(0) == 0:
            told, said = told_pointer + world * TOLD + c, c < TOLD
            more = tl.load(change + (pictured + 1) * (CHANNELS + TOLD) + CHANNELS + c, mask=said, other=0.0)
            tl.store(told, tl.load(told, mask=said, other=0.0) + more, mask=said)
            tl.store(number_pointer + world, tl.load(number_pointer + world) + 1)
