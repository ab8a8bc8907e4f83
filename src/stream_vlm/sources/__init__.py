"""Read frames without ROS: video files, webcams, rosbag2 recordings, and added sources."""

from stream_vlm.sources.open_source import open_source
from stream_vlm.sources.source import Source, SourceError

__all__ = ["Source", "SourceError", "open_source"]
