"""`TokenComputer`: frames and joints of clips in, float16 tokens out, on one device.

In: frames (B, T, H, W, 3) uint8, joints (B, M, T, V, 2) pixels, visible (B, M, T, V). Out: gg (B, T, P, D), jm
(B, T, V, D') float16, joint_mask (B, T, V). It joins backbone, heatmaps and pooling; imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.backbone.frozen import FrozenMC18, normalize
from pipeline.backbone.transfer import HostCopy, to_device
from pipeline.config import GG_LAYER, STRIDES
from pipeline.errors import ConfigError, DataError
from pipeline.heatmaps import joint_heatmaps, to_cells
from pipeline.tokens import global_grid_tokens, joint_map_tokens
from pipeline.torch_device import cuda_errors_explained

FLOAT16_OVERFLOW = 65520.0  # the smallest magnitude that rounds to infinity in float16


class Tokens(NamedTuple):
    """gg (B, T, P, D) float16, jm (B, T, V, D') float16, joint_mask (B, T, V) bool of a batch; numpy."""

    gg: np.ndarray
    jm: np.ndarray
    joint_mask: np.ndarray


@dataclass(frozen=True)
class PendingTokens:
    """Tokens of a batch that the device may still be computing, in parts of `clips` clips."""

    device: torch.device
    clips: int
    copies: list[HostCopy]

    def wait(self) -> Tokens:
        """Raises DataError and ConfigError as a call of TokenComputer does."""
        parts = []
        for copy in self.copies:
            with cuda_errors_explained(self.device, clips=self.clips):  # the computation may have failed since
                arrays = copy.wait()
            parts.append(_checked_tokens(*arrays))
        return parts[0] if len(parts) == 1 else Tokens(*map(np.concatenate, zip(*parts, strict=True)))


class TokenComputer:
    """Frames and joints to tokens: normalise, backbone, heatmaps, pooling, all on the backbone's device."""

    def __init__(
        self, backbone: FrozenMC18, *, jm_layer: str = "layer2", sigma: float = 1.0, normalize: bool = False
    ) -> None:
        """`sigma` in cells of the JM layer's grid; `normalize` as in `joint_map_tokens`."""
        missing = {jm_layer, GG_LAYER} - set(backbone.layers)
        if missing:
            raise ConfigError("backbone", "does not return a layer", got=backbone.layers, expected=sorted(missing))
        self.backbone, self.jm_layer, self.sigma, self.normalize = backbone, jm_layer, sigma, normalize

    def __call__(self, frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> Tokens:
        """Tokens of a batch of clips.

        Args:
            frames: (B, T, H, W, 3) uint8 RGB.
            joints: (B, M, T, V, 2) pixels of these frames (x, y), centres at integers; NaN where absent.
            visible: (B, M, T, V) bool.

        Returns:
            Tokens. A joint counts as present if, in any person, it is visible, finite and its centre lies inside the
            picture; otherwise its token is zero and its mask False. A joint outside has no heatmap: the tail of one
            would pick up the border, not the joint.

        Raises:
            DataError: shapes that do not fit, or a value beyond float16 (65504), with the clip's index in the batch.
            ConfigError: so many clips do not fit into the device's memory, or it fails.
        """
        return self.begin(frames, joints, visible).wait()

    @torch.inference_mode()
    def begin(self, frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> PendingTokens:
        """As a call, but a GPU may still be at work when this returns."""
        device = self.backbone.device
        alone = self.backbone.deterministic
        clips = 1 if alone else len(frames)
        parts = [slice(b, b + 1) for b in range(len(frames))] if alone else [slice(None)]
        copies = []
        for part in parts:
            with cuda_errors_explained(device, clips=clips):
                copies.append(self._launch(frames[part], joints[part], visible[part]))
        return PendingTokens(device, clips, copies)

    def _launch(self, frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> HostCopy:
        device = self.backbone.device
        maps = self.backbone(normalize(to_device(frames, device)))
        pixels = to_device(joints, device)
        drawn = to_device(visible, device) & inside(pixels, frames.shape[2:4])
        jm_maps = maps[self.jm_layer]
        grid = (jm_maps.shape[3], jm_maps.shape[4])
        heatmaps = joint_heatmaps(to_cells(pixels, STRIDES[self.jm_layer]), drawn, size=grid, sigma=self.sigma)
        gg = global_grid_tokens(maps[GG_LAYER])
        jm = joint_map_tokens(jm_maps, heatmaps, normalize=self.normalize)
        return HostCopy([gg.half(), jm.half(), drawn.any(1), _peaks(gg), _peaks(jm)])


def inside(joints: Tensor, size: tuple[int, ...]) -> Tensor:
    """Which joints (..., 2), in pixels, are finite and inside a picture of `size` (H, W), border pixels included."""
    x, y = joints.unbind(-1)
    return (x >= -0.5) & (x < size[1] - 0.5) & (y >= -0.5) & (y < size[0] - 0.5)  # False for NaN


def _peaks(tokens: Tensor) -> Tensor:
    """(B,): the largest magnitude of each clip; NaN where one value is."""
    return tokens.flatten(1).abs().amax(1)


def _checked_tokens(
    gg: np.ndarray, jm: np.ndarray, mask: np.ndarray, gg_peaks: np.ndarray, jm_peaks: np.ndarray
) -> Tokens:
    """The tokens; DataError where one does not fit into float16, so that no infinity enters a store."""
    for name, peaks in (("GG", gg_peaks), ("JM", jm_peaks)):
        overflowing = np.flatnonzero(~(peaks < FLOAT16_OVERFLOW))
        if len(overflowing):
            raise DataError(
                f"clip {overflowing[0]} of the batch",
                f"{name} tokens do not fit into float16",
                got=float(peaks[overflowing[0]]),
                expected="at most 65504",
                remedy="check the weights, or set `normalize` for JM tokens",
            )
    return Tokens(gg, jm, mask)
