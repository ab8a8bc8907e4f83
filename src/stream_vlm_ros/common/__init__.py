"""Small parts that every room of the ROS edge uses."""
