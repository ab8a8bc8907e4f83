"""Draws a timeline of a stream: what happened, what the model reported, states and speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stream_vlm.run_records import TimedEvent, TimedState, TimedUtterance, last_moment
from stream_vlm_lab.evaluation.scoring.matching import Matching

INK, FAINT = "#22303c", "#8a97a3"
TRUTH, RIGHT, WRONG, UNJUDGED = "#4c6a88", "#3f9a6d", "#d1603d", "#3d7ea6"
STATE_COLOURS = {"silence": "#e6eaee", "standby": "#f2c14e", "response": "#3d7ea6"}
CHARACTER_WIDTH, GAP = 0.0054, 0.004
"""Width of a label's character and of the gap beside a bar, as fractions of the time axis."""


@dataclass(frozen=True)
class Timeline:
    """What the picture shows; times in seconds of stream time.

    Attributes:
        title: title of the picture.
        events: the reported events.
        utterances: what was said.
        states: the decided states.
        truth: the true events; None if they are unknown, as in a user's own footage.
        matching: which of `events` match which of `truth`; it sets the colours of the bars.
        duration_s: length of the stream.
    """

    title: str
    events: Sequence[TimedEvent]
    utterances: Sequence[TimedUtterance] = ()
    states: Sequence[TimedState] = ()
    truth: Sequence[TimedEvent] | None = None
    matching: Matching | None = None
    duration_s: float = field(default=0.0)


