"""Stage 1 a clip, against the bare work on its frames, and what its care costs; and the bookkeeping of a whole NTU 120.

In: the real NTU video and skeleton of the test data if they are there (STAR_TEST_DATA), otherwise a synthetic pair.
Out: two tables. In the first, all rows are measured in turn, round after round, in CPU seconds of this process and its
child; a ratio is the median over rounds of the ratio to the bare work within a round: the same frames decoded, cropped
and encoded, and the skeleton parsed, in this process, with nothing checked against anything. In the second, seconds of
listing, matching, comparing raw files by their stamps, and reading the outcomes of 114,480 rows (made up).

    python benchmarks/prepare.py [--rounds 9] [--rows 114480]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from pipeline.artifacts.outcomes import Account
from pipeline.config import PrepareOptions
from pipeline.datasets import ntu
from pipeline.decode.child_process import DecodeProcess
from pipeline.decode.identity import identity
from pipeline.decode.read import read_frames
from pipeline.prepare.clip import attempt
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import ClipContent, encode_picture
from pipeline.prepare.pinned import stamp
from pipeline.prepare.raw_files import remember, require_same_raw_files
from pipeline.records import Listing, VideoRecord
from pipeline.skeletons.ntu import read_ntu_skeleton

Result = TypeVar("Result")

NAME = "S001C001P001R001A001"
BARE = "bare: decode, crop, encode, parse"


def pair(folder: Path) -> Listing:
    """One video with its skeleton."""
    data = Path(os.environ.get("STAR_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "ntu"
    if not (data / f"videos/{NAME}_rgb.avi").exists():
        from pipeline.datasets.synthetic import recipe

        recipe.write_clip(folder, recipe.clip_names(1)[0], seed=0)
        return recipe.listing(folder)
    for kind, suffix in (("videos", "_rgb.avi"), ("skeletons", ".skeleton")):
        (folder / kind).mkdir()
        (folder / kind / f"{NAME}{suffix}").write_bytes((data / kind / f"{NAME}{suffix}").read_bytes())
    return ntu.listing(folder / "videos", folder / "skeletons", dataset="ntu60")


def rows_of(listing: Listing, child: DecodeProcess) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    options, record = PrepareOptions(), listing.records[0]
    video = Path(listing.roots["videos"]) / record.video
    pose = Path(listing.roots["skeletons"]) / record.skeleton
    clip, entry = attempt(record, listing.roots, listing.topology, options, child)
    assert isinstance(clip, ClipContent), entry
    index, size = clip.frame_index[0], (128, 128)

    def bare() -> None:
        read_ntu_skeleton(pose)
        for picture in read_frames(video, index, box=clip.box, size=size):
            encode_picture(picture, options.frame_codec)

    return {
        BARE: bare,
        "stage 1": lambda: attempt(record, listing.roots, listing.topology, options, child),
        "of it: hashing both files": lambda: (identity(video), identity(pose)),
        "of it: counting the frames": lambda: child.probe(video),
        "of it: a call of the child": lambda: child.call("pipeline.skeletons.read:topology_of", path=pose),
    }


def cpu_seconds(child: DecodeProcess) -> float:
    """Of this process and of the child, which `child.probe` has started."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    others = [process.cpu_times() for process in psutil.Process().children()]
    return own.ru_utime + own.ru_stime + sum(times.user + times.system for times in others)


def measure(rows: dict[str, Callable[[], object]], child: DecodeProcess, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each row in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, work in rows.items():
            start = cpu_seconds(child)
            for _ in range(3):
                work()
            if turn:  # the first round warms up
                seconds[name].append((cpu_seconds(child) - start) / 3)
    return seconds


def bookkeeping(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of what a command does with all rows before and after its work, on `rows` clips that are all done."""
    raw, out = folder / "raw", folder / "out"
    raw.mkdir()
    records = []
    for row in range(rows):
        (raw / f"{row:06d}.v").touch()
        (raw / f"{row:06d}.s").touch()
        key = f"{row:06d}"
        records.append(VideoRecord(clip_id=key, key=key, label=0, video=f"{key}.v", skeleton=f"{key}.s"))
    roots = {"videos": str(raw), "skeletons": str(raw)}
    listing = Listing(
        dataset="folder",
        class_names=("a",),
        topology="ntu25",
        protocols=("given",),
        records=tuple(records),
        roots=roots,
    )
    seconds = {}

    def timed(name: str, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    prepared = PreparedFolder.match(out, listing, PrepareOptions())
    out.mkdir()
    timed("freeze the listing", prepared.freeze)
    empty = identity(raw / "000000.v")
    for number in range(prepared.shards):
        shard = prepared.shard(number)
        poses = dict.fromkeys(("first_frame", "first_pose", "frames_without_pose", "bodies_left_out"), 0)
        facts = {
            "reader": "pyav",
            "raw": {kind: {**empty, "frames": 100} for kind in ("video", "pose")},
            "poses": {"units": "pixels of 1920 x 1080", "last_pose": 99, "bodies": 1, "outside": 0.0, **poses},
        }
        shard.commit(b"", [{"id": r.clip_id, "outcome": "done", "sha256": "0" * 64, **facts} for r in shard.records])
        paths = [str(raw / name) for record in shard.records for name in (record.video, record.skeleton)]
        remember(out, number, {path: [stamp(path), str(empty["sha256"])] for path in paths})
    entries = prepared.outcomes()
    timed("look at the stamps of all raw files", lambda: require_same_raw_files(prepared, entries))
    opened = timed("open the folder again", lambda: PreparedFolder.open(out))
    found = timed("read all commit records", opened.outcomes)
    assert opened.account(found) == Account(done=rows)
    timed("their content digest", lambda: opened.content_digest(found))
    timed("inspect it", lambda: inspected(out))
    return seconds


def inspected(out: Path) -> None:
    from cli.commands.inspect import _prepared

    _prepared(str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=114_480)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, DecodeProcess() as child:
        seconds = measure(rows_of(pair(Path(folder)), child), child, options.rounds)
    print(f"{'':34}{'CPU ms':>8}{'of the bare work':>18}")
    for name, own in seconds.items():
        ratio = statistics.median(np.array(own) / np.array(seconds[BARE]))
        print(f"{name:34}{1000 * statistics.median(own):8.1f}{ratio:18.3f}")
    with tempfile.TemporaryDirectory() as folder:
        print(f"\n{options.rows:,} rows{'':20}{'s':>8}")
        for name, took in bookkeeping(Path(folder), options.rows).items():
            print(f"{name:36}{took:8.2f}")


if __name__ == "__main__":
    main()
