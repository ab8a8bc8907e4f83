"""Ground truth of a simulated stream: states by tick, captions, questions, and the labels file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stream_vlm.types import State
from stream_vlm_lab.simulation.scene import captions
from stream_vlm_lab.simulation.script.script import Event, SceneState, Script, WorldError
from stream_vlm_lab.simulation.world import World

MEMORY_S = 8.0
"""How long after its end an event is the answer to "what happened last ?", in seconds."""
ASKING_PERIOD_S = 4.0
"""Mean time between questions while no event is in progress, in seconds."""


@dataclass(frozen=True)
class TickLabel:
    """The correct output at one tick.

    Attributes:
        t_s: time in seconds.
        state: the correct state.
        text: the caption if `state` is RESPONSE; else empty.
    """

    t_s: float
    state: State
    text: str


@dataclass(frozen=True)
class Question:
    """A question about what is visible at `t_s`, with its only correct answer."""

    t_s: float
    question: str
    answer: str


@dataclass(frozen=True)
class RecallQuestion:
    """A question about the whole stream whose answer is one event.

    Attributes:
        question: the question as a person would ask it.
        text: words to search the memory for.
        order: "newest" for the last such event, "oldest" for the first.
        answer_label: caption of the event.
        t_start: start of the event in seconds.
        t_end: end of the event in seconds.
    """

    question: str
    text: str
    order: str
    answer_label: str
    t_start: float
    t_end: float


def tick_states(script: Script, rate_hz: float, *, offset_s: float = 0.0) -> list[TickLabel]:
    """Labels of all ticks; tick `k` is at `offset_s + k / rate_hz` seconds.

    RESPONSE with the caption is at the first tick at or after the end of an event, STANDBY at the
    ticks of the event before that, SILENCE at all others. If a response and the start of the next
    event are at the same tick, the response is used.

    Raises:
        WorldError: the rate is not above 0 Hz, or the offset is negative.
    """
    if rate_hz <= 0 or offset_s < 0:
        raise WorldError(
            f"ticks at {rate_hz} Hz from {offset_s} s are refused; use a rate above 0 Hz and an"
            " offset from 0 s"
        )
    count = int(np.floor((script.duration_s - offset_s) * rate_hz + 1e-9)) + 1
    times = [offset_s + tick / rate_hz for tick in range(max(0, count))]
    return states_at(times, [(event.label, event.t_start, event.t_end) for event in script.events])


def states_at(
    times: Sequence[float], events: Iterable[tuple[str, float, float]]
) -> list[TickLabel]:
    """Labels of ticks at `times`.

    Args:
        times: times in seconds, ascending.
        events: caption, start and end in seconds of each event.
    """
    labels = [TickLabel(t_s, State.SILENCE, "") for t_s in times]
    for caption, t_start, t_end in events:
        end = int(np.searchsorted(times, t_end))
        for tick in range(int(np.searchsorted(times, t_start)), min(end, len(times))):
            if labels[tick].state is State.SILENCE:
                labels[tick] = TickLabel(times[tick], State.STANDBY, "")
        if end < len(times):
            labels[end] = TickLabel(times[end], State.RESPONSE, caption)
    return labels


class VisibleQuestions:
    """Makes questions about what is visible now.

    The questions are chosen so that answers are hard to guess without seeing the picture.
    """

    def __init__(self, script: Script, rng: np.random.Generator | None = None) -> None:
        """Use `rng`, or the stream's own generator for questions."""
        self._script = script
        self._rng = np.random.default_rng([script.seed, 0xA5C]) if rng is None else rng

    def ask(self, t_s: float) -> Question:
        """Make one question for a time without an event in progress."""
        state, _ = self._script.at(t_s)
        makers: list[tuple[float, Callable[[float, SceneState], tuple[str, str] | None]]] = [
            (1.2, self._door),
            (1.2, self._lamp),
            (1.3, self._people),
            (1.6, self._colour),
            (1.6, self._presence),
            (1.6, self._side),
            (1.5, self._last),
        ]
        weights = np.array([weight for weight, _ in makers])
        while True:
            chosen = int(self._rng.choice(len(makers), p=weights / weights.sum()))
            found = makers[chosen][1](t_s, state)
            if found is not None:
                return Question(round(t_s, 3), *found)
            weights[chosen] = 0

    def _door(self, t_s: float, state: SceneState) -> tuple[str, str] | None:
        return (
            None
            if state.door_open is None
            else (captions.ask_door(), "yes" if state.door_open else "no")
        )

    def _lamp(self, t_s: float, state: SceneState) -> tuple[str, str] | None:
        return (
            None
            if state.lamp_on is None
            else (captions.ask_lamp(), "yes" if state.lamp_on else "no")
        )

    def _people(self, t_s: float, state: SceneState) -> tuple[str, str] | None:
        if self._script.scene.person_height == 0 and self._rng.random() < 0.85:
            return None
        count = sum(
            1 for instance in state.resting if self._script.things[instance].kind == "person"
        )
        return captions.ask_people(), captions.NUMBER_WORDS[count]

    def _visible(self, state: SceneState) -> list[int]:
        return [*state.resting, *state.holding.values()]

    def _single(self, state: SceneState, instances: list[int]) -> list[int]:
        """The instances whose kind is present only once, so that "the cup" is unambiguous."""
        kinds = [self._script.things[instance].kind for instance in self._visible(state)]
        return [
            instance
            for instance in instances
            if kinds.count(self._script.things[instance].kind) == 1
        ]

    def _colour(self, t_s: float, state: SceneState) -> tuple[str, str] | None:
        found = self._single(state, self._visible(state))
        found = [
            instance
            for instance in found
            if self._script.things[instance].kind in captions.PORTABLE_KINDS
        ]
        if not found:
            return None
        thing = self._script.things[int(self._rng.choice(found))]
        return captions.ask_colour(thing.kind), thing.colour

    def _presence(self, t_s: float, state: SceneState) -> tuple[str, str] | None:
        kinds = ["person", *captions.PORTABLE_KINDS]
        present = {self._script.things[instance].kind for instance in self._visible(state)}
        pattern = self._rng.random() < 0.5
        fitting = [kind for kind in kinds if (kind in present) == pattern]
        if not fitting:
            return None
        # People are present most of the time, each other thing less often. The weights make yes and
        # no equally frequent for each kind.
        rare = [
            (0.25 if pattern else 1.0) if kind == "person" else (1.0 if pattern else 0.6)
            for kind in fitting
        ]
        kind = self._rng.choice(fitting, p=np.array(rare) / sum(rare))
        return captions.ask_presence(str(kind)), "yes" if pattern else "no"

    def _side(self, t_s: float, state: SceneState) -> tuple[str, str] | None:
        by_side: dict[str, list[int]] = {}
        for instance in self._single(state, list(state.resting)):
            u = state.resting[instance].u
            near_border = min(abs(u - 1 / 3), abs(u - 2 / 3)) < 0.05 + self._script.scene.camera.pan
            if not near_border and state.resting[instance].shift == 0:
                by_side.setdefault(captions.SIDES[min(2, int(u * 3))], []).append(instance)
        if not by_side:
            return None
        side = str(self._rng.choice(sorted(by_side)))
        return (
            captions.ask_side(self._script.things[int(self._rng.choice(by_side[side]))].kind),
            side,
        )

    def _last(self, t_s: float, state: SceneState) -> tuple[str, str]:
        last = self._script.last_event(t_s)
        return (
            captions.ask_last(),
            last.label if last and t_s - last.t_end <= MEMORY_S else captions.NOTHING,
        )


