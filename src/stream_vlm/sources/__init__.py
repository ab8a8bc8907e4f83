"""Where frames come from without ROS: video files, webcams, the simulated camera, rosbag2
recordings.
"""

from stream_vlm.sources.open_source import open_source
from stream_vlm.sources.source import Source, SourceError

__all__ = ["Source", "SourceError", "open_source"]
