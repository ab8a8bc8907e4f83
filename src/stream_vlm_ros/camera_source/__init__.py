"""The program `camera_source`: publishes a recording, a webcam or the simulated camera."""
