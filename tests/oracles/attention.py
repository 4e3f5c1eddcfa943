"""Slow loop versions of the attentions and of the whole model, written from the equations, in float64.

In: numpy arrays and, for the model, a module's state as numpy arrays. Out: numpy arrays. They share no code with
`star`: one softmax, one token at a time.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
State = dict[str, Array]


def attended_frames(kind: str, frame: int, frames: int) -> list[int]:
    """The frames (0-based) whose keys a query of this frame attends to."""
    if kind == "full":
        return list(range(frames))
    if kind == "zigzag":
        return [other for other in range(frames) if other % 2 != frame % 2]
    first_half = [t for t in range(frames) if t < frames / 2]
    second_half = [t for t in range(frames) if t >= frames / 2]
    return second_half if frame in first_half else first_half


def weights_of(q: Array, k: Array, kind: str, uniform: bool) -> Array:
    """(T, S, T, S) of one head: q, k are (T, S, d)."""
    frames, spatial, d = q.shape
    out = np.zeros((frames, spatial, frames, spatial))
    for t in range(frames):
        attended = attended_frames(kind, t, frames)
        for s in range(spatial):
            scores = [
                [0.0 if uniform else float(q[t, s] @ k[u, r]) / math.sqrt(d) for r in range(spatial)] for u in attended
            ]
            total = sum(math.exp(score) for row in scores for score in row)
            for u, row in zip(attended, scores, strict=True):
                for r, score in enumerate(row):
                    out[t, s, u, r] = math.exp(score) / total
    return out


def attention(q: Array, k: Array, v: Array, kind: str, uniform: bool = False) -> Array:
    """(B, heads, T, S, d) of each -> the same."""
    out = np.zeros(v.shape)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            weights = weights_of(q[b, h], k[b, h], kind, uniform)
            for t in range(q.shape[2]):
                for s in range(q.shape[3]):
                    for u in range(q.shape[2]):
                        for r in range(q.shape[3]):
                            out[b, h, t, s] += weights[t, s, u, r] * v[b, h, u, r]
    return out


def linear(x: Array, state: State, name: str) -> Array:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(x: Array, state: State, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return np.vectorize(lambda value: 0.5 * value * (1 + math.erf(value / math.sqrt(2))))(x)


def multi_head(z: Array, state: State, name: str, kind: str, heads: int, uniform: bool) -> Array:
    """One attention module over z (T, S, width)."""
    width = z.shape[-1]
    d = width // heads
    mixed = linear(z, state, f"{name}.qkv")
    joined = np.zeros_like(z)
    for h in range(heads):
        q, k, v = (mixed[..., i * width + h * d : i * width + (h + 1) * d] for i in range(3))
        joined[..., h * d : (h + 1) * d] = attention(q[None, None], k[None, None], v[None, None], kind, uniform)[0, 0]
    return linear(joined, state, f"{name}.out")


def layer(z: Array, state: State, name: str, modules: tuple[str, ...], heads: int, uniform: bool = False) -> Array:
    """Zbar = LN(FAttn(z) + z); Zhat = LN(STA(z') + z' (+) STA(z'') + z''); LN(MLP(Zhat) + Zhat)."""
    for i, kind in enumerate(modules):
        z = layer_norm(
            multi_head(z, state, f"{name}.attentions.{i}", kind, heads, uniform) + z, state, f"{name}.norms.{i}"
        )
    hidden = gelu(linear(z, state, f"{name}.mlp.0"))
    return layer_norm(linear(hidden, state, f"{name}.mlp.2") + z, state, f"{name}.mlp_norm")


def tokens(gg: Array, jm: Array, mask: Array, state: State, config: object) -> tuple[Array, list[int]]:
    """z (T, S, width) of one clip and the slots of the class tokens, frame by frame and token by token."""
    rows, class_slots = [], []
    for t in range(gg.shape[0]):
        row = []
        if config.uses_gg:
            class_slots += [len(row)] if t == 0 else []
            row.append(state["tokens.cls_global"])
            for p in range(gg.shape[1]):
                x = (gg[t, p] - state["gg_standard.mean"]) / state["gg_standard.spread"]
                x = linear(x, state, "tokens.gg_project")
                row.append(x + state["tokens.gg_position"][t, p] if config.gg_positions else x)
        if config.uses_jm:
            class_slots += [len(row)] if t == 0 else []
            row.append(state["tokens.cls_joint"])
            for v in range(jm.shape[1]):
                x = (jm[t, v] - state["jm_standard.mean"]) / state["jm_standard.spread"]
                x = linear(x, state, "tokens.jm_project") if mask[t, v] else state["tokens.absent"]
                row.append(x + state["tokens.jm_position"][t, v] if config.jm_positions else x)
        class_slots += [len(row)] if t == 0 else []
        row.append(state["tokens.cls_total"])
        rows.append(np.stack(row))
    return np.stack(rows), class_slots


def forward(gg: Array, jm: Array, mask: Array, state: State, config: object) -> Array:
    """Logits (B, A)."""
    logits = []
    for b in range(gg.shape[0]):
        z, class_slots = tokens(gg[b], jm[b], mask[b], state, config)
        for i in range(config.encoder_depth):
            z = layer(z, state, f"encoder.{i}", config.encoder_modules, config.heads, config.uniform_attention)
        for i in range(config.decoder_depth):
            z = layer(z, state, f"decoder.{i}", config.decoder_modules, config.heads, config.uniform_attention)
        pooled = np.mean([z[t, s] for t in range(z.shape[0]) for s in class_slots], axis=0)
        logits.append(linear(gelu(linear(pooled, state, "head.0")), state, "head.3"))
    return np.stack(logits)
