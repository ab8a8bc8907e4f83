"""What the camera does to a picture: optics, noise, compression and faults."""
