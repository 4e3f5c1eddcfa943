"""NTU skeleton files read a second, against the usual loop over lines and against the leanest one.

In: the real `.skeleton` files of the test data if they are there (STAR_TEST_DATA), otherwise a synthetic one. Out: one
table. Every row does the same job, a path to arrays of colour places, xyz and tracking states by body. All
rows are measured in turn, round after round, in one fresh process, on one thread; a ratio is the median over rounds of
the ratio within a round. It is done twice: with glibc's default malloc, which returns large buffers to the
system after each use and faults them in again, and with its thresholds raised.

    python benchmarks/skeletons.py [--rounds 15] [--clock cpu]     # CPU seconds: for a busy machine

The row before the last is the bare `float` of the decimals in use, without finding them, checking anything or placing
them; the last only reads the bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.skeletons.ntu import read_lines, read_ntu_skeleton

RAISED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
JOINT = ["x", "y", "z", "depthX", "depthY", "colorX", "colorY", "qW", "qX", "qY", "qZ", "trackingState"]
OURS, PEER = "ours", "the usual loop: dicts by line, then arrays"
Reader = Callable[[Path], object]


def usual_loop(path: Path) -> object:
    """As public preparations read: every field of every line into a dict, then each joint into the arrays."""
    frames: list[list[dict[str, Any]]] = []
    with open(path) as file:
        for _ in range(int(file.readline())):
            bodies = []
            for _ in range(int(file.readline())):
                body: dict[str, Any] = {"bodyID": file.readline().split()[0]}
                lines = [file.readline().split() for _ in range(int(file.readline()))]
                body["joints"] = [{name: float(text) for name, text in zip(JOINT, line, strict=True)} for line in lines]
                bodies.append(body)
            frames.append(bodies)
    ids = sorted({int(body["bodyID"]) for bodies in frames for body in bodies})
    xyz = np.full((len(ids), len(frames), 25, 3), np.nan, np.float32)
    colour = np.full((len(ids), len(frames), 25, 2), np.nan, np.float32)
    states = np.zeros((len(ids), len(frames), 25), np.float32)
    for t, bodies in enumerate(frames):
        for body in bodies:
            m = ids.index(int(body["bodyID"]))
            for v, joint in enumerate(body["joints"]):
                xyz[m, t, v] = joint["x"], joint["y"], joint["z"]
                colour[m, t, v] = joint["colorX"], joint["colorY"]
                states[m, t, v] = joint["trackingState"]
    return colour, xyz, states


def lean_loop(path: Path) -> object:
    """As few Python steps a line as we could think of: only the fields in use, one array at the end, no checks."""
    lines = iter(path.read_text().splitlines())
    ids, times, rows = [], [], []
    for t in range(int(next(lines))):
        for _ in range(int(next(lines))):
            ids.append(int(next(lines).split(None, 1)[0]))
            times.append(t)
            for _ in range(int(next(lines))):
                x, y, z, _, _, u, v, _, _, _, _, state = next(lines).split()
                rows.append((float(x), float(y), float(z), float(u), float(v), float(state)))
    known, slots = np.unique(ids, return_inverse=True)
    table = np.full((len(known), t + 1, 25, 6), np.nan, np.float32)
    table[slots, times] = np.array(rows).reshape(len(ids), 25, 6)
    return table


def bare_floats(path: Path) -> object:
    """`float` of the 13 thousand decimals in use, already found: no reader that calls it is faster."""
    return [float(text) for text in _decimals(path)]


_FOUND: dict[Path, list[bytes]] = {}


def _decimals(path: Path) -> list[bytes]:
    if path not in _FOUND:
        lines = [line.split() for line in path.read_bytes().splitlines()]
        _FOUND[path] = [line[column] for line in lines if len(line) == 12 for column in (0, 1, 2, 5, 6)]
    return _FOUND[path]


ROWS: dict[str, Reader] = {
    PEER: usual_loop,
    "a lean loop, no checks": lean_loop,
    "ours, line by line (irregular files)": lambda path: read_lines(path, path.read_bytes()),
    OURS: read_ntu_skeleton,
    "bare float() of the decimals in use": bare_floats,
    "the bytes alone": lambda path: path.read_bytes(),
}


def made_up(folder: Path) -> Path:
    """A file of 103 frames and one body, with numbers of seven digits as the tracker writes them."""
    rng = np.random.default_rng(0)
    lines = ["103"]
    for _ in range(103):
        lines += ["1", "72057594037931101 0 1 1 1 1 0 0.02764709 0.05745083 2", "25"]
        scales = np.array([0.3, 0.3, 3, 300, 200, 1000, 500, 0.5, 0.5, 0.5, 0.5])
        for values in rng.normal(1, 0.2, (25, 11)) * scales:
            lines.append(" ".join([*(f"{value:.7g}" for value in values), "2"]))
    path = folder / "S001C001P001R001A001.skeleton"
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(paths: list[Path], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each row in each round, for all files."""
    seconds: dict[str, list[float]] = {name: [] for name in ROWS}
    for turn in range(rounds + 1):
        for name, reader in ROWS.items():
            start = clock()
            for path in paths:
                reader(path)
            if turn:  # the first round warms up
                seconds[name].append(clock() - start)
    return seconds


def table(seconds: dict[str, list[float]], files: int) -> list[str]:
    lean = seconds["a lean loop, no checks"]
    lines = [f"{'':44}{'ms a file':>10}{'files/s':>10}{'x the usual':>13}{'x the lean':>12}"]
    for name, own in seconds.items():
        each = statistics.median(own) / files
        usual, other = (
            statistics.median(p / s for p, s in zip(peer, own, strict=True)) for peer in (seconds[PEER], lean)
        )
        lines.append(f"{name:44}{1000 * each:10.2f}{1 / each:10.0f}{usual:13.1f}{other:12.1f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--files", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.files:
        clock = time.process_time if options.clock == "cpu" else time.perf_counter
        print(json.dumps(measure(options.files, options.rounds, clock)))
        return
    data = Path(os.environ.get("STAR_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder:
        paths = [path for path in sorted(data.glob("ntu/skeletons/*.skeleton")) if path.stat().st_size > 1000]
        kind = "real" if paths else "made up"
        paths = paths or [made_up(Path(folder))]
        size = statistics.mean(path.stat().st_size for path in paths)
        print(f"{len(paths)} {kind} files of {size / 1000:.0f} kB on average, {options.clock} clock")
        for title, extra in (("malloc as it comes", {}), ("malloc thresholds raised", RAISED)):
            command = [sys.executable, __file__, "--rounds", str(options.rounds), "--clock", options.clock, "--files"]
            environment = {**os.environ, **extra, "OMP_NUM_THREADS": "1"}
            shown = subprocess.run([*command, *map(str, paths)], env=environment, stdout=subprocess.PIPE, check=True)
            print(f"\n{title}", *table(json.loads(shown.stdout), len(paths)), sep="\n")


if __name__ == "__main__":
    main()
