"""What every reader of `pipeline.decode.read` must do, over the videos that `tests/video_fixtures.py` writes.

A subclass names a reader and the videos that it may refuse; what it may refuse, it must refuse, so that the table stays
true. Everything else must be read, frame by frame as asked, or be a DecodeError.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from video_fixtures import BROKEN, VIDEOS, build, number_of

from pipeline.decode.read import probe, read_frames
from pipeline.errors import DecodeError


class ReaderContract:
    """Subclass it as `Test…`; `refusals` maps a name of `VIDEOS` to words of the sentence that refuses it."""

    reader: ClassVar[str]
    refusals: ClassVar[dict[str, str]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every video but the refused, which `test_refusals_are_true` tries."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", [name for name in VIDEOS if name not in self.refusals])

    def read(self, path: Path, indices: list[int] | range | np.ndarray, **options: object) -> list[int | None]:
        frames = read_frames(path, np.asarray(indices), reader=self.reader, **options)  # type: ignore[arg-type]
        return [number_of(frame) for frame in frames]

    def test_all_frames_are_there_in_their_order(self, name: str, videos: Path) -> None:
        path = build(name, videos)
        info = probe(path)
        assert (info.frames, info.height, info.width) == (len(VIDEOS[name].numbers), *VIDEOS[name].size)
        assert self.read(path, range(info.frames)) == list(VIDEOS[name].numbers)

    def test_any_order_and_repeats(self, name: str, videos: Path) -> None:
        numbers = VIDEOS[name].numbers
        drawn = np.random.default_rng(len(name)).integers(0, len(numbers), 12)
        assert self.read(build(name, videos), drawn) == [numbers[i] for i in drawn]

    def test_single_frames(self, name: str, videos: Path) -> None:
        numbers = VIDEOS[name].numbers
        for i in {0, len(numbers) // 2, len(numbers) - 1}:
            assert self.read(build(name, videos), [i]) == [numbers[i]]

    def test_a_frame_too_many_is_an_error_that_tells_the_count(self, name: str, videos: Path) -> None:
        count = len(VIDEOS[name].numbers)
        with pytest.raises(DecodeError, match="too few frames") as caught:
            self.read(build(name, videos), [0, count])
        assert caught.value.frames == count

    def test_box_and_size_keep_the_picture(self, name: str, videos: Path) -> None:
        height, width = VIDEOS[name].size
        path, last = build(name, videos), len(VIDEOS[name].numbers) - 1
        around = (-width // 2, -height // 2, width + width // 2, height + height // 2)
        frames = read_frames(path, [last], reader=self.reader, box=around, size=(2 * height, 2 * width))
        assert (
            number_of(frames[0, height // 2 : -(height // 2), width // 2 : -(width // 2)]) == VIDEOS[name].numbers[last]
        )
        assert frames[0, : height // 2 - 3].max() <= 3, "black above the picture"
        assert frames[0, :, : width // 2 - 3].max() <= 3, "black beside the picture"

    def test_refusals_are_true(self, videos: Path) -> None:
        assert set(self.refusals) <= set(VIDEOS)
        for refused, words in self.refusals.items():
            with pytest.raises(DecodeError, match=words):
                self.read(build(refused, videos), [0])

    @pytest.mark.parametrize("broken", BROKEN)
    def test_what_is_no_whole_video_is_named_in_one_sentence(self, broken: str, videos: Path) -> None:
        path = build(broken, videos)
        with pytest.raises(DecodeError) as caught:
            self.read(path, range(40))
        sentence = str(caught.value)
        assert sentence.startswith(str(path))
        assert "\n" not in sentence
        assert len(sentence) < len(str(path)) + 160

    @pytest.mark.parametrize("path", ["no/such/file.avi", "/dev/null"])
    def test_what_is_no_file(self, path: str) -> None:
        with pytest.raises(DecodeError, match=r"cannot be read|not a regular file"):
            self.read(Path(path), [0])
