"""The ROS 2 edge of stream_vlm: it converts between ROS messages and the library.

No other package of the repository but the demo uses ROS types.
"""
