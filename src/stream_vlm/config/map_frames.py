"""Which coordinate frames are maps, where positions of different sessions can be compared."""

from __future__ import annotations

from collections.abc import Sequence


def bare(frame_id: str) -> str:
    """Return the name of a frame without slashes around it: "/map" and "map" are one frame."""
    return frame_id.strip("/")


def is_map(frame_id: str, map_frames: Sequence[str]) -> bool:
    """Whether positions in `frame_id` can be compared between sessions.

    Args:
        frame_id: the frame; a prefix does not count: robot1/map is a map if "map" is one.
        map_frames: the names of maps, see the setting `memory.map_frames`.
    """
    name = bare(frame_id)
    maps = {bare(one) for one in map_frames} - {""}
    return name in maps or name.rpartition("/")[2] in maps
