"""What every reader of `pipeline.decode.read` must do, over the videos that `tests/video_fixtures.py` writes.

A subclass names a reader and the videos that it may refuse; what it may refuse, it must refuse, so that the table stays
true. Everything else must be read, frame by frame as asked, or be a DecodeError.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from picture_fixtures import build
from video_fixtures import BROKEN, VIDEOS, Video, marker_at, marker_of, number_of

from pipeline.decode.read import READERS, probe, read_frames
from pipeline.errors import DecodeError, ReaderError

# decord has wheels for x86-64 Linux only
INSTALLED = [reader for reader in READERS if reader != "decord" or importlib.util.find_spec("decord")]


class ReaderContract:
    """Subclass it as `Test…`; `refusals` maps a name of `whole` to words of the sentence that refuses it."""

    reader: ClassVar[str]
    refusals: ClassVar[dict[str, str]]
    whole: ClassVar[dict[str, Video]] = VIDEOS
    broken: ClassVar[dict[str, Any]] = BROKEN

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every video but the refused, which `test_refusals_are_true` tries."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", [name for name in self.whole if name not in self.refusals])
        if "broken_name" in metafunc.fixturenames:
            metafunc.parametrize("broken_name", self.broken)

    def read(self, path: Path, indices: list[int] | range | np.ndarray, **options: object) -> list[int | None]:
        frames = read_frames(path, np.asarray(indices), reader=self.reader, **options)  # type: ignore[arg-type]
        return [number_of(frame) for frame in frames]

    def test_all_frames_are_there_in_their_order(self, name: str, videos: Path) -> None:
        path = build(name, videos)
        info = probe(path)
        assert (info.frames, info.height, info.width) == (len(self.whole[name].numbers), *self.whole[name].size)
        assert self.read(path, range(info.frames)) == list(self.whole[name].numbers)

    def test_the_marker_is_where_it_was_drawn(self, name: str, videos: Path) -> None:
        """In the whole picture, and in a box of it that is scaled."""
        video = self.whole[name]
        if not video.marked:
            return
        height, width = video.size
        boxes = [(None, None, (0, 0), 1.0), ((5, 3, width - 3, height - 1), None, (5, 3), 1.0)]
        boxes.append(((-8, -10, width + 8, height + 6), (2 * (height + 16), 2 * (width + 16)), (-8, -10), 2.0))
        for box, size, (x0, y0), scale in boxes:
            frames = read_frames(build(name, videos), range(len(video.numbers)), reader=self.reader, box=box, size=size)
            assert frames.flags.c_contiguous
            found = (np.array([marker_of(frame) for frame in frames]) + 0.5) / scale - 0.5 + [x0, y0]
            off = found - [marker_at(number, height, width) for number in video.numbers]
            # chroma has half the resolution, and readers place it differently
            assert np.abs(off).max() < 1.1, box
            assert np.abs(off.mean(axis=0)).max() < 0.7, box

    def test_any_order_and_repeats(self, name: str, videos: Path) -> None:
        numbers = self.whole[name].numbers
        drawn = np.random.default_rng(len(name)).integers(0, len(numbers), 12)
        assert self.read(build(name, videos), drawn) == [numbers[i] for i in drawn]

    def test_single_frames(self, name: str, videos: Path) -> None:
        numbers = self.whole[name].numbers
        for i in {0, len(numbers) // 2, len(numbers) - 1}:
            assert self.read(build(name, videos), [i]) == [numbers[i]]

    def test_a_frame_too_many_is_an_error_that_tells_the_count(self, name: str, videos: Path) -> None:
        count = len(self.whole[name].numbers)
        with pytest.raises(DecodeError, match="too few frames") as caught:
            self.read(build(name, videos), [0, count])
        assert caught.value.frames == count

    def test_box_and_size_keep_the_picture(self, name: str, videos: Path) -> None:
        height, width = self.whole[name].size
        path, last = build(name, videos), len(self.whole[name].numbers) - 1
        around = (-width // 2, -height // 2, width + width // 2, height + height // 2)
        frames = read_frames(path, [last], reader=self.reader, box=around, size=(2 * height, 2 * width))
        inside = frames[0, height // 2 : -(height // 2), width // 2 : -(width // 2)]
        assert number_of(inside) == self.whole[name].numbers[last]
        assert frames[0, : height // 2 - 3].max() <= 3, "black above the picture"
        assert frames[0, :, : width // 2 - 3].max() <= 3, "black beside the picture"

    def test_refusals_are_true(self, videos: Path) -> None:
        assert set(self.refusals) <= set(self.whole)
        for refused, words in self.refusals.items():
            with pytest.raises(ReaderError, match=words):
                self.read(build(refused, videos), range(len(self.whole[refused].numbers)))

    def test_what_is_no_whole_video_is_named_in_one_sentence(self, broken_name: str, videos: Path) -> None:
        path = build(broken_name, videos)
        with pytest.raises(DecodeError) as caught:
            self.read(path, range(40 if self.whole is VIDEOS else 12))
        sentence = str(caught.value)
        assert sentence.startswith(str(path))
        assert "\n" not in sentence
        assert len(sentence) < len(str(path)) + 160
        assert type(caught.value) is DecodeError, "no other reader is any better"

    @pytest.mark.parametrize("path", ["no/such/file.avi", "/dev/null"])
    def test_what_is_no_file(self, path: str) -> None:
        with pytest.raises(DecodeError, match=r"cannot be read|not a regular file"):
            self.read(Path(path), [0])
