"""What tells the actions of the synthetic set apart? Probes on each kind of input, on subjects they were not fitted to.

In: the synthetic set, drawn here. Out: one table of accuracies. A row is a linear probe on

    joint coordinates        of all frames, normalised by the body, with velocities: logistic regression
    pixels of one frame      a middle frame at 28 x 28 (as are all rows below: ridge regression)
    tokens of one frame      JM, GG and both, of that frame alone, which went through the backbone by itself
    tokens of all frames     JM, GG and both

The first column is of all actions; the others are of pairs, within which guessing is 0.5: `thing` pairs differ in the
thing beside the person alone, `order` pairs are each the other's reverse, `hands` is a pair that differs in a small
movement alone. No row chooses on test clips: strengths, and the weights of JM against GG, have the best accuracy on
held-out training subjects.

A clip has an even number of frames; which of its two middle ones is taken is random: the later one is just after the
middle of an action, but just before the middle of its reverse, so always taking it would distinguish the two.

    python benchmarks/drawn_set.py [--clips-per-class 24] [--seed 0] [--layer layer1]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from pipeline import manifest
from pipeline.backbone.frozen import FrozenMC18
from pipeline.config import PrepareOptions
from pipeline.datasets.synthetic import recipe
from pipeline.datasets.synthetic.actions import MOVEMENTS
from pipeline.decode.child_process import DecodeProcess
from pipeline.extract.token_computer import TokenComputer
from pipeline.prepare.clip import attempt
from pipeline.prepare.hdf5 import decode_picture
from pipeline.records import VideoRecord, keyed_rng
from star.evaluate.metrics import wilson_interval

CROP, EDGE, SMALL = 112, 8, 28  # view 0: the middle of 128 x 128
SPINE_BASE, NECK = 0, 2
STRENGTHS = (1e-2, 1e-1, 1.0, 10.0)  # of ridge regression, beside a kernel of mean diagonal 1
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of JM beside GG
PENALTIES = (1e-3, 1e-2, 1e-1)  # the inverse strengths of logistic regression
FOLDS = 4
ROWS: dict[str, tuple[str, ...]] = {
    "joint coordinates": ("joints",),
    "pixels of one frame": ("pixels",),
    "JM tokens of one frame": ("jm of one",),
    "GG tokens of one frame": ("gg of one",),
    "both of one frame": ("jm of one", "gg of one"),
    "JM tokens of all frames": ("jm",),
    "GG tokens of all frames": ("gg",),
    "both of all frames": ("jm", "gg"),
}
HANDS = (list(MOVEMENTS).index("clap slowly"), list(MOVEMENTS).index("clap fast"))
Probe = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows to fit, rows to score: scores (N, A)


@dataclass(frozen=True)
class Clips:
    """Inputs by name (N, ...), labels (N,), subjects (N,), and whether each is a training clip (N,)."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray
    subjects: np.ndarray
    train: np.ndarray


def inputs_of(
    record: VideoRecord, root: Path, computer: TokenComputer, decoder: DecodeProcess
) -> dict[str, np.ndarray]:
    """What the probes get of one clip."""
    clip, entry = attempt(record, recipe.listing(root).roots, "ntu25", PrepareOptions(), decoder)
    assert clip is not None, entry
    frames = np.stack([decode_picture(picture) for picture in clip.frames[0]])[None, :, EDGE:-EDGE, EDGE:-EDGE]
    frames, joints, seen = np.ascontiguousarray(frames), clip.joints[:1] - np.float32(EDGE), clip.scores[:1] > 0
    first = frames.shape[1] // 2 - int(keyed_rng(0, "middle", record.key).integers(2))
    half = slice(first, first + 1)
    alone = computer(np.ascontiguousarray(frames[:, half]), joints[:, :, half], seen[:, :, half])
    whole = computer(frames, joints, seen)
    small = Image.fromarray(frames[0, first]).resize((SMALL, SMALL), Image.Resampling.BOX)
    return {
        "joints": coordinates(joints[0], seen[0]),
        "pixels": np.asarray(small, dtype=np.float32),
        "jm of one": alone.jm[0],
        "gg of one": alone.gg[0],
        "jm": whole.jm[0],
        "gg": whole.gg[0],
    }


