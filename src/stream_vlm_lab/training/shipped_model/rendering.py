"""Renders simulated streams as arrays: pictures, dense targets, states, texts and questions."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_vlm.types import State, StreamError
from stream_vlm_lab.simulation.labels.ground_truth import VisibleQuestions
from stream_vlm_lab.simulation.scene.captions import ACTIONS, COLOURS
from stream_vlm_lab.simulation.script.script import Script
from stream_vlm_lab.simulation.world import View, World
from stream_vlm_lab.training.shipped_model.picture_format import PICTURE_SIZE, PICTURES

CAMERA_SIZES = ((320, 240), (384, 216), (256, 192), (320, 180))
"""(width, height) of the simulated cameras; several, so that the model works with any size."""

EVENTS_PER_MINUTE = (10.0, 14.0, 6.0)
"""Event rates of the rooms; several, so that the model learns no fixed rate."""

SCRIPT_S = 60.0
"""Length in seconds of the simulated rooms that the clips are taken from."""

SHORT_S = 10.0
"""Most clips shorter than this begin near an event."""

APPEARANCE_SHARES = {"varied objects": 0.25, "invented": 0.45}
"""Share of the streams with each appearance; all other streams have the appearance "seen".

`varied objects` have many forms. With `invented`, things, walls and floors are unique to their
stream. The model then recognises objects that it has never seen by their kind.
"""

THING_CLASSES = (
    "person",
    "hand",
    "ball",
    "box",
    "cup",
    "bottle",
    "book",
    "door open",
    "door closed",
    "lamp on",
    "lamp off",
    "moving",
    "held",
)
"""Classes of a picture cell; a cell can have several classes at once."""

NAMES: dict[str, tuple[str, ...]] = {
    "kind": THING_CLASSES,
    "colour": COLOURS,
    "handled kind": THING_CLASSES,
    "handled colour": COLOURS,
    "action": ACTIONS,
}
"""Names of a picture cell, and the values each can have.

`kind` and `colour` describe the largest thing in the cell. `handled kind` and `handled colour`
describe what a hand or person in the cell holds, takes or puts down. `action` is the event that
something in the cell takes part in.
"""

ROWS, COLUMNS = 4, 6


@dataclass(frozen=True)
class DenseTargets:
    """Labels for every cell of every tick's picture; a cell is one vision token.

    Attributes:
        classes: float32 (ticks, cells, len(THING_CLASSES)), 1 where the class is in the cell.
        names: int64 (ticks, cells, len(NAMES)), indices into the values of `NAMES`, -1 for none.
        motion: float32 (ticks, cells, 2), how far the largest thing moved since the previous tick,
            in cells, (down, right).
        place: float32 (ticks, cells, 2), centre of the largest thing relative to the centre of the
            cell, in cells, (down, right).
    """

    classes: NDArray[np.float32]
    names: NDArray[np.int64]
    motion: NDArray[np.float32]
    place: NDArray[np.float32]


@dataclass(frozen=True)
class RenderedStream:
    """One simulated stream at tick rate.

    Attributes:
        seed: seed of the simulated room.
        frames: uint8 RGB (ticks, H, W, 3) in the model's picture size.
        times: float64 (ticks,), time of each tick in seconds.
        states: one state for each tick.
        texts: words of a tick whose state is RESPONSE, "" for other ticks.
        questions: question and answer of a tick, or None.
        dense: labels for every cell, or None.
    """

    seed: int
    frames: NDArray[np.uint8]
    times: NDArray[np.float64]
    states: list[State]
    texts: list[str]
    questions: list[tuple[str, str] | None]
    dense: DenseTargets | None


def render_stream(seed: int, ticks: int, rate_hz: float, dense: bool) -> RenderedStream:
    """Render `ticks` ticks of the simulated room `seed`.

    Tick times are jittered, like frames of a camera that is not synchronised. Most short clips
    begin near an event, so that they show enough motion.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed + 7)
    size = CAMERA_SIZES[seed % len(CAMERA_SIZES)]
    look = appearance_of(seed)
    world = World(
        seed,
        SCRIPT_S,
        size=size,
        events_per_minute=EVENTS_PER_MINUTE[seed % len(EVENTS_PER_MINUTE)],
        look=look,
    )
    length_s = ticks / rate_hz
    start_s = float(rng.uniform(0.0, SCRIPT_S - length_s))
    if world.script.events and length_s < SHORT_S and rng.random() < 0.85:
        event = world.script.events[int(rng.integers(len(world.script.events)))]
        start_s = float(
            np.clip(event.t_start - rng.uniform(0.0, 0.5 * length_s), 0.0, SCRIPT_S - length_s)
        )
    times = start_s + np.arange(ticks) / rate_hz + rng.uniform(-0.1, 0.1, ticks) / rate_hz
    times = np.clip(times, 0.0, SCRIPT_S)
    frames = np.zeros((ticks, *PICTURE_SIZE, 3), dtype=np.uint8)
    targets = _empty_targets(ticks) if dense else None
    centres: dict[int, tuple[float, float]] = {}
    for tick, t_s in enumerate(times):
        view = world.view(float(t_s))
        frames[tick] = PICTURES.resize(view.image)
        if targets is not None:
            centres = _fill_targets(targets, tick, view, world.script, float(t_s), centres)
    states, texts = _label(world, times)
    return RenderedStream(
        seed,
        frames,
        times,
        states,
        texts,
        [None] * ticks if dense else questions_at_silent_ticks(world.script, times, states),
        targets,
    )


