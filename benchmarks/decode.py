"""How fast 16 frames of a real NTU video become small RGB pictures, and how far from an exact box filter they are.

In: the folder of real test data (argument, or STAR_TEST_DATA). Out: one table; every row does the same job on the same
videos with one thread: decode, cut a box, scale it, RGB. The limit is bare decoding with PyAV up to the last wanted
frame, without touching a pixel; the ratio is to that. Rows are measured in turn, round after round, in seconds of CPU
time (of all threads and of the child), which depend less on other load than wall time; the fastest round of each
counts. Frames a second count every frame that was decoded, wanted or not. Peers that are
not installed are left out.

    python benchmarks/decode.py [DATA] [--rounds 5] [--job person|full]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import av
import numpy as np

from pipeline.decode import pyav_reader
from pipeline.decode.child_process import DecodeProcess
from pipeline.decode.read import probe, read_frames
from pipeline.sampling import sample_indices

Box = tuple[int, int, int, int]
JOBS: dict[str, tuple[Box, tuple[int, int]]] = {  # of a 1920 x 1080 picture
    "person": ((600, 180, 1320, 900), (128, 128)),
    "full": ((0, 0, 1920, 1080), (128, 228)),
}


@dataclass(frozen=True)
class Task:
    path: Path
    indices: np.ndarray
    box: Box
    size: tuple[int, int]


TableRow = Callable[[Task], "np.ndarray | None"]


def bare(task: Task) -> None:
    with av.open(str(task.path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for number, _ in enumerate(container.decode(stream)):
            if number == task.indices[-1]:
                return


def ours(task: Task, reader: str = "pyav") -> np.ndarray:
    return read_frames(task.path, task.indices, reader=reader, box=task.box, size=task.size)


def ours_all_packets(task: Task) -> np.ndarray:
    with mock.patch.object(pyav_reader, "packets_needed", return_value=None):
        return ours(task)


def ours_in_child(task: Task, decoder: DecodeProcess) -> np.ndarray:
    return decoder.read_frames(task.path, task.indices, box=task.box, size=task.size).frames


def opencv(task: Task) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(task.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted, out = set(task.indices.tolist()), []
    for number in range(task.indices[-1] + 1):
        capture.grab()
        if number in wanted:
            out.append(_shrunk(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB), task))
    return np.stack(out)


def decord_full(task: Task) -> np.ndarray:
    import decord

    reader = decord.VideoReader(str(task.path), ctx=decord.cpu(0), num_threads=1)
    return np.stack([_shrunk(frame, task) for frame in reader.get_batch(task.indices).asnumpy()])


def decord_native(task: Task) -> np.ndarray:
    """decord scales whole pictures only, on the way to RGB: the box is cut from a whole picture of the right scale."""
    import decord

    x0, y0, x1, y1 = task.box
    scale_y, scale_x = task.size[0] / (y1 - y0), task.size[1] / (x1 - x0)
    height, width = round(1080 * scale_y), round(1920 * scale_x)
    reader = decord.VideoReader(str(task.path), ctx=decord.cpu(0), num_threads=1, width=width, height=height)
    top, left = round(y0 * scale_y), round(x0 * scale_x)
    return reader.get_batch(task.indices).asnumpy()[:, top : top + task.size[0], left : left + task.size[1]]


def torchcodec(task: Task) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(task.path), dimension_order="NHWC", num_ffmpeg_threads=1)
    frames = decoder.get_frames_at(indices=task.indices.tolist()).data.numpy()
    return np.stack([_shrunk(frame, task) for frame in frames])


def _shrunk(frame: np.ndarray, task: Task) -> np.ndarray:
    import cv2

    x0, y0, x1, y1 = task.box
    return cv2.resize(frame[y0:y1, x0:x1], task.size[::-1], interpolation=cv2.INTER_AREA)


def exact(task: Task) -> np.ndarray:
    """Float64 means over source areas of full pictures, which swscale converted with full chroma and rounding."""
    x0, y0, x1, y1 = task.box
    graph = av.filter.Graph()
    out = []
    with av.open(str(task.path)) as container:
        stream = container.streams.video[0]
        nodes = [
            graph.add_buffer(template=stream),
            graph.add("scale", "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        wanted = set(task.indices.tolist())
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                graph.push(frame)
                full = graph.vpull().to_ndarray()[y0:y1, x0:x1].astype(np.float64)
                rows, columns = _area_weights(y1 - y0, task.size[0]), _area_weights(x1 - x0, task.size[1])
                out.append(np.einsum("iy,yxc,jx->ijc", rows, full, columns, optimize=True))
    return np.stack(out)


def _area_weights(length: int, parts: int) -> np.ndarray:
    """(parts, length): how much of each pixel lies in each of `parts` equal intervals; rows sum to 1."""
    edges = np.linspace(0, length, parts + 1)
    pixels = np.arange(length)
    overlap = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return np.clip(overlap, 0, None) * parts / length


def measure(rows: dict[str, TableRow], tasks: list[Task], rounds: int, decoder: DecodeProcess) -> dict[str, float]:
    """CPU seconds of the fastest round of each row, over all tasks."""
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(rounds):
        for name, row in rows.items():
            start = time.process_time() + child_seconds(decoder)
            for task in tasks:
                row(task)
            best[name] = min(best[name], time.process_time() + child_seconds(decoder) - start)
    return best


def child_seconds(decoder: DecodeProcess) -> float:
    """CPU time of the decoding child so far (Linux)."""
    assert decoder._child is not None
    fields = Path(f"/proc/{decoder._child.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("STAR_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--job", choices=JOBS, default="person")
    options = parser.parse_args()

    paths = sorted((options.data / "ntu" / "videos").glob("S*.avi"))
    if not paths:
        print(f"no NTU videos below {options.data}: name the folder of real test data", file=sys.stderr)
        return
    tasks = [Task(path, sample_indices(probe(path).frames), *JOBS[options.job]) for path in paths]
    with DecodeProcess() as decoder:
        decoder.probe(paths[0])
        rows: dict[str, TableRow] = {
            "bare decoding (limit)": bare,
            "pyav": ours,
            "pyav, every packet": ours_all_packets,
            "pyav, in the watchdog's child": partial(ours_in_child, decoder=decoder),
            "reader opencv": partial(ours, reader="opencv"),
            "OpenCV, INTER_AREA": opencv,
        }
        if importlib.util.find_spec("decord"):
            rows |= {"decord, full size, INTER_AREA": decord_full, "decord, its own scaling": decord_native}
        if importlib.util.find_spec("torchcodec"):
            rows["torchcodec, INTER_AREA"] = torchcodec
        seconds = measure(rows, tasks, options.rounds, decoder)
        truth = [exact(task) for task in tasks]
        errors = {}
        for name, row in rows.items():
            made = [row(task) for task in tasks]
            errors[name] = [np.abs(m - t).mean() for m, t in zip(made, truth, strict=True) if m is not None]

    box, size = JOBS[options.job]
    passed = sum(int(task.indices[-1]) + 1 for task in tasks)
    print(f"{len(tasks)} NTU videos, 1080p; 16 frames each; box {box} to {size[0]} x {size[1]}; one thread\n")
    print(f"{'':32}{'frames/s':>10}{'clips/s':>10}{'of the limit':>14}{'mean error /255':>18}")
    for name, elapsed in seconds.items():
        share = seconds["bare decoding (limit)"] / elapsed
        error = f"{np.mean(errors[name]):18.2f}" if errors[name] else ""
        print(f"{name:32}{passed / elapsed:10.1f}{len(tasks) / elapsed:10.2f}{share:14.2f}{error}")


if __name__ == "__main__":
    main()
