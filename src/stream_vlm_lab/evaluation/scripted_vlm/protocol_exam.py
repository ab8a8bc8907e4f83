"""Measures the protocols for untuned models on simulated rooms, with scripted models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stream_vlm.types import NANOSECONDS, Frame
from stream_vlm_lab.evaluation.online.online_pass import (
    HarnessModel,
    StreamResult,
    TimedQuestion,
    run_stream,
)
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth
from stream_vlm_lab.evaluation.scripted_vlm.meanings import asks_for
from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import PictureSource, with_mark
from stream_vlm_lab.evaluation.scripted_vlm.protocol_scores import score_protocol
from stream_vlm_lab.evaluation.scripted_vlm.twin import Usage
from stream_vlm_lab.evaluation.simulated.exam import ROOMS, SIZES, STREAM_S, truth_of
from stream_vlm_lab.simulation.world import World


@dataclass(frozen=True)
class Contestant:
    """A protocol with its model.

    Attributes:
        name: name in the table.
        model: the model in the harness.
        usage: what its requests cost so far.
        watch: what it is told to watch for with the first frame; empty if the settings tell it.
    """

    name: str
    model: HarnessModel
    usage: Usage
    watch: str = ""


def examine_protocols(
    contestants: Sequence[Contestant],
    instructions: Sequence[str],
    rooms: int,
    rate_hz: float,
    first_seed: int,
    on_stream: Callable[[], object] = lambda: None,
    look: str = "heldout",
) -> dict[str, dict[str, Any]]:
    """Run every contestant on the same rooms of a minute each.

    Only events that one of `instructions` asks for are due.

    Args:
        contestants: what is measured.
        instructions: what they are told to report.
        rooms: number of rooms.
        rate_hz: ticks a second.
        first_seed: seed of the first room; the others follow.
        on_stream: called after each run of a contestant.
        look: appearance of the rooms, a key of `ROOMS` whose rooms have no camera faults.

    Returns:
        The figures of each contestant by its name, as `score_protocol` gives them, with
        `events_not_asked_for` and the cost of a tick.
    """
    results: dict[str, list[tuple[GroundTruth, StreamResult]]] = {
        contestant.name: [] for contestant in contestants
    }
    spent = {contestant.name: replace(contestant.usage) for contestant in contestants}
    left_out = 0
    for seed in range(first_seed, first_seed + rooms):
        room = World(seed, STREAM_S, SIZES[seed % len(SIZES)], look=ROOMS[look].look)
        truth = asked_for(truth_of(room, rate_hz, f"world-{seed}"), room, instructions)
        left_out += len(room.script.events) - len(truth.events)
        frames = list(marked_frames(room, truth))
        for contestant in contestants:
            watch = [TimedQuestion(0.0, contestant.watch, is_watch=True)] * bool(contestant.watch)
            result = run_stream(contestant.model, frames, watch, truth.name)
            result.events += contestant.model.last_events()
            results[contestant.name].append((truth, result))
            on_stream()
    figures = {}
    for contestant in contestants:
        streams = results[contestant.name]
        ticks = sum(len(truth.states) for truth, _ in streams)
        before, now = asdict(spent[contestant.name]), asdict(contestant.usage)
        figures[contestant.name] = {
            **score_protocol(streams),
            "events_not_asked_for": left_out,
            "ticks": ticks,
            **{f"{name}_per_tick": (now[name] - before[name]) / ticks for name in now},
        }
    return figures


def asked_for(truth: GroundTruth, room: World, instructions: Sequence[str]) -> GroundTruth:
    """`truth` without questions, and with those events only that an instruction asks for."""
    asked = {
        event.label
        for event in room.script.events
        if any(asks_for(instruction, event) for instruction in instructions)
    }
    return replace(
        truth, questions=[], events=[event for event in truth.events if event.label in asked]
    )


def marked_frames(room: World, truth: GroundTruth) -> Iterator[Frame]:
    """The frames at the ticks of `truth`, each with the mark of its room and time."""
    script = room.script
    for state in truth.states:
        t_s = min(state.t, script.duration_s)
        source = PictureSource(script.seed, round(script.duration_s * 1000), round(t_s * 1000))
        image = with_mark(room.view(t_s).image, source)
        yield Frame("camera", round(state.t * NANOSECONDS), "camera_optical_frame", image)
