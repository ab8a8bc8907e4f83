"""What the loop keeps of one camera: its stream through the model, its watch, what was said."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from stream_vlm.loop.event_tracker import EventTracker
from stream_vlm.loop.instruction_state import InstructionState
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.model_protocol import ModelStream
from stream_vlm.types import NANOSECONDS, EventSpan, Query, Utterance

MAX_LINES = 500
"""Older lines of a session are dropped here; the memory file keeps them."""


@dataclass
class CameraState:
    """One camera's state in the loop.

    Attributes:
        stream: the model's running context. It survives a new session, after a reset.
        gate: decides when the robot may speak.
        tracker: turns decisions into event spans.
        watch: the watch that is active; it survives a new session.
        refused: ids of the standing instructions that the model refused.
        instructions: the instructions that the model judges, a watch among them, by id.
        ended: events of instructions that are no longer followed; the next step reports them.
        lines: the utterances and answers of this session, oldest first, one line each, with the
            seconds since the session's first frame.
        first_ns: stamp of the session's first frame, ns; None before it.
    """

    stream: ModelStream
    gate: SpeechGate
    tracker: EventTracker
    watch: Query | None = None
    refused: set[str] = field(default_factory=set)
    instructions: dict[str, InstructionState] = field(default_factory=dict)
    ended: list[EventSpan] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    first_ns: int | None = None
    _events: int = 0

    @property
    def under_way_since(self) -> int | None:
        """Beginning of the oldest event that is under way, int64 ns, or None."""
        since = [state.under_way_since for state in self.instructions.values()]
        known = [each for each in (self.tracker.under_way_since, *since) if each is not None]
        return min(known, default=None)

    def new_event_id(self) -> str:
        """The id of the next event of an instruction."""
        self._events += 1
        return f"{self.tracker.session_id}-{self.tracker.camera}-e{self._events}"

    def begin_session(self, gate: SpeechGate, tracker: EventTracker) -> None:
        """Forget the context, the open event and what was said."""
        self.stream.reset()
        self.gate, self.tracker = gate, tracker
        self.lines.clear()
        self.instructions.clear()
        self.ended.clear()
        self._events = 0
        self.first_ns = None

    def note_utterance(self, utterance: Utterance, query: Query | None) -> None:
        """Take in an utterance, and the question that it answers, if any."""
        first_ns = utterance.stamp_ns if self.first_ns is None else self.first_ns
        second = (utterance.stamp_ns - first_ns) // NANOSECONDS
        asked = f"[{query.text}] " if query is not None else ""
        self.lines.append(f"{second}s: {asked}{utterance.text}")
