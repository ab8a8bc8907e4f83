"""Parts that every room of the ROS edge uses."""
