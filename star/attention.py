"""Full, zigzag and binary spatio-temporal attention, as pure functions.

In: queries, keys and values, each (B, heads, T, S, d). Out: (B, heads, T, S, d). Each is torch's
scaled_dot_product_attention over flattened (t, s), so that no matrix of T²S² weights exists; `attention_weights` makes
that matrix, for pictures only. No projections and no parameters: these are in `star.model`.

    FAttn  every (t, s) asks, every (t, s) answers
    ZAttn  frames 1, 3, 5, ... ask and frames 2, 4, 6, ... answer, and the other way round
    BAttn  the first half of the frames asks and the second half answers, and the other way round

Each group of frames asks with its own softmax, over the answering group alone; results go back to their frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pipeline.errors import ConfigError


def full_attention(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool = False) -> Tensor:
    """FAttn: attention over all T * S tokens of a clip.

    Args:
        q, k, v: (B, heads, T, S, d).
        uniform: every answer weighs the same, whatever q and k are (the softmax-free form, an ablation).

    Returns:
        (B, heads, T, S, d).
    """
    return _ask(q, k, v, uniform=uniform)


def zigzag_attention(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool = False) -> Tensor:
    """ZAttn: odd frames (1st, 3rd, ...) attend to even frames, even frames to odd ones.

    An odd T leaves one odd frame more than even ones: both groups still ask and answer as a whole.

    Raises:
        ConfigError: fewer than two frames, so that one group has nobody to ask.
    """
    _two_groups(q, "zigzag_attention")
    out = torch.empty_like(q)
    out[:, :, 0::2] = _ask(q[:, :, 0::2], k[:, :, 1::2], v[:, :, 1::2], uniform=uniform)
    out[:, :, 1::2] = _ask(q[:, :, 1::2], k[:, :, 0::2], v[:, :, 0::2], uniform=uniform)
    return out


def binary_attention(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool = False) -> Tensor:
    """BAttn: the first half of the frames attends to the second half, the second half to the first.

    With an odd T the middle frame belongs to the first half.

    Raises:
        ConfigError: fewer than two frames, so that one half is empty.
    """
    _two_groups(q, "binary_attention")
    middle = (q.shape[2] + 1) // 2
    first = _ask(q[:, :, :middle], k[:, :, middle:], v[:, :, middle:], uniform=uniform)
    second = _ask(q[:, :, middle:], k[:, :, :middle], v[:, :, :middle], uniform=uniform)
    return torch.cat([first, second], dim=2)


ATTENTION: dict[str, Callable[..., Tensor]] = {
    "full": full_attention,
    "zigzag": zigzag_attention,
    "binary": binary_attention,
}


def answering_frames(kind: str, num_frames: int) -> Tensor:
    """Which frames answer which: bool (T, T), true where the frame of the row attends to the frame of the column."""
    frame = torch.arange(num_frames)
    if kind == "full":
        return torch.ones(num_frames, num_frames, dtype=torch.bool)
    group = frame % 2 if kind == "zigzag" else (frame >= (num_frames + 1) // 2).long()
    return group[:, None] != group[None, :]


def attention_weights(q: Tensor, k: Tensor, *, kind: str, uniform: bool = False) -> Tensor:
    """The weights that the function of this kind applies to v, as (B, heads, T, S, T, S): T²S² numbers a head.

    The last two axes are the answering (t, s) and sum to one; tokens that are not asked weigh zero.
    """
    batch, heads, frames, spatial, channels = q.shape
    if uniform:
        scores = q.new_zeros(batch, heads, frames, spatial, frames, spatial)
    else:
        scores = torch.einsum("bhtsd,bhuvd->bhtsuv", q, k) / channels**0.5
    asked = answering_frames(kind, frames).to(q.device)[:, None, :, None]  # (T, 1, T, 1)
    scores = scores.masked_fill(~asked, float("-inf"))
    return scores.flatten(4).softmax(dim=-1).view_as(scores)


def _ask(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool) -> Tensor:
    """Attention of the frames of q to all frames of k and v, over flattened (t, s)."""
    if uniform:
        return v.mean(dim=(2, 3), keepdim=True).expand(*q.shape[:4], v.shape[-1])
    asked = scaled_dot_product_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3))
    return asked.unflatten(2, q.shape[2:4])


def _two_groups(q: Tensor, name: str) -> None:
    if q.shape[2] < 2:
        raise ConfigError(
            name, "needs frames that ask and others that answer", got=f"{q.shape[2]} frame", expected="2 or more"
        )


def received_by_frame(weights: Tensor) -> Tensor:
    """Share of all attention that each frame receives: (B, heads, T, S, T, S) to (B, T), summing to 1 over T."""
    return weights.mean(dim=(1, 2, 3)).sum(dim=-1)
