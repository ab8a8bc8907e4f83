"""Tasks of a simulated stream as rows of Streamo's raw format (arXiv 2512.21334).

Turns last one second and show the first picture at or after their start. An event is in progress in
the turns whose picture shows it so, and it is answered in the first turn whose picture shows it
complete. So nothing has to be said before it is visible. Times in a row are those of turns; the
exact times are in the labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stream_vlm_lab.simulation.labels.tasks import Reply, Task

TASK_TYPES = {
    "narration": "Real-time Narration",
    "event-caption": "Event Caption",
    "action-caption": "Action Caption",
    "grounding-forward": "Event Grounding",
    "grounding-backward": "Event Grounding",
    "time-sensitive": "Time-sensitive QA",
    "tell-me-when": "Event Grounding",
    "long-memory": "Offline QA",
    "question": "QA",
}
"""The published name of each kind.

Streamo has no "tell me when"; grounding of a future event is the closest.
"""


def raw_row(task: Task, video: str, duration_s: float, source: str) -> dict[str, Any]:
    """Convert `task` to a row; it also has our name of the kind.

    Args:
        task: the task.
        video: name of the video file.
        duration_s: length of the video in seconds.
        source: where the video comes from.
    """
    return {
        "video_name": video,
        "video_path": video,
        "task_type": TASK_TYPES[task.kind],
        "kind": task.kind,
        "source": source,
        "question": [{"content": task.question, "time": str(_turn(task.t_s) + 1)}],
        "response": _responses(task.replies, int(duration_s + 1e-6)),
    }


def _turn(t_s: float) -> int:
    """Index of the first turn whose picture shows what is true from `t_s` seconds on."""
    return math.ceil(t_s - 1e-9)


def _responses(replies: Sequence[Reply], count: int) -> list[dict[str, Any]]:
    """Replies by the turns in which they are due.

    Replies due in the same turn are joined; replies after the last of `count` turns are left out.
    """
    due: dict[int, list[Reply]] = {}
    for reply in replies:
        if _turn(reply.t_end) < count:
            due.setdefault(_turn(reply.t_end), []).append(reply)
    responses = []
    free_from = 0
    for turn, together in sorted(due.items()):
        begun = max(free_from, min(_turn(reply.t_start) for reply in together))
        content = ", then ".join(dict.fromkeys(reply.text for reply in together))
        # A turn is numbered by the second at which it ends.
        span = {"st_time": float(begun + 1), "end_time": float(turn), "time": ""}
        instant = {"st_time": "", "end_time": "", "time": str(turn + 1)}
        responses.append({"content": content, **(span if begun < turn else instant)})
        free_from = turn + 1
    return responses
