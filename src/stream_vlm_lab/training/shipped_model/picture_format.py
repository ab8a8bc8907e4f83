"""The picture format of the shipped model.

In a file of its own without torch, so that a process that renders rooms starts quickly.
"""

from stream_vlm.vision.preprocess import PictureFormat

PICTURE_SIZE = (128, 192)
"""Height and width in pixels; every picture is stretched to this size."""

PICTURES = PictureFormat(
    patch_size=16,
    merge_size=2,
    temporal_patch_size=2,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    fixed_size=PICTURE_SIZE,
    pair_frames=True,
    place_marks=True,
)
"""4 x 6 vision tokens a tick; each covers 32 x 32 pixels of the previous and current picture."""
