"""What a camera does to a picture: optics, noise, compression and faults."""
