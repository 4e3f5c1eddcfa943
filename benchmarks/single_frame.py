"""Does one frame reveal the direction of time? Linear probes on pairs of actions, each the reverse of the other.

In: the synthetic set, drawn here. Out: one table of test accuracy on unseen subjects, with 95 % Wilson intervals;
guessing within each pair is 0.5. A row is a logistic probe on the JM tokens of

    one frame alone          a middle frame went through the backbone by itself
    one frame of the clip    the token of the middle frame, which has seen neighbours through the 3-D kernels
    all frames of the clip   all 16 in their order

A clip has an even number of frames; which of its two middle ones is taken is random: the later one is just after the
middle of an action, but just before the middle of its reverse, so always taking it would distinguish the two.

The first row shows whether the set needs time at all; the second, why a probe on single *tokens* does not test that.

    python benchmarks/single_frame.py [--clips-per-class 24] [--layer layer1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pipeline import manifest
from pipeline.backbone.frozen import FrozenMC18
from pipeline.config import PrepareOptions
from pipeline.datasets.synthetic import recipe
from pipeline.decode.child_process import DecodeProcess
from pipeline.extract.token_computer import TokenComputer
from pipeline.prepare.clip import attempt
from pipeline.prepare.hdf5 import decode_picture
from pipeline.records import VideoRecord, keyed_rng
from star.evaluate.metrics import wilson_interval

CROP, EDGE = 112, 8  # view 0: the middle of 128 x 128
PAIRS = 3  # actions 0 and 1, 2 and 3, 4 and 5 are each other's reverse
ROWS = ("one frame alone", "one frame of the clip", "all frames of the clip")
PENALTY = 1e-2  # on the squared weights, of standardised inputs


def inputs_of(record: VideoRecord, root: Path, computer: TokenComputer, decoder: DecodeProcess) -> list[np.ndarray]:
    """What each row's probe gets of one clip, flat."""
    clip, entry = attempt(record, recipe.listing(root).roots, "ntu25", PrepareOptions(), decoder)
    assert clip is not None, entry
    frames = np.stack([decode_picture(picture) for picture in clip.frames[0]])[None, :, EDGE:-EDGE, EDGE:-EDGE]
    frames, joints, seen = np.ascontiguousarray(frames), clip.joints[:1] - np.float32(EDGE), clip.scores[:1] > 0
    first = frames.shape[1] // 2 - int(keyed_rng(0, "middle", record.key).integers(2))
    half = slice(first, first + 1)
    alone = computer(np.ascontiguousarray(frames[:, half]), joints[:, :, half], seen[:, :, half])
    whole = computer(frames, joints, seen)
    return [array.astype(np.float32).ravel() for array in (alone.jm, whole.jm[:, half], whole.jm)]


def probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Labels that a logistic regression, fitted to convergence, gives the rows of `test`."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    x, y = torch.from_numpy((train - mean) / spread), torch.from_numpy(labels)
    weights = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = cross_entropy(x @ weights, y) + PENALTY * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return (torch.from_numpy((test - mean) / spread) @ weights.detach()).argmax(1).numpy()


def right_of_rows(root: Path, clips_per_class: int, layer: str) -> tuple[dict[str, int], dict[str, int]]:
    """Draw the clips of the pairs into `root`, fit: how many test clips each row's probe gets right, {side: clips}."""
    names = [name for name in recipe.clip_names(clips_per_class) if int(name[-3:]) <= 2 * PAIRS]
    for name in names:
        recipe.write_clip(root, name, seed=0)
    listing = recipe.listing(root)
    sides = manifest.split(listing.records, listing.dataset, "xsub")
    computer = TokenComputer(FrozenMC18("random", layers=(layer, "layer4")), jm_layer=layer)
    with DecodeProcess() as decoder:
        inputs = {
            side: [inputs_of(record, root, computer, decoder) for record in sides[side]] for side in ("train", "test")
        }
    labels = {side: np.array([record.label for record in sides[side]]) for side in inputs}
    right = dict.fromkeys(ROWS, 0)
    for row, title in enumerate(ROWS):
        for pair in range(PAIRS):
            mine = {side: labels[side] // 2 == pair for side in labels}
            x = {side: np.stack([clip[row] for clip in inputs[side]])[mine[side]] for side in labels}
            predicted = probe(x["train"], labels["train"][mine["train"]] % 2, x["test"])
            right[title] += int((predicted == labels["test"][mine["test"]] % 2).sum())
    return right, {side: len(of_side) for side, of_side in labels.items()}


def table(root: Path, clips_per_class: int, layer: str) -> None:
    """Fit and print."""
    right, clips = right_of_rows(root, clips_per_class, layer)
    print(f"{clips['train']} training and {clips['test']} test clips of {PAIRS} pairs, JM tokens of {layer}")
    for title, count in right.items():
        low, high = wilson_interval(count, clips["test"])
        print(f"{title:26}{count / clips['test']:8.3f}   95 % {low:.3f} to {high:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips-per-class", type=int, default=24)
    parser.add_argument("--layer", default="layer1")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        table(Path(folder), given.clips_per_class, given.layer)


if __name__ == "__main__":
    main()
