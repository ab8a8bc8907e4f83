"""Streaming vision-language understanding for robots: the ROS-free library behind `stream_vlm_ros`."""

__version__ = "0.1.0"