def questions(script: Script) -> list[Question]:
    """Questions in the silent parts of a stream, in order of time."""
    rng = np.random.default_rng([script.seed, 0xA5D])
    visible_questions = VisibleQuestions(script)
    starts = [0.0, *(event.t_end for event in script.events)]
    ends = [*(event.t_start for event in script.events), script.duration_s]
    asked = []
    for start, end in zip(starts, ends, strict=True):
        length = end - start - 0.4
        if length <= 0:
            continue
        count = int(rng.poisson(length / ASKING_PERIOD_S))
        for t_s in sorted(rng.uniform(start + 0.2, end - 0.2, count)):
            asked.append(visible_questions.ask(float(t_s)))
    return asked


def recall_questions(script: Script) -> list[RecallQuestion]:
    """For every distinct event the question when it last happened; newest first."""
    newest: dict[tuple[str, str, str], Event] = {}
    for event in script.events:
        newest[(event.action, event.kind, event.colour)] = event
    asked = []
    for event in sorted(newest.values(), key=lambda event: -event.t_end):
        asked.append(
            RecallQuestion(
                _recall_words(event), event.label, "newest", event.label, event.t_start, event.t_end
            )
        )
    return asked


def _recall_words(event: Event) -> str:
    name = (
        f"the person in {event.colour}"
        if event.kind == "person"
        else f"the {event.colour} {event.kind}".replace("  ", " ")
    )
    active = {
        "enters": "enter",
        "leaves": "leave",
        "rolls in": "roll in",
        "rolls away": "roll away",
        "opens": "open",
        "closes": "close",
    }
    active |= {"turns on": "turn on", "turns off": "turn off"}
    passive = {"takes": "taken", "puts down": "put down", "picks up": "picked up"}
    if event.action in passive:
        return f"when was {name} last {passive[event.action]}?"
    name = name if event.colour else f"the {event.kind}"
    return f"when did {name} last {active[event.action]}?"


def labels_document(world: World, fps: float) -> dict[str, Any]:
    """All labels of one stream as plain values for JSON; times in seconds from the first frame.

    With camera faults it also has their times, and for every event the times at which a picture
    shows its start and end.
    """
    script = world.script
    ticks = tick_states(script, 1.0)
    document: dict[str, Any] = {
        "seed": script.seed,
        "duration_s": script.duration_s,
        "size": list(world.size),
        "fps": fps,
        "events": [
            {
                "label": event.label,
                "action": event.action,
                "object": event.kind,
                "colour": event.colour,
                "t_start": event.t_start,
                "t_end": event.t_end,
            }
            for event in script.events
        ],
        "states": [{"t": tick.t_s, "state": tick.state.value} for tick in ticks],
        "captions": [{"t": event.t_end, "text": event.label} for event in script.events],
        "questions": [
            {"t": asked.t_s, "question": asked.question, "answer": asked.answer}
            for asked in questions(script)
        ],
        "recall": [asdict(asked) for asked in recall_questions(script)],
    }
    if world.faults.all:
        document["faults"] = [
            {
                "kind": fault.kind,
                "t_start": fault.t_start,
                "t_end": fault.t_end,
                "strength": fault.strength,
            }
            for fault in world.faults.all
        ]
        for entry, event in zip(document["events"], script.events, strict=True):
            entry["seen_start"], entry["seen_end"] = (
                world.faults.visible_from(event.t_start),
                world.faults.visible_from(event.t_end),
            )
    return document
