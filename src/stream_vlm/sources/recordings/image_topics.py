"""Choose the image topics of a recording, and name their cameras."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stream_vlm.sources.recordings.recording import Recording
from stream_vlm.sources.source import SourceError

COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = ("sensor_msgs/msg/Image", COMPRESSED_TYPE)


def camera_name(topic: str) -> str:
    """Return a camera name made from its topic.

    `/front/image_raw/compressed` gives `front`, `/robot1/left/image` gives `robot1_left`.
    """
    parts = [part for part in topic.split("/") if part]
    kept = [
        part
        for part in parts
        if part
        not in (
            "image",
            "image_raw",
            "image_rect",
            "image_color",
            "image_rect_color",
            "compressed",
        )
    ]
    name = re.sub(r"\W", "_", "_".join(kept or parts[:1]))
    return name if re.match(r"[A-Za-z]", name) else f"camera_{name}".rstrip("_")


def choose_topics(recording: Recording, wanted: Sequence[str]) -> dict[str, str]:
    """Return the topic of each camera, by camera name.

    Args:
        recording: the recording.
        wanted: image topics; empty takes one of every camera except depth cameras.

    Raises:
        SourceError: a topic is no image topic or is given twice, or there is none.
    """
    types = recording.types
    images = sorted(topic for topic in types if types[topic] in IMAGE_TYPES)
    # A topic that is known to be empty gives way to another one of the same camera.
    empty = {topic for topic, count in recording.stated.items() if not count}
    images.sort(key=lambda topic: (topic in empty, IMAGE_TYPES.index(types[topic])))
    for topic in wanted:
        if topic not in images:
            kind = (
                f"is a {types[topic]}, not an image topic"
                if topic in types
                else "is not in the bag"
            )
            raise SourceError(
                f"{recording.path}: {topic} {kind}; its image topics are {images or 'none'}"
            )
    _refuse_same_pictures(recording, wanted)
    chosen: dict[str, str] = {}
    for topic in wanted or [topic for topic in images if "depth" not in topic.lower()]:
        name = camera_name(topic)
        if not wanted and name in chosen:
            continue
        while name in chosen:
            name += "_again"
        chosen[name] = topic
    if not chosen:
        found = [f"{topic} ({types[topic] or 'of unknown type'})" for topic in sorted(types)]
        raise SourceError(
            f"{recording.path}: no usable image topic among {', '.join(found) or 'no topics'}"
        )
    return chosen


def _refuse_same_pictures(recording: Recording, wanted: Sequence[str]) -> None:
    """Refuse a topic that is given twice, and a topic together with its compressed form."""
    seen: dict[str, str] = {}
    for topic in wanted:
        images = topic
        if recording.types[topic] == COMPRESSED_TYPE:
            images = topic.removesuffix("/compressed")
        other = seen.setdefault(images, topic)
        if other == topic and wanted.count(topic) > 1:
            raise SourceError(f"{recording.path}: {topic} is given twice; name each topic once")
        if other != topic:
            raise SourceError(
                f"{recording.path}: {other} and {topic} are two forms of the same pictures; name"
                " one of them"
            )
