"""Search the memory by words, time, place, camera, meaning and picture."""
