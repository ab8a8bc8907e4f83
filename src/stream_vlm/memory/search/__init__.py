"""Search: by words, time, place, camera, meaning and picture."""
