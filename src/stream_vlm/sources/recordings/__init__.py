"""Read the messages of rosbag2 recordings: files, folders, clocks, poses."""
