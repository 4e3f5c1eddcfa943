"""Videos and folders of pictures -> exactly the frames that were asked for."""

from pipeline.decode.read import READERS, VideoInfo, count_frames, probe, read_frames

__all__ = ["READERS", "VideoInfo", "count_frames", "probe", "read_frames"]
