"""The examination on simulated rooms: models and baselines on held-out streams, with scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.run_records import TimedEvent, TimedState
from stream_vlm.types import NANOSECONDS, Frame, State
from stream_vlm_lab.evaluation.online.baselines import add_baselines
from stream_vlm_lab.evaluation.online.online_pass import (
    ExaminedModel,
    StreamResult,
    TimedQuestion,
    run_together,
)
from stream_vlm_lab.evaluation.plots.timeline import Timeline, draw_timeline
from stream_vlm_lab.evaluation.scoring.by_fault import score_by_fault
from stream_vlm_lab.evaluation.scoring.matching import score_events
from stream_vlm_lab.evaluation.scoring.scores import GroundTruth, score_streams
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING, result_of_labels
from stream_vlm_lab.evaluation.simulated.watch_exam import (
    Watch,
    plan_watches,
    score_watches,
    watch_result_of_labels,
)
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault
from stream_vlm_lab.simulation.labels.ground_truth import questions, states_at, tick_states
from stream_vlm_lab.simulation.labels.visible_events import VisibleEvents
from stream_vlm_lab.simulation.scene.captions import KINDS
from stream_vlm_lab.simulation.script.pacing import find_quiet_spans
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.simulation.world import World

STREAM_S = 60.0
SIZES = ((320, 240), (384, 216))
"""Width and height of the cameras; rooms use them in turn."""


@dataclass(frozen=True)
class Rooms:
    """Which rooms an examination shows; most attributes are options of `World`.

    Attributes:
        look: appearance of things, walls and floors.
        faults: kinds of camera faults.
        faults_per_minute: rate of the camera faults.
        quiet_minutes: mean length of quiet spans; 0 for none.
        one_stream: one long stream instead of one stream of a minute for each room.
        pause_s: minimum time between two questions in seconds, so that long silence has few of
            them.
    """

    look: str = "seen"
    faults: tuple[str, ...] = ()
    faults_per_minute: float = 2.0
    quiet_minutes: float = 0.0
    one_stream: bool = False
    pause_s: float = 0.0


ROOMS = {
    "heldout": Rooms(),
    "objects": Rooms(look="unseen objects"),
    "backgrounds": Rooms(look="unseen backgrounds"),
    "faults": Rooms(faults=FAULTS),
    "long": Rooms(quiet_minutes=10.0, one_stream=True, pause_s=60.0),
}
"""The rooms of each examination; all use seeds that no training uses."""


@dataclass(frozen=True)
class Examination:
    """Result of an examination.

    Attributes:
        world: name of the examination.
        minutes: length of all streams together.
        seeds: first and last room seed.
        rate_hz: ticks a second.
        events: number of true events.
        scores: scores of each model by its name, as `score_streams` returns them.
        first: ground truth of the first stream, and each model's result; for a picture.
    """

    world: str
    minutes: float
    seeds: tuple[int, int]
    rate_hz: float
    events: int
    scores: dict[str, dict[str, Any]]
    first: tuple[GroundTruth, dict[str, StreamResult]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "world": self.world,
            "minutes": self.minutes,
            "first_seed": self.seeds[0],
            "last_seed": self.seeds[1],
            "rate_hz": self.rate_hz,
            "events": self.events,
            "scores": self.scores,
        }


def examine(
    world: str,
    minutes: float,
    rate_hz: float,
    models: list[ExaminedModel],
    on_stream: Callable[[], object] = lambda: None,
    events: EventSettings | None = None,
    watches: bool = False,
    first_seed: int = HELD_OUT_SEED,
) -> Examination:
    """Run every model and the three baselines on `minutes` of held-out streams and score them.

    The result also has the scores that the ground truth itself would get at `rate_hz`.

    Args:
        world: "heldout", "objects" (things in forms that no training uses), "backgrounds" (walls
            and floors that no training uses), "faults" (a camera that fails) or "long" (one stream
            with long quiet spans).
        minutes: length of all streams together.
        rate_hz: ticks a second.
        models: the models to examine.
        on_stream: called after each stream.
        events: how the decisions of the ground truth become events; None for the default settings.
        watches: ask "tell me when" instead of questions.
        first_seed: seed of the first room; the others follow.
    """
    models = add_baselines(models)
    longest_s = minutes * 60 if ROOMS[world].one_stream else STREAM_S
    count = max(1, math.ceil(minutes * 60 / longest_s - 1e-9))
    lengths = [min(longest_s, minutes * 60 - longest_s * index) for index in range(count)]
    results: dict[str, list[tuple[GroundTruth, StreamResult]]] = {
        model.name: [] for model in models
    }
    watches_by_stream: list[list[Watch]] = []
    faults: list[Sequence[Fault]] = []
    for index, length_s in enumerate(lengths):
        room = _room(world, first_seed + index, length_s)
        truth = truth_of(room, rate_hz, f"world-{first_seed + index}")
        truth = replace(
            truth, questions=[] if watches else keep_apart(truth.questions, ROOMS[world].pause_s)
        )
        if watches:
            watches_by_stream.append(
                plan_watches(VisibleEvents(room), [state.t for state in truth.states])
            )
        asked = [watch.question for watch in watches_by_stream[-1]] if watches else truth.questions
        for name, result in run_together(
            models, _frames(room, truth), asked, f"{truth.name}-{world}"
        ).items():
            results[name].append((truth, result))
        faults.append(room.faults.all)
        on_stream()
    first = {name: streams[0][1] for name, streams in results.items()}
    truths = [truth for truth, _ in results[models[0].name]]
    results[CEILING] = [
        (truth, result_of_labels(truth, events or EventSettings())) for truth in truths
    ]
    scores = {name: score_streams(streams) for name, streams in results.items()}
    if watches:
        for name, watched in _watch_results(watches_by_stream, results).items():
            scores[name]["watches"] = score_watches(watched)
    if ROOMS[world].faults:
        for name, streams in results.items():
            scores[name]["by_fault"] = score_by_fault(
                [
                    (truth, stream_faults, result)
                    for stream_faults, (truth, result) in zip(faults, streams, strict=True)
                ]
            )
    return Examination(
        world=world,
        minutes=sum(lengths) / 60,
        seeds=(first_seed, first_seed + count - 1),
        rate_hz=rate_hz,
        events=sum(len(truth.events) for truth in truths),
        scores=scores,
        first=(truths[0], first),
    )


def _watch_results(
    watches_by_stream: Sequence[Sequence[Watch]],
    results: Mapping[str, Sequence[tuple[GroundTruth, StreamResult]]],
) -> dict[str, list[tuple[Sequence[Watch], StreamResult]]]:
    """The watches of each stream with the result of each model, by the model's name.

    The ground truth reports only what is watched for.
    """
    watched = {
        name: [
            (watches, result)
            for watches, (_, result) in zip(watches_by_stream, streams, strict=True)
        ]
        for name, streams in results.items()
    }
    watched[CEILING] = [
        (watches, watch_result_of_labels(watches, [state.t for state in truth.states]))
        for watches, (truth, _) in zip(watches_by_stream, results[CEILING], strict=True)
    ]
    return watched


def _room(world: str, seed: int, length_s: float) -> World:
    rooms = ROOMS[world]
    size = SIZES[seed % len(SIZES)]
    return World(
        seed,
        max(1.0, length_s),
        size,
        look=rooms.look,
        quiet_minutes=rooms.quiet_minutes,
        faults=rooms.faults,
        faults_per_minute=rooms.faults_per_minute,
    )


def truth_of(room: World, rate_hz: float, name: str) -> GroundTruth:
    """Labels of `room` at `rate_hz`, as far as its pictures show them.

    A question is placed at the first tick at or after its time, and only if no event is in progress
    and nothing is hidden by a camera fault. Ticks whose picture is dropped are left out.

    Args:
        room: the simulated room.
        rate_hz: ticks a second.
        name: name of the stream.
    """
    events = [(seen.event.label, seen.t_start, seen.t_end) for seen in VisibleEvents(room).events]
    ticks = {
        index: label.t_s
        for index, label in enumerate(tick_states(room.script, rate_hz))
        if room.has_picture(label.t_s)
    }
    labels = dict(zip(ticks, states_at(list(ticks.values()), events), strict=True))
    asked: dict[int, TimedQuestion] = {}
    for item in questions(room.script):
        tick = math.ceil(item.t_s * rate_hz - 1e-9)
        hidden = any(room.faults.visible_from(t_s) != t_s for t_s in (item.t_s, tick / rate_hz))
        if tick in labels and labels[tick].state is State.SILENCE and not hidden:
            asked.setdefault(
                tick,
                TimedQuestion(
                    labels[tick].t_s, item.question, item.answer, question_kind(item.question)
                ),
            )
    return GroundTruth(
        name=name,
        duration_s=room.script.duration_s,
        tick_s=1 / rate_hz,
        events=[TimedEvent(*event) for event in events],
        states=[TimedState(label.t_s, label.state.value) for label in labels.values()],
        questions=list(asked.values()),
        quiet=find_quiet_spans(room.script),
    )


def keep_apart(asked: Sequence[TimedQuestion], pause_s: float) -> list[TimedQuestion]:
    """Drop questions that come less than `pause_s` seconds after the previous one.

    Args:
        asked: questions in order of time.
        pause_s: minimum time between two questions in seconds.
    """
    kept: list[TimedQuestion] = []
    for question in asked:
        if not kept or question.t - kept[-1].t >= pause_s:
            kept.append(question)
    return kept


def question_kind(question: str) -> str:
    """Replace the thing in a question by THING: "is there a cup ?" becomes "is there a THING ?".

    Door and lamp are kept, because they have questions of their own.
    """
    things = set(KINDS) - {"door", "lamp"}
    return " ".join("THING" if word in things else word for word in question.split())


def draw_first(outcome: Examination, model: str, path: Path) -> None:
    """Draw what happened in the first stream and what `model` said about it, as a PNG at `path`."""
    truth, result = outcome.first[0], outcome.first[1][model]
    score = score_events(result.events, truth.events)
    draw_timeline(
        Timeline(
            title=(
                f"{truth.name}, {outcome.world}: event F1 {score.labelled.f1:.2f}, something"
                f" happened {score.class_agnostic.f1:.2f} (1.5 s)"
            ),
            events=result.events,
            utterances=result.utterances,
            states=result.states,
            truth=truth.events,
            matching=score.labelled,
            duration_s=truth.duration_s,
        ),
        path,
    )


def _frames(room: World, truth: GroundTruth) -> Iterator[Frame]:
    for state in truth.states:
        image = room.view(min(state.t, room.script.duration_s)).image
        yield Frame("camera", round(state.t * NANOSECONDS), "camera_optical_frame", image)
