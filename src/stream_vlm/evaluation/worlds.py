"""The examination on simulated rooms: streams that no training saw, watched online beside the baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vlm.config import EventSettings
from stream_vlm.evaluation.baselines import with_baselines
from stream_vlm.evaluation.ceiling import CEILING, labels_watched
from stream_vlm.evaluation.matching import score_events
from stream_vlm.evaluation.online import TimedQuestion, Watched, Watcher, watch_together
from stream_vlm.evaluation.records import TimedEvent, TimedState
from stream_vlm.evaluation.scores import Truth, score_watching
from stream_vlm.evaluation.timeline import Timeline, draw_timeline
from stream_vlm.stream import NANOSECONDS, Frame, State
from stream_vlm.world.labels import questions, tick_states
from stream_vlm.world.language import KINDS
from stream_vlm.world.render import World
from stream_vlm.world.splits import HELD_OUT_SEED

STREAM_S = 60.0
SIZES = ((320, 240), (384, 216))
"""Width and height of the cameras, in turn."""

SEEN_IN = {"heldout": "seen", "objects": "unseen objects", "backgrounds": "unseen backgrounds"}
"""What each examination shows beyond seeds that no training saw."""


@dataclass(frozen=True)
class Examination:
    """Outcome: for each watcher its figures, and for the first stream everything, for a picture.

    Attributes:
        scores: figures by the watcher's name, as `score_watching` gives them.
        first: the first stream's truth, and by watcher what was made of it.
    """

    world: str
    minutes: float
    seeds: tuple[int, int]
    rate_hz: float
    events: int
    scores: dict[str, dict[str, Any]]
    first: tuple[Truth, dict[str, Watched]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values ready for JSON."""
        return {
            "world": self.world,
            "minutes": self.minutes,
            "first_seed": self.seeds[0],
            "last_seed": self.seeds[1],
            "rate_hz": self.rate_hz,
            "events": self.events,
            "watchers": self.scores,
        }


def examine(
    world: str,
    minutes: float,
    rate_hz: float,
    watchers: list[Watcher],
    on_stream: Callable[[], object] = lambda: None,
    events: EventSettings | None = None,
) -> Examination:
    """Show `minutes` of held-out stream, a minute a room, to every watcher and to the three baselines that need no model.

    Beside them stands what the labels themselves would score at `rate_hz`.

    Args:
        events: how the labels' decisions become events; defaults where left out.
        world: "heldout", "objects" (things in forms that no training saw) or "backgrounds" (walls and floors that no training saw).
        on_stream: called after each stream.
    """
    watchers = with_baselines(watchers)
    count = max(1, math.ceil(minutes * 60 / STREAM_S - 1e-9))
    lengths = [min(STREAM_S, minutes * 60 - STREAM_S * index) for index in range(count)]
    seen: dict[str, list[tuple[Truth, Watched]]] = {watcher.name: [] for watcher in watchers}
    for index, length_s in enumerate(lengths):
        room = _room(world, HELD_OUT_SEED + index, length_s)
        truth = truth_of(room, rate_hz, f"world-{HELD_OUT_SEED + index}")
        for name, watched in watch_together(watchers, _frames(room, truth), truth.questions, f"{truth.name}-{world}").items():
            seen[name].append((truth, watched))
        on_stream()
    first = {name: streams[0][1] for name, streams in seen.items()}
    truths = [truth for truth, _ in seen[watchers[0].name]]
    seen[CEILING] = [(truth, labels_watched(truth, events or EventSettings())) for truth in truths]
    return Examination(
        world=world,
        minutes=sum(lengths) / 60,
        seeds=(HELD_OUT_SEED, HELD_OUT_SEED + count - 1),
        rate_hz=rate_hz,
        events=sum(len(truth.events) for truth in truths),
        scores={name: score_watching(streams) for name, streams in seen.items()},
        first=(truths[0], first),
    )


def _room(world: str, seed: int, length_s: float) -> World:
    return World(seed, max(1.0, length_s), size=SIZES[seed % len(SIZES)], look=SEEN_IN[world])


def truth_of(room: World, rate_hz: float, name: str) -> Truth:
    """The labels of `room` at `rate_hz`; questions stand at the first tick at or after they are asked, and only where nothing is under way."""
    labels = tick_states(room.script, rate_hz)
    asked: dict[int, TimedQuestion] = {}
    for item in questions(room.script):
        tick = math.ceil(item.t_s * rate_hz - 1e-9)
        if tick < len(labels) and labels[tick].state is State.SILENCE:
            asked.setdefault(tick, TimedQuestion(labels[tick].t_s, item.question, item.answer, question_kind(item.question)))
    return Truth(
        name=name,
        duration_s=room.script.duration_s,
        tick_s=1 / rate_hz,
        events=[TimedEvent(event.label, event.t_start, event.t_end) for event in room.script.events],
        states=[TimedState(label.t_s, label.state.value) for label in labels],
        questions=list(asked.values()),
    )


def question_kind(question: str) -> str:
    """`question` without what it is about: "is there a cup ?" is of the kind "is there a THING ?"; door and lamp stay, each has its own."""
    things = set(KINDS) - {"door", "lamp"}
    return " ".join("THING" if word in things else word for word in question.split())


def draw_first(outcome: Examination, watcher: str, path: Path) -> None:
    """Write what happened in the first stream, and what `watcher` said of it, as a PNG at `path`."""
    truth, watched = outcome.first[0], outcome.first[1][watcher]
    score = score_events(watched.events, truth.events)
    draw_timeline(
        Timeline(
            title=f"{truth.name}, {outcome.world}: event F1 {score.labelled.f1:.2f}, something happened {score.class_agnostic.f1:.2f} (1.5 s)",
            events=watched.events,
            utterances=watched.utterances,
            states=watched.states,
            truth=truth.events,
            matching=score.labelled,
            duration_s=truth.duration_s,
        ),
        path,
    )


def _frames(room: World, truth: Truth) -> Iterator[Frame]:
    for state in truth.states:
        image = room.view(min(state.t, room.script.duration_s)).image
        yield Frame("camera", round(state.t * NANOSECONDS), "camera_optical_frame", image)