def appearance_of(seed: int) -> str:
    """The appearance of a training stream, drawn with `APPEARANCE_SHARES`."""
    drawn, below = np.random.default_rng([seed, 0x7A]).random(), 0.0
    for look, share in APPEARANCE_SHARES.items():
        below += share
        if drawn < below:
            return look
    return "seen"


def render_streams(
    seeds: Sequence[int], ticks: int, rate_hz: float, *, dense: bool, processes: int
) -> Iterator[RenderedStream]:
    """Render many streams in the order of `seeds`; with 1 process in this one.

    Raises:
        StreamError: one of the processes ended before its work was done.
    """
    work = partial(render_stream, ticks=ticks, rate_hz=rate_hz, dense=dense)
    if processes == 1:
        yield from map(work, seeds)
        return
    # A `multiprocessing.Pool` would start a process that ends at once again and again, for ever.
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(work, seeds, chunksize=4)
    except BrokenProcessPool as error:
        raise StreamError(
            "a process that renders rooms ended before its work was done: the system may have"
            " stopped it because memory ran out, or the program that started the training has no"
            ' `if __name__ == "__main__":`; use --processes 1'
        ) from error


def _label(world: World, times: NDArray[np.float64]) -> tuple[list[State], list[str]]:
    """State and words of each tick.

    A tick is Response if it is the first at or after the end of an event, and Standby from the
    event's start until then.
    """
    states, texts = [State.SILENCE] * len(times), [""] * len(times)
    for event in world.script.events:
        if event.t_end <= times[0] - (times[1] - times[0]):
            continue  # ended before the clip began
        ended = int(np.searchsorted(times, event.t_end))
        for tick in range(int(np.searchsorted(times, event.t_start)), min(ended, len(times))):
            states[tick] = State.STANDBY
        if ended < len(times):
            states[ended], texts[ended] = State.RESPONSE, event.label
    return states, texts


def questions_at_silent_ticks(
    script: Script, times: NDArray[np.float64], states: Sequence[State]
) -> list[tuple[str, str] | None]:
    """A question with its answer for every silent tick, None for ticks of an event."""
    visible_questions = VisibleQuestions(script)
    asked: list[tuple[str, str] | None] = [None] * len(times)
    for tick, (t_s, state) in enumerate(zip(times, states, strict=True)):
        if state is State.SILENCE:
            question = visible_questions.ask(float(t_s))
            asked[tick] = question.question, question.answer
    return asked


def _empty_targets(count: int) -> DenseTargets:
    cells = ROWS * COLUMNS
    return DenseTargets(
        classes=np.zeros((count, cells, len(THING_CLASSES)), dtype=np.float32),
        names=np.full((count, cells, len(NAMES)), -1, dtype=np.int64),
        motion=np.zeros((count, cells, 2), dtype=np.float32),
        place=np.zeros((count, cells, 2), dtype=np.float32),
    )


def _fill_targets(
    targets: DenseTargets,
    tick: int,
    view: View,
    script: Script,
    t_s: float,
    centres_before: dict[int, tuple[float, float]],
) -> dict[int, tuple[float, float]]:
    """Write the dense targets of one tick.

    Returns:
        The centre of every visible thing in cells, by instance; needed for the next tick.
    """
    height, width = view.instances.shape
    cell_area = height * width / (ROWS * COLUMNS)
    largest = np.zeros(ROWS * COLUMNS)
    state, event = script.at(t_s)
    handled = dict(state.holding)
    if event is not None and event.actor:
        handled[event.actor] = event.instance
    handled |= {thing: thing for thing in handled.values()}
    taking_part = {event.instance, event.actor} - {0} if event is not None else set()
    names = {name: index for index, name in enumerate(NAMES)}
    centres: dict[int, tuple[float, float]] = {}
    for thing in view.things:
        down, right = np.nonzero(view.instances == thing.instance)
        if not len(down):
            continue
        row, column = down * ROWS / height, right * COLUMNS / width
        centre = (float(row.mean()), float(column.mean()))
        centres[thing.instance] = centre
        share = np.bincount(
            row.astype(int) * COLUMNS + column.astype(int), minlength=ROWS * COLUMNS
        )
        before = centres_before.get(thing.instance, centre)
        shown = np.nonzero((share >= 0.06 * cell_area) | (share >= 0.25 * len(down)))[0]
        name = f"{thing.kind} {thing.state}" if thing.kind in ("door", "lamp") else thing.kind
        if thing.instance in handled:
            carried = script.things[handled[thing.instance]]
            targets.names[tick, shown, names["handled kind"]] = THING_CLASSES.index(carried.kind)
            targets.names[tick, shown, names["handled colour"]] = COLOURS.index(carried.colour)
        if event is not None and thing.instance in taking_part:
            targets.names[tick, shown, names["action"]] = ACTIONS.index(event.action)
        for cell in shown:
            targets.classes[tick, cell, THING_CLASSES.index(name)] = 1.0
            if thing.moving:
                targets.classes[tick, cell, THING_CLASSES.index("moving")] = 1.0
            if thing.held:
                targets.classes[tick, cell, THING_CLASSES.index("held")] = 1.0
            if share[cell] > largest[cell]:
                largest[cell] = share[cell]
                targets.names[tick, cell, names["kind"]] = THING_CLASSES.index(name)
                targets.names[tick, cell, names["colour"]] = (
                    COLOURS.index(thing.colour) if thing.colour in COLOURS else -1
                )
                targets.motion[tick, cell] = centre[0] - before[0], centre[1] - before[1]
                targets.place[tick, cell] = (
                    centre[0] - cell // COLUMNS - 0.5,
                    centre[1] - cell % COLUMNS - 0.5,
                )
    return centres
