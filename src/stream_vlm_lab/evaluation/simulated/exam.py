"""The examination on simulated rooms: streams that no training saw, watched online beside the
baselines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stream_vlm.config.model_settings import EventSettings
from stream_vlm.run_records import TimedEvent, TimedState
from stream_vlm.types import NANOSECONDS, Frame, State
from stream_vlm_lab.evaluation.online.baselines import with_baselines
from stream_vlm_lab.evaluation.online.online_pass import (
    TimedQuestion,
    Watched,
    Watcher,
    watch_together,
)
from stream_vlm_lab.evaluation.plots.timeline import Timeline, draw_timeline
from stream_vlm_lab.evaluation.scoring.by_fault import score_by_fault
from stream_vlm_lab.evaluation.scoring.matching import score_events
from stream_vlm_lab.evaluation.scoring.scores import Truth, score_watching
from stream_vlm_lab.evaluation.simulated.label_ceiling import CEILING, labels_watched
from stream_vlm_lab.evaluation.simulated.watch_exam import (
    Watch,
    plan_watches,
    score_watches,
    watched_by_the_labels,
)
from stream_vlm_lab.simulation.camera.faults import FAULTS, Fault
from stream_vlm_lab.simulation.labels.askable_times import Moments
from stream_vlm_lab.simulation.labels.ground_truth import questions, states_at, tick_states
from stream_vlm_lab.simulation.scene.captions import KINDS
from stream_vlm_lab.simulation.script.quiet import quiet_stretches
from stream_vlm_lab.simulation.script.splits import HELD_OUT_SEED
from stream_vlm_lab.simulation.world import World

STREAM_S = 60.0
SIZES = ((320, 240), (384, 216))
"""Width and height of the cameras, in turn."""


@dataclass(frozen=True)
class Rooms:
    """What an examination shows: held-out rooms with these options of `World`.

    Attributes:
        in_one: one long stream instead of one of a minute for each room.
        pause_s: at least so many seconds lie between two questions, or silence would be full of
            them.
    """

    look: str = "seen"
    faults: tuple[str, ...] = ()
    faults_per_minute: float = 2.0
    quiet_minutes: float = 0.0
    in_one: bool = False
    pause_s: float = 0.0


ROOMS = {
    "heldout": Rooms(),
    "objects": Rooms(look="unseen objects"),
    "backgrounds": Rooms(look="unseen backgrounds"),
    "faults": Rooms(faults=FAULTS),
    "long": Rooms(quiet_minutes=10.0, in_one=True, pause_s=60.0),
}
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
    watches: bool = False,
    first_seed: int = HELD_OUT_SEED,
) -> Examination:
    """Show `minutes` of held-out stream, a minute a room, to every watcher and to the three
    baselines that need no model.

    Beside them stands what the labels themselves would score at `rate_hz`.

    Args:
        events: how the labels' decisions become events; defaults where left out.
        world: "heldout", "objects" (things in forms that no training saw), "backgrounds" (walls and
            floors that no training saw), "faults" (a camera that fails) or "long" (one stream with
            long silence).
        on_stream: called after each stream.
        watches: instead of questions, "tell me when".
        first_seed: of the first room, the others follow.
    """
    watchers = with_baselines(watchers)
    longest_s = minutes * 60 if ROOMS[world].in_one else STREAM_S
    count = max(1, math.ceil(minutes * 60 / longest_s - 1e-9))
    lengths = [min(longest_s, minutes * 60 - longest_s * index) for index in range(count)]
    seen: dict[str, list[tuple[Truth, Watched]]] = {watcher.name: [] for watcher in watchers}
    waited: list[list[Watch]] = []
    faults: list[Sequence[Fault]] = []
    for index, length_s in enumerate(lengths):
        room = _room(world, first_seed + index, length_s)
        truth = truth_of(room, rate_hz, f"world-{first_seed + index}")
        truth = replace(
            truth, questions=[] if watches else spread(truth.questions, ROOMS[world].pause_s)
        )
        if watches:
            waited.append(plan_watches(Moments(room), [state.t for state in truth.states]))
        asked = [watch.question for watch in waited[-1]] if watches else truth.questions
        for name, watched in watch_together(
            watchers, _frames(room, truth), asked, f"{truth.name}-{world}"
        ).items():
            seen[name].append((truth, watched))
        faults.append(room.faults.all)
        on_stream()
    first = {name: streams[0][1] for name, streams in seen.items()}
    truths = [truth for truth, _ in seen[watchers[0].name]]
    seen[CEILING] = [(truth, labels_watched(truth, events or EventSettings())) for truth in truths]
    scores = {name: score_watching(streams) for name, streams in seen.items()}
    if watches:
        for name, told in _told(waited, seen).items():
            scores[name]["watches"] = score_watches(told)
    if ROOMS[world].faults:
        for name, streams in seen.items():
            scores[name]["by_fault"] = score_by_fault(
                [
                    (truth, mine, watched)
                    for mine, (truth, watched) in zip(faults, streams, strict=True)
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


def _told(
    waited: Sequence[Sequence[Watch]], seen: Mapping[str, Sequence[tuple[Truth, Watched]]]
) -> dict[str, list[tuple[Sequence[Watch], Watched]]]:
    """By watcher, what was waited for in each stream and what was said; the labels only say what is
    waited for.
    """
    told = {
        name: [(mine, watched) for mine, (_, watched) in zip(waited, streams, strict=True)]
        for name, streams in seen.items()
    }
    told[CEILING] = [
        (mine, watched_by_the_labels(mine, [state.t for state in truth.states]))
        for mine, (truth, _) in zip(waited, seen[CEILING], strict=True)
    ]
    return told


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


def truth_of(room: World, rate_hz: float, name: str) -> Truth:
    """The labels of `room` at `rate_hz`, as far as its pictures show them.

    Questions stand at the first tick at or after they are asked, and only where nothing is under
    way and nothing hidden. Ticks whose picture is dropped are left out.
    """
    happenings = [(seen.event.label, seen.t_start, seen.t_end) for seen in Moments(room).events]
    ticks = {
        index: label.t_s
        for index, label in enumerate(tick_states(room.script, rate_hz))
        if room.delivers(label.t_s)
    }
    labels = dict(zip(ticks, states_at(list(ticks.values()), happenings), strict=True))
    asked: dict[int, TimedQuestion] = {}
    for item in questions(room.script):
        tick = math.ceil(item.t_s * rate_hz - 1e-9)
        hidden = any(room.faults.seen_from(t_s) != t_s for t_s in (item.t_s, tick / rate_hz))
        if tick in labels and labels[tick].state is State.SILENCE and not hidden:
            asked.setdefault(
                tick,
                TimedQuestion(
                    labels[tick].t_s, item.question, item.answer, question_kind(item.question)
                ),
            )
    return Truth(
        name=name,
        duration_s=room.script.duration_s,
        tick_s=1 / rate_hz,
        events=[TimedEvent(*happening) for happening in happenings],
        states=[TimedState(label.t_s, label.state.value) for label in labels.values()],
        questions=list(asked.values()),
        quiet=quiet_stretches(room.script),
    )


def spread(asked: Sequence[TimedQuestion], pause_s: float) -> list[TimedQuestion]:
    """Those of `asked`, which are in order of time, that come at least `pause_s` seconds after the
    one before that is kept.
    """
    kept: list[TimedQuestion] = []
    for question in asked:
        if not kept or question.t - kept[-1].t >= pause_s:
            kept.append(question)
    return kept


def question_kind(question: str) -> str:
    """`question` without what it is about: "is there a cup ?" is of the kind "is there a THING ?";
    door and lamp stay, each has its own.
    """
    things = set(KINDS) - {"door", "lamp"}
    return " ".join("THING" if word in things else word for word in question.split())


def draw_first(outcome: Examination, watcher: str, path: Path) -> None:
    """Write what happened in the first stream, and what `watcher` said of it, as a PNG at `path`."""
    truth, watched = outcome.first[0], outcome.first[1][watcher]
    score = score_events(watched.events, truth.events)
    draw_timeline(
        Timeline(
            title=(
                f"{truth.name}, {outcome.world}: event F1 {score.labelled.f1:.2f}, something"
                f" happened {score.class_agnostic.f1:.2f} (1.5 s)"
            ),
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
