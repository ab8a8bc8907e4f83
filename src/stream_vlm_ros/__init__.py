"""The ROS 2 edge of stream_vlm: messages in, messages out, and nothing that thinks.

ROS types live here and nowhere else.
"""
