"""Chat requests about marked pictures of a simulated room, as an engine sends them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import PictureSource, with_mark
from stream_vlm_lab.simulation.script.script import Event, Script
from stream_vlm_lab.simulation.script.script_writer import make_script

SEED, LENGTH_S = 2_000_100, 60.0
"""A room for tests: its events are those of `script()`."""


@cache
def script() -> Script:
    """What happens in the room for tests."""
    return make_script(SEED, LENGTH_S)


def an_event(*actions: str) -> Event:
    """The first event of the room with one of `actions`."""
    return next(event for event in script().events if event.action in actions)


@cache
def picture(t_s: float, seed: int = SEED, quality: int = 80) -> str:
    """A black picture with the mark of time `t_s`, as a data URL."""
    black = np.zeros((240, 320, 3), np.uint8)
    marked = with_mark(black, PictureSource(seed, round(LENGTH_S * 1000), round(t_s * 1000)))
    ok, data = cv2.imencode(".jpg", marked, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def text(words: str) -> dict[str, Any]:
    """A part with text."""
    return {"type": "text", "text": words}


def frames(times: Sequence[float], seed: int = SEED) -> list[dict[str, Any]]:
    """A time marker and a picture for each of `times`, seconds."""
    parts = []
    for t_s in times:
        url = picture(t_s, seed)
        parts += [text(f"<{t_s:g}s>\n"), {"type": "image_url", "image_url": {"url": url}}]
    return parts


def request(*parts: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A request with one user message."""
    messages = [
        {"role": "system", "content": "You watch."},
        {"role": "user", "content": list(parts)},
    ]
    return {"model": "scripted", "messages": messages, **options}


def words_of(reply: dict[str, Any]) -> str:
    """The text of a reply."""
    content = reply["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content