def coordinates(joints: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Places and velocities (2, M, T, V, 2) of joints (M, T, V, 2): about the first person's spine, in trunks' lengths.

    A person who is not seen in a frame keeps the last place; one who is never seen has zeros.
    """
    places = np.where(seen[..., None], joints, np.nan).astype(np.float64)
    for t in [*range(1, places.shape[1]), *range(places.shape[1] - 2, -1, -1)]:
        near = t - 1 if np.isnan(places[:, t]).any() and t > 0 else min(t + 1, places.shape[1] - 1)
        places[:, t] = np.where(np.isnan(places[:, t]), places[:, near], places[:, t])
    middle = np.nanmean(places[0, :, SPINE_BASE], axis=0)
    trunk = np.nanmean(np.linalg.norm(places[0, :, NECK] - places[0, :, SPINE_BASE], axis=-1))
    places = np.nan_to_num((places - middle) / trunk)
    return np.stack([places, np.gradient(places, axis=1)])


def draw(root: Path, clips_per_class: int, seed: int, layer: str) -> Clips:
    """Draw the set into `root`, with the inputs of all of its clips."""
    for name in recipe.clip_names(clips_per_class, seed=seed):
        recipe.write_clip(root, name, seed=seed)
    listing = recipe.listing(root)
    train = {record.clip_id for record in manifest.split(listing.records, listing.dataset, "xsub")["train"]}
    computer = TokenComputer(FrozenMC18("random", layers=(layer, "layer4")), jm_layer=layer)
    with DecodeProcess() as decoder:
        found = [inputs_of(record, root, computer, decoder) for record in listing.records]
    return Clips(
        inputs={name: np.stack([each[name] for each in found]) for name in found[0]},
        labels=np.array([record.label for record in listing.records]),
        subjects=np.array([record.subject for record in listing.records]),
        train=np.array([record.clip_id in train for record in listing.records]),
    )


def kernel_of(inputs: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The linear kernel (N, N) of inputs (N, ...), standardised as the training clips are; mean diagonal 1 on them."""
    flat = inputs.reshape(len(inputs), -1)
    kernel = np.zeros((len(flat), len(flat)))
    for first in range(0, flat.shape[1], 20_000):
        part = flat[:, first : first + 20_000].astype(np.float32)
        part = (part - part[train].mean(axis=0)) / (part[train].std(axis=0) + 1e-3)
        kernel += part @ part.T
    return kernel / kernel.diagonal()[train].mean()


def ridge(kernel: np.ndarray, labels: np.ndarray, strength: float) -> Probe:
    kernel = kernel + 1.0  # a constant input: the intercept

    def scores(fit: np.ndarray, score: np.ndarray) -> np.ndarray:
        targets = np.eye(len(MOVEMENTS))[labels[fit]]
        model = KernelRidge(kernel="precomputed", alpha=strength * len(fit) / 100).fit(
            kernel[np.ix_(fit, fit)], targets
        )
        return np.asarray(model.predict(kernel[np.ix_(score, fit)]))

    return scores


def logistic(inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, penalty: float) -> Probe:
    flat = inputs.reshape(len(inputs), -1)
    flat = (flat - flat[train].mean(axis=0)) / (flat[train].std(axis=0) + 1e-3)
    # the weights of a penalised linear model lie in the span of the training clips: the same fit in fewer numbers
    flat = flat @ np.linalg.svd(flat[train], full_matrices=False)[2].T

    def scores(fit: np.ndarray, score: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=penalty, max_iter=200).fit(flat[fit], labels[fit])
        return np.asarray(model.decision_function(flat[score]))

    return scores


def probes_of(row: str, clips: Clips, kernels: dict[str, np.ndarray]) -> list[Probe]:
    """The probes of a row, of which held-out training subjects choose one."""
    names = ROWS[row]
    if row == "joint coordinates":
        return [logistic(clips.inputs["joints"], clips.labels, clips.train, penalty) for penalty in PENALTIES]
    mixed = [kernels[names[0]]]
    if len(names) == 2:
        mixed = [share * kernels[names[0]] + (1 - share) * kernels[names[1]] for share in SHARES]
    return [ridge(kernel, clips.labels, strength) for kernel in mixed for strength in STRENGTHS]


def chosen_scores(probes: list[Probe], clips: Clips) -> np.ndarray:
    """Scores (N, A) of the test clips by the probe that is best on held-out training subjects."""
    train, test = np.flatnonzero(clips.train), np.flatnonzero(~clips.train)
    best, most = probes[0], -1
    for probe in probes if len(probes) > 1 else []:
        right = 0
        for fit, held in GroupKFold(FOLDS).split(train, groups=clips.subjects[train]):
            predicted = probe(train[fit], train[held]).argmax(axis=1)
            right += int((predicted == clips.labels[train[held]]).sum())
        if right > most:
            best, most = probe, right
    return best(train, test)


def pairs() -> dict[str, list[tuple[int, int]]]:
    """Pairs of labels by the one thing that tells them apart."""
    found: dict[str, list[tuple[int, int]]] = {"thing": [], "order": [], "hands": [HANDS]}
    for (i, one), (j, other) in combinations(enumerate(MOVEMENTS.values()), 2):
        if one.act is other.act:
            differing = [name for name in ("thing", "backwards") if getattr(one, name) != getattr(other, name)]
            if len(differing) == 1:
                found[{"thing": "thing", "backwards": "order"}[differing[0]]].append((i, j))
    return found


def within(scores: np.ndarray, labels: np.ndarray, among: list[tuple[int, int]]) -> float:
    """The accuracy of choosing one of a pair, over the clips of these pairs."""
    right = [
        scores[labels == mine][:, mine] > scores[labels == mine][:, other]
        for pair in among
        for mine, other in (pair, pair[::-1])
    ]
    return float(np.concatenate(right).mean())


def table(clips: Clips) -> dict[str, float]:
    """Fit and print; the accuracy of each row."""
    labels = clips.labels[~clips.train]
    print(f"{clips.train.sum()} training and {len(labels)} test clips of {len(MOVEMENTS)} actions")
    print(f"{'':26}{'all':>7}   95 % interval " + "".join(f"{kind:>9}" for kind in pairs()))
    kernels = {name: kernel_of(each, clips.train) for name, each in clips.inputs.items() if name != "joints"}
    found = {}
    for row in ROWS:
        scores = chosen_scores(probes_of(row, clips, kernels), clips)
        right = int((scores.argmax(axis=1) == labels).sum())
        found[row] = right / len(labels)
        low, high = wilson_interval(right, len(labels))
        of_pairs = "".join(f"{within(scores, labels, among):9.3f}" for among in pairs().values())
        print(f"{row:26}{found[row]:7.3f}   {low:.3f} to {high:.3f} {of_pairs}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips-per-class", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layer", default="layer1")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        table(draw(Path(folder), given.clips_per_class, given.seed, given.layer))


if __name__ == "__main__":
    main()
