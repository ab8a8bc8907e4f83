"""Which instructions a camera follows: one state for each, and the events of those that left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stream_vlm.config.settings import Settings
from stream_vlm.loop.camera_state import CameraState
from stream_vlm.loop.instruction_state import InstructionState
from stream_vlm.loop.speech_gate import SpeechGate
from stream_vlm.model_protocol import Outcome, Turn, WatchRefused
from stream_vlm.types import EventSpan, Instruction, StreamError


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
    active = {
        each.instruction_id: each for each in standing if each.instruction_id not in camera.refused
    }
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
    """End the events of all instructions, because no frame follows; return those not given yet."""
    ended = [*camera.ended, *(state.finish() for state in camera.instructions.values())]
    camera.ended.clear()
    return [event for event in ended if event is not None]


def refusals(
    turns: Sequence[Turn], outcomes: Sequence[Outcome | StreamError]
) -> dict[int, tuple[str, str]]:
    """What the model refused to follow: the id and the reason, by the index of the turn.

    Of several instructions it is the longest, for a model refuses what does not fit.
    """
    found = {}
    for index, (turn, outcome) in enumerate(zip(turns, outcomes, strict=True)):
        asked = [each.instruction for each in turn.judgements]
        if turn.watch is not None:
            asked.append(Instruction(turn.watch.query_id, turn.watch.text))
        if isinstance(outcome, WatchRefused) and asked:
            longest = max(asked, key=lambda one: len(one.text.encode()))
            found[index] = (longest.instruction_id, str(outcome))
    return found
