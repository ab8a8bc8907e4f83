"""Which instructions a camera follows: one state for each, and the events of those that left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream_vlm.config.settings import Settings
from stream_vlm.loop.camera_state import CameraState
from stream_vlm.loop.instruction_state import InstructionState
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.types import EventSpan, Instruction


def follow_instructions(
    camera: CameraState,
    settings: Settings,
    standing: Sequence[Instruction],
    new_gate: Callable[[], SpeechGate],
) -> None:
    """Give the camera one state for each instruction that is active, its watch included.

    An instruction that is still active keeps its state. One that is not loses it; its event, if it
    was reported and goes on, ends.

    Args:
        camera: the camera.
        settings: of the events and of the decisions.
        standing: the standing instructions.
        new_gate: makes the gate of a new state.
    """
    active = {each.instruction_id: each for each in standing}
    watch = camera.watch
    if watch is not None:
        active[watch.query_id] = Instruction(watch.query_id, watch.text)
    for left in [name for name in camera.instructions if name not in active]:
        ended = camera.instructions.pop(left).finish()
        camera.ended += [ended] if ended is not None else []
    camera.instructions = {
        name: camera.instructions.get(name)
        or InstructionState(
            instruction,
            camera.tracker.camera,
            settings.events,
            settings.decision,
            new_gate(),
            is_watch=watch is not None and name == watch.query_id,
        )
        for name, instruction in active.items()
    }


def finish_all(camera: CameraState) -> list[EventSpan]:
    """End the events of all instructions, because no frame follows."""
    ended = [state.finish() for state in camera.instructions.values()]
    return [event for event in ended if event is not None]
