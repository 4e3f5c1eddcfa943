"""Full, zigzag and binary spatio-temporal attention, as pure functions.

In: queries, keys and values, each (B, heads, T, S, d). Out: (B, heads, T, S, d). Each is torch's
scaled_dot_product_attention over flattened (t, s), so that no matrix of T²S² weights exists; `attention_weights` makes
that matrix, for pictures only. Projections and parameters are in `star.model`.

    FAttn  queries of all frames, keys and values of all frames
    ZAttn  queries of frames 1, 3, 5, ..., keys and values of frames 2, 4, 6, ..., and the other way round
    BAttn  queries of the first half of the frames, keys and values of the second half, and the other way round

The softmax of a query runs over the keys of the other group alone; each result goes back to its query's frame.
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
        uniform: every value has the same weight, whatever q and k are (the softmax-free form, an ablation).

    Returns:
        (B, heads, T, S, d).
    """
    return _attend(q, k, v, uniform=uniform)


def zigzag_attention(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool = False) -> Tensor:
    """ZAttn: odd frames (1st, 3rd, ...) attend to even frames, even frames to odd ones.

    With an odd T there is one odd frame more than even ones.

    Raises:
        ConfigError: fewer than two frames, so that one group is empty.
    """
    _require_two_frames(q, "zigzag_attention")
    out = torch.empty_like(q)
    out[:, :, 0::2] = _attend(q[:, :, 0::2], k[:, :, 1::2], v[:, :, 1::2], uniform=uniform)
    out[:, :, 1::2] = _attend(q[:, :, 1::2], k[:, :, 0::2], v[:, :, 0::2], uniform=uniform)
    return out


def binary_attention(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool = False) -> Tensor:
    """BAttn: the first half of the frames attends to the second half, the second half to the first.

    With an odd T the middle frame belongs to the first half.

    Raises:
        ConfigError: fewer than two frames, so that one half is empty.
    """
    _require_two_frames(q, "binary_attention")
    middle = (q.shape[2] + 1) // 2
    first = _attend(q[:, :, :middle], k[:, :, middle:], v[:, :, middle:], uniform=uniform)
    second = _attend(q[:, :, middle:], k[:, :, :middle], v[:, :, :middle], uniform=uniform)
    return torch.cat([first, second], dim=2)


ATTENTION: dict[str, Callable[..., Tensor]] = {
    "full": full_attention,
    "zigzag": zigzag_attention,
    "binary": binary_attention,
}


def attended_frames(kind: str, num_frames: int) -> Tensor:
    """Bool (T, T), true where the frame of the row attends to the frame of the column."""
    frame = torch.arange(num_frames)
    if kind == "full":
        return torch.ones(num_frames, num_frames, dtype=torch.bool)
    group = frame % 2 if kind == "zigzag" else (frame >= (num_frames + 1) // 2).long()
    return group[:, None] != group[None, :]


def attention_weights(q: Tensor, k: Tensor, *, kind: str, uniform: bool = False) -> Tensor:
    """The weights that the function of this kind applies to v, as (B, heads, T, S, T, S): T²S² numbers a head.

    The last two axes are the keys' (t, s) and sum to one; keys of frames that are not attended to have weight zero.
    """
    batch, heads, frames, spatial, channels = q.shape
    if uniform:
        scores = q.new_zeros(batch, heads, frames, spatial, frames, spatial)
    else:
        scores = torch.einsum("bhtsd,bhuvd->bhtsuv", q, k) / channels**0.5
    attended = attended_frames(kind, frames).to(q.device)[:, None, :, None]  # (T, 1, T, 1)
    scores = scores.masked_fill(~attended, float("-inf"))
    return scores.flatten(4).softmax(dim=-1).view_as(scores)


def _attend(q: Tensor, k: Tensor, v: Tensor, *, uniform: bool) -> Tensor:
    """Attention of the frames of q to all frames of k and v, over flattened (t, s)."""
    if uniform:
        return v.mean(dim=(2, 3), keepdim=True).expand(*q.shape[:4], v.shape[-1])
    attended = scaled_dot_product_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3))
    return attended.unflatten(2, q.shape[2:4])


def _require_two_frames(q: Tensor, name: str) -> None:
    if q.shape[2] < 2:
        raise ConfigError(name, "needs two groups of frames", got=f"{q.shape[2]} frame", expected="2 or more")
