"""Videos and folders of pictures -> exactly the requested frames."""

from pipeline.decode.read import READERS, VideoInfo, count_frames, probe, read_frames

__all__ = ["READERS", "VideoInfo", "count_frames", "probe", "read_frames"]
