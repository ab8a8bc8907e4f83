"""Properties that every context policy has, tested on random streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_vlm.context.policies.last_frames import LastFramesPolicy
from stream_vlm.context.policies.policy import (
    ChunkedPolicy,
    ContextPolicy,
    LastTurnsPolicy,
    newest_turn,
    without_watches,
)
from stream_vlm.context.policies.sliding import SlidingPolicy
from stream_vlm.context.segments import (
    Piece,
    Segment,
    SegmentKind,
    positions,
    segments_of,
    tokens_in,
)

RESERVE = 10
"""Tokens of the longest reply with its end marks."""

Make = Callable[[int, int], ContextPolicy]
"""Makes a policy from a number of turns and a token budget."""

POLICIES = [
    pytest.param(lambda turns, budget: LastTurnsPolicy(turns + 1, turns, budget), id="last_turns"),
    pytest.param(lambda turns, budget: ChunkedPolicy(turns, budget), id="chunked"),
    pytest.param(
        lambda turns, budget: SlidingPolicy(turns, turns + 1, 5, 7, budget),
        id="sliding, text outlives vision",
    ),
    pytest.param(
        lambda turns, budget: SlidingPolicy(turns + 3, 2, None, None, budget),
        id="sliding, vision outlives text, no cut",
    ),
    pytest.param(
        lambda turns, budget: SlidingPolicy(turns, turns, 5, 7, budget, compatible=True),
        id="sliding, as published",
    ),
    pytest.param(lambda turns, budget: LastFramesPolicy(turns, budget), id="last_frames"),
]


@dataclass
class Turn:
    """One turn of a random stream; queries, watches and pictures may fill the token budget."""

    grid: tuple[int, int]
    query: int
    watch: int
    reply: int
    cut: bool


lengths = st.sampled_from([0, 0, 0, 1, 5, 20])
grids = st.tuples(st.integers(1, 4), st.integers(1, 4))
turns = st.lists(
    st.builds(Turn, grids, lengths, lengths, st.integers(1, 8), st.booleans()),
    min_size=1,
    max_size=20,
)
# The smallest budget holds the PREFIX segments, an earlier watch, the end of the previous turn, the
# largest turn and a reply. Every policy must respect every budget above it.
budgets = st.integers(7 + 3 + 20 + 20 + 16 + 8 + (20 + 4) + RESERVE, 330)


@dataclass
class Step:
    """What a policy got, and the layout that it returned."""

    kept: list[Segment]
    entering: list[Segment]
    layout: list[Piece]

    @property
    def context(self) -> list[Segment]:
        return segments_of(self.layout)


def steps(policy: ContextPolicy, stream: list[Turn]) -> list[Step]:
    """Run `stream` through `policy`; every token has a different id."""
    fresh = iter(range(10**6))
    held: list[Segment] = []
    pending: list[Segment] = []
    history = []

    def segment(
        kind: SegmentKind, number: int, count: int, grid: tuple[int, int] | None = None
    ) -> Segment:
        return Segment(kind, number, tuple(next(fresh) for _ in range(count)), grid)

    for number, turn in enumerate(stream):
        entering = (
            [segment(SegmentKind.PREFIX, -1, 4), segment(SegmentKind.PREFIX, -1, 3)]
            if number == 0
            else []
        )
        entering += [*pending, segment(SegmentKind.TEXT, number, 2)]
        entering += [segment(SegmentKind.WATCH, number, turn.watch)] if turn.watch else []
        entering += [segment(SegmentKind.QUERY, number, turn.query)] if turn.query else []
        entering += [
            segment(SegmentKind.TIME, number, 2),
            segment(SegmentKind.FRAME, number, turn.grid[0] * turn.grid[1], turn.grid),
        ]
        entering += [
            segment(SegmentKind.TEXT, number, 2),
            segment(SegmentKind.ACTION_MARK, number, 1),
        ]
        step = Step(held, entering, policy.layout(held, entering, RESERVE))
        history.append(step)
        words = [segment(SegmentKind.ACTION, number, 1) for _ in range(turn.reply)]
        held = [*step.context, *(words[:-1] if turn.cut else words)]
        pending = [*(words[-1:] if turn.cut else []), segment(SegmentKind.ACTION_MARK, number, 2)]
    return history


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_the_context_stays_within_the_budget_with_room_for_the_reply(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        assert tokens_in(step.context) + RESERVE <= budget


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_the_prefix_and_the_newest_turn_never_leave(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for number, step in enumerate(steps(make(size, budget), stream)):
        assert (
            sum(len(segment) for segment in step.context if segment.kind is SegmentKind.PREFIX) == 7
        )
        entered = [segment for segment in step.entering if segment.turn == number]
        assert step.context[-len(entered) :] == entered


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_a_layout_contains_only_present_tokens_and_each_only_once(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        everything = [*step.kept, *step.entering]
        for piece in step.layout:
            assert (
                piece.segment.token_ids
                == everything[piece.index].token_ids[piece.start : piece.start + len(piece)]
            )
        named = [token for segment in step.context for token in segment.token_ids]
        assert len(named) == len(set(named))


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_entering_segments_follow_kept_segments_in_their_order(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        is_entering = [piece.index >= len(step.kept) for piece in step.layout]
        assert is_entering == sorted(is_entering)
        entering = [piece.index for piece in step.layout if piece.index >= len(step.kept)]
        assert entering == sorted(entering)


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_positions_are_contiguous_and_stay_below_the_number_of_tokens(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        where, following = positions(step.context)
        assert where.shape == (3, tokens_in(step.context))
        assert sorted(set(where.flatten().tolist())) == list(range(following))
        assert following <= tokens_in(step.context)


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_turns_stay_in_order_and_pictures_keep_all_their_tokens(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        numbers = [segment.turn for segment in step.context if segment.turn >= 0]
        assert numbers == sorted(numbers)
        for segment in step.context:
            if segment.kind is SegmentKind.FRAME:
                assert segment.grid == stream[segment.turn].grid


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_the_newest_watch_never_leaves_the_context(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    quiet = [Turn((1, 1), 0, 0, 1, False)] * 10
    active: list[Segment] = []
    for number, step in enumerate(steps(make(size, budget), [*stream, *quiet])):
        entered = [segment for segment in step.entering if segment.turn == number]
        if any(segment.kind is SegmentKind.WATCH for segment in entered):
            active = [
                segment
                for segment in entered
                if segment.kind in (SegmentKind.TEXT, SegmentKind.WATCH)
            ]
        assert [segment for segment in step.context if segment in active] == active


@pytest.mark.parametrize("make", POLICIES)
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_an_ended_watch_leaves_with_its_markers_and_nothing_else_changes(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        left = segments_of(without_watches(step.context))
        for watched in {segment.turn for segment in step.context}:
            before = [segment for segment in step.context if segment.turn == watched]
            after = [segment for segment in before if segment.kind is not SegmentKind.WATCH]
            if after != before and all(segment.kind is SegmentKind.TEXT for segment in after):
                after = []
            assert [segment for segment in left if segment.turn == watched] == after


@pytest.mark.parametrize("make", POLICIES[:2])
@given(stream=turns, size=st.integers(1, 6), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_a_kept_turn_keeps_all_its_segments_and_its_pending_end(
    make: Make, stream: list[Turn], size: int, budget: int
) -> None:
    for step in steps(make(size, budget), stream):
        stays = {segment.turn for segment in step.context if segment.kind is SegmentKind.FRAME} | {
            -1
        }
        whole = [segment for segment in (*step.kept, *step.entering) if segment.turn in stays]
        watch = newest_turn([*step.kept, *step.entering], SegmentKind.WATCH)
        assert [segment for segment in step.context if segment.turn in stays] == whole
        assert all(segment.turn == watch for segment in step.context if segment.turn not in stays)


@given(stream=turns, size=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_last_frames_keeps_the_newest_pictures_and_no_earlier_words(
    stream: list[Turn], size: int
) -> None:
    for number, step in enumerate(steps(LastFramesPolicy(size, 10**6), stream)):
        shown = [segment.turn for segment in step.context if segment.kind is SegmentKind.FRAME]
        assert shown == list(range(max(0, number + 1 - size), number + 1))
        replies = (SegmentKind.ACTION, SegmentKind.STATE, SegmentKind.ACTION_MARK)
        assert all(segment.turn == number for segment in step.context if segment.kind in replies)
        newest = newest_turn([*step.kept, *step.entering], SegmentKind.QUERY)
        asked = [
            segment.turn
            for segment in step.context
            if segment.kind is SegmentKind.QUERY and segment.turn < number
        ]
        is_watching = newest_turn(step.context, SegmentKind.WATCH) is not None
        assert asked == ([newest] if newest not in (None, number) and not is_watching else [])
