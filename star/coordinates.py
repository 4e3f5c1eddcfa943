"""What a skeleton alone says: joint coordinates freed of where the body stands and of its size, with velocities.

In: joints of a batch (B, M, T, V, C), pixels or metres, NaN where absent. Out: (B, M, T, V + 1, 2 C + 1), finite. No
tokens and no pixels. All of it is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

IN_PICTURE, CHANNELS = 5, 12  # of `coordinate_features`: those of the joints in pixels come first
SMALLEST = 1e-6  # of a body's size: below it the body is a point, which has no places in units of its size
MOST_SIZES = 50.0  # from the centre: one clip of two joints that lie together must not outweigh all others
FARTHEST = 1e6  # pixels or metres: what lies beyond is no place, and its square would leave float32


def body_coordinates(points: Tensor) -> Tensor:
    """Positions, velocities and presence of every joint, and of the body itself as the last "joint".

    Joints are relative to their body's centre in the same frame, the centre to the mean centre of all persons of the
    clip, and both are in units of the clip's body size: the root mean square distance of joints from their centre. So
    the features are the same wherever the skeletons stand and however large they are; where several persons are, and
    which of them is larger, is kept. A joint that is absent in some frames is interpolated over time (held before the
    first and after the last frame with it) and flagged; one that is absent throughout is zero.

    Args:
        points: (B, M, T, V, C), NaN, infinite or beyond `FARTHEST` where absent.

    Returns:
        (B, M, T, V + 1, 2 C + 1) of the type of `points`: position, velocity (the change since the frame before), and
        1 where the joint is present, or any joint of the body.
    """
    present = (points.abs() < FARTHEST).all(dim=-1)  # not where a value is no number
    known = present.any(dim=2, keepdim=True)  # (B, M, 1, V): a joint that has a place in some frame
    filled = interpolated(points, present)
    centre = (filled * known[..., None]).sum(dim=3, keepdim=True) / known.sum(dim=3).clamp(min=1)[..., None, None]
    body = known.any(dim=3)[..., None, None].to(points.dtype)  # (B, M, 1, 1, 1)
    frames, persons = points.shape[2], body.sum(dim=1, keepdim=True).clamp(min=1)
    origin = (centre * body).sum(dim=(1, 2), keepdim=True) / (frames * persons)
    offsets = (filled - centre) * known[..., None]
    joints = known.sum(dim=(1, 3), keepdim=True)[..., None].clamp(min=1)
    size = (offsets.square().sum(dim=(1, 2, 3, 4), keepdim=True) / (frames * joints)).sqrt()
    places = torch.cat([offsets, (centre - origin) * body], dim=3) / size.clamp(min=SMALLEST)
    places = torch.where(size > SMALLEST, places.clamp(-MOST_SIZES, MOST_SIZES), 0)
    speeds = torch.diff(places, dim=2, prepend=places[:, :, :1])
    flags = torch.cat([present, present.any(dim=3, keepdim=True)], dim=3)[..., None].to(points.dtype)
    return torch.cat([places, speeds, flags], dim=-1)


def interpolated(points: Tensor, present: Tensor) -> Tensor:
    """`points` (B, M, T, V, C) with values for the frames in which a joint is not `present` (B, M, T, V): linear in
    time between its neighbours, the nearest one before the first and after the last, 0 where there is none."""
    frames = points.shape[2]
    t = torch.arange(frames, device=points.device)[None, None, :, None].expand(present.shape)
    before = torch.where(present, t, -1).cummax(dim=2).values
    after = frames - 1 - torch.where(present, frames - 1 - t, -1).flip(2).cummax(dim=2).values.flip(2)
    left, right = torch.where(before < 0, after, before), torch.where(after == frames, before, after)
    share = ((t - left).to(points.dtype) / (right - left).clamp(min=1))[..., None]
    whole = torch.where(present[..., None], points, 0)

    def at(frame: Tensor) -> Tensor:
        inside = frame.clamp(0, frames - 1)[..., None].expand(points.shape)
        return whole.gather(2, inside)

    return at(left) * (1 - share) + at(right) * share


def coordinate_features(joints: Tensor, xyz: Tensor) -> Tensor:
    """(B, M, T, V + 1, 12): `body_coordinates` of joints (B, M, T, V, 2) in pixels and of xyz (B, M, T, V, 3)."""
    return torch.cat([body_coordinates(joints), body_coordinates(xyz)], dim=-1)
