"""What storing frames as JPEG 95 costs: the error of the tokens, beside the bytes saved.

In: clips of the synthetic set, drawn here, or an NTU-like folder; weights. Out: one table. Each row changes the frames
that the tokens are computed from; errors are against lossless frames in float32. The error of a layer is the root mean
square difference of its tokens over the spread of the lossless ones around their channel's mean, so 1 would be noise as
large as the signal. Two rows change no codec, as yardsticks: a crop moved by one pixel, and bfloat16 where the machine
computes in it. The last line is the time of decoding them, relative to Pillow's.

    python benchmarks/frame_codec.py [--clips 6] [--weights kinetics400] [--videos DIR --skeletons DIR]
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.backbone.frozen import FrozenMC18
from pipeline.config import PrepareOptions
from pipeline.datasets import ntu
from pipeline.datasets.synthetic import recipe
from pipeline.decode.child_process import DecodeProcess
from pipeline.extract.token_computer import TokenComputer
from pipeline.prepare.clip import attempt
from pipeline.prepare.hdf5 import ClipContent, decode_picture
from pipeline.records import Listing
from pipeline.torch_device import resolve_precision

CROP, EDGE = 112, 8  # view 0: the middle of 128 x 128
LAYERS = ("layer1", "layer2", "layer3")
Codec = Callable[[np.ndarray], bytes]


def jpeg(quality: int, subsampling: int) -> Codec:
    """An encoder of (H, W, 3) pictures; subsampling 0 is 4:4:4, 2 is 4:2:0."""

    def encode(picture: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, "JPEG", quality=quality, subsampling=subsampling)
        return out.getvalue()

    return encode


CODECS = {
    "JPEG 95, 4:4:4 (ours)": jpeg(95, 0),
    "JPEG 95, 4:2:0": jpeg(95, 2),
    "JPEG 85, 4:4:4": jpeg(85, 0),
    "JPEG 75, 4:2:0": jpeg(75, 2),
}


def clips_of(rows: Listing, count: int) -> list[ClipContent]:
    """The first clips of a listing that can be made, lossless."""
    clips = []
    with DecodeProcess() as decoder:
        for record in rows.records:
            clip, _ = attempt(record, rows.roots, rows.topology, PrepareOptions(frame_codec="lossless"), decoder)
            clips += [clip] if clip is not None else []
            if len(clips) == count:
                break
    return clips


def tokens(
    clips: list[ClipContent], frames: list[np.ndarray], backbone: FrozenMC18, left: int
) -> dict[str, np.ndarray]:
    """Tokens of all clips, (frames, places, channels), by name: GG of layer 4, JM of layers 1 to 3."""
    found: dict[str, list[np.ndarray]] = {}
    for clip, pixels in zip(clips, frames, strict=True):
        crop = np.ascontiguousarray(pixels[None, :, EDGE : EDGE + CROP, left : left + CROP])
        joints = clip.joints[:1] - np.array((left, EDGE), np.float32)
        for layer in LAYERS:
            made = TokenComputer(backbone, jm_layer=layer)(crop, joints, clip.scores[:1] > 0)
            found.setdefault(f"JM {layer}", []).append(made.jm[0].astype(np.float64))
        found.setdefault("GG layer4", []).append(made.gg[0].astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def relative(changed: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square difference over the spread of the reference, channel by channel, then over all channels."""
    spread = ((reference - reference.mean(axis=(0, 1))) ** 2).mean()
    return float(np.sqrt(((changed - reference) ** 2).mean() / spread))


def table(clips: list[ClipContent], weights: str) -> None:
    """Print the rows."""
    plain = [np.stack([decode_picture(picture) for picture in clip.frames[0]]) for clip in clips]
    names = (*LAYERS, "layer4")
    able = ("fp32", "bf16") if resolve_precision("auto") == "bf16" else ("fp32",)
    backbones = {p: FrozenMC18(weights, layers=names, precision=p) for p in able}
    reference = tokens(clips, plain, backbones["fp32"], EDGE)
    print(f"{'':26}{'bytes':>8}{'pixels':>8}" + "".join(f"{name:>12}" for name in reference))

    def line(title: str, size: float, pixels: float, made: dict[str, np.ndarray]) -> None:
        errors = "".join(f"{relative(made[name], reference[name]):12.4f}" for name in reference)
        print(f"{title:26}{size:8.0f}{pixels:8.2f}{errors}")

    lossless = float(np.mean([len(picture) for clip in clips for picture in clip.frames[0]]))
    line("lossless (PNG)", lossless, 0.0, reference)
    for title, encode in CODECS.items():
        coded = [[encode(picture) for picture in frames] for frames in plain]
        decoded = [np.stack([decode_picture(picture) for picture in frames]) for frames in coded]
        pixels = np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(plain, decoded, strict=True)])
        size = np.mean([len(picture) for frames in coded for picture in frames])
        line(title, float(size), float(pixels), tokens(clips, decoded, backbones["fp32"], EDGE))
    line("crop moved by one pixel", lossless, 0.0, tokens(clips, plain, backbones["fp32"], EDGE + 1))
    if "bf16" in backbones:
        line("bfloat16", lossless, 0.0, tokens(clips, plain, backbones["bf16"], EDGE))
    pictures = [CODECS["JPEG 95, 4:4:4 (ours)"](picture) for frames in plain for picture in frames]
    print(f"time of decoding JPEG 95 4:4:4, Pillow's over ours: {decoding_ratio(pictures):.2f}")


def decoding_ratio(pictures: list[bytes], rounds: int = 7) -> float:
    """CPU seconds of Pillow for the same pixels, over ours; the median over rounds, both in each."""

    def pillow(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGB"))

    ratios = []
    for _ in range(rounds):
        seconds = []
        for decode in (pillow, decode_picture):
            start = time.process_time()
            for data in pictures:
                decode(data)
            seconds.append(time.process_time() - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--skeletons", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.videos:
            rows = ntu.listing(options.videos, options.skeletons, dataset="ntu120")
        else:
            for name in recipe.clip_names(1)[: options.clips]:
                recipe.write_clip(Path(folder), name, seed=0)
            rows = recipe.listing(Path(folder))
        clips = clips_of(rows, options.clips)
    print(f"{len(clips)} clips of {rows.dataset}, weights {options.weights}")
    table(clips, options.weights)


if __name__ == "__main__":
    main()
