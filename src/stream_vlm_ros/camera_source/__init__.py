"""`camera_source`: a recording, a webcam or the simulated camera as a camera topic."""
