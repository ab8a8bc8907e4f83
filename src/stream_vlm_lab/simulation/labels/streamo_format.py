"""Tasks of a simulated stream as rows of Streamo's raw form (arXiv 2512.21334), which its trainer
and ours read.

Turns last a second and show the first picture at or after their start, so a thing is under way in
the turns whose picture shows it so and is answered in the first turn whose picture shows it
complete: nothing is to be said before it can be seen. Times of the row are those of turns; the
exact ones are in the labels.
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

Streamo has no "tell me when"; it comes closest to grounding what is still to happen.
"""


def raw_row(task: Task, video: str, duration_s: float, source: str) -> dict[str, Any]:
    """`task` about the file `video` of `duration_s` seconds; beside what the form has it says our
    name of the kind.
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
    """Replies by the turns they are due in; those due in one turn become one, those past the last
    of `count` turns are left out.
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
        # A turn counts by the second at which it ends.
        span = {"st_time": float(begun + 1), "end_time": float(turn), "time": ""}
        instant = {"st_time": "", "end_time": "", "time": str(turn + 1)}
        responses.append({"content": content, **(span if begun < turn else instant)})
        free_from = turn + 1
    return responses
