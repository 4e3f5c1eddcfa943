"""Videos and folders of pictures -> exactly the requested frames."""

from pipeline.decode.containers import VIDEO_SUFFIXES
from pipeline.decode.read import READERS, VideoInfo, count_frames, probe, read_frames

__all__ = ["READERS", "VIDEO_SUFFIXES", "VideoInfo", "count_frames", "probe", "read_frames"]