def draw_timeline(timeline: Timeline, path: Path) -> None:
    """Draw `timeline` as a PNG at `path`, 1600 pixels wide."""
    span_s = max(
        timeline.duration_s,
        last_moment(
            [*timeline.events, *timeline.utterances, *timeline.states, *(timeline.truth or ())]
        ),
        1.0,
    )
    claimed_right = {left for left, _ in timeline.matching.pairs} if timeline.matching else set()
    truth_found = {right for _, right in timeline.matching.pairs} if timeline.matching else set()
    said = [RIGHT if index in claimed_right else WRONG for index in range(len(timeline.events))]
    if timeline.matching is None:
        said = [UNJUDGED] * len(timeline.events)
    panels: list[tuple[str, Sequence[TimedEvent], list[str], list[bool]]] = []
    if timeline.truth is not None:
        found = [
            index in truth_found or timeline.matching is None
            for index in range(len(timeline.truth))
        ]
        panels.append(("happened", timeline.truth, [TRUTH] * len(timeline.truth), found))
    panels.append(("reported", timeline.events, said, [True] * len(timeline.events)))
    lanes = [_lanes(events, span_s) for _, events, _, _ in panels]
    heights = [max((*lane, 0)) + 1.6 for lane in lanes]

    height_inches = 1.5 + 0.36 * (sum(heights) + 2.2)
    figure = Figure(figsize=(16, height_inches), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    top, bottom = 1 - 0.65 / height_inches, 0.9 / height_inches
    rows = [*heights, 2.2]
    grid = figure.add_gridspec(
        len(rows),
        1,
        height_ratios=rows,
        hspace=0.16,
        left=0.115,
        right=0.985,
        top=top,
        bottom=bottom,
    )
    first: Axes | None = None
    for row, ((name, events, colours, solid), lane, height) in enumerate(
        zip(panels, lanes, heights, strict=True)
    ):
        axes = figure.add_subplot(grid[row], sharex=first)
        first = first or axes
        _draw_events(axes, events, colours, solid, lane, span_s)
        _style_axes(axes, name, (height - 0.4, -0.9))
    axes = figure.add_subplot(grid[len(panels)], sharex=first)
    _draw_states(axes, timeline.states, timeline.utterances)
    _style_axes(axes, "state and speech", (0.0, 1.0))
    axes.set_xlim(0, span_s)
    axes.tick_params(axis="x", labelbottom=True, length=4, colors=INK, labelsize=11)
    axes.set_xlabel("seconds of stream", loc="left", color=INK, fontsize=11)
    figure.suptitle(
        timeline.title,
        x=0.115,
        y=1 - 0.2 / height_inches,
        ha="left",
        va="top",
        fontsize=15,
        fontweight="bold",
        color=INK,
    )
    _legend(figure, timeline, 0.1 / height_inches)
    figure.savefig(path)


def _lanes(events: Sequence[TimedEvent], span_s: float) -> list[int]:
    """Assign each event to the highest lane in which its bar and label overlap no others."""
    free_from: list[float] = []
    lanes = [0] * len(events)
    for index in sorted(range(len(events)), key=lambda index: events[index].t_start):
        event = events[index]
        left, right = _extent(event, span_s)
        lane = next((lane for lane, free in enumerate(free_from) if free <= left), len(free_from))
        if lane == len(free_from):
            free_from.append(0.0)
        free_from[lane] = right + 0.006 * span_s
        lanes[index] = lane
    return lanes


def _bar_width(event: TimedEvent, span_s: float) -> float:
    """Width of an event's bar in seconds; an event without duration still gets a visible bar."""
    return max(event.t_end - event.t_start, 0.004 * span_s)


def _words_fit_right(event: TimedEvent, span_s: float) -> bool:
    return event.t_start + _bar_width(event, span_s) + _words_width(event, span_s) <= span_s


def _words_width(event: TimedEvent, span_s: float) -> float:
    return (len(event.label) * CHARACTER_WIDTH + GAP) * span_s


def _extent(event: TimedEvent, span_s: float) -> tuple[float, float]:
    end, words = event.t_start + _bar_width(event, span_s), _words_width(event, span_s)
    return (
        (event.t_start, end + words)
        if _words_fit_right(event, span_s)
        else (event.t_start - words, end)
    )


def _draw_events(
    axes: Axes,
    events: Sequence[TimedEvent],
    colours: Sequence[str],
    solid: Sequence[bool],
    lanes: Sequence[int],
    span_s: float,
) -> None:
    for event, colour, filled, lane in zip(events, colours, solid, lanes, strict=True):
        bar = _bar_width(event, span_s)
        axes.barh(
            lane,
            bar,
            left=event.t_start,
            height=0.62,
            color=colour if filled else "white",
            edgecolor=colour,
            linewidth=1.6,
        )
        right = _words_fit_right(event, span_s)
        at = event.t_start + bar + GAP * span_s if right else event.t_start - GAP * span_s
        axes.text(
            at,
            lane,
            event.label,
            va="center",
            ha="left" if right else "right",
            fontsize=10,
            color=INK,
        )
    if not events:
        axes.text(
            span_s / 2,
            0.2,
            "nothing",
            va="center",
            ha="center",
            fontsize=11,
            color=FAINT,
            style="italic",
        )


def _draw_states(
    axes: Axes, states: Sequence[TimedState], utterances: Sequence[TimedUtterance]
) -> None:
    times = [state.t for state in states]
    intervals = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    width = intervals[len(intervals) // 2] if intervals else 0.5
    for state in states:
        axes.barh(
            0.3,
            width,
            left=state.t,
            height=0.42,
            color=STATE_COLOURS.get(state.state, FAINT),
            linewidth=0,
        )
    for said in utterances:
        axes.plot([said.t, said.t], [0.58, 0.92], color=INK, linewidth=1.6, solid_capstyle="round")
        axes.plot([said.t], [0.92], marker="o", markersize=5, color=INK)


def _style_axes(axes: Axes, name: str, limits: tuple[float, float]) -> None:
    axes.set_ylim(*limits)
    axes.set_yticks([])
    axes.set_ylabel(
        name, rotation=0, ha="right", va="center", labelpad=12, fontsize=11.5, color=INK
    )
    axes.grid(axis="x", color="#e3e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelbottom=False, length=0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c9d1d8")


def _legend(figure: Figure, timeline: Timeline, y: float) -> None:
    handles = [Patch(color=colour, label=state) for state, colour in STATE_COLOURS.items()]
    if timeline.truth is not None and timeline.matching is not None:
        handles = [
            Patch(color=TRUTH, label="happened, reported"),
            Patch(facecolor="white", edgecolor=TRUTH, label="happened, missed"),
            Patch(color=RIGHT, label="right report"),
            Patch(color=WRONG, label="wrong report"),
            *handles,
        ]
    figure.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(0.99, y),
        ncols=len(handles),
        frameon=False,
        fontsize=10,
    )
